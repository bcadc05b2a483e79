"""What an algorithm on stored arrays will read, write and calculate, with nothing done.

Its own code runs, from the top, in a workspace whose operations are counted and not done: inner
products come out as 1, so what stops an algorithm early is not foreseen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tomodask.blockwise.scratch import ITEM, Region, Shape
from tomodask.blockwise.tasks import (
    BackProjection,
    ForwardProjection,
    Load,
    Source,
    Stencil,
    bytes_read_by,
)
from tomodask.blockwise.trees import Call, Read, Tree
from tomodask.blockwise.workspace import SCRATCH, File, Workspace, hash_of
from tomodask.ledger import Ledger

NOWHERE = Path("/nonexistent")


@dataclass(frozen=True)
class Cost:
    """Of one block: bytes of files, voxels times views that are projected, rows that are loaded."""

    bytes_read: int
    bytes_written: int
    updates: float
    rows_loaded: int


@dataclass
class Foreseen(Workspace):
    """A workspace whose operations are counted: `operations` has the blocks of each."""

    operations: list[list[Cost]] = field(default_factory=list)
    _known: dict[str, tuple[int, float]] = field(default_factory=dict)

    def operate(
        self,
        what: str,
        shape: Shape,
        regions: Sequence[Region],
        *,
        targets: Sequence[Tree] = (),
        sums: Sequence[tuple[Tree, Tree]] = (),
        source: Callable[[Region], Source] | None = None,
        inline: bool = False,
    ) -> tuple[list[File], list[float]]:
        """Count what the operation would do."""
        self.sweep()
        number = self._count
        self._count += 1
        files = self._handles(
            [f"{self.folder}/{number:06d}-{k}{SCRATCH}" for k in range(len(targets))], shape
        )
        reads = len(reads_of([*targets, *(tree for pair in sums for tree in pair)]))
        costs = []
        for region in regions:
            size = region_bytes(region, shape)
            read, updates, rows = reads * size, 0.0, 0
            if source is not None:
                more, updates, rows = self._cost_of(source(region), region)
                read += more
            costs.append(Cost(read, len(targets) * size, updates, rows))
        self.operations.append(costs)
        self._read += sum(cost.bytes_read for cost in costs)
        self._written += sum(cost.bytes_written for cost in costs)
        return files, [1.0] * len(sums)

    def _cost_of(self, source: Any, region: Region) -> tuple[int, float, int]:
        """Bytes read, updates and rows loaded, for what no formula gives."""
        if isinstance(source, Load):
            return bytes_read_by(source.load, *region.rows), 0.0, region.rows[1] - region.rows[0]
        if isinstance(source, Stencil):
            start, stop = region.rows
            grown = Region(
                (max(0, start - source.halo), min(source.shape[0], stop + source.halo)),
                region.lines,
            )
            return len(reads_of(source.arrays)) * region_bytes(grown, source.shape), 0.0, 0
        if isinstance(source, ForwardProjection | BackProjection):
            tree = source.x if isinstance(source, ForwardProjection) else source.y
            once, updates = self._projected(source, region)
            return len(reads_of([tree])) * once, updates, 0
        return region_bytes(region, source.shape), 0.0, 0  # some indices of an array

    def _projected(
        self, source: ForwardProjection | BackProjection, region: Region
    ) -> tuple[int, float]:
        """Bytes of one array that streams by, and updates: the same at every iteration."""
        views, volume = source.projections, source.volume
        key = hash_of(
            type(source).__name__, region, views.det_shape, volume.shape,
            views.det_pos.tobytes(), views.source.tobytes(), volume.pos.tobytes(),
        )  # fmt: skip
        if key not in self._known:
            slice_voxels = volume.shape[1] * volume.shape[2]
            if isinstance(source, ForwardProjection):
                rows = sum(stop - start for (start, stop), _ in source.slabs(region))
                height = region.rows[1] - region.rows[0]
                num_views = region.lines[1] - region.lines[0]
                share = height / views.det_shape[0]
                found = ITEM * rows * slice_voxels, share * volume.shape[0] * num_views
            else:
                lines = [
                    ((last - first), (stop - start))
                    for (first, last), (start, stop) in source.chunks(region)
                ]
                read = ITEM * sum(n * m for n, m in lines) * views.det_shape[1]
                height = region.rows[1] - region.rows[0]
                found = read, height * float(sum(n for n, _ in lines))
            self._known[key] = found[0], found[1] * slice_voxels
        return self._known[key]


def foreseen_workspace(budget: int) -> Foreseen:
    """A workspace of no folder."""
    return Foreseen(NOWHERE, Ledger(NOWHERE / "journal"), budget)


def reads_of(trees: Sequence[Tree]) -> set[int]:
    """The stored arrays in some formulas, each once."""
    found: set[int] = set()
    seen: set[int] = set()
    waiting: list[Any] = list(trees)
    while waiting:
        tree = waiting.pop()
        if id(tree) in seen:
            continue
        seen.add(id(tree))
        if isinstance(tree, Read):
            found.add(id(tree))
        elif isinstance(tree, Call):
            waiting += [each for each in tree.arguments if not isinstance(each, float)]
    return found


def region_bytes(region: Region, shape: Shape) -> int:
    """Of a region of an array."""
    rows, lines, columns = region.shape_in(shape)
    return ITEM * rows * lines * columns
