"""The log of a run: what it tells of itself, and that telling never ends it."""

import json
import time
from collections.abc import Callable

import pytest

from tomodask import pipeline, runlog
from tomodask.cluster.run import Progress
from tomodask.errors import BlocksFailedError, CancelledRunError
from tomodask.inventory import take_inventory
from tomodask.layers import Layer, recipe_file, resolve
from tomodask.recipe import Recipe
from tomodask.runfolder import RunFolder
from tomodask.runlog import RunLog, how_it_ended, keep_recipe

SETTINGS = {"center": 23.0, "volume": {"chunk_rows": 4}, "cluster": {"workers": 1}}


@pytest.fixture
def folder(tmp_path):
    return RunFolder.of(tmp_path / "volume.zarr")


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """No wait between two takes, looks or statuses."""
    monkeypatch.setattr(runlog, "TAKE_SECONDS", 0.0)
    monkeypatch.setattr(runlog, "CANCEL_SECONDS", 0.0)
    monkeypatch.setattr(runlog, "STATUS_SECONDS", 0.02)


def progressed(blocks: int = 3, done: int = 0, failed: int = 0) -> Progress:
    progress = Progress("reconstruct", blocks)
    for number in range(done):
        progress.add({"block": f"z{number}", "rows": 4, "bytes_read": 10, "bytes_written": 20})
    progress.failed = [failure(number) for number in range(failed)]
    progress.running = {"z9": ("worker-1", 5.0)}
    return progress


def failure(number: int) -> dict:
    return {
        "block": f"z{number}", "stage": "reconstruct", "error": "OSError: no", "attempts": 3,
        "traceback": "Traceback ...",
    }  # fmt: skip


def events_of(folder: RunFolder) -> list[dict]:
    return [json.loads(line) for line in folder.events.read_text().splitlines()]


def test_the_status_says_what_progress_says(folder):
    with RunLog(folder) as log:
        log.tell(jobs=["17"])
        log(progressed(done=2, failed=1))
        deadline = time.monotonic() + 60
        while not (status := folder.statuses()[0]).blocks_done:
            assert time.monotonic() < deadline, "the thread has not told"
            time.sleep(0.01)
        assert (status.state, status.stage, status.jobs) == ("running", "reconstruct", ["17"])
        assert (status.blocks, status.blocks_done, status.rows_done) == (3, 2, 8)
        assert (status.bytes_read, status.bytes_written) == (20, 40)
        assert status.running == [{"block": "z9", "worker": "worker-1", "since": 5.0}]
        assert status.failed == [failure(0)]
    (ended,) = folder.statuses()
    assert (ended.state, ended.blocks_done, ended.running) == ("done", 2, [])


def test_it_is_heard_of_while_no_block_ends(folder):
    with RunLog(folder):
        first = folder.statuses()[0].updated
        deadline = time.monotonic() + 60
        while folder.statuses()[0].updated == first:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_each_ended_block_is_one_line_of_the_events_across_stages_and_resumes(folder):
    for _ in range(2):
        with RunLog(folder) as log:
            ingest = Progress("ingest", 1)
            log(ingest)
            ingest.add({"block": "f0", "counts": {"zingers": 3}, "picture": [[0] * 100]})
            log(ingest)
            progress = progressed(done=1)
            log(progress)
            progress.add({"block": "z1", "rows": 4})
            progress.failed.append(failure(2))
            log(progress)
            log(progress)
    events = events_of(folder)
    told = [(event["stage"], event["block"], event["ended"]) for event in events]
    assert told == 2 * [
        ("ingest", "f0", "done"),
        ("reconstruct", "z0", "done"),
        ("reconstruct", "z1", "done"),
        ("reconstruct", "z2", "failed"),
    ]
    assert events[0]["counts"] == {"zingers": 3}
    assert "picture" not in events[0], "only what is small"
    assert events[3]["error"] == "OSError: no"


def test_failures_of_an_earlier_stage_are_kept(folder):
    with RunLog(folder) as log:
        log(progressed(failed=2))
        log(Progress("write", 5))
    assert [block["block"] for block in folder.statuses()[0].failed] == ["z0", "z1"]


def test_a_status_stays_small_where_everything_fails(folder):
    with RunLog(folder) as log:
        log(progressed(failed=5000))
    failed = folder.statuses()[0].failed
    assert len(failed) == runlog.MOST_FAILED
    assert sum(bool(block["traceback"]) for block in failed) == runlog.MOST_TRACEBACKS
    assert len(events_of(folder)) == 5000


