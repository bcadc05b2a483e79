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

from tomodask.blockwise.scratch import ITEM, PIECES, Region, Run, piece_floats, runs
from tomodask.blockwise.tasks import slab_box, take_views
from tomodask.errors import MemoryBudgetError
from tomodask.geometry import ProjectionGeometry, VolumeGeometry, footprint, in_voxels
from tomodask.projectors import load_ray_backend

GROUPS = 64  # slabs by whose shadows the bytes that A(x) reads are counted


@dataclass(frozen=True)
class Cut:
    """`kept` regions, one a task, and how many rows or views of the other side stream by at once.

    bytes_read : of the other side, by all tasks together; of A(x) counted a little too high.
    memory : bytes that a task takes.
    """

    kept: tuple[Region, ...]
    length: int
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

    @property
    def free(self) -> int:
        """For arrays and the backend."""
        return max(0, self.budget - self.piece_bytes)

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
    least = _forward_memory(problem, 1, 1, 1)
    if least > problem.budget:
        raise _too_small(problem, "A", least)
    nz, det_rows = problem.volume.shape[0], problem.projections.det_shape[0]
    groups = runs(0, nz, ceil(nz / GROUPS))
    shadows = [problem.shadow(group) for group in groups]
    kept, height = problem.free // 3, max(1, min(nz, problem.free // 6 // problem.row_bytes))
    while True:
        found: list[Cut] = []
        for rows in _halves(det_rows):
            views = max(1, min(problem.num_angles, kept // (problem.line_bytes * rows)))
            memory = _forward_memory(problem, rows, views, height)
            if memory <= problem.budget:
                # views after rows: what was just read of the volume is in the page cache
                regions = tuple(
                    Region(row_run, view_run)
                    for row_run in runs(0, det_rows, rows)
                    for view_run in runs(0, problem.num_angles, views)
                )
                read = _forward_read(problem, regions, groups, shadows)
                found.append(Cut(regions, height, read, memory))
        if found:
            return min(found, key=lambda cut: (cut.bytes_read, len(cut.kept)))
        kept, height = kept // 2, max(1, height // 2)


def cut_adjoint(problem: Problem) -> Cut:
    """The tasks of A.T(y).

    Raises
    ------
    MemoryBudgetError : not even one row of the volume, with one view, fits.
    """
    nz = problem.volume.shape[0]
    height = max(1, min(nz, problem.free // 3 // problem.row_bytes))
    share = problem.free // 6
    while True:
        cut = _adjoint(problem, height, share)
        if cut.memory <= problem.budget:
            return cut
        if height == 1 and cut.length == 1:
            raise _too_small(problem, "A.T", cut.memory)
        height, share = max(1, height // 2), share // 2


def _forward_memory(problem: Problem, rows: int, views: int, height: int) -> int:
    return (
        2 * rows * views * problem.line_bytes  # and the projection of one slab
        + height * problem.row_bytes
        + problem.working_bytes((0, height), (0, rows), (0, views))
        + problem.piece_bytes
    )


def _forward_read(
    problem: Problem, regions: tuple[Region, ...], groups: list[Run], shadows: list[np.ndarray]
) -> int:
    seen: dict[Run, list[Run]] = {}
    read = 0
    for region in regions:
        if region.lines not in seen:
            seen[region.lines] = [_union(shadow[slice(*region.lines)]) for shadow in shadows]
        for (start, stop), (begin, end) in zip(groups, seen[region.lines], strict=True):
            if begin < region.rows[1] and end > region.rows[0]:
                read += (stop - start) * problem.row_bytes
    return read


def _adjoint(problem: Problem, height: int, share: int) -> Cut:
    nz, ny, _ = problem.volume.shape
    slabs = runs(0, nz, height)
    shadows = [problem.shadow(slab) for slab in slabs]
    most_rows = max(1, *(end - begin for begin, end in map(_union, shadows)))
    views = max(1, min(problem.num_angles, share // (problem.line_bytes * most_rows)))
    read = 0
    for shadow in shadows:
        for first, last in runs(0, problem.num_angles, views):
            begin, end = _union(shadow[first:last])
            read += (end - begin) * (last - first) * problem.line_bytes
    memory = (
        2 * height * problem.row_bytes  # and the back-projection of some views
        + views * most_rows * problem.line_bytes
        + problem.working_bytes((0, height), (0, most_rows), (0, views))
        + problem.piece_bytes
    )
    return Cut(tuple(Region(slab, (0, ny)) for slab in slabs), views, read, memory)


def _union(shadow: np.ndarray) -> Run:
    """Rows that any of some views needs."""
    seen = shadow[shadow[:, 1] > shadow[:, 0]]
    return (int(seen[:, 0].min()), int(seen[:, 1].max())) if len(seen) else (0, 0)


def _halves(count: int) -> Iterator[int]:
    while count > 1:
        yield count
        count = ceil(count / 2)
    yield 1


def _too_small(problem: Problem, kind: str, need: int) -> MemoryBudgetError:
    return MemoryBudgetError(
        f"the smallest block of {kind} needs {need / 2**20:.1f} MiB with {problem.backend} on "
        f"{problem.threads} threads, the budget is {problem.budget / 2**20:.1f} MiB: give each "
        "worker more memory or fewer threads"
    )
