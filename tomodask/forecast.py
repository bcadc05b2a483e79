"""What a run will take, as values: stages, disks, hours; and what of it can't fit."""

from __future__ import annotations

import heapq
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from tomodask.cluster.local import WORKER_BASE_BYTES, Workers, available_memory
from tomodask.errors import MemoryBudgetError, PlanError
from tomodask.hardware import Hardware
from tomodask.recipe import Recipe

MOST_MEMORY = 2**44  # of a worker, when it is looked for how much would do

T = TypeVar("T")


@dataclass(frozen=True)
class Stage:
    """One stage of a run, all steps of a series together.

    bytes_read, bytes_written : by its blocks, as their reports count them.
    memory : bytes that a worker is expected to take, the interpreter included; budget : that it is
        not to exceed. gpu_memory : of a GPU, 0 where none is used.
    seconds : of wall time, None where no rate is known.
    """

    name: str
    blocks: int
    bytes_read: int
    bytes_written: int
    memory: int
    budget: int
    gpu_memory: int = 0
    seconds: float | None = None


@dataclass(frozen=True)
class Disk:
    """What a file system will hold: bytes by what they are, those there already, and free ones."""

    path: str
    needs: dict[str, int]
    there: int
    free: int

    @property
    def need(self) -> int:
        """Bytes that are still to be written."""
        return max(0, sum(self.needs.values()) - self.there)


@dataclass(frozen=True)
class Forecast:
    """What a run will take.

    steps : time steps, one after the other, all alike. notes : what to know about the figures.
    """

    stages: tuple[Stage, ...]
    disks: tuple[Disk, ...]
    workers: Workers
    gpus: int
    steps: int = 1
    start_seconds: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float | None:
        """Wall time of all stages and of the start of the workers."""
        if any(stage.seconds is None for stage in self.stages):
            return None
        return self.start_seconds + sum(stage.seconds or 0.0 for stage in self.stages)

    @property
    def gpu_hours(self) -> float | None:
        """GPUs times hours that they are held, busy or not; 0 without any."""
        return None if self.seconds is None else self.gpus * self.seconds / 3600

    @property
    def memory(self) -> int:
        """Bytes that a worker is expected to take at its peak."""
        return max((stage.memory for stage in self.stages), default=0)

    def workers_of(self, stage: Stage) -> int:
        """How many of the workers have something to do; a centre is found by the driver alone."""
        return 1 if stage.name == "center" else min(self.workers.count, max(1, stage.blocks))

    def gpu_hours_of(self, stage: Stage) -> float | None:
        """GPUs times hours that a stage holds them, busy or not."""
        return None if stage.seconds is None else self.gpus * stage.seconds / 3600

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        stages = [
            {
                **asdict(stage),
                "memory_all_workers": stage.memory * self.workers_of(stage),
                "gpu_hours": self.gpu_hours_of(stage),
            }
            for stage in self.stages
        ]
        return {
            "steps": self.steps,
            "workers": asdict(self.workers),
            "gpus": self.gpus,
            "stages": stages,
            "disks": [{**asdict(disk), "need": disk.need} for disk in self.disks],
            "memory": self.memory,
            "start_seconds": self.start_seconds,
            "seconds": self.seconds,
            "gpu_hours": self.gpu_hours,
            "notes": list(self.notes),
        }


