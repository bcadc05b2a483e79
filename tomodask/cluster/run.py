"""Run one task a block on a Dask cluster, in a bounded window, with retries and live progress.

Futures, not a dask.array graph: a run holds at most a few tasks a worker, so its scheduler's memory
doesn't grow with the volume and a cancel is instant. A task gets paths and indices and returns a
small report; what is done is known from the ledger alone, never from the scheduler.
"""

from __future__ import annotations

import logging
import queue
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from distributed import Client, Future

from tomodask.cluster.connection import require_scheduler, scheduler_needed
from tomodask.errors import BlocksFailedError, InputError, SchedulerLostError, is_disk_full

log = logging.getLogger(__name__)

WINDOW = 2  # tasks in flight a worker: one runs, one waits, so that no worker idles
RETRIES = 2  # on top of the scheduler's own reruns after a worker's death
TICK_SECONDS = 0.5  # how often progress is told while no block ends


class Task(Protocol):
    """What is sent to a worker: small, picklable, with a name for the ledger."""

    @property
    def id(self) -> str: ...


Report = Mapping[str, Any]


@dataclass
class Progress:
    """How far a run is; `told` by the reports of finished tasks. `note` adds to it in words."""

    stage: str
    blocks: int
    blocks_done: int = 0
    rows_done: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    workers: int = 0
    started: float = field(default_factory=time.monotonic)
    ended: float | None = None
    counts: dict[str, int] = field(default_factory=dict)
    reports: list[Report] = field(default_factory=list)
    note: str = ""

    @property
    def seconds(self) -> float:
        """Since the stage began, until it ended."""
        return max(1e-9, (self.ended or time.monotonic()) - self.started)

    @property
    def eta_seconds(self) -> float | None:
        """Until the last block is expected, None before the first has ended."""
        if not self.blocks_done:
            return None
        return self.seconds / self.blocks_done * (self.blocks - self.blocks_done)

    def add(self, report: Report) -> None:
        """Take a finished block's report in."""
        self.blocks_done += 1
        self.reports.append(report)
        self.rows_done += int(report.get("rows", 0))
        self.bytes_read += int(report.get("bytes_read", 0))
        self.bytes_written += int(report.get("bytes_written", 0))
        for name, number in dict(report.get("counts", {})).items():
            self.counts[name] = self.counts.get(name, 0) + int(number)


Listener = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """The listener that says nothing."""


def run_blocks(
    client: Client,
    function: Callable[[Any], Report],
    tasks: Sequence[Task],
    *,
    stage: str,
    listener: Listener = silent,
    retries: int = RETRIES,
) -> Progress:
    """Call `function(task)` on the workers for every task; each must be safe to repeat.

    Raises
    ------
    InputError : the first one that a task raised; bad input does not get better by repeating.
    OSError : no space was left on a disk; repeating does not make any.
    BlocksFailedError : tasks that failed more than `retries` times; all others have run.
    SchedulerLostError : the scheduler went away and did not come back.
    """
    run = _Window(client, function, tasks, stage, listener, retries)
    try:
        run.fill()
        while run.live:
            run.step()
    finally:
        run.cancel()
        run.progress.ended = time.monotonic()
    listener(run.progress)
    if run.failed:
        raise BlocksFailedError(_failure_text(stage, run.failed, len(tasks)))
    return run.progress


class _Window:
    """Tasks in flight: topped up at every event, waiting where there are no workers."""

    def __init__(
        self,
        client: Client,
        function: Callable[[Any], Report],
        tasks: Sequence[Task],
        stage: str,
        listener: Listener,
        retries: int,
    ) -> None:
        self.client, self.function, self.listener, self.retries = (
            client,
            function,
            listener,
            retries,
        )
        self.waiting: Iterator[Task] = iter(tasks)
        self.live: dict[Future[Any], tuple[Task, int]] = {}
        self.failed: list[tuple[Task, BaseException]] = []
        self.progress = Progress(stage, len(tasks))
        self._ended: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
        self._run = uuid.uuid4().hex[:8]

    def fill(self) -> None:
        """Submit until every worker has `WINDOW` tasks (one worker's worth where there is none)."""
        require_scheduler(self.client)
        with scheduler_needed(self.client):
            self.progress.workers = len(self.client.nthreads())
        while len(self.live) < WINDOW * max(1, self.progress.workers):
            task = next(self.waiting, None)
            if task is None:
                return
            self._submit(task, 0)

    def _submit(self, task: Task, attempt: int) -> None:
        # A new key for each attempt: under an old one the scheduler answers with the old error.
        key = f"{self.progress.stage}-{self._run}-{task.id}-{attempt}"
        future = self.client.submit(self.function, task, key=key, pure=False, retries=0)
        self.live[future] = (task, attempt)
        future.add_done_callback(self._ended.put)

    def step(self) -> None:
        """Wait for one task to end, or for a tick, and act on it."""
        self.listener(self.progress)
        try:
            future = self._ended.get(timeout=TICK_SECONDS)
        except queue.Empty:
            self.fill()  # workers may have joined
            return
        if future not in self.live:
            return
        task, attempt = self.live.pop(future)
        with scheduler_needed(self.client):
            answer = future.result() if future.status == "finished" else _exception_of(future)
        if isinstance(answer, BaseException):
            self._retry(task, attempt, answer)
        else:
            self.progress.add(answer)
        self.fill()

    def cancel(self) -> None:
        """Give up what is in flight; a scheduler that is gone needn't be told."""
        if self.live and self.client.status == "running":
            with suppress(SchedulerLostError), scheduler_needed(self.client):
                self.client.cancel(list(self.live), force=True)

    def _retry(self, task: Task, attempt: int, error: BaseException) -> None:
        require_scheduler(self.client)  # without it each task ends as cancelled
        if isinstance(error, InputError) or is_disk_full(error):
            raise error
        if attempt < self.retries:
            log.warning("%s %s: %r, tried again", self.progress.stage, task.id, error)
            self._submit(task, attempt + 1)
        else:
            log.error("%s %s failed: %r", self.progress.stage, task.id, error)
            self.failed.append((task, error))


def _exception_of(future: Future[Any]) -> BaseException:
    """Why a future did not finish; a lost or cancelled one has no exception of its own."""
    if future.status == "error":
        error = future.exception()
        if isinstance(error, BaseException):
            return error
    return RuntimeError(f"the scheduler gave the task up ({future.status})")


def _failure_text(stage: str, failed: Sequence[tuple[Task, BaseException]], total: int) -> str:
    shown = "; ".join(f"{task.id}: {type(error).__name__}: {error}" for task, error in failed[:5])
    more = f"; and {len(failed) - 5} more" if len(failed) > 5 else ""
    return (
        f"{len(failed)} of {total} blocks of {stage} failed, the others are written: {shown}{more}."
        " The same command tries just these again."
    )
