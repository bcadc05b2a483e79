"""Blocks run once each through a bounded window, whatever happens to some of them."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from tomodask.cluster.local import Workers, local_cluster
from tomodask.cluster.run import WINDOW, run_blocks
from tomodask.errors import BlocksFailedError, FlatfieldError

MEMORY = 2**30


@dataclass(frozen=True)
class Task:
    """Leaves a mark each time it runs, then does as its name says."""

    id: str
    folder: Path
    first: str = "end"  # what the first run of this task does
    always: str = "end"  # what each later run does


def work(task: Task) -> dict:
    """A block's work: a file for each attempt, so that tests can count what really ran."""
    attempts = len(list(task.folder.glob(f"{task.id}-*")))
    (task.folder / f"{task.id}-{attempts}").touch()
    what = task.first if attempts == 0 else task.always
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "raise":
        raise RuntimeError("the disk hiccuped")
    if what == "bad input":
        raise FlatfieldError("flats and darks swapped?")
    return {"rows": 2, "bytes_read": 10, "bytes_written": 5, "counts": {"zingers": 1}}


@pytest.fixture(scope="module")
def client():
    with local_cluster(Workers(2, 1, MEMORY)) as client:
        yield client


def tasks(folder: Path, count: int, **special) -> list[Task]:
    return [Task(f"t{i:03d}", folder, **special.get(f"t{i}", {})) for i in range(count)]


def test_every_task_runs_once_and_its_report_counts(client, tmp_path):
    seen = []
    progress = run_blocks(
        client,
        work,
        tasks(tmp_path, 25),
        stage="test",
        listener=lambda p: seen.append(p.blocks_done),
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"t{i:03d}-0" for i in range(25)]
    assert (progress.blocks_done, progress.rows_done) == (25, 50)
    assert (progress.bytes_read, progress.bytes_written) == (250, 125)
    assert progress.counts == {"zingers": 25}
    assert seen == sorted(seen)
    assert seen[-1] == 25


def test_a_task_that_fails_once_is_tried_again(client, tmp_path):
    failing = {"t3": {"first": "raise"}}
    progress = run_blocks(client, work, tasks(tmp_path, 8, **failing), stage="test")
    assert progress.blocks_done == 8
    assert (tmp_path / "t003-1").exists()


def test_a_task_that_always_fails_is_named_and_the_others_are_done(client, tmp_path):
    failing = {"t2": {"first": "raise", "always": "raise"}}
    with pytest.raises(BlocksFailedError, match=r"1 of 8 blocks .* t002: RuntimeError: the disk"):
        run_blocks(client, work, tasks(tmp_path, 8, **failing), stage="test", retries=2)
    assert len(list(tmp_path.glob("t002-*"))) == 3
    assert {path.name[:4] for path in tmp_path.iterdir()} == {f"t{i:03d}" for i in range(8)}


def test_bad_input_ends_the_run_at_once(client, tmp_path):
    failing = {"t0": {"first": "bad input"}}
    with pytest.raises(FlatfieldError, match="swapped"):
        run_blocks(client, work, tasks(tmp_path, 200, **failing), stage="test")
    assert len(list(tmp_path.glob("t000-*"))) == 1
    assert len(list(tmp_path.iterdir())) < 200


def test_tasks_in_flight_are_bounded(client, tmp_path):
    largest = 0

    def look(_):
        nonlocal largest
        states = [state.status for state in client.futures.values()]
        largest = max(largest, states.count("pending"))

    run_blocks(client, work, tasks(tmp_path, 60), stage="test", listener=look)
    assert 0 < largest <= WINDOW * 2


def test_a_killed_worker_takes_no_task_with_it(client, tmp_path):
    failing = {"t4": {"first": "die"}}
    progress = run_blocks(client, work, tasks(tmp_path, 12, **failing), stage="test")
    assert progress.blocks_done == 12
    assert (tmp_path / "t004-1").exists()


def test_no_task_is_no_work(client):
    assert run_blocks(client, work, [], stage="test").blocks_done == 0


def test_a_run_waits_for_workers_and_uses_those_that_join(tmp_path):
    with local_cluster(Workers(1, 1, MEMORY)) as client:
        cluster = client.cluster
        cluster.scale(0)
        joined = []

        def join(progress):
            if not joined and progress.workers == 0:
                cluster.scale(1)
                joined.append(True)

        progress = run_blocks(client, work, tasks(tmp_path, 5), stage="test", listener=join)
        assert progress.blocks_done == 5
