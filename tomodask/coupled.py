"""Runs whose slices hang together: a cone beam, a tilted axis, a pose a view, or a 3D regulariser.

No block of the volume can be finished before all of them are begun, so the run goes over the whole
volume operation by operation (`blockwise`): corrected projections are put on the disk beside the
output, the algorithm iterates on them block by block, and what comes out is written as a volume.
After a kill the same command goes on at the block where it stopped.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tomodask import arrays
from tomodask.arrays import empty
from tomodask.blocks import Block, MemoryNeed
from tomodask.blockwise import fdk_blockwise, forget, reconstruct_blockwise
from tomodask.blockwise.fdk import Evenness
from tomodask.blockwise.operator import geometry_hash
from tomodask.blockwise.scratch import read_rows
from tomodask.cluster.local import Workers
from tomodask.cluster.run import Listener, Progress, run_blocks
from tomodask.cluster.workforce import Workforce
from tomodask.errors import DeviceError, GeometryError, MemoryBudgetError
from tomodask.geometry import ParallelBeam, ProjectionGeometry, VolumeGeometry
from tomodask.plan import StreamNeed
from tomodask.preprocess import apply_corrections
from tomodask.projectors import ANY_RAYS, RAY_BACKENDS, prepare_backend
from tomodask.projectors.choice import chosen_way
from tomodask.recipe import Recipe
from tomodask.reconstruct import FDK
from tomodask.reconstruct.fbp import clear_outside, view_radius
from tomodask.run_geometry import run_geometry
from tomodask.runplan import Job, RunPlan, resolve_center, volume_spec
from tomodask.samples import column_range, corrections_for, slice_range
from tomodask.scan import Scan
from tomodask.shards import swap_in
from tomodask.stream import in_order
from tomodask.volumestore import Volume, write_bytes

LEAST_TASK_BYTES = 2**28  # less, and starting tasks begins to show
TASKS = 4  # so much less than volume and projections together: some dozen tasks an operation
WORK_SUFFIX = ".work"  # of the folder beside the output that holds the scratch arrays


def is_coupled(recipe: Recipe) -> bool:
    """Whether slices can't be made one block at a time."""
    return recipe.geometry.couples_rows or bool(
        getattr(recipe.reconstructor(), "couples_rows", False)
    )


@dataclass(frozen=True)
class CoupledPlan:
    """A run's plan with its geometry; `plan.digest` covers both."""

    plan: RunPlan
    volume: VolumeGeometry
    views: ProjectionGeometry
    beam: ParallelBeam
    backend: str
    budget: int

    @property
    def radius(self) -> np.ndarray | None:
        """(rows,) pixels that all views see, where the algorithm clears what lies beyond."""
        algorithm, options = self.plan.recipe.reconstructor(), self.plan.recipe.geometry
        if options.couples_rows or not getattr(algorithm, "circle", False):
            return None
        return view_radius(self.beam)


def plan_coupled(
    recipe: Recipe, scan: Scan, workers: Workers, *, has_gpu: bool = False
) -> CoupledPlan:
    """Find the centre and the geometry; refuse what can't be.

    has_gpu : where it will run, whatever is here.

    Raises
    ------
    GeometryError : the algorithm or backend can't do this geometry, or the centre is not given
        where it can't be found.
    MemoryBudgetError : a worker can't hold what a chunk row needs.
    """
    rows, columns = slice_range(recipe, scan.geometry), column_range(recipe, scan.geometry)
    _check(recipe, scan)
    center, estimate = resolve_center(scan, recipe)
    beam = replace(scan.geometry, angles=recipe.angle_sign * scan.geometry.angles)
    beam = beam.with_center(center, recipe.center_slope)
    beam = beam.take_rows(*rows).take_columns(*columns)
    volume, views = run_geometry(recipe.geometry, beam, scan.geometry.det_rows)
    backend = ANY_RAYS if recipe.backend == "auto" else recipe.backend
    try:
        _check_backend(backend, volume, views)
    except DeviceError:
        if not has_gpu:
            raise
    if isinstance(algorithm := recipe.reconstructor(), FDK):
        algorithm.parts(volume, views)  # refuses orbits that are none, or too short
    corrections = corrections_for(scan, recipe)
    spec = replace(volume_spec(recipe, scan, rows, columns), shape=volume.shape)
    halo = sum(correct.halo(scan.geometry) for correct in corrections)
    plan = RunPlan(
        recipe, scan, rows, columns, center, estimate, corrections, halo, 1,
        _rows_to_write(spec, workers.budget), workers.threads, spec,
        geometry_digest=geometry_hash(volume, views),
    )  # fmt: skip
    load_rows = _most_rows(loading_need(plan), workers.budget, rows[1] - rows[0])
    plan = replace(plan, sub_rows=load_rows)
    return CoupledPlan(plan, volume, views, beam, backend, _task_bytes(volume, views, workers))


