"""Status, cancel and resume: what files say of a run, and that a stopped one ends the same."""

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tomodask import control, runlog, steps
from tomodask.blocks import chunk_rows_done
from tomodask.cli import execute
from tomodask.cluster.local import Workers, local_cluster
from tomodask.cluster.run import run_blocks
from tomodask.control import describe
from tomodask.elements import parse_element
from tomodask.errors import (
    BlocksFailedError,
    CancelledRunError,
    InputError,
    MissingInputError,
    OutputExistsError,
    OutputInUseError,
)
from tomodask.inventory import take_inventory, volume_ledger
from tomodask.layers import Layer, recipe_file
from tomodask.lease import held, lease_path
from tomodask.ledger import ledgers_of
from tomodask.ledgerlines import Entry
from tomodask.recipe import Recipe
from tomodask.runfolder import RunFolder, Status
from tomodask.runlog import RunLog, keep_recipe
from tomodask.runstate import rate_of, run_state
from tomodask.volumestore import VolumeSpec, create_volume, volume_metadata
from tomodask.writers import STATES

BLOCKS = 10  # chunk rows of 4
SETTINGS = {"center": 23.0, "volume": {"chunk_rows": 4}}


@pytest.fixture(scope="module")
def client():
    with local_cluster(Workers(1, 1, 2**30)) as client:
        yield client


@pytest.fixture(autouse=True)
def one_chunk_row_a_block(monkeypatch):
    monkeypatch.setattr("tomodask.blocks.TARGET_BYTES", 1)
    monkeypatch.setattr(runlog, "CANCEL_SECONDS", 0.0)


