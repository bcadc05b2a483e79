"""What one task does: compute a region of an array, put formulas over it, write, and add up.

A task gets paths, indices and geometry and returns a report; its block is recorded in the ledger
once its bytes are on the disk. Doing it twice gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tomodask import arrays as memory
from tomodask.blockwise.scratch import PIECE, Files, Region, Run, Shape, opened, runs
from tomodask.blockwise.trees import Inputs, Tree
from tomodask.errors import GeometryError
from tomodask.geometry import (
    Box,
    ProjectionGeometry,
    VolumeGeometry,
    box_rows,
    footprint,
    in_voxels,
)
from tomodask.ledger import Ledger
from tomodask.projectors import RayBackend, load_ray_backend


class Source(Protocol):
    """Where the arrays of a region come from that no formula gives."""

    def compute(self, files: Files, region: Region) -> Sequence[np.ndarray]: ...


@dataclass(frozen=True, eq=False)
class Target:
    """An array that is written, and the formula for it."""

    path: str
    tree: Tree


@dataclass(frozen=True, eq=False)
class BlockTask:
    """One block of one operation; `sums` are pairs of formulas whose inner product is wanted."""

    id: str
    ledger: Path
    shape: Shape
    region: Region
    targets: tuple[Target, ...] = ()
    sums: tuple[tuple[Tree, Tree], ...] = ()
    source: Source | None = None
    piece: int = PIECE


def work(task: BlockTask) -> dict[str, Any]:
    """Do a block; its report has the inner products over it, in float64."""
    with opened() as files:
        computed = () if task.source is None else task.source.compute(files, task.region)
        inputs = Inputs(files, task.region, task.shape[2], computed)
        sums = np.zeros(len(task.sums))
        for piece in task.region.pieces(task.shape[2], task.piece):
            known: dict[int, Any] = {}
            for target in task.targets:
                files.write(target.path, task.shape, piece, _full(inputs, target, piece, known))
            for number, (a, b) in enumerate(task.sums):
                sums[number] += _product(
                    inputs.value(a, piece, known), inputs.value(b, piece, known)
                )
        files.sync()
        report = {
            "rows": task.region.rows[1] - task.region.rows[0],
            "bytes_read": files.bytes_read,
            "bytes_written": files.bytes_written,
            "sums": sums.tolist(),
            "block": task.id,
            "peak_bytes": memory.peak_bytes(),
        }
    Ledger(task.ledger).record(task.id, (), report)
    del computed, inputs
    memory.forget()
    return report


def _full(inputs: Inputs, target: Target, piece: Region, known: dict[int, Any]) -> np.ndarray:
    values = inputs.value(target.tree, piece, known)
    return np.broadcast_to(values, piece.shape_in((0, 0, inputs.columns)))


def _product(a: np.ndarray, b: np.ndarray) -> float:
    """The inner product of two pieces: lines in float32, as in memory, then float64."""
    a, b = np.broadcast_arrays(a, b)
    return float(np.einsum("zyx,zyx->zy", a, b).sum(dtype=np.float64))


# ---- sources ----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ForwardProjection:
    """A(x) in a region of (rows, views): slabs of x are read one after the other and added up.

    volume, projections : of the region's views alone.
    height : rows of a slab; those that no ray of the region meets are not read.
    """

    x: Tree
    volume: VolumeGeometry
    projections: ProjectionGeometry
    height: int
    backend: str
    threads: int

    def compute(self, files: Files, region: Region) -> Sequence[np.ndarray]:
        """Sum over slabs in their order, so that the bytes depend on the plan alone."""
        volume, views = self.volume, self.projections
        sums = memory.empty(region.shape_in((0, 0, views.det_shape[1])), np.float32)
        sums.fill(0)
        for slab, run in self.slabs(region):
            box = slab_box(slab, volume)
            x = Inputs(files, region, volume.shape[2]).value(
                self.x, Region(slab, (0, volume.shape[1]))
            )
            pair = backend_of(volume.part(box), views.take_rows(*run), self.backend, self.threads)
            sums[run[0] - region.rows[0] : run[1] - region.rows[0]] += pair.forward(x)
        return (sums,)

    def slabs(self, region: Region) -> Iterator[tuple[Run, Run]]:
        """Rows of each slab that is read, and those of the region that see it."""
        start, stop = box_rows(self.volume, self.projections, region.rows)
        for slab in runs(start, stop, self.height):
            box = slab_box(slab, self.volume)
            run = _common(footprint(self.volume, self.projections, box).rows, region.rows)
            if run is not None:
                yield slab, run


@dataclass(frozen=True, eq=False)
class BackProjection:
    """A.T(y) in a slab of the volume: the rows that see it are read, a few views at a time.

    length : views at a time.
    """

    y: Tree
    volume: VolumeGeometry
    projections: ProjectionGeometry
    length: int
    backend: str
    threads: int

    def compute(self, files: Files, region: Region) -> Sequence[np.ndarray]:
        """Sum over runs of views in their order."""
        box = slab_box(region.rows, self.volume)
        sums = memory.empty(box.shape, np.float32)
        sums.fill(0)
        for chunk, run in self.chunks(region):
            views, volume = take_views(self.volume, self.projections, slice(*chunk))
            y = Inputs(files, region, views.det_shape[1]).value(self.y, Region(run, chunk))
            pair = backend_of(volume.part(box), views.take_rows(*run), self.backend, self.threads)
            sums += pair.adjoint(y)
        return (sums,)

    def chunks(self, region: Region) -> Iterator[tuple[Run, Run]]:
        """Views that are read at once, and the rows of them that see the slab."""
        box = slab_box(region.rows, self.volume)
        num_angles = in_voxels(self.volume, self.projections).num_angles
        for chunk in runs(0, num_angles, self.length):
            views, volume = take_views(self.volume, self.projections, slice(*chunk))
            run = _common(footprint(volume, views, box).rows, (0, views.det_shape[0]))
            if run is not None:
                yield chunk, run


@dataclass(frozen=True, eq=False)
class Stencil:
    """A function of rows along axis 0 with `halo` neighbours, which are cut off its results."""

    function: Callable[..., Any]
    halo: int
    arrays: tuple[Tree, ...]
    shape: Shape

    def compute(self, files: Files, region: Region) -> Sequence[np.ndarray]:
        start, stop = region.rows
        begin, end = max(0, start - self.halo), min(self.shape[0], stop + self.halo)
        grown = Region((begin, end), region.lines)
        inputs = Inputs(files, grown, self.shape[2])
        known: dict[int, Any] = {}
        results = self.function(*(inputs.value(tree, grown, known) for tree in self.arrays))
        results = results if isinstance(results, tuple) else (results,)
        for result in results:
            if np.shape(result) != grown.shape_in(self.shape):
                raise GeometryError(
                    f"a stencil made {np.shape(result)} of {grown.shape_in(self.shape)}: it must "
                    "keep the shape of its arguments"
                )
        return [np.asarray(result)[start - begin : stop - begin] for result in results]


@dataclass(frozen=True, eq=False)
class Load:
    """Rows of projections from `load(start, stop)`, or from an array that is cut by indices."""

    load: Callable[[int, int], Any]
    what: str
    shape: Shape

    def compute(self, files: Files, region: Region) -> Sequence[np.ndarray]:
        values = np.asarray(self.load(*region.rows), dtype=np.float32)
        if values.shape != region.shape_in(self.shape):
            raise GeometryError(
                f"{self.what}: rows {region.rows[0]} to {region.rows[1]} have shape "
                f"{values.shape}, {region.shape_in(self.shape)} is expected"
            )
        files.bytes_read += bytes_read_by(self.load, *region.rows)
        return (values,)


@dataclass(frozen=True, eq=False)
class Selected:
    """Some indices along the second axis of a stored array, `start + k * step`."""

    tree: Tree
    shape: Shape
    indices: tuple[int, ...]

    def compute(self, files: Files, region: Region) -> Sequence[np.ndarray]:
        rows = region.rows
        result = memory.empty(region.shape_in(self.shape), np.float32)
        inputs = Inputs(files, region, self.shape[2])
        for number, index in enumerate(self.indices[slice(*region.lines)]):
            result[:, number] = inputs.value(self.tree, Region(rows, (index, index + 1)))[:, 0]
        return (result,)


def bytes_read_by(load: Callable[[int, int], Any], start: int, stop: int) -> int:
    """Bytes that `load(start, stop)` reads, 0 unless it tells."""
    tell = getattr(load, "bytes_read", None)
    return 0 if tell is None else int(tell(start, stop))


def slab_box(rows: Run, volume: VolumeGeometry) -> Box:
    """The voxels of some rows of a volume."""
    return Box((rows[0], 0, 0), (rows[1], *volume.shape[1:]))


def take_views(
    volume: VolumeGeometry, projections: ProjectionGeometry, views: slice | np.ndarray
) -> tuple[ProjectionGeometry, VolumeGeometry]:
    """Some of the views, of a volume that may move or of a single view that is repeated."""
    moved = volume if volume.is_resting else volume[views]
    repeated = projections.num_angles == 1 and not volume.is_resting
    return projections if repeated else projections[views], moved


def backend_of(
    volume: VolumeGeometry, projections: ProjectionGeometry, backend: str, threads: int
) -> RayBackend:
    """The projector of a part of the volume onto a part of the detector."""
    return load_ray_backend(backend)(in_voxels(volume, projections), threads)


def _common(rows: Any, run: Run) -> Run | None:
    start, stop = max(rows.start, run[0]), min(rows.stop, run[1])
    return (start, stop) if start < stop else None
