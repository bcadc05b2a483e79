"""One command's path as laws: whatever the workers, budgets and blocks, the bytes are the same."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from distributed import LocalCluster

from tomodask import steps
from tomodask.cluster.local import Workers, local_cluster
from tomodask.cluster.run import run_blocks
from tomodask.demo import write_dxchange
from tomodask.errors import (
    BlocksFailedError,
    ChunkLayoutError,
    FlatfieldError,
    InputError,
    MemoryBudgetError,
    OutputExistsError,
    RecipeError,
    UnfinishedError,
)
from tomodask.layers import Layer, resolve
from tomodask.ledger import Ledger
from tomodask.phantom import simulate_scan
from tomodask.pipeline import reconstruct_block
from tomodask.projectors import make_projector
from tomodask.quality import psnr
from tomodask.samples import corrected_sinograms, slab
from tomodask.scan import Scan
from tomodask.volumestore import Volume, volume_metadata

SMALL = {"volume": {"chunk_rows": 4}, "corrections": {"stripes": {}, "outliers": {}}}


@pytest.fixture(scope="module")
def client():
    with local_cluster(Workers(2, 1, 2**30)) as client:
        yield client


@pytest.fixture(scope="module")
def scan(raw_file, client, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("scan") / "scan.zarr"
    return steps.ingest(raw_file.path, path, client=client, ingest={"pixel_size_um": 2.0})


@pytest.fixture(scope="module")
def made(scan, client, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("made") / "volume.zarr"
    steps.reconstruct(scan, output, client=client, **SMALL)
    return output


def test_the_volume_is_the_sample_that_was_scanned(made, raw_file):
    truth = raw_file.truth.foam.volume(40, 48, 48) * 500  # 2 um pixels: 1/pixel -> 1/mm
    x = np.arange(48) - 23.5
    inside = np.hypot(x[None], x[:, None]) < 20
    volume = Volume.open(made)
    assert volume.spec.value_unit == "1/mm"
    found = psnr(volume.read_level(0), truth, mask=inside)
    assert found > 19  # 60 views and 2000 photons
    mirrored = (
        volume.read_level(0)[:, :, ::-1],
        volume.read_level(0)[:, ::-1],
        volume.read_level(0)[::-1],
    )
    assert max(psnr(other, truth, mask=inside) for other in mirrored) < found - 2


def test_the_centre_is_found_and_kept_with_the_result(made, raw_file):
    kept = volume_metadata(made)
    found = kept["geometry"]["center_of_rotation"]
    assert found == pytest.approx(raw_file.truth.center_of_rotation, abs=0.3)
    assert kept["complete"]
    assert kept["recipe"]["corrections"][0] == {
        "outliers": kept["recipe"]["corrections"][0]["outliers"]
    }
    assert {"numpy", "finufft", "zarr", "tomodask"} <= set(kept["versions"])
    assert kept["input_digest"]


def test_blocks_on_workers_equal_all_rows_at_once(made, scan):
    """The law behind block by block: one reconstruction of everything, with no blocks at all."""
    recipe, _ = resolve([Layer("test", {"source": str(scan), **SMALL})])
    column = volume_metadata(made)["geometry"]["center_of_rotation"]
    opened = Scan.open(scan)
    sinograms, geometry = corrected_sinograms(opened, recipe, 0, 40)
    A = make_projector(slab(geometry), geometry.with_center(column), recipe.backend)
    expected = recipe.reconstructor()(sinograms, A)
    np.testing.assert_array_equal(Volume.open(made).read_level(0), expected)


@pytest.mark.parametrize(
    "cluster",
    [{"workers": 1, "threads": 1}, {"workers": 1, "threads": 2}, {"workers": 2, "memory": "1GB"}],
    ids=["one worker", "two threads", "little memory"],
)
def test_bytes_do_not_depend_on_workers_threads_or_memory(made, scan, tmp_path, bytes_of, cluster):
    output = tmp_path / "volume.zarr"
    steps.reconstruct(scan, output, cluster=cluster, **SMALL)
    assert bytes_of(output) == bytes_of(made)


def test_a_scheduler_that_runs_already_gives_the_same_bytes(made, scan, tmp_path, bytes_of):
    output = tmp_path / "volume.zarr"
    with LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    ) as theirs:
        address = theirs.scheduler_address
        steps.reconstruct(scan, output, cluster={"scheduler": address}, **SMALL)
        assert len(theirs.workers) == 2  # somebody else's cluster is left running
    assert bytes_of(output) == bytes_of(made)


def test_phase_retrieval_takes_what_the_scan_knows(scan, made, client, tmp_path):
    """Energy and distance are the recipe's; the pixel size is the scan's."""
    output = tmp_path / "phase.zarr"
    paganin = {"delta_beta": 30.0, "energy_kev": 20.0, "distance_mm": 20.0}
    column = volume_metadata(made)["geometry"]["center_of_rotation"]
    settings = {"volume": {"chunk_rows": 4}, "corrections": {"paganin": paganin}}
    steps.reconstruct(scan, output, client=client, center=column, **settings)
    blurred, sharp = Volume.open(output).read_level(0), Volume.open(made).read_level(0)
    assert blurred.mean() == pytest.approx(sharp.mean(), rel=0.1)
    assert np.abs(np.diff(blurred)).mean() < 0.7 * np.abs(np.diff(sharp)).mean()


def test_rows_of_a_crop_equal_the_same_rows_of_the_whole(made, scan, client, tmp_path):
    output = tmp_path / "crop.zarr"
    column = volume_metadata(made)["geometry"]["center_of_rotation"]
    steps.reconstruct(scan, output, client=client, rows="7:30", center=column, **SMALL)
    whole, crop = Volume.open(made).read_level(0), Volume.open(output).read_level(0)
    np.testing.assert_array_equal(crop, whole[7:30])


def test_columns_of_a_crop_see_the_same_axis(made, scan, client, tmp_path):
    output = tmp_path / "crop.zarr"
    column = volume_metadata(made)["geometry"]["center_of_rotation"]
    found = steps.reconstruct(scan, output, client=client, columns="2:47", **SMALL).center
    assert found == pytest.approx(column, abs=0.3)
    assert Volume.open(output).spec.shape == (40, 45, 45)


def test_the_same_command_has_nothing_left_to_do(made, scan, client, monkeypatch):
    monkeypatch.setattr("tomodask.pipeline.run_blocks", None)  # would fail if it were called
    result = steps.reconstruct(scan, made, client=client, **SMALL)
    assert result.progress == {}


def test_another_recipe_is_refused_and_the_difference_named(made, scan, client, bytes_of):
    before = bytes_of(made)
    with pytest.raises(OutputExistsError, match=r"filter: ramp then, hann now.*--overwrite"):
        steps.reconstruct(scan, made, client=client, algorithm={"fbp": {"filter": "hann"}}, **SMALL)
    assert bytes_of(made) == before


def test_overwrite_removes_what_the_run_made_and_nothing_else(made, scan, client, tmp_path):
    output = tmp_path / "volume.zarr"
    shutil.copytree(made, output)
    (output / "notes.txt").write_text("mine")
    steps.reconstruct(scan, output, client=client, center=20.0, overwrite=True, **SMALL)
    assert (output / "notes.txt").read_text() == "mine"
    assert volume_metadata(output)["geometry"]["center_of_rotation"] == 20.0


def test_a_folder_of_somebody_else_is_refused(scan, client, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").touch()
    for overwrite in (False, True):
        with pytest.raises(OutputExistsError, match="not a store of tomodask"):
            steps.reconstruct(scan, tmp_path / "photos", client=client, overwrite=overwrite)
    assert [path.name for path in tmp_path.rglob("*.png")] == ["cat.png"]


def test_an_interrupted_run_goes_on_with_the_missing_blocks(
    made, scan, client, tmp_path, bytes_of, monkeypatch
):
    """Stop after three blocks; the same command reconstructs the other seven, and only those."""
    output, ran = tmp_path / "volume.zarr", []

    class StopError(Exception):
        pass

    def stop_after_three(client, function, tasks, **options):
        run_blocks(client, function, tasks[:3], **options)
        raise StopError

    def remember(client, function, tasks, **options):
        ran.extend(task.id for task in tasks)
        return run_blocks(client, function, tasks, **options)

    monkeypatch.setattr("tomodask.blocks.TARGET_BYTES", 1)
    monkeypatch.setattr("tomodask.pipeline.run_blocks", stop_after_three)
    with pytest.raises(StopError):
        steps.reconstruct(scan, output, client=client, **SMALL)
    assert not volume_metadata(output)["complete"]
    monkeypatch.setattr("tomodask.pipeline.run_blocks", remember)
    steps.reconstruct(scan, output, client=client, **SMALL)
    assert ran == [f"z{start:07d}-{start + 4:07d}" for start in range(12, 40, 4)]
    assert bytes_of(output) == bytes_of(made)
    assert volume_metadata(output)["complete"]


def test_an_interrupted_ingest_goes_on_with_the_missing_frames(client, tmp_path, monkeypatch):
    truth, ran = simulate_scan(4, 16, 500, seed=6, num_spheres=5), []
    write_dxchange(tmp_path / "scan.h5", truth)

    class StopError(Exception):
        pass

    def stop_after_one(client, function, tasks, **options):
        assert len(tasks) > 2
        run_blocks(client, function, tasks[:1], **options)
        raise StopError

    def remember(client, function, tasks, **options):
        ran.extend(task.id for task in tasks)
        return run_blocks(client, function, tasks, **options)

    monkeypatch.setattr("tomodask.pipeline.run_blocks", stop_after_one)
    with pytest.raises(StopError):
        steps.ingest(tmp_path / "scan.h5", tmp_path / "scan.zarr", client=client)
    with pytest.raises(UnfinishedError, match="same ingest command again"):
        steps.reconstruct(tmp_path / "scan.zarr", tmp_path / "v.zarr", client=client)
    monkeypatch.setattr("tomodask.pipeline.run_blocks", remember)
    steps.ingest(tmp_path / "scan.h5", tmp_path / "scan.zarr", client=client)
    assert ran
    assert not any(name.startswith("f0000000") for name in ran)
    read = Scan.open(tmp_path / "scan.zarr").read((0, 4))
    np.testing.assert_array_equal(read.data, truth.projections)


def test_a_block_written_twice_gives_the_same_bytes(made, scan, tmp_path, bytes_of, client):
    output = tmp_path / "volume.zarr"
    shutil.copytree(made, output)
    tasks = []

    def keep(client, function, given, **options):
        tasks.extend(given)
        raise BlocksFailedError("only looked")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tomodask.pipeline.run_blocks", keep)
        with pytest.raises(BlocksFailedError):
            steps.reconstruct(scan, tmp_path / "fresh.zarr", client=client, **SMALL)
    for task in [*tasks, *reversed(tasks)]:
        reconstruct_block(task)
    assert bytes_of(tmp_path / "fresh.zarr") == bytes_of(made)


def test_a_stage_that_turns_the_other_way_gives_the_same_volume(
    raw_file, made, client, tmp_path, bytes_of
):
    path = tmp_path / "stack.zarr"
    _stack(path, raw_file, chunks=(60, 4, 48))
    angles = zarr.open_array(path / "theta", mode="r+")
    angles[:] = -angles[:]
    column = volume_metadata(made)["geometry"]["center_of_rotation"]
    output = tmp_path / "volume.zarr"
    steps.reconstruct(path, output, client=client, angle_sign=-1, center=column, **SMALL)
    assert bytes_of(output) == bytes_of(made)


def test_a_zarr_stack_is_reconstructed_in_place(raw_file, made, client, tmp_path, bytes_of):
    path = tmp_path / "stack.zarr"
    _stack(path, raw_file, chunks=(60, 4, 48))
    result = steps.reconstruct(path, tmp_path / "volume.zarr", client=client, **SMALL)
    assert result.scan == path
    assert bytes_of(tmp_path / "volume.zarr") == bytes_of(made)


def test_a_zarr_stack_in_frames_is_refused_before_it_is_read_over_and_over(
    raw_file, client, tmp_path
):
    path = tmp_path / "stack.zarr"
    _stack(path, raw_file, chunks=(1, 40, 48))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tomodask.blocks.TARGET_BYTES", 1)
        with pytest.raises(ChunkLayoutError, match="tomodask ingest"):
            steps.reconstruct(path, tmp_path / "volume.zarr", client=client, **SMALL)
    assert not (tmp_path / "volume.zarr").exists()


def test_bad_input_leaves_nothing_that_looks_whole(raw_file, client, tmp_path):
    stack = tmp_path / "stack.zarr"
    _stack(stack, raw_file, chunks=(60, 4, 48))
    del zarr.open_group(stack)["flats"]
    with pytest.raises(FlatfieldError, match="--flats"):
        steps.reconstruct(stack, tmp_path / "volume.zarr", client=client, center=24.0)
    assert not (volume_metadata(tmp_path / "volume.zarr") or {"complete": False})["complete"]


def test_what_can_not_be_is_refused_by_name(scan, client, tmp_path):
    output = tmp_path / "volume.zarr"
    with pytest.raises(InputError, match=r"rows 3:41 asked of 40"):
        steps.reconstruct(scan, output, client=client, rows="3:41")
    with pytest.raises(RecipeError, match="did you mean 'center'"):
        steps.reconstruct(scan, output, client=client, centre=3)
    with pytest.raises(InputError, match="no folder"):
        steps.reconstruct(scan, tmp_path / "no" / "volume.zarr", client=client)
    with pytest.raises(MemoryBudgetError, match=r"the smallest block, 4 rows"):
        steps.reconstruct(
            scan, output, cluster={"workers": 1, "memory": 400 * 2**20 + 2**20}, **SMALL
        )
    assert not output.exists()


def test_the_ledger_lists_each_block_with_its_shards(made):
    kept = volume_metadata(made)
    done = Ledger.of(made, kept["uuid"], kept["recipe_hash"]).done()
    assert sum(len(entry.shards) for entry in done.values()) == len(
        [file for file in made.rglob("*") if file.is_file() and file.name != "zarr.json"]
    )


def _stack(path: Path, raw_file, chunks) -> None:
    """Somebody's Zarr stack, with the same counts as the raw file."""
    truth = raw_file.truth
    group = zarr.open_group(path, mode="w", attributes={"pixel_size_um": 2.0})
    group.create_array("data", data=truth.projections, chunks=chunks)
    group.create_array("flats", data=truth.flats)
    group.create_array("darks", data=truth.darks)
    angles = group.create_array("theta", data=np.rad2deg(truth.angles))
    angles.attrs["units"] = "degrees"