@pytest.fixture(scope="module")
def whole(raw_file, client, tmp_path_factory) -> Path:
    """A folder with a scan store and a volume that nobody stopped; neither has a run folder."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tomodask.blocks.TARGET_BYTES", 1)
        steps.reconstruct(raw_file.path, folder / "volume.zarr", client=client, **SETTINGS)
    for path in folder.glob("*.run"):
        shutil.rmtree(path)
    return folder


@pytest.fixture
def bench(whole, tmp_path, raw_file) -> "Bench":
    shutil.copytree(whole / "volume.scan.zarr", tmp_path / "volume.scan.zarr")
    return Bench(tmp_path / "volume.zarr", raw_file.path)


@dataclasses.dataclass(frozen=True)
class Bench:
    """A volume to be made from a scan store that is there."""

    output: Path
    source: Path

    @property
    def folder(self) -> RunFolder:
        return RunFolder.of(self.output)

    @property
    def recipe(self) -> Recipe:
        return Recipe(
            source=str(self.source), output=str(self.output), cluster={"workers": 1}, **SETTINGS
        )

    def run(self, client, until: int | None = None, then: Callable[[], None] | None = None) -> None:
        """Make the volume; after `until` blocks, do `then`."""

        def listen(progress) -> None:
            if progress.stage == "reconstruct" and progress.blocks_done == until:
                then()

        steps.run(self.recipe, client=client, listener=listen)


def partly_done(output: Path, done: int, height: int = 40, minute_ago: float = 0.0) -> None:
    """A volume whose ledger lists its first blocks, one a second; nothing is written into it."""
    volume = create_volume(output, VolumeSpec((height, 8, 8), chunk_rows=4), {"recipe_hash": "h"})
    ledger = volume_ledger(output, volume.metadata)
    for index in range(done):
        report = {"rows": 4, "bytes_read": 1000, "bytes_written": 500}
        ledger.record(f"z{4 * index:07d}-{4 * index + 4:07d}", [], report)


def told(folder: RunFolder, **fields: object) -> None:
    """A status as a writer would leave it, with `updated` as it is given."""
    status = Status(**fields)
    folder.write_status(status)
    if "updated" in fields:
        path = folder.path / f"status/{status.writer}.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "updated": status.updated}))


def tree_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# ---- what is done ----------------------------------------------------------------------------


def test_what_is_done_is_what_the_ledger_lists(tmp_path):
    output = tmp_path / "volume.zarr"
    partly_done(output, 3, height=38)  # the last block is lower
    told(RunFolder.of(output), blocks=10, blocks_done=7)  # of no weight
    (stage,) = run_state(output).stages
    done = chunk_rows_done(take_inventory(output).ledger.done(), 4, 38)
    assert (stage.blocks, stage.blocks_done) == (BLOCKS, len(done)) == (10, 3)
    assert (stage.rows, stage.rows_done) == (38, 12)


def test_a_whole_run_is_done_with_and_without_its_ledger_and_folder(whole, tmp_path):
    folder = Path(shutil.copytree(whole, tmp_path / "copy"))
    for output in (folder / "volume.zarr", folder / "volume.scan.zarr"):
        first = run_state(output)
        shutil.rmtree(ledgers_of(output))
        second = run_state(output)
        for state in (first, second):
            assert state.state == "done"
            assert all(stage.is_complete for stage in state.stages)
            assert all(stage.blocks_done == stage.blocks for stage in state.stages)
    assert [stage.name for stage in run_state(folder / "volume.zarr").stages] == [
        "ingest", "reconstruct",
    ]  # fmt: skip


def test_nothing_is_written(whole, tmp_path):
    """Also where it may be, as root may everywhere."""
    folder = Path(shutil.copytree(whole, tmp_path / "copy"))
    output = folder / "volume.zarr"
    told(RunFolder.of(output), failed=[{"block": "z0"}], running=[{"block": "z1"}])
    before = tree_of(folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    for name in ("volume.zarr", "volume.scan.zarr", "volume.zarr.run"):
        assert execute(["status", str(folder / name)]) in (0, 3)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
    assert tree_of(folder) == before


def test_a_recipe_and_a_run_folder_stand_for_their_output(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"source: scan.h5\noutput: {tmp_path / 'volume.zarr'}\n")
    state = run_state(recipe)
    assert state.state == "not begun"
    assert [stage.name for stage in state.stages] == ["ingest", "reconstruct"]
    partly_done(tmp_path / "volume.zarr", 3)
    told(RunFolder.of(tmp_path / "volume.zarr"))
    for path in (recipe, tmp_path / "volume.zarr.run"):
        assert run_state(path).stages[-1].blocks_done == 3


def test_what_is_no_run_is_refused_by_name(tmp_path):
    with pytest.raises(MissingInputError, match=r"nothing\.zarr"):
        run_state(tmp_path / "nothing.zarr")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="no scan store or volume"):
        run_state(tmp_path / "folder")


# ---- who is at it ----------------------------------------------------------------------------


def elsewhere(monkeypatch) -> None:
    """From now on we look from another machine."""
    monkeypatch.setattr("tomodask.writers.this_machine", lambda: "another boot")
    monkeypatch.setattr("tomodask.lease.this_machine", lambda: "another boot")


def test_a_driver_that_lives_is_running_and_what_it_does_is_listed(tmp_path):
    output = tmp_path / "volume.zarr"
    partly_done(output, 2)
    running = [
        {"block": "z0000000-0000004", "worker": "w1", "since": 1.0},
        {"block": "z0000008-0000012", "worker": "w2", "since": time.time() - 5},
    ]
    with held(output):
        told(RunFolder.of(output), stage="reconstruct", running=running, jobs=["17"], workers=2)
        state = run_state(output)
    assert state.state == "running"
    assert state.driver.alive is True
    assert [block["worker"] for block in state.running] == ["w2"], "the other one is in the ledger"
    words = describe(state)
    assert "2 of 10 blocks" in words
    assert re.search(r"z0000008-0000012 on w2, for \d+ s", words)
    assert "17" in words


@pytest.mark.parametrize("has_folder", [True, False])
def test_a_driver_elsewhere_is_silent_after_a_minute(tmp_path, monkeypatch, has_folder):
    output = tmp_path / "volume.zarr"
    partly_done(output, 2)
    with held(output):
        if has_folder:
            told(RunFolder.of(output))
        elsewhere(monkeypatch)
        state = run_state(output)
        assert (state.state, state.driver.alive) == ("running", None)
        old = time.time() - 100
        os.utime(lease_path(output), (old, old))
        if has_folder:
            assert run_state(output).state == "running", "heard of by its status"
            told(RunFolder.of(output), updated=time.time() - 90)
        state = run_state(output)
        assert state.state == "silent"
        assert "last heard of 1 min" in describe(state)


def test_a_killed_driver_is_interrupted_at_once_where_it_ran(tmp_path):
    output = tmp_path / "volume.zarr"
    partly_done(output, 2)
    code = (
        "import sys, os, signal\nfrom pathlib import Path\nfrom tomodask.lease import held\n"
        "from tomodask.runfolder import RunFolder, Status\n"
        "with held(Path(sys.argv[1])):\n"
        "    RunFolder.of(sys.argv[1]).write_status(Status())\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(output)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert lease_path(output).exists()
    state = run_state(output)
    assert (state.state, state.driver.alive) == ("interrupted", False)
    assert "tomodask resume" in describe(state)


def test_a_volume_without_run_folder_or_driver_is_interrupted(tmp_path):
    partly_done(tmp_path / "volume.zarr", 2)
    assert run_state(tmp_path / "volume.zarr").state == "interrupted"


@pytest.mark.parametrize("ended", ["failed", "cancelled", "interrupted"])
def test_a_run_that_has_ended_says_how(tmp_path, ended):
    output = tmp_path / "volume.zarr"
    partly_done(output, 2)
    told(RunFolder.of(output), state=ended, message="why")
    state = run_state(output)
    assert (state.state, state.message) == (ended, "why")
    assert not state.goes_on


def at_work(output: Path, element: str) -> AbstractContextManager:
    """The lease of an element, and a status."""
    place = parse_element(element).place(output)
    place.parent.mkdir(parents=True, exist_ok=True)
    told(RunFolder.of(output), writer=place.name)
    return held(place)


def test_elements_of_an_array_are_judged_one_by_one(tmp_path, monkeypatch):
    output = tmp_path / "volume.zarr"
    partly_done(output, 2)
    folder, old = RunFolder.of(output), time.time() - 100
    with at_work(output, "2/5"), at_work(output, "3/5"):
        told(folder, writer="shard-0001-of-0005", state="done")
        told(folder, writer="shard-0003-of-0005", updated=old)
        told(folder, writer="shard-0004-of-0005", updated=time.time() - 20)  # no lease: it is dead
        os.utime(lease_path(parse_element("3/5").place(output)), (old, old))
        elsewhere(monkeypatch)
        state = run_state(output)
    assert state.driver is None
    assert [element.state for element in state.elements] == [
        "done", "running", "silent", "interrupted",
    ]  # fmt: skip
    assert state.state == "running"
    words = describe(state)
    assert len([line for line in words.splitlines() if "-of-0005" in line]) == 4
    assert "1 element has not begun" in words


def test_of_several_arrays_the_last_one_counts(tmp_path):
    output = tmp_path / "volume.zarr"
    partly_done(output, BLOCKS)
    folder, now = RunFolder.of(output), time.time()
    told(folder, writer="shard-0002-of-0009", state="failed", started=now - 100)
    told(folder, writer="shard-0001-of-0002", state="done", started=now - 50)
    told(folder, writer="shard-0002-of-0002", state="done", started=now - 50)
    state = run_state(output)
    assert (state.state, state.waiting) == ("interrupted", 0)
    assert "tomodask finalize" in describe(state)


def test_what_was_told_before_the_driver_began_is_past(tmp_path):
    output = tmp_path / "volume.zarr"
    partly_done(output, 2)
    folder, now = RunFolder.of(output), time.time()
    told(folder, writer="shard-0001-of-0001", host="elsewhere", updated=now - 100)
    told(folder, state="interrupted", started=now - 50)
    assert run_state(output).state == "interrupted"


def test_blocks_that_failed_are_listed_until_somebody_has_done_them(tmp_path, capsys):
    output = tmp_path / "volume.zarr"
    partly_done(output, 2)
    failed = [
        {
            "block": block, "stage": "reconstruct", "error": "OSError: bad disk", "attempts": 3,
            "traceback": "Traceback\n  where it was",
        }
        for block in ("z0000004-0000008", "z0000008-0000016")
    ]  # fmt: skip
    told(RunFolder.of(output), state="failed", failed=failed)
    assert execute(["status", str(output)]) == 3
    words = capsys.readouterr().out
    assert "z0000008-0000016 after 3 attempts: OSError: bad disk" in words
    assert "z0000004-0000008" not in words, "it is in the ledger"
    assert "where it was" not in words
    assert execute(["status", str(output), "--traceback"]) == 3
    assert "where it was" in capsys.readouterr().out
    ledger = take_inventory(output).ledger
    ledger.record("z0000008-0000012", [])
    assert len(run_state(output).failed) == 1, "half of it"
    ledger.record("z0000012-0000016", [])
    assert run_state(output).failed == ()


def test_the_answer_in_json_has_the_keys_that_are_documented(tmp_path, capsys):
    output = tmp_path / "volume.zarr"
    partly_done(output, 2)
    told(RunFolder.of(output), state="cancelled", jobs=["17"])
    assert execute(["status", str(output), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["state"] in STATES
    assert answer["jobs"] == ["17"]
    assert set(answer) == {
        "output", "state", "stages", "running", "failed", "rate", "eta_s", "driver", "elements",
        "elements_not_begun", "cancel_requested", "jobs", "message",
    }  # fmt: skip


def test_watching_ends_with_the_run(tmp_path, capsys, monkeypatch):
    output = tmp_path / "volume.zarr"
    partly_done(output, 2)
    ended = {"writer": "shard-0001-of-0001", "state": "failed"}
    with at_work(output, "1/1"):
        monkeypatch.setattr(
            "tomodask.cli.control.sleep", lambda _: told(RunFolder.of(output), **ended)
        )
        assert execute(["status", str(output), "--watch"]) == 3
    words = capsys.readouterr().out
    assert words.index("volume.zarr: running") < words.index("volume.zarr: failed")


# ---- how fast --------------------------------------------------------------------------------


def entry(time: float, rows: int = 4) -> Entry:
    return Entry("z", (), {"rows": rows, "bytes_read": 8, "bytes_written": 2}, time)


def test_the_rate_is_that_of_the_last_minute():
    entries = [entry(t) for t in range(1, 100)] + [entry(t / 2) for t in range(200, 401)]
    rate = rate_of(entries, 0.0, 200.0)
    assert rate.slices == pytest.approx(8.0, rel=0.02)
    assert rate.bytes_read == pytest.approx(16.0, rel=0.02)
    assert rate.seconds == pytest.approx(60, abs=1)


def test_the_rate_of_long_blocks_is_that_of_the_last_few():
    assert rate_of([entry(100.0 * t) for t in range(1, 9)], 0.0, 850.0).blocks == pytest.approx(
        4 / 450
    )


def test_a_rate_counts_no_pause_between_two_runs():
    entries = [entry(t) for t in (1, 2, 3)] + [entry(t) for t in (1010, 1020)]
    assert rate_of(entries, 1000.0, 1020.0).blocks == pytest.approx(0.1)


@pytest.mark.parametrize("entries", [[], [entry(5.0)]])
def test_of_too_few_blocks_there_is_no_rate(entries):
    assert rate_of(entries, None, 5.0) is None


def test_the_time_left_is_what_the_rate_says(tmp_path):
    output = tmp_path / "volume.zarr"
    with held(output):
        partly_done(output, 2)  # in the 4 s since the stage began; 8 are left
        began = time.time() - 100
        told(RunFolder.of(output), stage="reconstruct", started=began, seconds=4.0)
        # 400 s had it counted what came before; a busy machine adds four times its delay
        assert 15 < run_state(output).eta_s < 60


# ---- cancel and resume -----------------------------------------------------------------------


def test_a_cancelled_run_ends_with_the_same_bytes_when_it_is_resumed(
    bench, whole, client, bytes_of
):
    with pytest.raises(CancelledRunError, match="by me"):
        bench.run(client, until=3, then=lambda: bench.folder.request_cancel("me"))
    stopped = run_state(bench.output)
    assert stopped.state == "cancelled"
    assert 3 <= stopped.stages[-1].blocks_done < BLOCKS
    assert not lease_path(bench.output).exists()
    result = steps.resume(bench.output, client=client)
    # a block that ran when the others were given up may have ended since
    assert result.progress["reconstruct"].blocks <= BLOCKS - stopped.stages[-1].blocks_done
    assert bytes_of(bench.output) == bytes_of(whole / "volume.zarr")
    assert run_state(bench.output).state == "done"
    assert bench.folder.cancel_requested() is None


KILLED = """
import os, signal, sys
import tomodask.blocks
from tomodask import steps
tomodask.blocks.TARGET_BYTES = 1
def listen(progress):
    if progress.stage == sys.argv[2] and progress.blocks_done == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
