"""Training in turns: a task trains for some seconds, leaves a checkpoint and tells how far it is.

So the driver sees the loss live, a run can be cancelled, a worker's death costs a few seconds, and
no turn outlives a batch job. The loop stays alive in its worker between two turns; another worker,
or another driver, goes on from the checkpoint.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tomodask import arrays
from tomodask.learn.checkpoint import checkpoints_in, load_last
from tomodask.learn.training import Course, TrainJob, train

_alive: dict[Path, tuple[str, int, Iterator[Course]]] = {}


@dataclass(frozen=True)
class Turn:
    """One turn of a training, by its number in this run."""

    job: TrainJob
    number: int

    @property
    def id(self) -> str:
        return f"turn{self.number:05d}"


def take_turn(turn: Turn) -> dict[str, Any]:
    """Train until the next checkpoint, or to the end; what `Course.report` says."""
    job = turn.job
    course = next(_loop(job), None)
    if course is None:  # it had ended before
        _alive.pop(job.folder, None)
        kept = load_last(job.folder)
        assert kept is not None
        return {"block": turn.id, **kept.numbers["report"], "peak_bytes": arrays.peak_bytes()}
    _alive[job.folder] = (job.digest, course.step, _alive[job.folder][2])
    return {"block": turn.id, **course.report(job.options), "peak_bytes": arrays.peak_bytes()}


def _loop(job: TrainJob) -> Iterator[Course]:
    """The loop that left the newest checkpoint, or one that begins there."""
    digest, step, loop = _alive.get(job.folder, ("", -1, iter(())))
    newest = checkpoints_in(job.folder)[-1:]
    if digest != job.digest or not newest or not newest[0].name.startswith(f"step-{step:09d}"):
        with contextlib.suppress(AttributeError):
            loop.close()  # type: ignore[attr-defined]
        loop = train(job)
        _alive[job.folder] = (job.digest, -1, loop)
    return loop
