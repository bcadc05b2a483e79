"""What a run will take is what it takes: the same functions cut both."""

import time
from dataclasses import replace

import numpy as np
import pytest
import zarr

from tomodask import steps
from tomodask.cluster.local import WORKER_BASE_BYTES
from tomodask.errors import GeometryError, InputError, MemoryBudgetError, PlanError
from tomodask.foresee import forecast
from tomodask.hardware import Hardware, Rates
from tomodask.ingest.convert import plan_ingest
from tomodask.layers import Layer, resolve
from tomodask.pipeline import ingest_block, scan_path
from tomodask.recipe import Recipe
from tomodask.runplan import BlockTask, plan_run
from tomodask.scan import Scan
from tomodask.standin import scan_to_be
from tomodask.stream import stream_block
from tomodask.volumestore import create_volume, stored_bytes

GIB = 2**30
SERIES = "100x2400x2048x2048"
RATES = Rates(
    source_bytes=1e9, store_bytes=2e8, read_bytes=4e8, correct_pixels=2e8, work=2e9,
    work_unit="operations", corrections=("Flatfield", "MinusLog"), write_bytes=3e8,
    center_bytes=1e7, start_s=2.0, import_s=1.0, compression=0.8,
)  # fmt: skip


def recipe_of(source, output, **settings) -> Recipe:
    tree = {"source": str(source), "output": str(output), "volume": {"chunk_rows": 4}, **settings}
    tree.setdefault("cluster", {"workers": 2, "threads": 1, "memory": 2 * GIB})
    return resolve([Layer("test", tree)])[0]


@pytest.fixture(scope="module")
def scan(raw_file, tmp_path_factory):
    path = tmp_path_factory.mktemp("scan") / "scan.zarr"
    return steps.ingest(raw_file.path, path, cluster={"workers": 1, "threads": 1})


CASES = {
    "plain": {},
    "a halo": {"corrections": ["flatfield", "minus_log", {"outliers": {}}]},
    "a part": {"rows": "3:38", "columns": "4:44"},
    "small chunks": {"volume": {"chunk_rows": 2, "levels": 2}},
}


@pytest.mark.parametrize("case", CASES)
def test_blocks_and_bytes_are_those_of_the_run(scan, tmp_path, case):
    recipe = recipe_of(scan, tmp_path / "volume.zarr", center=24.0, **CASES[case])
    workers = Hardware().size(recipe.cluster)
    (stage,) = forecast(recipe).stages
    plan = plan_run(recipe, Scan.open(scan), workers)
    volume = create_volume(tmp_path / "volume.zarr", plan.spec, plan.attributes())
    job = plan.job(volume.path, volume.uuid)
    reports = [stream_block(BlockTask(job, block)) for block in plan.blocks(())]
    assert (stage.name, stage.blocks) == ("reconstruct", len(reports))
    assert stage.bytes_read == sum(report["bytes_read"] for report in reports)
    assert stage.bytes_written == sum(report["bytes_written"] for report in reports)
    assert stage.budget > WORKER_BASE_BYTES
    assert stage.memory < stage.budget


def test_bytes_of_a_volume_are_those_of_its_files(scan, tmp_path):
    recipe = recipe_of(scan, tmp_path / "v.zarr", center=24.0, rows="0:39", columns="1:48")
    plan = plan_run(recipe, Scan.open(scan), Hardware().size(recipe.cluster))
    spec = replace(plan.spec, shape=(39, 300, 260), levels=3)
    volume = create_volume(tmp_path / "v.zarr", spec, {})
    written = 0
    for start, stop in ((0, 12), (12, 32), (32, 39)):
        shards = volume.write(start, np.zeros((stop - start, 300, 260), np.float32))
        assert sum(s.size for s in shards) == stored_bytes(spec, stop) - stored_bytes(spec, start)
        written += sum(shard.size for shard in shards)
    assert written == stored_bytes(spec, 39)


