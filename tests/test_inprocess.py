"""Blocks in one process: tried again later, given up, and none begun that can't end."""

import errno
import time
from types import SimpleNamespace

import pytest

from tomodask import inprocess, runlog
from tomodask.cluster.run import CONVINCED, Progress
from tomodask.errors import (
    BlocksFailedError,
    BlocksLeftError,
    CancelledRunError,
    FlatfieldError,
    OutputInUseError,
)
from tomodask.inprocess import work_through
from tomodask.runfolder import RunFolder, Status
from tomodask.runlog import RunLog

WRITER = "shard-0001-of-0002"


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    return RunFolder.of(tmp_path / "volume.zarr")


class Clock:
    """Time that passes when somebody sleeps, or works, on it."""

    def __init__(self) -> None:
        self.passed = 0.0

    def time(self) -> float:
        return time.time() + self.passed

    def monotonic(self) -> float:
        return time.monotonic() + self.passed

    def sleep(self, seconds: float) -> None:
        self.passed += seconds


@pytest.fixture(autouse=True)
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(inprocess, "time", clock)
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)
    monkeypatch.setattr(runlog, "CANCEL_SECONDS", 0.0)
    return clock


def tasks(*names: str, rows: int = 4):
    block = SimpleNamespace(write=SimpleNamespace(shape=(rows, 8, 8)))
    return [SimpleNamespace(id=name, block=block) for name in names]


def work(folder: RunFolder, function, *names: str) -> Progress:
    progress = Progress("reconstruct", len(names), workers=1)
    with RunLog(folder, writer=WRITER) as told:
        work_through(function, tasks(*names), progress, listener=told, worker=WRITER)
    return progress


def status_of(folder: RunFolder) -> Status:
    (status,) = folder.statuses()
    return status


def test_what_fails_is_tried_again_after_the_others(folder, clock):
    tried = []

    def flaky(task):
        tried.append(task.id)
        if task.id == "a" and tried.count("a") < 3:
            raise ConnectionError("the file server is away")
        return {"block": task.id, "rows": 4, "bytes_written": 10}

    progress = work(folder, flaky, "a", "b", "c")
    assert tried == ["a", "b", "c", "a", "a"]
    assert clock.passed == 2 * inprocess.RETRY_SECONDS
    assert progress.rows_done == 12
    status = status_of(folder)
    assert (status.state, status.writer) == ("done", WRITER)
    assert (status.blocks, status.blocks_done, status.bytes_written) == (3, 3, 30)
    assert status.failed == []


def test_what_always_fails_is_given_up_and_the_rest_is_finished(folder):
    done = []

    def broken(task):
        if task.id in "bc":
            raise ValueError(f"no good {task.id}")
        done.append(task.id)
        return {"block": task.id, "rows": 4}

    with pytest.raises(
        BlocksFailedError, match=r"2 of 4 blocks failed.*b: ValueError: no"
    ) as error:
        work(folder, broken, "a", "b", "c", "d")
    assert error.value.exit_code == 3
    assert done == ["a", "d"]
    status = status_of(folder)
    assert status.state == "failed"
    assert status.blocks_done == 2
    assert "2 of 4 blocks failed" in status.message
    first, second = status.failed
    assert (first["block"], second["block"]) == ("b", "c")
    assert first["attempts"] == 3
    assert first["error"] == "ValueError: no good b"
    assert "raise ValueError" in first["traceback"]


