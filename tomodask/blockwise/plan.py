"""How A and A.T are cut into tasks that fit into memory and read as little as can be.

A task keeps one array in memory and lets the other stream by: A(x) keeps a run of rows of some
views and reads slabs of the volume, A.T(y) keeps a slab and reads its rows of the projections, some
views at a time. What is kept is as large as memory allows, as the other side is read once for each.
The plan depends on geometry and budget alone, so that all sums are added up in the same order
whoever does them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

import numpy as np

from tomodask.blockwise.scratch import ITEM, PIECES, Region, Run, piece_floats
from tomodask.blockwise.tasks import slab_box, take_views
from tomodask.errors import MemoryBudgetError
from tomodask.geometry import ProjectionGeometry, VolumeGeometry, footprint, in_voxels
from tomodask.projectors import load_ray_backend


@dataclass(frozen=True)
class Cut:
    """`kept` regions, one a task, and the `streamed` runs of what each reads."""

    kept: tuple[Region, ...]
    streamed: tuple[Run, ...]
    bytes_read: int
    memory: int


@dataclass(frozen=True)
class Problem:
    """What is to be cut: geometry, backend with its threads, and bytes for a task."""

    volume: VolumeGeometry
    projections: ProjectionGeometry
    backend: str
    threads: int
    budget: int

    @property
    def num_angles(self) -> int:
        return in_voxels(self.volume, self.projections).num_angles

    @property
    def row_bytes(self) -> int:
        """Of a row of the volume."""
        return ITEM * self.volume.shape[1] * self.volume.shape[2]

    @property
    def line_bytes(self) -> int:
        """Of a row of one view."""
        return ITEM * self.projections.det_shape[1]

    @property
    def piece_bytes(self) -> int:
        """What formulas take, over the region that a task has computed."""
        return PIECES * ITEM * piece_floats(self.budget)

    def shadow(self, slab: Run) -> np.ndarray:
        """(num_angles, 2) rows of each view that see a slab."""
        return footprint(self.volume, self.projections, slab_box(slab, self.volume)).view_rows

    def working_bytes(self, slab: Run, rows: Run, views: Run) -> int:
        """What the backend takes for a slab and a run of rows of some views."""
        seen, moved = take_views(self.volume, self.projections, slice(*views))
        part = in_voxels(moved.part(slab_box(slab, moved)), seen.take_rows(*rows))
        return load_ray_backend(self.backend).memory_bytes(part, self.threads)


def cut_forward(problem: Problem) -> Cut:
    """The tasks of A(x).

    Raises
    ------
    MemoryBudgetError : not even one row of one view, with one row of the volume, fits.
    """
    det_rows = problem.projections.det_shape[0]
    best: Cut | None = None
    kept_bytes = max(problem.line_bytes, _free(problem) // 3)
    num_slabs = problem.volume.shape[0]
    height = max(1, min(num_slabs, _free(problem) // 6 // problem.row_bytes))
    while best is None:
        slabs = list(_runs(num_slabs, ceil(num_slabs / height)))
        shadows = [problem.shadow(slab) for slab in slabs]
        for rows in _halves(det_rows):
            views = min(problem.num_angles, kept_bytes // (problem.line_bytes * rows))
            if views < 1:
                continue
            cut = _forward(problem, rows, views, slabs, shadows)
            if cut.memory <= problem.budget and (best is None or _cost(cut) < _cost(best)):
                best = cut
        if best is None and kept_bytes == problem.line_bytes and height == 1:
            raise _too_small(problem, _forward(problem, 1, 1, slabs, shadows).memory)
        kept_bytes, height = max(problem.line_bytes, kept_bytes // 2), max(1, height // 2)
    return best


def cut_adjoint(problem: Problem) -> Cut:
    """The tasks of A.T(y).

    Raises
    ------
    MemoryBudgetError : not even one row of the volume, with one view, fits.
    """
    nz = problem.volume.shape[0]
    height = max(1, min(nz, _free(problem) // 3 // problem.row_bytes))
    share = _free(problem) // 6
    while True:
        cut = _adjoint(problem, height, share)
        if cut.memory <= problem.budget:
            return cut
        if height == 1 and share <= problem.line_bytes:
            raise _too_small(problem, cut.memory)
        height, share = max(1, height // 2), share // 2


def _forward(
    problem: Problem, rows: int, views: int, slabs: list[Run], shadows: list[np.ndarray]
) -> Cut:
    det_rows = problem.projections.det_shape[0]
    # of equal size, so that no task is a small rest
    row_runs = list(_runs(det_rows, ceil(det_rows / rows)))
    view_runs = list(_runs(problem.num_angles, ceil(problem.num_angles / views)))
    read = 0
    for first, last in view_runs:
        for (start, stop), shadow in zip(slabs, shadows, strict=True):
            begin, end = _union(shadow[first:last])
            times = sum(begin < run[1] and end > run[0] for run in row_runs)
            read += times * (stop - start) * problem.row_bytes
    kept = problem.line_bytes * _longest(row_runs) * _longest(view_runs)
    memory = (
        2 * kept  # and the projection of one slab
        + _longest(slabs) * problem.row_bytes
        + problem.working_bytes(slabs[0], row_runs[0], view_runs[0])
        + problem.piece_bytes
    )
    # views after rows: the rows of a slab that was just read are in the page cache
    regions = tuple(Region(run, views) for run in row_runs for views in view_runs)
    return Cut(regions, tuple(slabs), read, memory)


def _adjoint(problem: Problem, height: int, share: int) -> Cut:
    nz, ny, _ = problem.volume.shape
    slabs = list(_runs(nz, ceil(nz / height)))
    read, most_rows = 0, 1
    shadows = [problem.shadow(slab) for slab in slabs]
    for shadow in shadows:
        begin, end = _union(shadow)
        most_rows = max(most_rows, end - begin)
    views = max(1, min(problem.num_angles, share // (problem.line_bytes * most_rows)))
    chunks = tuple(_runs(problem.num_angles, ceil(problem.num_angles / views)))
    for shadow in shadows:
        for first, last in chunks:
            begin, end = _union(shadow[first:last])
            read += (end - begin) * (last - first) * problem.line_bytes
    kept = _longest(slabs) * problem.row_bytes
    memory = (
        2 * kept  # and the back-projection of some views
        + _longest(chunks) * most_rows * problem.line_bytes
        + problem.working_bytes(slabs[0], (0, most_rows), chunks[0])
        + problem.piece_bytes
    )
    return Cut(tuple(Region(slab, (0, ny)) for slab in slabs), chunks, read, memory)


def _union(shadow: np.ndarray) -> Run:
    """Rows that any of some views needs."""
    seen = shadow[shadow[:, 1] > shadow[:, 0]]
    return (int(seen[:, 0].min()), int(seen[:, 1].max())) if len(seen) else (0, 0)


def _free(problem: Problem) -> int:
    return problem.budget - problem.piece_bytes


def _cost(cut: Cut) -> tuple[int, int]:
    """Bytes read, then the number of projections of a part: each has some work of its own."""
    return cut.bytes_read, len(cut.kept) * len(cut.streamed)


def _halves(count: int) -> Iterator[int]:
    while count > 1:
        yield count
        count = ceil(count / 2)
    yield 1


def _runs(count: int, parts: int) -> Iterator[Run]:
    """`parts` runs that differ by one at most, the longest first."""
    size, rest = divmod(count, parts)
    start = 0
    for part in range(parts):
        stop = start + size + (part < rest)
        yield start, stop
        start = stop


def _longest(runs: list[Run] | tuple[Run, ...]) -> int:
    return max(stop - start for start, stop in runs)


def _too_small(problem: Problem, need: int) -> MemoryBudgetError:
    return MemoryBudgetError(
        f"the smallest block of A needs {need / 2**20:.0f} MiB with {problem.backend} on "
        f"{problem.threads} threads, the budget is {problem.budget / 2**20:.0f} MiB: give each "
        "worker more memory or fewer threads"
    )