def test_a_raw_source_is_foreseen_as_ingest_will_cut_it(raw_file, tmp_path):
    recipe = recipe_of(raw_file.path, tmp_path / "volume.zarr")
    foreseen = forecast(recipe)
    assert [stage.name for stage in foreseen.stages] == ["ingest", "center", "reconstruct"]
    ingest = foreseen.stages[0]
    assert not list(tmp_path.iterdir())
    path = steps.ingest(raw_file.path, scan_path(recipe), cluster=recipe.cluster.model_dump())
    source_bytes = raw_file.truth.projections.nbytes
    stored = sum(file.stat().st_size for file in (path / "projections" / "c").rglob("*")
                 if file.is_file())  # fmt: skip
    assert ingest.bytes_read == source_bytes
    assert ingest.bytes_written == pytest.approx(stored, rel=0.05)
    after = forecast(recipe)
    assert [stage.name for stage in after.stages] == ["center", "reconstruct"]
    assert after.stages == foreseen.stages[1:]


@pytest.mark.parametrize("turned", [0, 90, 180])
def test_a_scan_to_be_is_the_scan_that_ingest_makes(raw_file, tmp_path, turned):
    from tomodask.ingest import open_source
    from tomodask.ingest.convert import create_scan, finish_scan

    plan = plan_ingest(open_source(raw_file.path), tmp_path / "scan.zarr", GIB, turned)
    foreseen = scan_to_be(plan)
    create_scan(plan, plan.source)
    for task in plan.tasks:
        ingest_block(task)
    finish_scan(plan.path)
    made = Scan.open(plan.path)
    for name in (
        "dtype", "stored_shape", "chunk_shape", "shard_shape", "num_flats", "num_darks",
        "image_bytes", "signal", "energy_kev", "distance_mm", "is_foreign", "reads_directly",
        "input_digest",
    ):  # fmt: skip
        assert getattr(foreseen, name) == getattr(made, name), name
    assert foreseen.memory_bytes((3, 9), 2) == made.memory_bytes((3, 9), 2)
    assert foreseen.bytes_read((3, 9)) == made.bytes_read((3, 9))
    assert np.allclose(foreseen.geometry.angles, made.geometry.angles)


def test_a_series_of_two_terabytes_on_eight_gpus_is_planned_in_seconds(tmp_path):
    began = time.perf_counter()
    recipe = recipe_of("none.h5", tmp_path / "volume.zarr", volume={}, cluster={})
    node = Hardware(
        gpus=8, threads=8, memory=64 * GIB, gpu_memory=80 * GIB, disk_free=20 * 10**12,
        read_gb_s=5, write_gb_s=5, slices_s=30,
    )  # fmt: skip
    foreseen = forecast(recipe, node, scan=SERIES)
    assert time.perf_counter() - began < 10
    counts, voxels = 100 * 2400 * 2048**2 * 2, 100 * 2048**3 * 4
    stages = {stage.name: stage for stage in foreseen.stages}
    assert stages["ingest"].bytes_read == counts == pytest.approx(2e12, rel=0.01)
    assert stages["reconstruct"].bytes_read == counts
    assert voxels < stages["reconstruct"].bytes_written < 1.16 * voxels  # 1/8 for the pyramid
    assert foreseen.workers.count == 8
    assert foreseen.seconds is not None
    assert foreseen.seconds > 100 * 2048 / (8 * 30)
    assert foreseen.gpu_hours == pytest.approx(8 * foreseen.seconds / 3600)
    assert any("GPU" in note for note in foreseen.notes)


