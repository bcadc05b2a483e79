"""FDK's seconds: runs at a tiny size, and what differs from the reference is not timed."""

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tomodask.geometry import in_voxels
from tomodask.projectors.joseph_cone import columns_of
from tomodask.reconstruct import FDK

TINY = ["--sizes", "16", "--views", "12", "--checked", "12", "--repeats", "2"]


@pytest.fixture
def benchmark_fdk(load_benchmark) -> ModuleType:
    return load_benchmark("fdk")


def test_it_reports_seconds_and_rates(benchmark_fdk: ModuleType, tmp_path: Path) -> None:
    output = tmp_path / "fdk.json"
    benchmark_fdk.main([*TINY, "--output", str(output)])
    report = json.loads(output.read_text())
    rmse = report["accuracy"]["rmse"]
    assert rmse["numba_cpu"] == pytest.approx(rmse["reference"], rel=1e-3)
    (result,) = report["results"]
    for name in ("FDK", "cone A", "cone A.T", "any rays A", "any rays A.T"):
        assert result[name]["seconds"] > 0
        assert name == "FDK" or result[name]["giga_updates_per_second"] > 0


def test_another_volume_is_not_timed(
    benchmark_fdk: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def worse(self: FDK, y: np.ndarray, A: object) -> np.ndarray:
        off = -1.0 if A.backend == "numba_cpu" else 0.0  # type: ignore[attr-defined]
        return np.full(A.domain_shape, off, np.float32)  # type: ignore[attr-defined]

    monkeypatch.setattr(FDK, "__call__", worse)
    with pytest.raises(SystemExit, match="not timed"):
        benchmark_fdk.main(TINY)


def test_leaning_columns_take_the_kernel_for_any_rays(benchmark_fdk: ModuleType) -> None:
    space, views = benchmark_fdk.scan(16, 12)
    leaning = replace(views, det_v=views.det_v + benchmark_fdk.LEAN * views.det_u)
    assert columns_of(in_voxels(space, views))[0].all()
    assert not columns_of(in_voxels(space, leaning))[0].any()