if __name__ == "__main__":
    steps.run(sys.argv[1], listener=listen)
"""


def killed(bench: Bench, stage: str, blocks: int) -> None:
    """A driver that is killed after so many blocks of a stage."""
    keep_recipe(RunFolder(bench.output.with_name("elsewhere")), bench.recipe)
    script = bench.output.with_name("killed.py")
    script.write_text(KILLED)
    recipe = bench.output.with_name("elsewhere") / "recipe.yaml"
    command = [sys.executable, script, recipe, stage, str(blocks)]
    # into no pipe, that workers which outlive their driver would keep open
    with bench.output.with_name("told").open("w+") as told:
        done = subprocess.run(command, cwd=script.parent, check=False, stdout=told, stderr=told)
        told.seek(0)
        assert done.returncode == -signal.SIGKILL, told.read()


@pytest.mark.parametrize(
    ("stage", "blocks"),
    [pytest.param("ingest", 0, marks=pytest.mark.slow), ("reconstruct", 3)],
)
def test_a_killed_run_ends_with_the_same_bytes_when_it_is_resumed(
    bench, whole, client, bytes_of, stage, blocks
):
    if stage == "ingest":
        shutil.rmtree(bench.output.with_name("volume.scan.zarr"))
    killed(bench, stage, blocks)
    state = run_state(bench.output)
    assert state.state == "interrupted"
    assert state.stages[-1].blocks_done >= blocks  # workers outlive their driver for a moment
    assert state.driver.alive is False
    steps.resume(bench.output, client=client)
    assert bytes_of(bench.output) == bytes_of(whole / "volume.zarr")
    assert run_state(bench.output).state == "done"


def broken_at(function: Callable, block: str) -> Callable:
    def attempt(task):
        if task.id == block:
            raise OSError("bad disk")
        return function(task)

    return attempt


def test_a_block_that_always_fails_is_listed_with_its_reason_and_tried_again_on_resume(
    bench, whole, client, bytes_of, monkeypatch, capsys
):
    bad = "z0000012-0000016"
    with monkeypatch.context() as patch:
        patch.setattr(
            "tomodask.pipeline.run_blocks",
            lambda client, function, tasks, **options: run_blocks(
                client, broken_at(function, bad), tasks, **options
            ),
        )
        with pytest.raises(BlocksFailedError, match=bad):
            bench.run(client)
    state = run_state(bench.output)
    assert (state.state, state.stages[-1].blocks_done) == ("failed", BLOCKS - 1)
    (failed,) = state.failed
    assert (failed["block"], failed["attempts"]) == (bad, 3)
    assert "in attempt" in failed["traceback"]
    assert execute(["status", str(bench.output)]) == 3
    assert f"{bad} after 3 attempts: OSError: bad disk" in capsys.readouterr().out
    result = steps.resume(bench.output, client=client)
    assert result.progress["reconstruct"].blocks == 1
    assert run_state(bench.output).failed == ()
    assert bytes_of(bench.output) == bytes_of(whole / "volume.zarr")


def test_a_job_array_is_looked_at_from_its_preparation_to_its_end(bench, whole, bytes_of):
    def look() -> tuple[str, int, int, str]:
        state = run_state(bench.output)
        return state.state, state.stages[-1].blocks_done, state.waiting, describe(state)

    steps.prepare(bench.recipe)
    state, done, waiting, words = look()
    assert (state, done, waiting) == ("not begun", 0, 0)
    assert "--shard" in words
    seen = []
    steps.run(bench.recipe, shard="1/2", listener=lambda _: seen.append(look()[0]))
    assert set(seen) == {"running"}
    state, done, waiting, words = look()
    assert (state, done, waiting) == ("interrupted", BLOCKS // 2, 1)
    assert "1 element has not begun" in words
    steps.run(bench.recipe, shard="2/2")
    state, done, waiting, words = look()
    assert (state, done, waiting) == ("interrupted", BLOCKS, 0)
    assert "tomodask finalize" in words
    steps.finalize(bench.recipe)
    assert look()[0] == "done"
    assert bytes_of(bench.output) == bytes_of(whole / "volume.zarr")


def test_what_elements_left_is_done_when_the_run_is_resumed(bench, whole, client, bytes_of):
    steps.prepare(bench.recipe)
    steps.run(bench.recipe, shard="2/3")
    result = steps.resume(bench.output, client=client)
    assert result.progress["reconstruct"].blocks_done < BLOCKS
    assert run_state(bench.output).state == "done"
    assert bytes_of(bench.output) == bytes_of(whole / "volume.zarr")


def test_an_array_that_was_cancelled_stops_until_it_is_prepared_again(bench):
    steps.prepare(bench.recipe)
    steps.run(bench.recipe, shard="1/2")
    assert control.cancel(bench.output).stopped
    with pytest.raises(CancelledRunError):
        steps.run(bench.recipe, shard="2/2")
    assert run_state(bench.output).state == "cancelled"
    steps.prepare(bench.recipe)
    steps.run(bench.recipe, shard="2/2")
    steps.finalize(bench.recipe)
    assert run_state(bench.output).state == "done"


def test_a_run_is_watched_while_it_writes(bench, client):
    """Each look finds what the ledger lists, and no block both done and running."""
    seen = []

    def look(progress) -> None:
        state, ledger = run_state(bench.output), set()
        if volume_metadata(bench.output):
            ledger = set(take_inventory(bench.output).ledger.done())
        seen.append((state.state, state.stages[-1].blocks_done, len(ledger)))

    steps.run(bench.recipe, client=client, listener=look)
    assert {state for state, _, _ in seen} == {"running"}
    assert all(done <= listed for _, done, listed in seen)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert seen[-1][1] == BLOCKS


def test_an_ingest_alone_is_looked_at_and_resumed(bench, client):
    scan = bench.output.with_name("alone.zarr")

    def stop(progress) -> None:
        RunFolder.of(scan).request_cancel("me")

    with pytest.raises(CancelledRunError):
        steps.ingest(bench.source, scan, client=client, listener=stop)
    assert run_state(scan).state == "cancelled"
    assert [stage.name for stage in run_state(scan).stages] == ["ingest"]
    assert steps.resume(scan, client=client) == scan
    assert run_state(scan).state == "done"


def test_a_recipe_that_is_refused_is_not_kept(bench, client):
    bench.run(client)
    kept = recipe_file(bench.folder.recipe)
    with pytest.raises(OutputExistsError):
        steps.run(bench.recipe.model_copy(update={"center": 20.0}), client=client)
    assert recipe_file(bench.folder.recipe) == kept
    assert run_state(bench.output).state == "done"


def test_cancel_waits_until_writers_have_stopped(tmp_path):
    output = tmp_path / "volume.zarr"
    partly_done(output, 2)
    stopped = threading.Event()

    def work() -> None:
        with held(output), RunLog(RunFolder.of(output)) as log:
            begun.set()
            while True:
                time.sleep(0.05)
                try:
                    log.check_cancelled()
                except CancelledRunError as error:
                    log.close("cancelled", str(error))
                    stopped.set()
                    return

    begun = threading.Event()
    worker = threading.Thread(target=work)
    worker.start()
    begun.wait()
    done = control.cancel(output, wait_s=60)
    worker.join()
    assert stopped.is_set()
    assert done.stopped
    assert done.stopping == done.lost == ()
    assert run_state(output).state == "cancelled"


def test_cancel_says_who_has_not_stopped(tmp_path, capsys):
    output = tmp_path / "volume.zarr"
    partly_done(output, 2)
    with held(output):
        told(RunFolder.of(output), jobs=["17"])
        assert execute(["cancel", str(output), "--wait", "0.2"]) == 3
    assert f"the driver (process {os.getpid()} on " in capsys.readouterr().out
    assert RunFolder.of(output).cancel_requested()


@pytest.mark.parametrize(
    ("kind", "command"), [("slurm", "scancel 17 18"), ("pbs", "qdel 17 18"), ("lsf", "bkill 17 18")]
)
def test_jobs_that_a_dead_driver_left_are_named_with_what_removes_them(
    tmp_path, capsys, kind, command
):
    output = tmp_path / "volume.zarr"
    partly_done(output, 2)
    folder = RunFolder.of(output)
    keep_recipe(folder, Recipe(source="s.h5", output=str(output), cluster={"kind": kind}))
    told(folder, jobs=["17", "18"], updated=time.time() - 20)
    assert execute(["cancel", str(output)]) == 0
    words = capsys.readouterr().out
    assert command in words
    assert "dead" in words
    assert run_state(output).state == "cancelled"


def test_a_silent_driver_is_not_waited_for(tmp_path, monkeypatch):
    output = tmp_path / "volume.zarr"
    partly_done(output, 2)
    with held(output):
        old = time.time() - 100
        os.utime(lease_path(output), (old, old))
        told(RunFolder.of(output), updated=old)
        elsewhere(monkeypatch)
        done = control.cancel(output)
    assert done.waited_s < 30
    assert not done.stopped
    assert done.lost == ("driver",)
    assert "silent, last heard of 1 min" in done.message


def test_what_is_done_or_not_begun_cannot_be_cancelled(whole, tmp_path):
    with pytest.raises(InputError, match="is done"):
        control.cancel(whole / "volume.zarr")
    assert not RunFolder.of(whole / "volume.zarr").path.exists()
    (tmp_path / "recipe.yaml").write_text(f"output: {tmp_path / 'v.zarr'}\nsource: s.h5\n")
    with pytest.raises(MissingInputError, match="not begun"):
        control.cancel(tmp_path / "recipe.yaml")


def test_what_kept_no_recipe_is_not_resumed_and_says_what_to_do(tmp_path):
    partly_done(tmp_path / "volume.zarr", 2)
    with pytest.raises(MissingInputError, match="give the command again that began it"):
        steps.resume(tmp_path / "volume.zarr")


def test_an_array_that_goes_on_is_not_resumed(tmp_path):
    output = tmp_path / "volume.zarr"
    partly_done(output, 2)
    folder = RunFolder.of(output)
    keep_recipe(folder, Recipe(source="s.h5", output=str(output)))
    busy = r"shard-0001-of-0002 \(process \d+ on "
    with at_work(output, "1/2"), pytest.raises(OutputInUseError, match=busy):
        control.kept_recipe(output)
    told(folder, writer="shard-0001-of-0002", state="failed")
    assert control.kept_recipe(output).output == str(output)


def test_a_run_that_goes_on_is_not_resumed(bench, client):
    keep_recipe(bench.folder, bench.recipe)
    with held(bench.output), pytest.raises(OutputInUseError, match="another driver"):
        steps.resume(bench.output, client=client)


def test_a_resumed_recipe_takes_other_settings_of_the_cluster_and_the_place_it_lies_in(tmp_path):
    keep_recipe(
        RunFolder.of(tmp_path / "was.zarr"),
        Recipe(source="s.h5", output="was.zarr", cluster={"kind": "slurm", "jobs": 2}, center=5.0),
    )
    (tmp_path / "was.zarr.run").rename(tmp_path / "moved.zarr.run")
    recipe = control.kept_recipe(
        tmp_path / "moved.zarr", Layer("flag", {"cluster": {"kind": "local", "workers": 3}})
    )
    assert recipe.output == str(tmp_path / "moved.zarr")
    assert (recipe.cluster.kind, recipe.cluster.workers, recipe.cluster.jobs) == ("local", 3, 2)
    assert recipe.center == 5.0


def test_a_volume_s_metadata_stays_as_it_was_when_it_is_looked_at(whole):
    before = volume_metadata(whole / "volume.zarr")
    run_state(whole / "volume.zarr")
    assert volume_metadata(whole / "volume.zarr") == before