def loading_need(plan: RunPlan) -> StreamNeed:
    """Declared memory of correcting rows, with nothing reconstructed from them."""
    return StreamNeed(
        plan.scan, plan.columns, plan.corrections, _Loading(), MemoryNeed(0, 0), plan.spec,
        plan.halo, plan.threads,
    )  # fmt: skip


def reconstruct_coupled(
    coupled: CoupledPlan, volume: Volume, job: Job, left: Sequence[Block], force: Workforce,
    listener: Listener,
) -> dict[str, Progress]:  # fmt: skip
    """Correct, iterate, write the blocks left; the scratch arrays are removed at the end."""
    plan, algorithm = coupled.plan, coupled.plan.recipe.reconstructor()
    folder = volume.path.with_name(volume.path.name + WORK_SUFFIX)
    means = _means(folder, plan.digest, coupled.budget, plan.threads)
    prepare_backend(coupled.backend, for_rays=True)
    told = _Iterations(listener, getattr(algorithm, "num_iterations", 0))
    load = LoadRows(job, plan.rows, plan.scan.geometry.det_rows, plan.sub_rows)
    shared: dict[str, Any] = {
        "folder": folder / plan.digest, **means, "client": force.client,
        "backend": coupled.backend, "listener": told, "input_id": plan.digest,
    }  # fmt: skip
    geometries = coupled.volume, coupled.views
    finish: Evenness | None = None
    if isinstance(algorithm, FDK):
        blocks = fdk_blockwise(load, algorithm, *geometries, **shared)
        arrays, finish = [blocks.volume, blocks.constant], blocks.evenness
    else:
        called = _Told(algorithm, told.iterated)
        arrays = [reconstruct_blockwise(load, called, *geometries, **shared)]
    iterated = told.end()
    sources = tuple((array.file.path, array.shape) for array in arrays)
    tasks = [WriteTask(job, block, sources, finish, coupled.radius) for block in left]
    progress = run_blocks(force.client, write_block, tasks, stage="write", listener=listener)
    shutil.rmtree(folder, ignore_errors=True)
    return {"iterate": iterated, "write": progress}


@dataclass(frozen=True)
class _Told:
    """An algorithm with a callback that tells how far it is; its name says what it computes."""

    algorithm: Any
    callback: Any = field(repr=False)

    def __call__(self, y: Any, A: Any) -> Any:
        return self.algorithm(y, A, callbacks=[self.callback])


