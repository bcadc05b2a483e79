"""A and A.T against FINUFFT: runs at a tiny size, and the peer is held to our error."""

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("finufft", reason="the benchmark's peer, finufft, is not installed")


@pytest.fixture
def benchmark_projector(load_benchmark) -> ModuleType:
    return load_benchmark("projector")


def test_it_reports_speed_at_equal_error(benchmark_projector: ModuleType, tmp_path: Path) -> None:
    output = tmp_path / "projector.json"
    tiny = ["--columns", "32", "--slices", "3", "--repeats", "2", "--output", str(output)]
    benchmark_projector.main(tiny)
    (result,) = json.loads(output.read_text())["results"]
    for name in ("A", "A.T"):
        ours, theirs = result[name]["tomodask"], result[name]["finufft"]
        assert 0 < ours["error"] < 0.01
        assert theirs["error"] <= ours["error"]
        assert theirs["tolerance"] in benchmark_projector.TOLERANCES
        assert min(ours["slices_per_second"], theirs["slices_per_second"]) > 0
        assert result[name]["ratio"]["median"] > 0


class Coarse:
    """A peer whose error is its tolerance, at most down to 1e-4, for upsampling 1.25."""

    def __init__(self, tolerance: float, upsampling: float) -> None:
        self.error = max(tolerance, 1e-4 if upsampling == 1.25 else 1e-3)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        return values * (1 + self.error)


@pytest.mark.parametrize(
    ("error", "tolerance"),
    [(0.004, 3e-3), (1.5e-4, 1e-4), (1e-5, 1e-4)],
    ids=["loosest that is as good", "only one upsampling is as good", "none is: the nearest"],
)
def test_the_peer_gets_the_loosest_tolerance_that_is_as_good(
    benchmark_projector: ModuleType, error: float, tolerance: float
) -> None:
    values = np.ones((2, 3, 3))
    _, choice = benchmark_projector.fed_at_equal_error(Coarse, values, values, error)
    assert choice["tolerance"] == tolerance
    if error < 1e-3:
        assert choice["upsampling"] == 1.25


def test_another_operator_is_not_timed(
    benchmark_projector: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark_projector, "line_length", lambda columns, *_: columns)
    with pytest.raises(SystemExit, match="not timed"):
        benchmark_projector.main(["--columns", "32", "--slices", "2", "--repeats", "1"])
