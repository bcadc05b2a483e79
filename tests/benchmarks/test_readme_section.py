"""README's figures come from the results, and what has none is said to be not measured."""

import json
from pathlib import Path

import pytest
from matplotlib.image import imread


def method(speed: float, error: float = 0.02) -> dict:
    quartiles = [0.9 * speed, 1.1 * speed]
    return {"slices_per_second": speed, "quartiles": quartiles, "rmse": error, "error": error}


TIMES = {"median": 2.25, "quartiles": [2.0, 2.5]}
FBP = {
    "machine": {"cpu": "A CPU (family 1)", "cores": 2, "memory_gib": 8.0, "date": "2026-01-02T03"},
    "first_call": {"cold": 30.0, "warm": 0.5, "second_call": 0.1},
    "results": [
        {
            "columns": columns,
            "threads": 2,
            **{name: method(speed / columns) for name, speed in speeds.items()},
            "left_out": {"astra": "slow"} if "astra" not in speeds else {},
            "better_peer": "ducc0",
            "ratios": {"ducc0": TIMES},
            "stages": [
                {"stage": "rows", "seconds": 0.1, "times_floor": 4.0},
                {"stage": "grid", "seconds": 0.3},
            ],
        }
        for columns, speeds in (
            (512, {"tomodask": 1e5, "finufft": 3e4, "ducc0": 4e4, "astra": 1e3}),
            (2048, {"tomodask": 4e4, "finufft": 1e4, "ducc0": 2e4}),
        )
    ],
}
PROJECTOR = {
    "results": [
        {
            "columns": 512,
            **{
                name: {"tomodask": method(99), "finufft": method(44), "ratio": TIMES}
                for name in ("A", "A.T")
            },
        }
    ]
}


CORRECTIONS = {
    "results": [
        {"columns": 1024, "threads": 1, "steps": {"outliers": {"share_of_fbp": 0.3}}},
        {
            "columns": 1024,
            "threads": 2,
            "steps": {
                "outliers": {"share_of_fbp": 0.2},
                "stripes": {"share_of_fbp": 0.79},
                "fbp": {"share_of_fbp": 1.0},
            },
        },
    ]
}
MEMORY = {
    "result": {
        "columns": 256,
        "budget_bytes": 2**28,
        "peak_bytes": {"128": 81_000_000, "512": 83_000_000},
    }
}
SCHEDULER = {
    "scheduler": {
        "tomodask": {"blocks": 100_000, "blocks_a_second": 336.1, "peak_bytes": 300_965_888}
    },
    "ledger": {"seconds_together": 2.85},
}


@pytest.fixture
def readme(load_benchmark):
    return load_benchmark("readme")


def test_every_figure_of_the_results_is_told(readme, tmp_path: Path) -> None:
    (tmp_path / "fbp.json").write_text(json.dumps(FBP))
    (tmp_path / "projector.json").write_text(json.dumps(PROJECTOR))
    (tmp_path / "corrections.json").write_text(json.dumps(CORRECTIONS))
    (tmp_path / "memory.json").write_text(json.dumps(MEMORY))
    ways = {"tomodask": {"slices_per_second": 25.31}, "astra": {"slices_per_second": 0.21}}
    joseph = {"columns": 1024, "A": {**ways, "ratio": TIMES}, "A.T": {**ways, "ratio": TIMES}}
    (tmp_path / "joseph.json").write_text(json.dumps({"results": [joseph]}))
    speed = {"giga_updates_per_second": 4.68}
    kinds = ("cone A", "cone A.T", "any rays A", "any rays A.T")
    fdk = {"size": 256, "views": 360, "threads": 2, "FDK": {"seconds": 3.2215}}
    fdk |= dict.fromkeys(kinds, speed)
    (tmp_path / "fdk.json").write_text(json.dumps({"results": [fdk]}))
    one = {"label": "SIRT", "psnr_db": 18.56, "over_fbp_db": 1.79, "rmse": 0.118, "seconds": 0.345}
    foam = {"columns": 255, "rows": 4, "threads": 2, "methods": {"sirt": one}}
    held = {"tooth": {"views": 61, "columns": 640, "sirt": {"error": 0.0321, "parameters": {}}}}
    setting = {"views": 64, "photons": 1000.0}
    quality = {"setting": setting, "results": [foam], "held_out": held}
    (tmp_path / "quality.json").write_text(json.dumps(quality))
    (tmp_path / "scheduler.json").write_text(json.dumps(SCHEDULER))
    section = readme.speed_section(tmp_path)
    assert "100000 blocks that do nothing gets through 336 a second" in section
    assert "in 301 MB; its ledger is planned, listed and checked, resumed, merged" in section
    assert "| SIRT | 18.6 (+1.8) | 0.118 | 0.34 |" in section
    assert "tooth (61 views of 640 columns): sirt 0.0321." in section
    assert "| 1024 | A.T | 25.3 | 0.21 | 2.25 x (2.00 to 2.50) |" in section
    assert "256^3 voxels from 360 views in 3.22 s (A and A.T at 4.7 and 4.7 G" in section
    assert "| 512 | 195 | 58.6 | 78.1 | 1.95 | 2.25 x (2.00 to 2.50) |" in section
    assert "| 2048 | 19.5 | 4.88 | 9.77 | - | 2.25 x" in section
    assert "rows 25 % (4.0 times its floor), grid 75 %" in section
    assert "compiles for 30 s" in section
    assert "| 512 | A.T | 99, 2.0e-02 | 44, 2.0e-02 | 2.25 x" in section
    assert "1024 columns on 2 threads: outliers 20 %, stripes 79 %." in section
    assert "256 columns: 81 MB at 128 rows, 83 MB at 512 rows, of a budget of 268 MB" in section


def test_what_has_no_result_is_not_measured_yet(readme, tmp_path: Path) -> None:
    section = readme.speed_section(tmp_path)
    assert section.count("not measured yet") == 9


def test_a_peer_that_was_never_run_is_not_measured_yet(readme, tmp_path: Path) -> None:
    older = {"columns": 512, "threads": 2, "tomodask": method(90), "astra": method(2.7)}
    (tmp_path / "fbp.json").write_text(json.dumps({**FBP, "results": [older]}))
    row = "| 512 | 90 | not measured yet | not measured yet | 2.7 | not measured yet |"
    assert row in readme.speed_section(tmp_path)


def test_the_picture_shows_every_method(load_benchmark, tmp_path: Path) -> None:
    draw = load_benchmark("plot").draw_speed
    draw(FBP, tmp_path / "all.png")
    fewer = [{k: v for k, v in result.items() if k != "ducc0"} for result in FBP["results"]]
    draw({**FBP, "results": fewer}, tmp_path / "fewer.png")
    everything, without = imread(tmp_path / "all.png"), imread(tmp_path / "fewer.png")
    assert everything.shape != without.shape or (everything != without).any()
    assert everything.shape[0] > 300