@dataclass(frozen=True)
class LoadRows:
    """Corrected sinograms of detector rows, counted from the first that is used.

    most : rows that are corrected at once.
    """

    job: Job
    rows: tuple[int, int]
    det_rows: int
    most: int

    def __call__(self, start: int, stop: int) -> np.ndarray:
        columns = self.job.columns[1] - self.job.columns[0]
        shape = (stop - start, self.job.scan.geometry.num_angles, columns)
        sinograms = empty(shape)
        for low in range(start, stop, self.most):
            high = min(stop, low + self.most)
            sinograms[low - start : high - start] = self._corrected(low, high)
        return sinograms

    def bytes_read(self, start: int, stop: int) -> int:
        """Of the scan."""
        return sum(
            self.job.scan.bytes_read(self._with_halo(low, min(stop, low + self.most)))
            for low in range(start, stop, self.most)
        )

    def _with_halo(self, start: int, stop: int) -> tuple[int, int]:
        """Rows of the whole detector that are read."""
        first, halo = self.rows[0], self.job.halo
        return max(0, first + start - halo), min(self.det_rows, first + stop + halo)

    def _corrected(self, start: int, stop: int) -> np.ndarray:
        job, first = self.job, self.rows[0]
        low, high = self._with_halo(start, stop)
        projections = apply_corrections(job.corrections, job.load(low, high), job.threads)
        return projections.trim_rows(first + start, first + stop).sinograms()


@dataclass(frozen=True)
class WriteTask:
    """A block of the result that is to be written into the volume.

    sources : path and shape of the scratch arrays; `finish` makes slices of those of all of them.
    radius : (rows,) pixels beyond which slices are 0, None where they are not cleared.
    """

    job: Job
    block: Block
    sources: tuple[tuple[str, tuple[int, int, int]], ...]
    finish: Evenness | None
    radius: np.ndarray | None

    @property
    def id(self) -> str:
        return self.block.id


def write_block(task: WriteTask) -> dict[str, Any]:
    """Copy rows of the scratch array into the volume and its pyramid, and enter them."""
    start, stop = task.block.write.rows
    slices, *others = (read_rows(path, shape, start, stop) for path, shape in task.sources)
    if task.finish is not None:
        slices = task.finish(slices, others[0], start)
    if task.radius is not None:
        clear_outside(slices, task.radius[start:stop])
    shards = in_order(task.job.open_volume().write(start, slices))
    report = {
        "block": task.block.id,
        "rows": stop - start,
        "bytes_read": len(task.sources) * slices.nbytes,
        "bytes_written": sum(shard.size for shard in shards),
        "peak_bytes": arrays.peak_bytes(),
    }
    task.job.ledger.record(task.block.id, shards, report)
    return report


class _Loading:
    """Stands for an algorithm where projections are only corrected."""

    def row_bytes(self, geometry: ParallelBeam) -> int:
        return 0

    def projector_columns(self, geometry: ParallelBeam) -> int:
        return geometry.det_count

    def __call__(self, sinograms: np.ndarray, A: Any, /) -> np.ndarray:
        return sinograms


class _Iterations:
    """One line of progress for all operations; how many there will be is told by iterations."""

    def __init__(self, listener: Listener, num_iterations: int) -> None:
        self.progress = Progress("iterate", 1)
        self._listener, self._num_iterations = listener, num_iterations
        self._blocks, self._iteration = 0, 0

    def __call__(self, operation: Progress) -> None:
        """The listener of the operations."""
        total = self.progress
        total.workers = operation.workers
        total.blocks_done = self._blocks + operation.blocks_done
        if operation.ended is not None:
            self._blocks += operation.blocks
            total.bytes_read += operation.bytes_read
            total.bytes_written += operation.bytes_written
            total.peak_bytes = max(total.peak_bytes, operation.peak_bytes)
        a_round = total.blocks_done / max(1, self._iteration)
        total.blocks = max(total.blocks_done + 1, round(a_round * self._num_iterations))
        self._listener(total)

    def iterated(self, iteration: int, x: Any, residual_norm: float) -> None:
        """The callback of the algorithm."""
        self._iteration = iteration
        self.progress.note = (
            f"iteration {iteration} of {self._num_iterations}, residual {residual_norm:.4g}"
        )

    def end(self) -> Progress:
        total = self.progress
        total.blocks, total.ended = total.blocks_done, time.monotonic()
        self._listener(total)
        return total


