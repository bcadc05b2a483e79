"""The FBP benchmark runs at a tiny size, so that it never rots; nothing is timed here."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from tomodask.phantom import disc_image

pytest.importorskip("astra", reason="the benchmark's peer, astra-toolbox (GPL), is not installed")

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark_fbp(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    spec = importlib.util.spec_from_file_location("benchmark_fbp", BENCHMARKS / "fbp.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_reports_speed_quality_and_machine(benchmark_fbp: ModuleType, tmp_path: Path) -> None:
    output = tmp_path / "fbp.json"
    tiny = ["--columns", "64", "--slices", "3", "--repeats", "2", "--output", str(output)]
    benchmark_fbp.main(tiny)
    report = json.loads(output.read_text())
    (result,) = report["results"]
    for name, slices in (("tomodask", 3), ("astra", 2)):
        assert result[name]["slices"] == slices
        assert result[name]["slices_per_second"] > 0
        assert 0 < result[name]["rmse"] < 0.15
        assert 0.5 < result[name]["edge_width_pixels"] < 2
    assert result["angles"] == 100
    assert result["speedup"] > 0
    assert {"cpu", "cores", "date", "versions"} <= set(report["machine"])
    assert report["machine"]["versions"]["numpy"] == np.__version__


def test_a_wrong_answer_is_not_timed(
    benchmark_fbp: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mirrored(angles: np.ndarray, *options: object) -> object:
        return right(-angles, *options)

    right = benchmark_fbp.tomodask_fbp
    monkeypatch.setattr(benchmark_fbp, "tomodask_fbp", mirrored)
    with pytest.raises(SystemExit, match="not timed"):
        benchmark_fbp.main(["--columns", "64", "--slices", "2"])


def test_the_edge_of_a_blurred_disc_has_the_width_of_the_blur(benchmark_fbp: ModuleType) -> None:
    def blurred(sinograms: np.ndarray) -> np.ndarray:
        x, y = 0.05 * 128 + 0.3, -0.04 * 128 + 0.2
        return gaussian_filter(disc_image(128, 128, 0.3 * 128, x, y), 2.0)[None]

    width = benchmark_fbp.edge_width(blurred, np.zeros(1), 128)
    assert width == pytest.approx(2.563 * 2.0, rel=0.05)  # the pixels and the curve add a little
