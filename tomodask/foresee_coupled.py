"""What a run whose slices hang together will take: its operations counted, and its blocks written.

"iterate" is all that is done on scratch arrays, correcting and loading the projections included, as
the run itself tells it; "write" makes a volume of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from tomodask.blockwise.fdk import fdk_operations
from tomodask.blockwise.foresee import Cost, Foreseen, foreseen_workspace
from tomodask.blockwise.operator import StoredOperator
from tomodask.blockwise.passes import row_regions
from tomodask.blockwise.reconstruct import operations
from tomodask.blockwise.scratch import ITEM
from tomodask.cluster.local import WORKER_BASE_BYTES
from tomodask.coupled import CoupledPlan, LoadRows, loading_need
from tomodask.forecast import Stage, makespan
from tomodask.hardware import Rates
from tomodask.projectors import load_ray_backend
from tomodask.projectors.choice import GpuBackend
from tomodask.reconstruct import FDK
from tomodask.reconstruct.fdk import widened_views
from tomodask.volumestore import stored_bytes, write_bytes

TASK_SECONDS = 0.02  # of a block: scheduler, worker, and its entry in the journal


@dataclass(frozen=True)
class Speed:
    """Of one worker, a second; None where it is not known."""

    read_bytes: float | None
    scratch_bytes: float | None
    write_bytes: float | None
    correct_pixels: float | None
    updates: float | None


def coupled_stages(
    coupled: CoupledPlan, workers: int, rates: Rates, speed: Speed
) -> tuple[list[Stage], int]:
    """The stages "iterate" and "write", and the most bytes of scratch arrays at once."""
    place, A = counted_operations(coupled)
    blocks = [cost for costs in place.operations for cost in costs]
    kept = 2 if isinstance(coupled.plan.recipe.reconstructor(), FDK) else 1
    declared = max(_loading_bytes(coupled, A), *(cut.memory for cut in A.cuts.values()))
    is_gpu = isinstance(load_ray_backend(coupled.backend), GpuBackend)
    seconds = None
    a_block = _block_seconds(coupled, A, speed)
    if a_block is not None:
        seconds = sum(
            makespan(map(a_block, costs), workers) / _freedom(len(costs), workers, rates.alone)
            for costs in place.operations
        )
    iterate = Stage(
        name="iterate",
        blocks=len(blocks),
        bytes_read=sum(cost.bytes_read for cost in blocks),
        bytes_written=sum(cost.bytes_written for cost in blocks),
        memory=rates.idle_bytes + round(rates.share * declared),
        budget=WORKER_BASE_BYTES + declared,
        gpu_memory=max(cut.memory for cut in A.cuts.values()) if is_gpu else 0,
        seconds=seconds,
    )
    return [iterate, _write_stage(coupled, kept, workers, rates, speed)], (
        place.counts.most_files_bytes
    )


def counted_operations(coupled: CoupledPlan) -> tuple[Foreseen, StoredOperator]:
    """What the algorithm does on stored arrays, counted, and the operator it does it with."""
    plan, algorithm = coupled.plan, coupled.plan.recipe.reconstructor()
    place = foreseen_workspace(coupled.budget)
    job: Any = SimpleNamespace(scan=plan.scan, halo=plan.halo)  # all that is asked for its bytes
    load = LoadRows(job, plan.rows, plan.scan.geometry.det_rows, plan.sub_rows)
    volume, views, threads = coupled.volume, coupled.views, plan.threads
    if isinstance(algorithm, FDK):
        parts = algorithm.parts(volume, views)
        wide = widened_views(views, *parts.beyond)
        A = StoredOperator(place, volume, wide, coupled.backend, threads)
        kept: Any = fdk_operations(load, parts, A)
    else:
        A = StoredOperator(place, volume, views, coupled.backend, threads)
        kept = operations(load, algorithm, A, "foreseen")
    del kept
    return place, A


def _loading_bytes(coupled: CoupledPlan, A: StoredOperator) -> int:
    """Declared for a block of projections: the rows it holds, and some that are corrected."""
    plan = coupled.plan
    need = loading_need(plan)
    regions = row_regions(A.range_shape, coupled.budget)
    rows = max(region.rows[1] - region.rows[0] for region in regions)
    corrected = need.reading(plan.sub_rows) + need.computing(plan.sub_rows)
    return ITEM * rows * math.prod(A.range_shape[1:]) + corrected


def _block_seconds(
    coupled: CoupledPlan, A: StoredOperator, speed: Speed
) -> Callable[[Cost], float] | None:
    if speed.updates is None or speed.read_bytes is None or speed.scratch_bytes is None:
        return None
    pixels = coupled.plan.scan.geometry.num_angles * A.range_shape[2]
    read, scratch, updates = speed.read_bytes, speed.scratch_bytes, speed.updates
    correct = speed.correct_pixels or math.inf

    def seconds(cost: Cost) -> float:
        moved = (cost.bytes_read if not cost.rows_loaded else 0) + cost.bytes_written
        loaded = cost.bytes_read / read if cost.rows_loaded else 0.0
        corrected = cost.rows_loaded * pixels / correct
        return TASK_SECONDS + moved / scratch + loaded + corrected + cost.updates / updates

    return seconds


def _freedom(blocks: int, workers: int, alone: float) -> float:
    """How many times as fast a worker is where some of the others have nothing to do."""
    idle = max(0, workers - blocks) / max(1, workers - 1)
    return 1 + (alone - 1) * idle


def _write_stage(
    coupled: CoupledPlan, kept: int, workers: int, rates: Rates, speed: Speed
) -> Stage:
    """Rows of `kept` scratch arrays become rows of the volume."""
    plan = coupled.plan
    spec, blocks = plan.spec, plan.blocks(())
    slice_bytes = ITEM * math.prod(spec.shape[1:])
    heights = [block.write.shape[0] for block in blocks]
    written = [
        stored_bytes(spec, block.write.stop[0]) - stored_bytes(spec, block.write.start[0])
        for block in blocks
    ]
    seconds = None
    if speed.scratch_bytes is not None and speed.write_bytes is not None:
        seconds = makespan(
            (
                TASK_SECONDS + kept * rows * slice_bytes / speed.scratch_bytes
                + size / speed.write_bytes
                for rows, size in zip(heights, written, strict=True)
            ),
            workers,
        )  # fmt: skip
    declared = (kept + 1) * max(heights) * slice_bytes + write_bytes(spec, max(heights))
    return Stage(
        name="write",
        blocks=len(blocks),
        bytes_read=kept * sum(heights) * slice_bytes,
        bytes_written=sum(written),
        memory=rates.idle_bytes + round(rates.share * declared),
        budget=WORKER_BASE_BYTES + declared,
        seconds=seconds,
    )