def _check(recipe: Recipe, scan: Scan) -> None:
    """Refuse what the algorithm can't reconstruct from, by name."""
    options, (name,) = recipe.geometry, recipe.algorithm
    algorithm = recipe.reconstructor()
    is_cone = options.source_distance_mm is not None
    if not is_cone and "parallel" not in getattr(algorithm, "beams", ("parallel",)):
        raise GeometryError(
            f"{name} can't reconstruct from a parallel beam: say where the source is with "
            "--source-distance, or take --algorithm fbp"
        )
    if name == "fbp":
        what = "a cone beam" if is_cone else "a tilted axis, a helix or poses"
        others = "fdk, sirt, cgls" if is_cone else "sirt, cgls"
        raise GeometryError(
            f"{name} can't reconstruct from {what}: take --algorithm {others} or another that "
            "iterates"
        )
    if recipe.center == "auto" and (is_cone or options.tilt_deg):
        raise GeometryError(
            "the centre of rotation can be found in an aligned parallel beam alone: give the "
            f"axis' column with --center (the middle is {(scan.geometry.det_count - 1) / 2:g})"
        )


def _task_bytes(volume: VolumeGeometry, views: ProjectionGeometry, workers: Workers) -> int:
    """Memory for a task: a part of all there is, so that many workers have something to do.

    The cut of the blocks, and with it the last bits, must not depend on their number.
    """
    rows, columns = views.det_shape
    everything = 4 * (math.prod(volume.shape) + rows * views.num_angles * columns)
    return min(workers.budget, max(LEAST_TASK_BYTES, everything // TASKS))


def _check_backend(name: str, volume: VolumeGeometry, views: ProjectionGeometry) -> None:
    """Refuse by name a backend that can't project these views, or no slabs of them."""
    if name not in RAY_BACKENDS:
        raise GeometryError(
            f"{name} can't project this: slabs that hang together are projected ray by ray; take "
            f"--backend {' or '.join(RAY_BACKENDS)}"
        )
    chosen_way(volume, views, name)


def _most_rows(need: StreamNeed, budget: int, num_rows: int) -> int:
    """Detector rows that can be corrected at once."""
    rows = num_rows
    while rows > 1 and need.reading(rows) + need.computing(rows) > budget:
        rows = math.ceil(rows / 2)
    if need.reading(rows) + need.computing(rows) > budget:
        raise MemoryBudgetError(
            f"one detector row and its halo of {need.halo} take "
            f"{(need.reading(1) + need.computing(1)) / 2**30:.2f} GiB to correct, a worker has "
            f"{budget / 2**30:.2f} GiB: give each worker more memory (--memory, fewer --workers)"
        )
    return rows


def _rows_to_write(spec: Any, budget: int) -> int:
    """Rows of a block that is written: whole chunks."""
    slice_bytes = 4 * math.prod(spec.shape[1:])
    rows = int(spec.chunk_rows)
    while rows < spec.shape[0]:
        if 2 * rows * slice_bytes + write_bytes(spec, 2 * rows) > budget / 2:
            break
        rows *= 2
    return rows


def _means(folder: Path, digest: str, budget: int, threads: int) -> dict[str, int]:
    """Memory and threads of a task: those the run began with, as its blocks are cut by them.

    What another recipe left in the folder is removed, which is this output's alone and under its
    lease; so is what began with more memory than a worker has now.
    """
    note = folder / f"{digest}.json"
    if folder.is_dir():
        for other in folder.iterdir():
            if not other.name.startswith(digest):
                shutil.rmtree(other, ignore_errors=True)
                other.unlink(missing_ok=True)
    folder.mkdir(exist_ok=True)
    means = {"budget": budget, "threads": threads}
    if note.is_file():
        began: dict[str, int] = json.loads(note.read_text())
        if began["budget"] <= budget:
            return began
        forget(folder / digest)
    swap_in(note, json.dumps(means).encode())
    return means
