"""Blocks one after the other in this process, with no cluster: what an element of a job array does.

A block that fails is tried again after the others, twice; then it is given up and the rest is
finished. None is begun that would not end before the batch job does, or once somebody asked the run
to stop. What the process is at stands in the run folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import FrameType, TracebackType
from typing import Any, Self

from tomodask.cluster.reports import Report
from tomodask.cluster.run import RETRIES, Listener, Progress, silent
from tomodask.cluster.walltime import Pace, job_end, seconds_left
from tomodask.errors import (
    BlocksFailedError,
    BlocksLeftError,
    CancelledRunError,
    InputError,
    OutputInUseError,
    is_disk_full,
)
from tomodask.runfolder import RunFolder, Status
from tomodask.runplan import BlockTask

STATUS_SECONDS = 2.0
RETRY_SECONDS = 5.0  # before what failed is tried again: a file server may need a moment
TERMINATED = 128 + signal.SIGTERM  # the exit code of what ends so
JOB_IDS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID", "OAR_JOB_ID")

log = logging.getLogger(__name__)


class Reporter:
    """Writes a writer's status every few seconds, and its end, while a `with` block lasts."""

    def __init__(self, folder: RunFolder, writer: str, progress: Progress) -> None:
        self.folder, self.progress = folder, progress
        self._status = Status(writer=writer, stage=progress.stage, jobs=_job_ids())
        self._running: list[dict[str, Any]] = []
        self._failed: list[dict[str, Any]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._report, name="status", daemon=True)

    def __enter__(self) -> Self:
        self._tell("running")
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._running = []
        self._tell(_state_after(error), "" if error is None else str(error) or type(error).__name__)

    def begin(self, block_id: str) -> None:
        """A block is being done from now on."""
        self._running = [{"block": block_id, "worker": self._status.writer, "since": time.time()}]

    def give_up(self, block_id: str, error: BaseException, attempts: int) -> None:
        """A block is not tried again."""
        self._failed.append(
            {
                "block": block_id,
                "stage": self.progress.stage,
                "error": f"{type(error).__name__}: {error}",
                "attempts": attempts,
                "traceback": "".join(traceback.format_exception(error)),
            }
        )

    def _report(self) -> None:
        while not self._ended.wait(STATUS_SECONDS):
            self._tell("running")

    def _tell(self, state: str, message: str = "") -> None:
        progress = self.progress
        status = dataclasses.replace(
            self._status,
            state=state,
            message=message,
            blocks=progress.blocks,
            blocks_done=progress.blocks_done,
            rows_done=progress.rows_done,
            seconds=progress.seconds,
            workers=1,
            bytes_read=progress.bytes_read,
            bytes_written=progress.bytes_written,
            running=list(self._running),
            failed=list(self._failed),
        )
        try:
            self.folder.write_status(status)
        except OSError as error:  # a full disk: the blocks will tell, or have told
            log.info("%s: no status, %s", self.folder.path, error)


def work_through(
    function: Callable[[BlockTask], Report],
    tasks: Sequence[BlockTask],
    reporter: Reporter,
    *,
    listener: Listener = silent,
    retries: int = RETRIES,
) -> Progress:
    """Call `function(task)` for every task; each must be safe to repeat.

    Raises
    ------
    InputError, OutputInUseError, OSError for want of space : the first one that a task raised.
    BlocksFailedError : tasks that failed more than `retries` times; all others have run.
    BlocksLeftError : the batch job would end before the next block.
    CancelledRunError : somebody asked the run to stop.
    """
    progress, pace, ends = reporter.progress, Pace(), _end_of_job()
    waiting = deque((task, 1) for task in tasks)
    failed: list[str] = []  # no errors: their tracebacks would keep the blocks' arrays
    while waiting:
        listener(progress)
        _refuse_if_cancelled(reporter.folder)
        _refuse_if_late(ends, pace, waiting[0][0], len(waiting))
        task, attempt = waiting.popleft()
        if attempt > 1:
            time.sleep(RETRY_SECONDS)
        reporter.begin(task.id)
        began = time.monotonic()
        try:
            report = function(task)
        except Exception as error:
            if not _is_final(error) and attempt <= retries:
                log.warning("%s %s: %r, tried again later", progress.stage, task.id, error)
                waiting.append((task, attempt + 1))
                continue
            reporter.give_up(task.id, error, attempt)
            if _is_final(error):
                raise
            log.error("%s %s failed: %r", progress.stage, task.id, error)
            failed.append(f"{task.id}: {type(error).__name__}: {error}")
        else:
            pace.learn((time.monotonic() - began) / task.block.write.shape[0])
            progress.add(report)
    progress.ended = time.monotonic()
    listener(progress)
    if failed:
        raise BlocksFailedError(_failure_text(failed, len(tasks)))
    return progress


@contextlib.contextmanager
def ends_on_sigterm() -> Iterator[None]:
    """SIGTERM, by which batch systems end a job, raises SystemExit(143) within the `with` block.

    So what is being written is put away, and what has been done is said. A second one changes
    nothing. Signals reach the main thread alone: in another one nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise SystemExit(TERMINATED)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _refuse_if_cancelled(folder: RunFolder) -> None:
    by = folder.cancel_requested()
    if by is not None:
        raise CancelledRunError(
            f"{folder.output}: {by} asked to stop; what is done is kept, and `tomodask prepare` "
            "lets elements begin again"
        )


def _refuse_if_late(ends: float | None, pace: Pace, task: BlockTask, left: int) -> None:
    """Begin nothing that the end of the batch job would cut; the first block tells how long."""
    if ends is None:
        return
    seconds = max(0.0, ends - time.time())
    expected = (pace.expected or 0.0) * task.block.write.shape[0]
    if seconds <= expected:
        takes = f", the next takes up to {expected:.0f} s" if expected else ""
        raise BlocksLeftError(
            f"{left} blocks are left{takes} and the batch job has {seconds:.0f} s to use: submit "
            "the same element again, it goes on there"
        )


def _end_of_job() -> float | None:
    """When the batch job leaves, where it is known; seconds since 1970."""
    left = seconds_left()
    told = [] if left is None else [time.time() + left]
    slurm = job_end()
    return min(told if slurm is None else [*told, slurm], default=None)


def _job_ids() -> list[str]:
    """Of the batch job that this process is in."""
    return [os.environ[name] for name in JOB_IDS if os.environ.get(name)][:1]


def _is_final(error: BaseException) -> bool:
    """Whether repeating can't help: bad input, a disk that is full, a volume that was replaced."""
    return isinstance(error, InputError | OutputInUseError) or is_disk_full(error)


def _state_after(error: BaseException | None) -> str:
    if error is None:
        return "done"
    if isinstance(error, CancelledRunError):
        return "cancelled"
    if isinstance(error, BlocksLeftError) or not isinstance(error, Exception):
        return "interrupted"
    return "failed"


def _failure_text(failed: Sequence[str], total: int) -> str:
    shown = "; ".join(failed[:5])
    more = f"; and {len(failed) - 5} more" if len(failed) > 5 else ""
    return (
        f"{len(failed)} of {total} blocks failed, the others are written: {shown}{more}. The same "
        "element tries just these again."
    )
