"""Blocks one after the other in this process, with no cluster: what an element of a job array does.

A block that fails is tried again after the others, twice; then it is given up and the rest is
finished. None is begun that would not end before the batch job does.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Sequence

from tomodask.cluster.reports import Report
from tomodask.cluster.run import (
    CONVINCED,
    RETRIES,
    Listener,
    Progress,
    failure,
    failure_text,
    silent,
)
from tomodask.cluster.walltime import Pace, job_end, seconds_left
from tomodask.errors import (
    BlocksFailedError,
    BlocksLeftError,
    CancelledRunError,
    InputError,
    OutputInUseError,
    is_disk_full,
)
from tomodask.runplan import BlockTask

RETRY_SECONDS = 5.0  # before what failed is tried again: a file server may need a moment
JOB_IDS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID", "OAR_JOB_ID")

log = logging.getLogger(__name__)


def work_through(
    function: Callable[[BlockTask], Report],
    tasks: Sequence[BlockTask],
    progress: Progress,
    *,
    listener: Listener = silent,
    worker: str = "",
    retries: int = RETRIES,
) -> None:
    """Call `function(task)` for every task; each must be safe to repeat.

    What the listener raises ends the work between two blocks.

    Raises
    ------
    InputError : bad input, and not one block went well.
    OutputInUseError, OSError for want of space : repeating does not mend them.
    BlocksFailedError : tasks that failed more than `retries` times; all others have run.
    BlocksLeftError : the batch job would end before the next block.
    """
    pace, ends = Pace(), _end_of_job()
    waiting = deque((task, 0) for task in tasks)
    while waiting:
        _refuse_if_late(ends, pace, waiting[0][0], len(waiting))
        task, attempt = waiting.popleft()
        if attempt:
            time.sleep(RETRY_SECONDS)
        progress.running = {task.id: (worker, time.time())}
        began = time.monotonic()
        try:
            listener(progress)
            report = function(task)
        except CancelledRunError:
            raise
        except Exception as error:
            if not _is_final(error) and attempt < retries:
                log.warning("%s %s: %r, tried again later", progress.stage, task.id, error)
                waiting.append((task, attempt + 1))
                continue
            log.error("%s %s failed: %r", progress.stage, task.id, error)
            # in words: an error's own traceback would keep the block's arrays
            progress.failed.append(failure(task.id, progress.stage, error, attempt + 1))
            if _ends_all(error, len(progress.failed) == len(tasks), progress):
                raise
        else:
            pace.learn((time.monotonic() - began) / task.block.write.shape[0])
            progress.add(report)
        finally:
            progress.running = {}
    progress.ended = time.monotonic()
    listener(progress)
    if progress.failed:
        raise BlocksFailedError(failure_text(progress.failed, f"{len(tasks)} blocks", "element"))


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


def job_ids() -> list[str]:
    """Of the batch job that this process is in."""
    return [os.environ[name] for name in JOB_IDS if os.environ.get(name)][:1]


def _is_final(error: BaseException) -> bool:
    """Whether repeating can't help: bad input, a disk that is full, a volume that was replaced."""
    return isinstance(error, InputError | OutputInUseError) or is_disk_full(error)


def _ends_all(error: BaseException, is_last: bool, progress: Progress) -> bool:
    """Whether the other blocks would fare no better: one of bad input says little of the others."""
    if not isinstance(error, InputError):
        return _is_final(error)
    return not progress.blocks_done and (is_last or len(progress.failed) >= CONVINCED)
