"""A short measurement gives every rate that a plan asks for, and leaves nothing behind."""

import pytest

from tomodask import planning
from tomodask.hardware import FILE_NAME, Hardware
from tomodask.layers import Layer, resolve
from tomodask.runfolder import RunFolder


@pytest.mark.slow
@pytest.mark.parametrize("stated", [None, "60x64x48"])
def test_after_a_measurement_all_times_are_known(raw_file, tmp_path, stated):
    tree = {
        "source": str(raw_file.path), "output": str(tmp_path / "volume.zarr"),
        "volume": {"chunk_rows": 4}, "cluster": {"workers": 2, "threads": 1, "memory": 2**30},
    }  # fmt: skip
    recipe = resolve([Layer("test", tree)])[0]
    foreseen, known = planning.plan(recipe, measure=True, scan=stated)
    assert foreseen.seconds > 0
    assert all(stage.seconds is not None for stage in foreseen.stages)
    rates = known.measured
    assert 0.3 < rates.compression < 1
    assert rates.idle_bytes > 100 * 2**20
    assert 0 < rates.stretch < 10
    folder = RunFolder.of(tmp_path / "volume.zarr").path
    assert Hardware.read(folder / FILE_NAME) == known
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    again, _ = planning.plan(recipe, scan=stated)  # by what was kept
    assert again.seconds == pytest.approx(foreseen.seconds)


@pytest.mark.slow
def test_rates_of_a_coupled_run_are_measured_too(raw_file, tmp_path):
    tree = {
        "source": str(raw_file.path), "output": str(tmp_path / "volume.zarr"), "center": 24.0,
        "ingest": {"pixel_size_um": 20.0}, "geometry": {"source_distance_mm": 4.0},
        "algorithm": {"sirt": {"num_iterations": 3}}, "volume": {"chunk_rows": 8},
        "cluster": {"workers": 1, "threads": 1, "memory": 2**30},
    }  # fmt: skip
    recipe = resolve([Layer("test", tree)])[0]
    foreseen, known = planning.plan(recipe, measure=True)
    assert [stage.name for stage in foreseen.stages] == ["ingest", "iterate", "write"]
    assert foreseen.seconds > 0
    assert known.measured.work_unit == "voxel updates"
    assert 1e6 < known.measured.work < 1e12
    assert known.measured.scratch_bytes > 1e6
