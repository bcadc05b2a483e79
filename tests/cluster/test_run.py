"""Blocks run once each through a bounded window, whatever happens to some of them."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tomodask.cluster.local import Workers, local_cluster
from tomodask.cluster.run import CONVINCED, MOST_BEGINNINGS, QUICK_WINDOW, WINDOW, run_blocks
from tomodask.cluster.walltime import ENDS_AT
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


def slow(task: Task) -> dict:
    report = work(task)
    time.sleep(0.4)
    return report


def leave_in(seconds: float) -> None:
    """Tell a worker that its job ends soon."""
    os.environ[ENDS_AT] = str(time.time() + seconds)


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


def test_bad_input_ends_the_run_at_once_where_no_block_goes_well(client, tmp_path):
    failing = {f"t{i}": {"first": "bad input"} for i in range(200)}
    with pytest.raises(FlatfieldError, match="swapped"):
        run_blocks(client, work, tasks(tmp_path, 200, **failing), stage="test")
    assert len(list(tmp_path.iterdir())) < 4 * CONVINCED


def test_one_block_of_bad_input_is_given_up_at_once_and_the_others_are_done(client, tmp_path):
    failing = {"t0": {"first": "bad input"}}
    seen = []
    with pytest.raises(BlocksFailedError, match="t000: FlatfieldError: flats and darks swapped"):
        run_blocks(client, work, tasks(tmp_path, 30, **failing), stage="test", listener=seen.append)
    assert len(list(tmp_path.glob("t000-*"))) == 1
    assert len(list(tmp_path.iterdir())) == 30
    (told,) = seen[-1].failed
    assert (told["block"], told["stage"], told["attempts"]) == ("t000", "test", 1)
    assert "in work" in told["traceback"]


def test_a_block_that_kills_its_workers_is_given_up_and_takes_no_other_with_it(client, tmp_path):
    failing = {"t2": {"first": "die", "always": "die"}}
    with pytest.raises(BlocksFailedError, match=r"1 of 10 blocks .* t002: .* 2 workers died"):
        run_blocks(client, work, tasks(tmp_path, 10, **failing), stage="test")
    assert len(list(tmp_path.glob("t002-*"))) == 6
    assert {path.name[:4] for path in tmp_path.iterdir()} == {f"t{i:03d}" for i in range(10)}


def test_it_is_told_what_runs_where(client, tmp_path):
    seen = []
    run_blocks(
        client,
        slow,
        tasks(tmp_path, 4),
        stage="test",
        listener=lambda progress: seen.append(dict(progress.running)),
    )
    told = {block: place for running in seen for block, place in running.items()}
    assert set(told) == {f"t{i:03d}" for i in range(4)}
    workers = {str(w["name"]) for w in client.scheduler_info(n_workers=-1)["workers"].values()}
    assert {worker for worker, _ in told.values()} <= workers
    assert all(abs(since - time.time()) < 60 for _, since in told.values())
    assert seen[-1] == {}


def test_a_worker_whose_time_is_up_gives_its_block_to_another(tmp_path):
    with local_cluster(Workers(2, 1, MEMORY)) as client:
        first = sorted(client.nthreads())[0]
        client.run(leave_in, 1.5, workers=[first])
        progress = run_blocks(client, slow, tasks(tmp_path, 12), stage="test")
        assert progress.blocks_done == 12
        assert first not in client.nthreads()
        # what had begun was ended: nothing was done twice
        assert len(list(tmp_path.iterdir())) == 12


class DeafClient:
    """A cluster whose workers begin blocks and never end one."""

    status = "running"

    def nthreads(self):
        return {}

    def submit(self, *arguments, key, **options):
        return Future()

    def cancel(self, futures, force):
        self.cancelled = futures

    def subscribe_topic(self, topic, handler):
        for number in range(MOST_BEGINNINGS + 1):
            handler((0.0, {"block": "t000", "name": f"w{number}", "since": 1.0}))

    def unsubscribe_topic(self, topic):
        pass


class Future:
    """A future that nothing becomes of."""

    def add_done_callback(self, function):
        pass


def test_a_block_that_is_begun_again_and_again_is_given_up(tmp_path):
    with pytest.raises(BlocksFailedError, match=r"t000: TimeoutError: begun 8 times"):
        run_blocks(DeafClient(), work, tasks(tmp_path, 1), stage="test")


@pytest.mark.parametrize(
    ("do", "count", "least", "most"),
    [(work, 60, WINDOW, QUICK_WINDOW), (slow, 8, 0, WINDOW)],  # blocks that take no time, others
)
def test_tasks_in_flight_are_bounded(client, tmp_path, do, count, least, most):
    largest = 0

    def look(_):
        nonlocal largest
        states = [state.status for state in client.futures.values()]
        largest = max(largest, states.count("pending"))

    run_blocks(client, do, tasks(tmp_path, count), stage="test", listener=look)
    assert least * 2 < largest <= most * 2


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