def check_fits(foreseen: Forecast, hardware: Hardware, recipe: Recipe) -> None:
    """Refuse what can't fit.

    Raises
    ------
    PlanError : names the number to change, and to what.
    """
    for disk in foreseen.disks:
        if disk.need > disk.free:
            parts = ", ".join(f"{name} {size / 1e9:.3g} GB" for name, size in disk.needs.items())
            raise PlanError(
                f"the disk of {disk.path} has {disk.free / 1e9:.3g} GB free and "
                f"{disk.need / 1e9:.3g} GB are needed ({parts}): make "
                f"{(disk.need - disk.free) / 1e9:.3g} GB free, or give an output (and scan) on "
                "another disk"
            )
    workers, is_here = foreseen.workers, recipe.cluster.kind == "local"
    if is_here and recipe.cluster.scheduler is None and hardware.memory is None:
        budget = max((stage.budget for stage in foreseen.stages), default=0)
        free = available_memory()
        if workers.count * budget > free:
            fits = max(1, free // budget)
            raise PlanError(
                f"{workers.count} workers may take {budget / 2**30:.2f} GiB each and this machine "
                f"has {free / 2**30:.2f} GiB free: take --workers {fits}, or --memory "
                f"{free / workers.count / 2**30:.2f}GiB"
            )
    if hardware.gpu_memory is not None:
        for stage in foreseen.stages:
            if stage.gpu_memory > hardware.gpu_memory:
                raise PlanError(
                    f"a block of {stage.name} takes {stage.gpu_memory / 2**30:.2f} GiB of a GPU "
                    f"that has {hardware.gpu_memory / 2**30:.2f} GiB: take --memory "
                    f"{(WORKER_BASE_BYTES + hardware.gpu_memory) / 2**30:.2f}GiB, which makes "
                    "smaller blocks"
                )


def refused_by_name(plan: Callable[[Workers], T], workers: Workers) -> T:
    """What `plan` makes of these workers; where their memory is too small, say which would do."""
    try:
        return plan(workers)
    except MemoryBudgetError as error:
        enough = _least_memory(plan, workers)
        if enough is None:
            raise
        raise MemoryBudgetError(
            f"{error} Enough is cluster.memory={-(-enough // 2**20)}MiB (--memory) a worker."
        ) from None


def _least_memory(plan: Callable[[Workers], Any], workers: Workers) -> int | None:
    """Bytes of a worker with which a plan succeeds, to a few percent; None where none does."""

    def fits(memory: int) -> bool:
        try:
            plan(replace(workers, memory=memory))
        except MemoryBudgetError:
            return False
        return True

    low, high = workers.memory, workers.memory
    while not fits(high):
        low, high = high, 2 * high
        if high > MOST_MEMORY:
            return None
    while high - low > max(2**20, high // 64):
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def piped(times: Sequence[tuple[float, float, float]]) -> float:
    """Seconds of a block whose sub-blocks are read, computed and written side by side.

    Who has made one keeps it until it is taken, and begins the next one only then (`stream`).
    """
    taken = passed_on = written = 0.0
    for read, computed, write in times:
        taken = max(taken + read, passed_on)
        passed_on = max(taken + computed, written)
        written = passed_on + write
    return written


def makespan(seconds: Iterable[float], workers: int) -> float:
    """Until the last task has ended, each worker taking the next one when it is free."""
    free = [0.0] * max(1, workers)
    for each in seconds:
        heapq.heapreplace(free, free[0] + each)
    return max(free)


def disks_of(
    needs: Iterable[tuple[Path, str, int]], stated_free: int | None = None
) -> tuple[Disk, ...]:
    """What each file system is to hold, and how much of it is free, unless that is stated."""
    found: dict[int, tuple[Path, dict[str, int], int]] = {}
    for path, name, size in needs:
        place = existing_folder(path)
        folder, named, there = found.get(place.stat().st_dev, (place, {}, 0))
        there += min(size, folder_bytes(path))
        found[place.stat().st_dev] = (folder, {**named, name: named.get(name, 0) + size}, there)
    return tuple(
        Disk(str(folder), named, there, stated_free or shutil.disk_usage(folder).free)
        for folder, named, there in found.values()
    )


def folder_bytes(path: Path) -> int:
    """Bytes of all files below a folder, 0 where there is none."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def existing_folder(path: Path) -> Path:
    """The nearest folder above a path that is there."""
    path = path.resolve().parent  # behind a link
    while not path.is_dir():
        path = path.parent
    return path
