"""Run one task a block on a Dask cluster, in a bounded window, with retries and live progress.

Futures, not a dask.array graph: a run holds at most a few tasks a worker, so its scheduler's memory
doesn't grow with the volume and a cancel is instant. A task gets paths and indices and returns a
small report; what is done is known from the ledger alone, never from the scheduler.
"""

from __future__ import annotations

import logging
import queue
import time
import traceback
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from distributed import Client, Future, KilledWorker, get_worker

from tomodask.cluster.connection import require_scheduler, scheduler_needed
from tomodask.cluster.membership import members_of
from tomodask.cluster.reports import Report, Reports
from tomodask.cluster.walltime import Pace, seconds_left
from tomodask.errors import (
    BlocksFailedError,
    InputError,
    OutputInUseError,
    SchedulerLostError,
    is_disk_full,
)

log = logging.getLogger(__name__)

WINDOW = 2  # tasks in flight a worker: one runs, one waits, so that no worker idles
QUICK_WINDOW = 8  # the same where blocks take less than QUICK_SECONDS: they end many at once
QUICK_SECONDS = 0.05
RETRIES = 2  # on top of the scheduler's own reruns after a worker's death
TICK_SECONDS = 0.5  # how often progress is told while no block ends
MOST_BEGINNINGS = 8  # of one block that never ends: it takes its worker along, or is too long
CONVINCED = 4  # blocks refused as bad input before any went well: all of them are bad
TOPIC = "tomodask-blocks"  # under which workers tell what they begin


class Task(Protocol):
    """What is sent to a worker: small, picklable, with a name for the ledger."""

    @property
    def id(self) -> str: ...


@dataclass
class Progress:
    """How far a run is; `told` by the reports of finished tasks. `note` adds to it in words.

    peak_bytes : the most memory that a worker has taken up to now, as its tasks told.
    running : block -> (worker, seconds since 1970 when it began there).
    failed : of blocks that were given up: block, stage, error, attempts, traceback.
    """

    stage: str
    blocks: int
    blocks_done: int = 0
    rows_done: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    peak_bytes: int = 0
    workers: int = 0
    started: float = field(default_factory=time.monotonic)
    ended: float | None = None
    counts: dict[str, int] = field(default_factory=dict)
    reports: Reports = field(default_factory=Reports)
    running: dict[str, tuple[str, float]] = field(default_factory=dict)
    failed: list[dict[str, Any]] = field(default_factory=list)
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
        self.peak_bytes = max(self.peak_bytes, int(report.get("peak_bytes", 0)))
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

    A block that fails is tried again when the others are done, the last time with nothing beside
    it; one that always fails is given up, and the rest is finished.

    Raises
    ------
    InputError : bad input, and not one task went well.
    OutputInUseError : the store was taken away from this run.
    OSError : no space was left on a disk; repeating does not make any.
    VersionMismatchError : a worker runs another version.
    BlocksFailedError : tasks that failed more than `retries` times; all others have run.
    SchedulerLostError : the scheduler went away and did not come back.
    """
    run = _Window(client, function, tasks, stage, listener, retries)
    try:
        with run.listening():
            run.fill()
            while run.live:
                run.step()
    finally:
        run.cancel()
        run.progress.ended = time.monotonic()
        run.progress.running.clear()
    listener(run.progress)
    run.raise_failures()
    return run.progress


class OutOfTimeError(Exception):
    """A worker has too little of its job's walltime left for another block: it leaves."""


def begin(
    function: Callable[[Any], Report], task: Task, expected: float | None
) -> tuple[Report, float]:
    """Run on a worker: tell that the block is begun, and do it, if there is time enough for it.

    Returns the block's report and the seconds it took.

    Raises
    ------
    OutOfTimeError : less is left than the block is expected to take.
    """
    worker, left = _worker(), seconds_left()
    if left is not None and expected is not None and left < expected:
        if worker is not None:
            worker.loop.add_callback(worker.close_gracefully)
        raise OutOfTimeError(f"{left:.0f} s are left, {expected:.0f} s are needed")
    if worker is not None:
        told = {"block": task.id, "name": str(worker.name), "since": time.time()}
        worker.loop.add_callback(worker.log_event, TOPIC, told)
    began = time.perf_counter()
    return function(task), time.perf_counter() - began


