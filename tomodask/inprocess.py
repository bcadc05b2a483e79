"""Blocks one after the other in this process, with no cluster: what an element of a job array does.

A block that fails is tried again after the others, twice; then it is given up and the rest is
finished. None is begun that would not end before the batch job does, or once somebody asked the run
to stop.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

from tomodask.cluster.reports import Report
from tomodask.cluster.run import CONVINCED, RETRIES, Progress
from tomodask.cluster.walltime import Pace, job_end, seconds_left
from tomodask.errors import (
    BlocksFailedError,
    BlocksLeftError,
    InputError,
    OutputInUseError,
    is_disk_full,
)
from tomodask.runlog import RunLog
from tomodask.runplan import BlockTask

RETRY_SECONDS = 5.0  # before what failed is tried again: a file server may need a moment
TERMINATED = 128 + signal.SIGTERM  # the exit code of what ends so
JOB_IDS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID", "OAR_JOB_ID")

log = logging.getLogger(__name__)


def work_through(
    function: Callable[[BlockTask], Report],
    tasks: Sequence[BlockTask],
    progress: Progress,
    told: RunLog,
    *,
    retries: int = RETRIES,
) -> None:
    """Call `function(task)` for every task; each must be safe to repeat.

    progress : is brought up to date, and told before each block and at the end.

    Raises
    ------
    InputError : bad input, and not one task went well.
    OutputInUseError : the volume was replaced.
    OSError : no space was left on a disk; repeating does not make any.
    BlocksFailedError : tasks that failed more than `retries` times; all others have run.
    BlocksLeftError : the batch job would end before the next block.
    CancelledRunError : somebody asked the run to stop.
    """
    pace, ends = Pace(), _end_of_job()
    waiting = deque((task, 1) for task in tasks)
    first: Exception | None = None
    told.tell(jobs=_job_ids())
    told(progress)
    while waiting:
        late = _too_late(ends, pace, waiting[0][0], len(waiting))
        if late is not None:
            told.close("interrupted", late)
            raise BlocksLeftError(late)
        task, attempt = waiting.popleft()
        if attempt > 1:
            time.sleep(RETRY_SECONDS)
        _begin(progress, task, told)
        began = time.monotonic()
        try:
            report = function(task)
        except Exception as error:
            if _is_worth_another(error) and attempt <= retries:
                log.warning("%s %s: %r, tried again later", progress.stage, task.id, error)
                waiting.append((task, attempt + 1))
            else:
                _give_up(progress, task, attempt, error)
                first = first or error.with_traceback(None)  # without the arrays of its frames
        else:
            pace.learn((time.monotonic() - began) / task.block.write.shape[0])
            progress.add(report)
        finally:
            progress.running.clear()
    progress.ended = time.monotonic()
    told(progress)
    if isinstance(first, InputError) and not progress.blocks_done:
        raise first
    if first is not None:
        raise BlocksFailedError(_failure_text(progress))


def _begin(progress: Progress, task: BlockTask, told: RunLog) -> None:
    """Say which block is being done from now on, unless the run is to stop."""
    worker, since = f"process {os.getpid()}", time.time()
    progress.running[task.id] = (worker, since)
    told(progress)
    # at once, however short ago another was told: this one may take long
    told.tell(running=[{"block": task.id, "worker": worker, "since": since}])


def _give_up(progress: Progress, task: BlockTask, attempts: int, error: Exception) -> None:
    """Put a block aside; raises the error where the other blocks would end like it."""
    log.error("%s %s failed: %r", progress.stage, task.id, error)
    progress.failed.append(
        {
            "block": task.id,
            "stage": progress.stage,
            "error": f"{type(error).__name__}: {error}",
            "attempts": attempts,
            "traceback": "".join(traceback.format_exception(error)),
        }
    )
    is_convinced = not progress.blocks_done and len(progress.failed) >= CONVINCED
    if isinstance(error, OutputInUseError) or is_disk_full(error):
        raise error
    if isinstance(error, InputError) and is_convinced:
        raise error


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


def _too_late(ends: float | None, pace: Pace, task: BlockTask, left: int) -> str | None:
    """Why a block is not begun: the end of the batch job would cut it. None where it may be.

    The first block tells how long a row takes.
    """
    if ends is None:
        return None
    seconds = max(0.0, ends - time.time())
    expected = (pace.expected or 0.0) * task.block.write.shape[0]
    if seconds > expected:
        return None
    takes = f", the next takes up to {expected:.0f} s" if expected else ""
    return (
        f"{left} blocks are left{takes} and the batch job has {seconds:.0f} s to use: submit the "
        "same element again, it goes on there"
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


def _is_worth_another(error: Exception) -> bool:
    """Not bad input, a volume that was replaced or a disk that is full: repeating mends none."""
    return not (isinstance(error, InputError | OutputInUseError) or is_disk_full(error))


def _failure_text(progress: Progress) -> str:
    failed = progress.failed
    shown = "; ".join(f"{each['block']}: {each['error']}" for each in failed[:5])
    more = f"; and {len(failed) - 5} more" if len(failed) > 5 else ""
    return (
        f"{len(failed)} of {progress.blocks} blocks failed, the others are written: {shown}{more}. "
        "The same element tries just these again."
    )
