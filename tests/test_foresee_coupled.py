"""Operations on stored arrays are foreseen as they are done: blocks, bytes and scratch files."""

from pathlib import Path

import pytest

from tomodask import steps
from tomodask.blockwise import reconstruct_blockwise
from tomodask.coupled import plan_coupled
from tomodask.errors import GeometryError
from tomodask.foresee import forecast
from tomodask.foresee_coupled import counted_operations
from tomodask.hardware import Hardware, Rates
from tomodask.layers import Layer, resolve
from tomodask.planfact import compare
from tomodask.runfolder import RunFolder
from tomodask.scan import Scan

SETTINGS = {
    "center": 23.7,
    "geometry": {"source_distance_mm": 4.0},
    "algorithm": {"sirt": {"num_iterations": 3}},
    "volume": {"chunk_rows": 8},
    "cluster": {"workers": 1, "threads": 2, "memory": 2**30},
}
CASES = {
    "sirt": {},
    "cgls": {"algorithm": {"cgls": {"num_iterations": 3}}},
    "subsets": {"algorithm": {"sart": {"num_iterations": 1, "num_subsets": 4}}},
    "laminography": {"geometry": {"tilt_deg": 30.0}},
    "fdk": {"algorithm": {"fdk": {"filter": "hann"}}},
    "stencils": {
        "geometry": {}, "backend": "numba_cpu",
        "algorithm": {"pdhg_tv": {"num_iterations": 3, "dimensions": 3, "circle": False}},
    },
    "halo": {"corrections": ["flatfield", "minus_log", {"outliers": {}}]},
}  # fmt: skip


@pytest.fixture(scope="module")
def scan(raw_file, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("coupled") / "scan.zarr"
    ingest = {"pixel_size_um": 20.0, "angles": "0:360:60"}  # FDK wants a full turn
    return steps.ingest(raw_file.path, path, ingest=ingest, cluster={"workers": 1})


def recipe_of(scan: Path, output: Path, **settings):
    tree = {**SETTINGS, **settings, "source": str(scan), "output": str(output)}
    return resolve([Layer("test", tree)])[0]


@pytest.mark.parametrize("case", CASES)
def test_blocks_and_bytes_are_those_of_the_run(scan, tmp_path, case, monkeypatch):
    # small tasks, so that operations are cut into several blocks
    monkeypatch.setattr("tomodask.coupled.LEAST_TASK_BYTES", 2**20)
    output = tmp_path / "volume.zarr"
    recipe = recipe_of(scan, output, **CASES[case])
    steps.run(recipe)
    compared = compare(RunFolder.of(output))
    for stage in ("iterate", "write"):
        for name in ("blocks", "bytes_read", "bytes_written"):
            pair = compared[stage][name]
            assert pair["fact"] == pair["plan"], (stage, name)
    assert compared["iterate"]["blocks"]["plan"] > 4


def test_scratch_files_are_as_large_as_foreseen(scan, tmp_path):
    recipe = recipe_of(scan, tmp_path / "volume.zarr")
    coupled = plan_coupled(recipe, Scan.open(scan), Hardware().size(recipe.cluster))
    place, A = counted_operations(coupled)
    made = reconstruct_blockwise(
        lambda start, stop: 1.0 + 0 * rows_of(A, start, stop), recipe.reconstructor(),
        coupled.volume, coupled.views, folder=tmp_path / "work", budget=coupled.budget,
        threads=2, input_id="ones",
    )  # fmt: skip
    assert made.place.counts.most_files_bytes == place.counts.most_files_bytes
    needs = forecast(recipe).disks[0].needs
    assert needs["scratch"] == place.counts.most_files_bytes


def rows_of(A, start, stop):
    import numpy as np

    return np.zeros((stop - start, *A.range_shape[1:]), np.float32)


def test_times_follow_the_iterations_and_memory_the_cut(scan, tmp_path):
    rates = Rates(
        work=1e9, work_unit="voxel updates", read_bytes=1e9, write_bytes=1e9, scratch_bytes=1e9,
        correct_pixels=1e9,
    )  # fmt: skip
    few, many = (
        forecast(
            recipe_of(scan, tmp_path / "v.zarr", algorithm={"sirt": {"num_iterations": n}}),
            Hardware(measured=rates),
        ).stages[0]
        for n in (10, 20)
    )
    assert many.seconds == pytest.approx(2 * few.seconds, rel=0.15)
    assert many.memory == few.memory < few.budget


def test_a_centre_that_can_not_be_found_is_refused_as_the_run_would(scan, tmp_path):
    with pytest.raises(GeometryError, match="--center"):
        forecast(recipe_of(scan, tmp_path / "volume.zarr", center="auto"))