def _worker() -> Any:
    try:
        return get_worker()
    except ValueError:  # called without a cluster
        return None


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
        self.client, self.function = client, function
        self.listener, self.retries = listener, retries
        self.waiting: Iterator[Task] = iter(tasks)
        self.again: deque[tuple[Task, int]] = deque()  # failed, or given back: with its attempt
        self.live: dict[Future[Any], tuple[Task, int]] = {}
        self.first_error: BaseException | None = None  # of a block that was given up
        self.progress = Progress(stage, len(tasks))
        self.pace = Pace()
        self._beginnings: Counter[str] = Counter()
        self._ended: queue.SimpleQueue[Future[Any] | Mapping[str, Any]] = queue.SimpleQueue()
        self._members = members_of(client)
        self._looked = 0.0
        self._run = uuid.uuid4().hex[:8]

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hear what workers begin, for the length of a `with` block."""
        with scheduler_needed(self.client):
            self.client.subscribe_topic(TOPIC, lambda event: self._ended.put(event[1]))
        try:
            yield
        finally:
            if self.client.status == "running":
                with suppress(Exception):  # nobody hears it any more, whatever becomes of it
                    self.client.unsubscribe_topic(TOPIC)

    def fill(self) -> None:
        """Submit until every worker has its window (one worker's worth where there is none)."""
        require_scheduler(self.client)
        self._look()
        expected = self.pace.expected
        window = WINDOW if expected is None or expected > QUICK_SECONDS else QUICK_WINDOW
        while len(self.live) < window * max(1, self.progress.workers):
            submitted = self._submit_next()
            if not submitted:
                return

    def _look(self) -> None:
        """Count the workers, and ask those that are new; not at every block."""
        now = time.monotonic()
        if now - self._looked < TICK_SECONDS and self.progress.workers:
            return
        self._looked = now
        with scheduler_needed(self.client):
            addresses = self.client.nthreads()
        self.progress.workers = len(addresses)
        self._members.admit(addresses)

    def _submit_next(self) -> bool:
        """Submit a task if there is one that may run now: those that failed come last."""
        task = next(self.waiting, None)
        if task is not None:
            self._submit(task, 0)
            return True
        if not self.again:
            return False
        task, attempt = self.again[0]
        alone = self._is_last(attempt)
        if self.live and (alone or any(self._is_last(other) for _, other in self.live.values())):
            return False  # the neighbours of a block that kills its worker would die too
        self.again.popleft()
        self._submit(task, attempt)
        return not alone

    def _is_last(self, attempt: int) -> bool:
        return 0 < attempt == self.retries

    def _submit(self, task: Task, attempt: int) -> None:
        # A new key for each attempt: under an old one the scheduler answers with the old error.
        key = f"{self.progress.stage}-{self._run}-{task.id}-{uuid.uuid4().hex[:6]}"
        future = self.client.submit(
            begin, self.function, task, self.pace.expected, key=key, pure=False, retries=0
        )
        self.live[future] = (task, attempt)
        future.add_done_callback(self._ended.put)

    def step(self) -> None:
        """Wait for tasks to begin or end, or for a tick, and act on it."""
        self.listener(self.progress)
        told: list[Future[Any] | Mapping[str, Any]] = []
        with suppress(queue.Empty):
            told.append(self._ended.get(timeout=TICK_SECONDS))
            while True:  # what has happened meanwhile: short blocks end many at once
                told.append(self._ended.get_nowait())
        for one in told:
            if isinstance(one, Mapping):
                self._begun(one)
        self._end([one for one in told if isinstance(one, Future) and one in self.live])
        self.fill()  # workers may have joined, too

    def _begun(self, told: Mapping[str, Any]) -> None:
        """A block has begun on a worker; once too often, and it is given up."""
        block = str(told["block"])
        future = next((f for f, (task, _) in self.live.items() if task.id == block), None)
        if future is None:  # it has ended meanwhile
            return
        self.progress.running[block] = (str(told["name"]), float(told["since"]))
        self._beginnings[block] += 1
        if self._beginnings[block] > MOST_BEGINNINGS:
            task, attempt = self.live.pop(future)
            self.client.cancel([future], force=True)
            text = f"begun {MOST_BEGINNINGS} times and never ended: its workers ended before it"
            self._give_up(task, attempt, TimeoutError(text))

    def _end(self, futures: Sequence[Future[Any]]) -> None:
        """Fetch what tasks reported, all at once: each fetch goes to the worker and back."""
        with scheduler_needed(self.client):
            good = {future.key: future for future in futures if future.status == "finished"}
            answers = self.client.gather(good, errors="skip") if good else {}
        for future in good.values():
            if answers[future.key] is not None:  # else its worker died before it was asked
                task, _ = self.live.pop(future)
                self._take(task, *answers[future.key])
        for future in futures:
            if future in self.live:
                with scheduler_needed(self.client):
                    error = _exception_of(future)
                self._retry(*self.live.pop(future), error)

    def _take(self, task: Task, report: Report, seconds: float) -> None:
        self.pace.learn(seconds)
        self._beginnings.pop(task.id, None)
        self.progress.running.pop(task.id, None)
        self.progress.add(report)

    def cancel(self) -> None:
        """Give up what is in flight; a scheduler that is gone needn't be told."""
        if self.live and self.client.status == "running":
            with suppress(SchedulerLostError), scheduler_needed(self.client):
                self.client.cancel(list(self.live), force=True)

    def _retry(self, task: Task, attempt: int, error: BaseException) -> None:
        self.progress.running.pop(task.id, None)
        require_scheduler(self.client)  # without it each task ends as cancelled
        if isinstance(error, OutOfTimeError):
            log.info("%s %s: %s, another worker does it", self.progress.stage, task.id, error)
            self.again.appendleft((task, attempt))
        elif isinstance(error, OutputInUseError) or is_disk_full(error):
            raise error
        elif isinstance(error, InputError):  # does not get better by repeating
            self._give_up(task, attempt, error)
            if not self.progress.blocks_done and len(self.progress.failed) >= CONVINCED:
                raise error
        elif attempt < self.retries:
            log.warning("%s %s: %r, tried again", self.progress.stage, task.id, error)
            self.again.append((task, attempt + 1))
        else:
            self._give_up(task, attempt, error)

    def _give_up(self, task: Task, attempt: int, error: BaseException) -> None:
        log.error("%s %s failed: %r", self.progress.stage, task.id, error)
        self.first_error = self.first_error or error
        self.progress.running.pop(task.id, None)
        told = failure(task.id, self.progress.stage, error, attempt + 1)
        self.progress.failed.append(told)

    def raise_failures(self) -> None:
        """One error for all that was given up: the first itself where nothing went well."""
        if self.first_error is None:
            return
        if isinstance(self.first_error, InputError) and not self.progress.blocks_done:
            raise self.first_error
        of = f"{self.progress.blocks} blocks of {self.progress.stage}"
        raise BlocksFailedError(failure_text(self.progress.failed, of, "command"))


def failure(block: str, stage: str, error: BaseException, attempts: int) -> dict[str, Any]:
    """What is told of a block that is given up."""
    return {
        "block": block,
        "stage": stage,
        "error": f"{type(error).__name__}: {error}",
        "attempts": attempts,
        "traceback": "".join(traceback.format_exception(error)),
    }


def _exception_of(future: Future[Any]) -> BaseException:
    """Why a future did not finish; a lost or cancelled one has no exception of its own."""
    if future.status == "error":
        error = future.exception()
        if isinstance(error, KilledWorker):
            return RuntimeError(
                f"{error.allowed_failures + 1} workers died while they did it: out of memory? "
                "Give each more (--memory, fewer --workers), or look into the workers' logs"
            )
        if isinstance(error, BaseException):
            return error
    return RuntimeError(f"the scheduler gave the task up ({future.status})")


def failure_text(failed: Sequence[Mapping[str, Any]], of: str, again: str) -> str:
    """One message for the blocks that were given up: `of` all of which, and who tries `again`."""
    shown = "; ".join(f"{each['block']}: {each['error']}" for each in failed[:5])
    more = f"; and {len(failed) - 5} more" if len(failed) > 5 else ""
    return (
        f"{len(failed)} of {of} failed, the others are written: {shown}{more}. The same {again} "
        "tries just these again."
    )
