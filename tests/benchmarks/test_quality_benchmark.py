"""Parameters are chosen on one foam and scored on another; peers solve the same task."""

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from matplotlib.image import imread


@pytest.fixture
def quality(load_benchmark) -> ModuleType:
    return load_benchmark("quality")


def test_it_scores_every_method_against_fbp(quality, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("TOMODASK_DATA", raising=False)
    for name in ("skimage_sart", "algotom_fbp", "svmbir"):  # seconds each, and seldom installed
        monkeypatch.delitem(quality.QUALITY_PEERS, name)
    output, picture = tmp_path / "quality.json", tmp_path / "quality.png"
    tiny = ["--columns", "31", "--rows", "2", "--repeats", "1", "--points", "1"]
    quality.main([*tiny, "--output", str(output), "--picture", str(picture)])
    report = json.loads(output.read_text())
    assert "TOMODASK_DATA" in report["held_out"]["left_out"]
    (result,) = report["results"]
    methods = result["methods"]
    assert set(quality.OURS) <= set(methods)
    assert set(quality.QUALITY_PEERS) <= set(methods) | set(result["left_out"])
    fbp = methods["fbp"]["psnr_db"]
    for one in methods.values():
        assert one["over_fbp_db"] == pytest.approx(one["psnr_db"] - fbp)
        assert one["rmse"] == pytest.approx(10 ** (-one["psnr_db"] / 20))
        assert one["seconds"] > 0
    assert result["tv_over_fbp_db"] == pytest.approx(
        max(methods[name]["psnr_db"] for name in quality.TV) - fbp
    )
    assert imread(picture).shape[1] > 3 * imread(picture).shape[0]


def test_a_tuned_method_gets_the_best_of_its_grid_on_the_foam_it_is_tuned_on(quality) -> None:
    from methods import Method, grid, tune

    method = Method("a", lambda case, x, y: np.array(x * case + y), grid(x=(1, 3, 2), y=(0, 5)))
    assert len(method.grid) == 6
    assert tune(method, lambda volume: -abs(float(volume) - 25), 10) == {"x": 2, "y": 5}


def test_the_two_foams_differ_and_are_half_pores(quality) -> None:
    tuned, tested = (
        quality.make_case(recipe, 63, 2, 1) for recipe in (quality.TUNED_ON, quality.TESTED_ON)
    )
    assert quality.TUNED_ON.sphere_radii != quality.TESTED_ON.sphere_radii
    assert np.abs(tuned.truth - tested.truth).mean() > 0.3 * tested.solid * 0.6
    for case in (tuned, tested):
        assert 0.3 < quality._porosity(case) < 0.7


def test_noise_is_that_of_the_photons(quality) -> None:
    """The variance of -log(counts) is 1 / counts."""
    case = quality.make_case(quality.TESTED_ON, 63, 2, 1)
    sample = quality.TESTED_ON.make(63)
    exact = sample.project(case.angles, 2, 63, first_row=(sample.height - 2) // 2).swapaxes(0, 1)
    weighted = (case.y - exact) * np.sqrt(quality.PHOTONS * np.exp(-exact))
    assert float(weighted.std()) == pytest.approx(1, rel=0.03)  # of 8064 pixels: 0.8 %
    assert abs(float(weighted.mean())) < 0.05


def test_a_mirrored_volume_is_refused(quality, monkeypatch) -> None:
    from dataclasses import replace

    fbp = quality.OURS["fbp"]
    mirrored = replace(fbp, solve=lambda case, **p: fbp.solve(case, **p)[:, ::-1])
    monkeypatch.setattr(quality, "OURS", {"fbp": mirrored})
    with pytest.raises(SystemExit, match="of fbp"):
        quality.main(["--columns", "63", "--rows", "1", "--repeats", "1", "--points", "1"])


@pytest.mark.parametrize(
    ("name", "parameters", "least"),
    [
        ("astra_sirt", {"num_iterations": 40, "relaxation": 1.9}, 15),
        ("astra_cgls", {"num_iterations": 5}, 13),
        ("skimage_sart", {"num_iterations": 1, "relaxation": 0.15}, 13),
        ("algotom_fbp", {"filter_name": "hann"}, 13),
        ("svmbir", {"snr_db": 30.0, "sharpness": 0.0}, 13),
    ],
)
def test_a_peer_solves_the_same_task(quality, name: str, parameters: dict, least: float) -> None:
    """Turned or mirrored, any of them has about 5 dB."""
    package, _ = quality.QUALITY_PEERS[name]
    pytest.importorskip(package, reason=f"{package}, a peer of the benchmarks, is not installed")
    case = quality.make_case(quality.TESTED_ON, 63, 2, 1)
    assert case.psnr(quality.quality_peer(name).solve(case, **parameters)) > least