def test_times_follow_the_size_the_workers_and_the_rates(tmp_path):
    known = Hardware(threads=1, memory=8 * GIB, measured=RATES)

    def seconds(scan: str, **changed) -> dict[str, float]:
        recipe = recipe_of("none.h5", tmp_path / "volume.zarr", volume={}, cluster={})
        hardware = replace(known, **{"workers": 2, **changed})
        stages = forecast(recipe, hardware, scan=scan, refuse=False).stages
        return {stage.name: stage.seconds for stage in stages}

    one, higher = seconds("400x1024x512"), seconds("400x2048x512")
    assert higher["reconstruct"] == pytest.approx(2 * one["reconstruct"], rel=0.15)
    assert higher["center"] == one["center"]  # as many rows vote
    four = seconds("400x1024x512", workers=4)
    assert four["reconstruct"] < 0.6 * one["reconstruct"]
    ten = seconds("10x400x1024x512")
    assert ten["center"] == pytest.approx(10 * one["center"])
    stated = seconds("400x1024x512", slices_s=1.0)
    assert stated["reconstruct"] == pytest.approx(1024 / 2, rel=0.1)
    slow_disk = seconds("400x1024x512", write_gb_s=0.01)
    assert slow_disk["reconstruct"] == pytest.approx(1024 * 512**2 * 4 * 8 / 7 / 1e7, rel=0.2)


def test_without_rates_there_are_no_times(scan, tmp_path):
    recipe = recipe_of(scan, tmp_path / "volume.zarr", center=24.0)
    assert forecast(recipe).seconds is None
    rays = recipe_of(scan, tmp_path / "volume.zarr", center=24.0, backend="numba_cpu")
    foreseen = forecast(rays, Hardware(measured=RATES))
    assert foreseen.seconds is None
    assert any("measure again" in note for note in foreseen.notes)


def test_what_does_not_fit_into_a_worker_is_refused_with_what_would(scan, tmp_path):
    few = {"workers": 1, "threads": 1, "memory": WORKER_BASE_BYTES + 2**20}
    recipe = recipe_of(scan, tmp_path / "volume.zarr", cluster=few)
    with pytest.raises(MemoryBudgetError, match=r"cluster\.memory=(\d+)MiB") as refused:
        forecast(recipe)
    told = int(str(refused.value).partition("cluster.memory=")[2].partition("MiB")[0])
    enough = {**few, "memory": told * 2**20}
    assert forecast(recipe_of(scan, tmp_path / "v.zarr", cluster=enough)).stages


def test_a_full_disk_is_refused(scan, tmp_path):
    recipe = recipe_of(scan, tmp_path / "volume.zarr")
    with pytest.raises(PlanError, match="volume"):
        forecast(recipe, Hardware(disk_free=1000))


def test_an_upper_bound_is_said_to_be_one(tmp_path):
    recipe = recipe_of("none.h5", tmp_path / "volume.zarr")
    foreseen = forecast(recipe, scan="60x40x48", refuse=False)
    assert foreseen.stages[0].bytes_written == 60 * 40 * 48 * 2
    assert any("upper bound" in note for note in foreseen.notes)
    known = forecast(recipe, Hardware(measured=RATES), scan="60x40x48", refuse=False)
    assert known.stages[0].bytes_written == round(0.8 * 60 * 40 * 48 * 2)


def test_a_stack_that_is_read_in_place_is_not_copied(raw_file, tmp_path):
    truth = raw_file.truth
    group = zarr.open_group(tmp_path / "stack.zarr", mode="w")
    group.create_array("data", data=truth.projections, chunks=(20, 4, 48))
    group.create_array("theta", data=np.rad2deg(truth.angles)).attrs["units"] = "degrees"
    recipe = recipe_of(tmp_path / "stack.zarr", tmp_path / "volume.zarr", corrections=[])
    foreseen = forecast(recipe)
    assert [stage.name for stage in foreseen.stages] == ["center", "reconstruct"]
    assert list(foreseen.disks[0].needs) == ["volume"]


def test_a_scan_that_can_not_be_is_refused_by_name(tmp_path):
    recipe = recipe_of("none.h5", tmp_path / "volume.zarr")
    for text, dtype in (("2400x2048", "uint16"), ("0x4x4", "uint16"), ("4x4x4", "text")):
        with pytest.raises(InputError, match=f"scan '{text}'"):
            forecast(recipe, scan=text, dtype=dtype)
    cone = recipe_of("none.h5", tmp_path / "volume.zarr", geometry={"source_distance_mm": 100})
    with pytest.raises(GeometryError, match="fbp"):  # as the run would
        forecast(cone, scan="60x40x48")
