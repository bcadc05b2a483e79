"""A job array without Dask: any elements in any order make the bytes that one run makes."""

import errno
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tomodask import jobarray, steps
from tomodask.cluster.local import Workers, local_cluster
from tomodask.elements import Element
from tomodask.errors import (
    BlocksLeftError,
    CancelledRunError,
    DiskFullError,
    InputError,
    OutputExistsError,
    OutputInUseError,
    RecipeError,
)
from tomodask.layers import Layer, resolve
from tomodask.lease import held
from tomodask.recipe import Recipe
from tomodask.runfolder import RunFolder
from tomodask.shards import partials_of
from tomodask.volumestore import Volume, volume_metadata

SMALL = {"volume": {"chunk_rows": 4}, "corrections": {"stripes": {}}}
CHUNK_ROWS = 10


@pytest.fixture(scope="module")
def client():
    with local_cluster(Workers(1, 1, 2**30)) as client:
        yield client


@pytest.fixture(scope="module")
def scan(raw_file, client, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("scan") / "scan.zarr"
    return steps.ingest(raw_file.path, path, client=client)


@pytest.fixture(scope="module")
def expected(scan, client, tmp_path_factory, bytes_of) -> dict[str, bytes]:
    """What one run makes."""
    output = tmp_path_factory.mktemp("made") / "volume.zarr"
    steps.reconstruct(scan, output, client=client, **SMALL)
    return bytes_of(output)


@pytest.fixture
def output(tmp_path) -> Path:
    return tmp_path / "volume.zarr"


@pytest.fixture
def recipe(scan, output, monkeypatch) -> Recipe:
    """Its blocks are of one chunk row, so that each share has some."""
    monkeypatch.setattr("tomodask.blocks.TARGET_BYTES", 1)
    return recipe_of(scan, output)


def recipe_of(source: Path, output: Path, **changes) -> Recipe:
    settings = {"source": str(source), "output": str(output), **SMALL, **changes}
    return resolve([Layer("test", settings)])[0]


@pytest.fixture
def prepared(recipe) -> Recipe:
    steps.prepare(recipe)
    return recipe


def metadata_of(output: Path) -> dict[Path, tuple[bytes, int]]:
    """Content and inode of each file of metadata: one that was swapped in anew has another."""
    files = output.rglob("zarr.json")
    return {file: (file.read_bytes(), file.stat().st_ino) for file in files}


def refuse_search(*_):
    raise AssertionError("the centre was searched for")


@pytest.mark.parametrize("count", [1, 2, 3, 7, 16])
def test_any_number_of_elements_in_any_order_makes_the_same_bytes(
    prepared, output, count, expected, bytes_of, monkeypatch, rng
):
    monkeypatch.setattr("tomodask.runplan.find_center_of", refuse_search)
    monkeypatch.setattr("tomodask.pipeline.run_blocks", None)  # no cluster
    before = metadata_of(output)
    for number in rng.permutation(count):
        steps.run(prepared, shard=f"{number + 1}/{count}")
    assert metadata_of(output) == before
    assert not Volume.open(output).metadata["complete"]
    steps.finalize(prepared)
    assert Volume.open(output).metadata["complete"]
    assert bytes_of(output) == expected


def test_elements_at_the_same_time_change_no_metadata_and_no_byte(
    prepared, output, expected, bytes_of
):
    """Of three arrays at once, that do the same rows."""
    before = metadata_of(output)
    shards = [f"{number}/{count}" for count in (2, 3, 4) for number in range(1, count + 1)]
    with ThreadPoolExecutor(len(shards)) as pool:
        list(pool.map(lambda shard: steps.run(prepared, shard=shard), shards))
    assert metadata_of(output) == before
    steps.finalize(prepared)
    assert bytes_of(output) == expected
    assert not partials_of(output)


def test_an_element_does_its_own_share_and_not_twice(prepared, output):
    first = steps.run(prepared, shard="2/3")
    assert first.chunk_rows == range(3, 6)
    assert {report["block"] for report in first.progress.reports} == {
        "z0000012-0000016", "z0000016-0000020", "z0000020-0000024",
    }  # fmt: skip
    assert steps.run(prepared, shard="2/3").progress.blocks == 0
    again = steps.run(prepared, shard="1/2")  # of another array
    assert [report["block"] for report in again.progress.reports] == [
        "z0000000-0000004", "z0000004-0000008", "z0000008-0000012",
    ]  # fmt: skip


def test_a_run_does_what_elements_have_left_and_the_other_way_round(
    prepared, output, client, expected, bytes_of, monkeypatch
):
    steps.run(prepared, shard="2/2")
    monkeypatch.setattr("tomodask.runplan.find_center_of", refuse_search)  # it is kept
    rest = steps.run(prepared, client=client)
    assert rest.progress["reconstruct"].rows_done == 20
    assert bytes_of(output) == expected
    torn = output / "0/c/0/0/5/0/0"
    torn.write_bytes(torn.read_bytes()[:-1])
    with pytest.raises(
        BlocksLeftError, match=r"1 of 10 chunk rows are missing.*2/2 \(done\): rows 20:24"
    ):
        steps.finalize(prepared)
    shares = [steps.run(prepared, shard=shard) for shard in ("1/2", "2/2")]
    assert sum(share.progress.rows_done for share in shares) == 4
    steps.finalize(prepared)
    assert bytes_of(output) == expected


def test_a_prepare_that_was_killed_goes_on_without_another_search(
    recipe, output, monkeypatch, expected, bytes_of
):
    class Killed(BaseException):
        pass

    write_json = RunFolder.write_json

    def killed(folder, name, tree):
        if name == jobarray.NOTE:
            raise Killed
        return write_json(folder, name, tree)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_json", killed)  # the last thing it does
        with pytest.raises(Killed):
            steps.prepare(recipe)
    made = volume_metadata(output)["uuid"]
    with pytest.raises(InputError, match=r"is not prepared.*tomodask prepare"):
        steps.run(recipe, shard="1/1")
    monkeypatch.setattr("tomodask.runplan.find_center_of", refuse_search)
    assert steps.prepare(recipe).uuid == made
    steps.run(recipe, shard="1/1")
    assert steps.prepare(recipe).uuid == made  # once more, harmlessly
    steps.finalize(recipe)
    assert bytes_of(output) == expected


def test_a_raw_source_is_copied_once_and_not_needed_by_elements(
    raw_file, output, tmp_path, expected, bytes_of
):
    raw = tmp_path / "scan.h5"
    raw.write_bytes(raw_file.path.read_bytes())
    recipe = recipe_of(raw, output, cluster={"workers": 1})
    prepared = steps.prepare(recipe)
    assert prepared.chunk_rows == CHUNK_ROWS
    raw.unlink()
    assert RunFolder.of(output).recipe.is_file()
    for shard in ("1/2", "2/2"):
        steps.run(recipe, shard=shard)
    steps.finalize(recipe)
    assert bytes_of(output) == expected


KILLED = """
import os, signal, sys
from pathlib import Path
import tomodask.blocks
from tomodask import jobarray, steps
from tomodask.recipe import Recipe
tomodask.blocks.TARGET_BYTES = 1
replace, renamed = Path.replace, 0
def killed(self, target):
    global renamed
    renamed += "/c/" in str(target)
    if renamed == 4:  # a shard is written, and not yet in its place
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)
Path.replace = killed
steps.run(Recipe.model_validate_json(sys.argv[1]), shard="1/2")
"""


def test_an_element_killed_in_the_middle_of_a_shard_is_run_again(
    prepared, output, expected, bytes_of
):
    tree = json.dumps(prepared.as_dict())
    done = subprocess.run([sys.executable, "-c", KILLED, tree], check=False, timeout=120)
    assert done.returncode == -9
    assert partials_of(output)
    left = r"element 1/2 \(killed\): rows \d+:20; element 2/2 \(never began\): rows 20:40"
    with pytest.raises(BlocksLeftError, match=left) as missing:
        steps.finalize(prepared)
    assert missing.value.elements == ["1/2", "2/2"]
    assert 0 < steps.run(prepared, shard="1/2").progress.blocks < 5
    steps.run(prepared, shard="2/2")
    steps.finalize(prepared)
    steps.finalize(prepared)
    assert bytes_of(output) == expected
    assert not partials_of(output)
    assert not list(RunFolder.of(output).path.rglob("*.lease"))


def test_what_a_live_element_is_writing_outlives_every_driver(
    prepared, output, client, expected, bytes_of
):
    """An accidental `finalize`, `prepare` or run in the middle of it."""
    partial = output / "0" / f"0.{'a' * 32}.partial"
    place = Element(2, 2).place(output)
    place.parent.mkdir(parents=True)
    with held(place):
        partial.write_bytes(b"half a shard")
        with pytest.raises(BlocksLeftError):
            steps.finalize(prepared)
        steps.prepare(prepared)
        steps.run(prepared, client=client)
        steps.finalize(prepared)
        assert partial.exists()
        with pytest.raises(OutputInUseError, match=r"elements of a job array \(2/2"):
            steps.reconstruct(
                prepared.source, output, client=client, center=20.0, overwrite=True, **SMALL
            )
    steps.finalize(prepared)
    assert not partial.exists()
    assert bytes_of(output) == expected


def test_an_element_elsewhere_is_gone_when_its_heart_stands_still(prepared, output, monkeypatch):
    partial = output / "0" / f"0.{'a' * 32}.partial"
    place = Element(2, 2).place(output)
    place.parent.mkdir(parents=True)
    with monkeypatch.context() as patch, held(place):
        patch.setattr("tomodask.elements.this_machine", lambda: "another")
        partial.write_bytes(b"half a shard")
        steps.prepare(prepared)
        assert partial.exists()
        patch.setattr("tomodask.elements.GONE_SECONDS", -1.0)
        steps.prepare(prepared)
        assert not partial.exists()


def test_the_same_element_is_not_done_twice_at_the_same_time(prepared, output):
    place = Element(2, 1).place(output)
    place.parent.mkdir(parents=True)
    with held(place), pytest.raises(OutputInUseError, match=r"element 1/2 of .* at work already"):
        steps.run(prepared, shard="1/2")
    steps.run(prepared, shard="1/2")


def test_another_recipe_or_input_is_refused_and_the_difference_named(
    prepared, output, scan, client, raw_file, tmp_path
):
    other = recipe_of(scan, output, algorithm={"fbp": {"filter": "hann"}})
    for call in (lambda: steps.run(other, shard="1/2"), lambda: steps.finalize(other)):
        with pytest.raises(OutputExistsError, match=r"filter: ramp then, hann now.*prepare"):
            call()
    with pytest.raises(OutputExistsError, match=r"filter: ramp then, hann now.*--overwrite"):
        steps.prepare(other)
    with pytest.raises(OutputExistsError, match=r"center: auto then, 20.0 now"):
        steps.run(recipe_of(scan, output, center=20.0), shard="1/2")
    steps.reconstruct(scan, output, client=client, center=20.0, overwrite=True, **SMALL)
    with pytest.raises(InputError, match="was made anew since: give `tomodask prepare"):
        steps.run(prepared, shard="1/2")


def test_a_centre_that_was_given_is_not_taken_for_one_that_was_found(scan, output, client):
    steps.prepare(recipe_of(scan, output, center=20.0))
    with pytest.raises(OutputExistsError, match=r"center: 20\.0 then, auto now"):
        steps.run(recipe_of(scan, output), shard="1/2")
    with pytest.raises(OutputExistsError, match=r"center: 20\.0 then, auto now"):
        steps.prepare(recipe_of(scan, output))


def test_an_input_that_changed_is_refused(prepared, output, client, tmp_path):
    from tomodask.demo import write_dxchange
    from tomodask.phantom import simulate_scan

    write_dxchange(tmp_path / "other.h5", simulate_scan(40, 48, 60, seed=9, num_spheres=30))
    other = steps.ingest(tmp_path / "other.h5", tmp_path / "other.zarr", client=client)
    with pytest.raises(OutputExistsError, match="was prepared from another input than"):
        steps.run(recipe_of(other, output), shard="1/2")


def test_slices_that_hang_together_are_refused_with_what_to_do(scan, output):
    coupled = recipe_of(
        scan, output, center=23.0, algorithm="fdk", geometry={"source_distance_mm": 200.0}
    )
    for call in (
        lambda: steps.prepare(coupled),
        lambda: steps.run(coupled, shard="1/2"),
        lambda: steps.finalize(coupled),
    ):
        with pytest.raises(RecipeError, match=r"fdk in this geometry.*tomodask cluster script"):
            call()
    assert not output.exists()


def test_a_run_that_is_complete_needs_no_ledger(prepared, output):
    import shutil

    from tomodask.ledger import ledgers_of

    steps.run(prepared, shard="1/1")
    steps.finalize(prepared)
    shutil.rmtree(ledgers_of(output))
    assert steps.run(prepared, shard="1/3").progress.blocks == 0
    steps.finalize(prepared)


def test_the_block_that_an_element_works_on_is_told_however_short_the_one_before(
    prepared, output, monkeypatch
):
    monkeypatch.setattr("tomodask.runlog.STATUS_SECONDS", 0.01)
    stream_block, told = jobarray.stream_block, []

    def look(task):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and told[-1:] != [task.id]:
            _prepare, status = RunFolder.of(output).statuses()
            told.extend(block["block"] for block in status.running)
            time.sleep(0.01)
        return stream_block(task)

    monkeypatch.setattr(jobarray, "stream_block", look)
    share = steps.run(prepared, shard="1/4")
    assert set(told) == {report["block"] for report in share.progress.reports}
    assert len(set(told)) == 2


def test_a_prepare_that_was_cancelled_may_begin_anew(raw_file, output):
    recipe = recipe_of(raw_file.path, output, cluster={"workers": 1})
    RunFolder.of(output).request_cancel("somebody")
    steps.prepare(recipe)  # with a copy of the source, which would hear of it
    assert RunFolder.of(output).cancel_requested() is None


def test_a_disk_that_is_full_ends_an_element_with_what_to_do(prepared, output, monkeypatch):
    def full(task):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(jobarray, "stream_block", full)
        with pytest.raises(DiskFullError, match=r"no space is left for .*still to be written"):
            steps.run(prepared, shard="1/2")
    _prepare, status = RunFolder.of(output).statuses()
    assert status.state == "failed"
    assert "no space is left for" in status.message
    assert steps.run(prepared, shard="1/2").progress.rows_done == 20


def test_elements_that_begin_after_a_request_to_cancel_do_nothing(prepared, output):
    """Those that still wait in the queue are to stop as well."""
    RunFolder.of(output).request_cancel("somebody")
    for shard in ("1/2", "2/2"):
        with pytest.raises(CancelledRunError, match="cancelled by somebody"):
            steps.run(prepared, shard=shard)
    with pytest.raises(BlocksLeftError, match=r"element 1/2 \(cancelled\).*2/2 \(cancelled\)"):
        steps.finalize(prepared)
    steps.prepare(prepared)
    assert steps.run(prepared, shard="1/2").progress.rows_done == 20


def test_finalize_says_in_the_run_folder_that_all_is_done(prepared, output):
    began = time.time()
    for shard in ("1/2", "2/2"):
        steps.run(prepared, shard=shard)
    steps.finalize(prepared)
    driver, prepare, *elements = RunFolder.of(output).statuses()
    assert (driver.state, driver.stage, driver.blocks_done) == ("done", "finalize", CHUNK_ROWS)
    assert [status.writer for status in elements] == ["shard-0001-of-0002", "shard-0002-of-0002"]
    assert {status.state for status in (prepare, *elements)} == {"done"}
    assert sum(status.rows_done for status in elements) == 40
    assert all(status.updated >= began and status.bytes_written > 0 for status in elements)


def test_blocks_are_cut_for_as_many_workers_as_there_are_elements(prepared, monkeypatch):
    """Then a share has several: killed in the middle, an element has something to go on from."""
    counts, plan_run = [], jobarray.plan_run

    def spy(recipe, scan, workers, center):
        counts.append(workers.count)
        return plan_run(recipe, scan, workers, center)

    monkeypatch.setattr(jobarray, "plan_run", spy)
    steps.run(prepared, shard="1/5")
    assert counts == [5]
