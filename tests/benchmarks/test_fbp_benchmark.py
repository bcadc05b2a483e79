"""The FBP benchmark runs at a tiny size, so that it never rots; nothing is timed here."""

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from tomodask.phantom import disc_image


@pytest.fixture
def benchmark_fbp(load_benchmark, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Its first call is that of a backend without code to compile, which takes a minute."""
    module = load_benchmark("fbp")
    measured = module.first_call_seconds
    monkeypatch.setattr(module, "first_call_seconds", lambda backend: measured("finufft"))
    return module


@pytest.fixture
def few_peers(benchmark_fbp: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """FINUFFT alone: what every machine has."""
    monkeypatch.setattr(benchmark_fbp, "installed_peers", lambda: ["finufft"])


def test_it_reports_speed_quality_and_machine(benchmark_fbp: ModuleType, tmp_path: Path) -> None:
    output = tmp_path / "fbp.json"
    tiny = ["--columns", "64", "--slices", "3", "--repeats", "2", "--output", str(output)]
    benchmark_fbp.main(tiny)
    report = json.loads(output.read_text())
    (result,) = report["results"]
    ran = {"tomodask", *benchmark_fbp.PEERS} - set(result["left_out"])
    assert "finufft" in ran
    for name in ran:
        assert result[name]["slices"] == (2 if name == "astra" else 3)
        assert result[name]["slices_per_second"] > 0
        assert 0 < result[name]["rmse"] < 0.15
        assert 0.5 < result[name]["edge_width_pixels"] < 2
    assert result["angles"] == 100
    assert set(result["ratios"]) == ran - {"tomodask"}
    assert result["better_peer"] in ran & set(benchmark_fbp.RIVALS)
    assert [stage["stage"] for stage in result["stages"]] == ["rows", "grid", "slices"]
    assert all(stage["times_floor"] > 0 for stage in result["stages"])
    assert {"cpu", "cores", "date", "versions"} <= set(report["machine"])
    assert report["machine"]["versions"]["numpy"] == np.__version__
    assert report["limits"]["triad_gb_s"] > 0
    assert report["limits"]["fma_gflop_s"] > 0
    assert min(report["first_call"].values()) > 0


@pytest.mark.usefixtures("few_peers")
def test_a_peer_that_is_not_installed_is_left_out_by_name(
    benchmark_fbp: ModuleType, capsys: pytest.CaptureFixture
) -> None:
    benchmark_fbp.main(["--columns", "64", "--slices", "2", "--repeats", "1"])
    said = capsys.readouterr().out
    assert "ducc0     left out: not installed" in said
    assert "astra     left out: not installed" in said


@pytest.mark.usefixtures("few_peers")
def test_a_wrong_answer_is_not_timed(
    benchmark_fbp: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mirrored(angles: np.ndarray, *options: object) -> object:
        return right(-angles, *options)

    right = benchmark_fbp.tomodask_fbp
    monkeypatch.setattr(benchmark_fbp, "tomodask_fbp", mirrored)
    with pytest.raises(SystemExit, match="not timed"):
        benchmark_fbp.main(["--columns", "64", "--slices", "2"])


def test_a_worse_answer_is_told(benchmark_fbp: ModuleType) -> None:
    quality = {
        "tomodask": {"rmse": 0.020, "edge_width_pixels": 1.1},
        "finufft": {"rmse": 0.018, "edge_width_pixels": 1.1},
    }
    assert benchmark_fbp._worse(quality) == ["rmse 0.0200, finufft's 0.0180"]


def test_the_edge_of_a_blurred_disc_has_the_width_of_the_blur(benchmark_fbp: ModuleType) -> None:
    def blurred(sinograms: np.ndarray) -> np.ndarray:
        x, y = 0.05 * 128 + 0.3, -0.04 * 128 + 0.2
        return gaussian_filter(disc_image(128, 128, 0.3 * 128, x, y), 2.0)[None]

    width = benchmark_fbp.edge_width(blurred, np.zeros(1), 128)
    assert width == pytest.approx(2.563 * 2.0, rel=0.05)  # the pixels and the curve add a little
