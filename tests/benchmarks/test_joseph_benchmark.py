"""Joseph's A and A.T against ASTRA's: runs at a tiny size, and another operator is not timed."""

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("astra", reason="the benchmark's peer, astra-toolbox (GPL), is not installed")

TINY = ["--columns", "32", "--slices", "3", "--repeats", "2"]


@pytest.fixture
def benchmark_joseph(load_benchmark) -> ModuleType:
    return load_benchmark("joseph")


def test_it_reports_the_speed_of_the_same_operator(
    benchmark_joseph: ModuleType, tmp_path: Path
) -> None:
    output = tmp_path / "joseph.json"
    benchmark_joseph.main([*TINY, "--output", str(output)])
    (result,) = json.loads(output.read_text())["results"]
    assert result["adjointness"] < 1e-6
    assert 0 < result["error"] < 1e-5
    for name in ("A", "A.T"):
        assert 0 < result[name]["difference"] < 1e-4  # ASTRA takes positions in float32
        assert result[name]["tomodask"]["slices"] == 3
        assert result[name]["astra"]["slices"] == 2  # one a thread
        low, high = result[name]["ratio"]["quartiles"]
        assert 0 < low <= result[name]["ratio"]["median"] <= high


def test_another_operator_is_not_timed(benchmark_joseph: ModuleType) -> None:
    with pytest.raises(SystemExit, match="not timed"):
        benchmark_joseph.main([*TINY, "--backend", "fourier"])


def test_no_pair_is_not_timed(benchmark_joseph: ModuleType) -> None:
    x = np.ones((1, 2, 2), np.float32)
    assert benchmark_joseph._adjointness(x, 2 * x, 4 * x) == 0
    with pytest.raises(SystemExit, match="no pair"):
        benchmark_joseph._adjointness(x, 2 * x, 4.1 * x)