@pytest.mark.parametrize(
    "error",
    [
        OutputInUseError("replaced"),
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_repeating_does_not_mend_ends_the_work_at_once(folder, error):
    def broken(task):
        raise error

    with pytest.raises(type(error)):
        work(folder, broken, "a", "b")
    status = status_of(folder)
    assert status.state == "failed"
    assert [failed["block"] for failed in status.failed] == ["a"]
    assert status.failed[0]["attempts"] == 1


def test_one_block_of_bad_input_is_given_up_at_once_and_the_rest_is_finished(folder):
    def broken(task):
        if task.id == "a":
            raise FlatfieldError("darks are brighter")
        return {"block": task.id, "rows": 4}

    with pytest.raises(BlocksFailedError, match="1 of 3 blocks failed"):
        work(folder, broken, "a", "b", "c")
    assert status_of(folder).failed[0]["attempts"] == 1


def test_bad_input_alone_ends_the_work_with_its_own_words(folder):
    tried = []

    def broken(task):
        tried.append(task.id)
        raise FlatfieldError("darks are brighter")

    for names in ("ab", "abcdefghi"):
        tried.clear()
        with pytest.raises(FlatfieldError, match="brighter"):
            work(folder, broken, *names)
        assert len(tried) == min(len(names), CONVINCED)


def test_no_block_is_begun_that_the_batch_job_would_cut(folder, clock, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 1000))  # 900 s to use
    done = []

    def slow(task):
        clock.sleep(200)
        done.append(task.id)
        return {"block": task.id, "rows": 4}

    with pytest.raises(
        BlocksLeftError, match=r"2 blocks are left.*260 s.*job has (9\d|100) s"
    ) as left:
        work(folder, slow, *"abcdef")
    assert left.value.exit_code == 3
    assert done == list("abcd")
    assert status_of(folder).state == "interrupted"


def test_a_job_that_ends_now_begins_nothing(folder, monkeypatch):
    monkeypatch.setenv("TOMODASK_ENDS_AT", str(time.time()))
    with pytest.raises(BlocksLeftError, match="2 blocks are left and the batch job has 0 s"):
        work(folder, None, "a", "b")


def test_a_lower_block_is_begun_where_a_higher_one_would_be_cut(folder, clock, monkeypatch):
    monkeypatch.setenv("TOMODASK_ENDS_AT", str(time.time() + 300))
    done = []

    def slow(task):
        clock.sleep(50 * task.block.write.shape[0])
        done.append(task.id)
        return {"block": task.id, "rows": 4}

    both = [*tasks("high"), *tasks("low", rows=1)]
    work_through(slow, both, Progress("reconstruct", 2))
    assert done == ["high", "low"]


def test_a_request_to_cancel_is_heard_between_blocks(folder):
    done = []

    def asked(task):
        done.append(task.id)
        folder.request_cancel("somebody")
        return {"block": task.id, "rows": 4}

    with pytest.raises(CancelledRunError, match=r"cancelled by somebody.*tomodask resume"):
        work(folder, asked, "a", "b")
    assert done == ["a"]
    assert status_of(folder).state == "cancelled"
    with pytest.raises(CancelledRunError):  # so do elements that the queue starts later
        work(folder, asked, "a", "b")
    assert done == ["a"]


def test_the_status_tells_what_is_being_done(folder, monkeypatch):
    monkeypatch.setattr(runlog, "STATUS_SECONDS", 0.01)
    monkeypatch.setattr(runlog, "TAKE_SECONDS", 0.0)
    seen = []

    def look(task):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            seen[:] = folder.statuses()
            if seen and seen[0].running and seen[0].running[0]["block"] == task.id:
                return {"block": task.id, "rows": 4}
            time.sleep(0.01)
        raise AssertionError(seen)

    work(folder, look, "a", "b")
    assert seen[0].state == "running"
    assert seen[0].blocks_done == 1
    assert seen[0].running[0]["worker"] == WRITER
    assert status_of(folder).running == []


def test_a_status_that_can_not_be_written_stops_no_work(folder, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RunFolder, "write_status", full)
    assert work(folder, lambda task: {"block": task.id, "rows": 4}, "a").rows_done == 4


def test_the_batch_job_is_known_by_its_id(monkeypatch):
    for name in inprocess.JOB_IDS:
        monkeypatch.delenv(name, raising=False)
    assert inprocess.job_ids() == []
    monkeypatch.setenv("PBS_JOBID", "4711.server")
    assert inprocess.job_ids() == ["4711.server"]