def logged(folder: RunFolder, *steps: Callable[[RunLog], object], **options: object) -> None:
    """A run of these steps."""
    with RunLog(folder, **options) as log:
        for step in steps:
            step(log)


def test_a_request_to_cancel_ends_the_run_and_names_who_asked(folder):
    def ask(log: RunLog) -> None:
        log(progressed())
        folder.request_cancel("somebody")

    with pytest.raises(CancelledRunError, match=r"by somebody.*tomodask resume .*volume\.zarr"):
        logged(folder, ask, lambda log: log(progressed()))
    (status,) = folder.statuses()
    assert status.state == "cancelled"
    assert "by somebody" in status.message


def test_an_empty_file_of_that_name_cancels_too(folder):
    with pytest.raises(CancelledRunError):
        logged(folder, lambda _: (folder.path / "cancel").touch(), lambda log: log(progressed()))


def test_a_driver_forgets_an_old_request_and_an_element_does_not(folder):
    folder.request_cancel("somebody")
    with pytest.raises(CancelledRunError):
        logged(folder, RunLog.check_cancelled, writer="shard-0001-of-0002")
    logged(folder, RunLog.check_cancelled)


@pytest.mark.parametrize(
    ("error", "state", "message"),
    [
        (None, "done", ""),
        (BlocksFailedError("2 of 9"), "failed", "2 of 9"),
        (ZeroDivisionError("0"), "failed", "ZeroDivisionError('0')"),
        (CancelledRunError("by me"), "cancelled", "by me"),
        (KeyboardInterrupt(), "interrupted", "KeyboardInterrupt"),
    ],
)
def test_how_it_ended_is_told_by_the_error(error, state, message):
    assert how_it_ended(error) == (state, message)


def test_the_listener_hears_all_of_it(folder):
    heard = []
    progress = progressed()
    with RunLog(folder, heard.append) as log:
        log(progress)
    assert heard == [progress]


def test_a_folder_that_cannot_be_written_ends_no_run(tmp_path, caplog):
    folder = RunFolder.of(tmp_path / "volume.zarr")
    folder.path.write_text("a file where the folder should be")  # root could write into any folder
    with RunLog(folder) as log:
        log(progressed(done=1))
        time.sleep(0.1)
    complaints = [told for told in caplog.records if "can't be kept up to date" in told.message]
    assert len([told for told in complaints if told.levelname == "WARNING"]) == 1


def test_a_driver_that_lost_its_store_writes_over_nobody(folder):
    before = RunLog(folder, is_ours=lambda: False)
    with RunLog(folder):
        before(progressed(done=1))
        before.close("failed", "the store was taken over")
    assert folder.statuses()[0].state == "done"
    assert not folder.events.exists()


def test_a_real_run_tells_what_its_ledger_says(raw_file, tmp_path):
    output = tmp_path / "volume.zarr"
    tree = {**SETTINGS, "source": str(raw_file.path), "output": str(output)}
    with RunLog(RunFolder.of(output)) as log:
        pipeline.run(resolve([Layer("test", tree)])[0], listener=log)
    (status,) = RunFolder.of(output).statuses()
    assert (status.state, status.rows_done) == ("done", 40)
    told = {event["block"] for event in events_of(log.folder) if event["stage"] == "reconstruct"}
    assert told == set(take_inventory(output).ledger.done())


def test_the_recipe_that_is_kept_can_be_read_from_any_folder(folder, raw_file, monkeypatch):
    monkeypatch.chdir(raw_file.path.parent)
    recipe = Recipe(
        source="scan.h5",
        output="out/volume.zarr",
        ingest={"flats": "scan.h5:/exchange/data_white", "angles": "scan.h5:/exchange/theta"},
        geometry={"poses": "poses.csv"},
    )
    keep_recipe(folder, recipe)
    here, kept = raw_file.path.parent, recipe_file(folder.recipe).settings
    assert kept["source"] == str(here / "scan.h5")
    assert kept["output"] == str(here / "out/volume.zarr")
    assert kept["scan"] is None
    assert kept["ingest"]["flats"] == f"{here}/scan.h5:/exchange/data_white"
    assert kept["ingest"]["angles"] == f"{here}/scan.h5:/exchange/theta"
    assert kept["geometry"]["poses"] == str(here / "poses.csv")


@pytest.mark.parametrize("angles", ["0:180:60", "/exchange/theta", None])
def test_angles_that_are_no_file_are_kept_as_they_are(folder, angles):
    keep_recipe(folder, Recipe(source="s.h5", output="v.zarr", ingest={"angles": angles}))
    assert recipe_file(folder.recipe).settings["ingest"]["angles"] == angles
