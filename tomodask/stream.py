"""One block as a stream: a sub-block is read while another is reconstructed and a third is written.

`pipeline.reconstruct_block` is the law: the same block with no thread and no sub-block gives the
same bytes. Three threads pass sub-blocks on, one at a time: whoever has made one keeps it until it
is taken and begins the next one only then. So two sub-blocks of counts and two of slices are in
memory at most, as `plan.StreamNeed` declares.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from tomodask import arrays
from tomodask.blocks import Block, sub_blocks
from tomodask.preprocess import apply_corrections
from tomodask.projections import Projections
from tomodask.projectors import make_projector
from tomodask.shards import ShardEntry

if TYPE_CHECKING:
    from tomodask.runplan import BlockTask, Job

STAGES = ("read", "correct", "reconstruct", "write", "wait")

T = TypeVar("T")


class StoppedError(Exception):
    """Another thread of the stream has failed: this one has nothing left to do."""


class Handover(Generic[T]):
    """Where one thread leaves a thing for another: it waits until the thing was taken."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._things: list[T] = []  # none or one
        self._is_stopped = False

    def give(self, thing: T) -> None:
        """Leave a thing, and return when it was taken; raises StoppedError after `stop`."""
        with self._changed:
            self._things.append(thing)
            del thing  # the one who takes it is to be the only one who has it
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._is_stopped or not self._things)
            self._check()

    def take(self) -> T:
        """Wait for a thing and have it; raises StoppedError after `stop`."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_stopped or bool(self._things))
            self._check()
            thing = self._things.pop()
            self._changed.notify_all()
            return thing

    def stop(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._is_stopped = True
            self._things.clear()
            self._changed.notify_all()

    def _check(self) -> None:
        if self._is_stopped:
            raise StoppedError


class Clock:
    """Seconds spent in each stage; a stage belongs to one thread."""

    def __init__(self) -> None:
        self._began = perf_counter()
        self._seconds = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        began = perf_counter()
        try:
            yield
        finally:
            self._seconds[stage] += perf_counter() - began

    def seconds(self) -> dict[str, float]:
        """By stage, and since the clock was made ("total")."""
        seconds = {**self._seconds, "total": perf_counter() - self._began}
        return {stage: round(value, 6) for stage, value in seconds.items()}


def stream_block(task: BlockTask) -> dict[str, Any]:
    """Read, correct, reconstruct and write one block, its stages side by side.

    Returns the report of `reconstruct_block` with the seconds of each stage. "wait" is what the
    computing thread waited for the others, the first read and the last write included.
    """
    return _Stream(task).run()


class _Stream:
    """The threads of one block, and what they pass on."""

    def __init__(self, task: BlockTask) -> None:
        self.job: Job = task.job
        self.block: Block = task.block
        det_rows = self.job.scan.geometry.det_rows
        self.parts = sub_blocks(task.block, self.job.sub_rows, self.job.halo, det_rows)
        self.projections: Handover[Projections] = Handover()
        self.slices: Handover[np.ndarray] = Handover()
        self.clock = Clock()
        self.counts: dict[str, int] = {}
        self.shards: list[ShardEntry] = []

    def run(self) -> dict[str, Any]:
        """All stages; what the first of them that fails raises, once the others have stopped."""
        with ThreadPoolExecutor(2, thread_name_prefix="tomodask-stream") as pool:
            reading, writing = (
                pool.submit(self._guarded, stage) for stage in (self._read, self._write)
            )
            computing: Future[None] = Future()
            try:
                self._guarded(self._compute)
                computing.set_result(None)
            except BaseException as error:
                computing.set_exception(error)
            with self.clock.time("wait"):
                _raise_first(reading, computing, writing)
        report = block_report(self.job, self.block, self.parts, self.shards, self.counts)
        report["seconds"] = self.clock.seconds()
        report["peak_bytes"] = arrays.peak_bytes()
        self.job.ledger.record(self.block.id, in_order(self.shards), report)
        return report

    def _guarded(self, stage: Callable[[], None]) -> None:
        """Do a stage; should it fail, let the others not wait for it."""
        try:
            stage()
        except BaseException:
            self.projections.stop()
            self.slices.stop()
            raise

    def _read(self) -> None:
        for part in self.parts:
            self.projections.give(self._load(part))

    def _load(self, part: Block) -> Projections:
        with self.clock.time("read"):
            return self.job.load(part.read.start, part.read.stop)

    def _compute(self) -> None:
        for part in self.parts:
            self._pass_on(self._reconstructed(part, self._corrected(part)))

    def _corrected(self, part: Block) -> Projections:
        with self.clock.time("wait"):
            given = [self.projections.take()]
        with self.clock.time("correct"):
            # taken out of the list, so that the first correction is the last to need the counts
            corrected = apply_corrections(self.job.corrections, given.pop(), self.job.threads)
        for name, number in corrected.counts.items():
            self.counts[name] = self.counts.get(name, 0) + number
        return corrected.trim_rows(part.needed.start, part.needed.stop)

    def _reconstructed(self, part: Block, projections: Projections) -> np.ndarray:
        job = self.job
        with self.clock.time("reconstruct"):
            A = make_projector(part.write, projections.geometry, job.backend, threads=job.threads)
            return job.algorithm(projections.sinograms(), A)

    def _pass_on(self, slices: np.ndarray) -> None:
        things = [slices]
        del slices
        with self.clock.time("wait"):
            self.slices.give(things.pop())

    def _write(self) -> None:
        volume = self.job.open_volume()
        for part in self.parts:
            slices = self.slices.take()
            with self.clock.time("write"):
                self.shards += volume.write(part.write.start[0], slices)
            del slices


def block_report(
    job: Job,
    block: Block,
    parts: Sequence[Block],
    shards: Sequence[ShardEntry],
    counts: Mapping[str, int],
) -> dict[str, Any]:
    """What a task tells of a block that was worked through in `parts`."""
    return {
        "block": block.id,
        "rows": sum(part.write.shape[0] for part in parts),
        "bytes_read": sum(job.scan.bytes_read((part.read.start, part.read.stop)) for part in parts),
        "bytes_written": sum(shard.size for shard in shards),
        "counts": dict(counts),
    }


def in_order(shards: Sequence[ShardEntry]) -> list[ShardEntry]:
    """The same order for any sub-blocks."""
    return sorted(shards, key=lambda shard: shard.key)


def _raise_first(*stages: Future[None]) -> None:
    """Wait for all stages; raise what one of them failed with, in their order."""
    failures = [stage.exception() for stage in stages]
    for failure in failures:
        if failure is not None and not isinstance(failure, StoppedError):
            raise failure
