"""What the workers do: each makes chunks of one operation, from paths and indices alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tomodask import arrays
from tomodask.blockwise.chunkfiles import ChunkFiles
from tomodask.blockwise.expressions import Tree, compute
from tomodask.geometry import Box, ProjectionGeometry, VolumeGeometry, box_rows, footprint
from tomodask.projectors.choice import backend_for_slabs
from tomodask.projectors.operator import operator

Report = Mapping[str, Any]


@dataclass(frozen=True)
class Evaluate:
    """Compute a chunk of a tree and write it."""

    tree: Tree
    out: ChunkFiles
    chunk: int

    @property
    def id(self) -> str:
        return f"{self.out.folder.name}-{self.chunk}"

    def run(self) -> Report:
        values = compute(self.tree, self.out, self.chunk)
        return {"bytes_written": self.out.write(self.chunk, values)}


@dataclass(frozen=True)
class Dot:
    """Sums of the products of two trees, one for each index of the first axis, in float64."""

    name: str
    left: Tree
    right: Tree
    cut: ChunkFiles
    chunk: int

    @property
    def id(self) -> str:
        return f"{self.name}-{self.chunk}"

    def run(self) -> Report:
        left = compute(self.left, self.cut, self.chunk)
        right = left if self.right is self.left else compute(self.right, self.cut, self.chunk)
        # lines in float32, all else in float64, as `spaces.dot` does in memory
        sums = np.einsum("zyx,zyx->zy", left, right).sum(axis=1, dtype=np.float64)
        return {"chunk": self.chunk, "sums": sums.tolist()}


@dataclass(frozen=True)
class Stencil:
    """`function` of a slab of volumes and `halo` rows around it; what it returns is written."""

    function: Callable[..., Any]
    halo: int
    sources: tuple[ChunkFiles, ...]
    outs: tuple[ChunkFiles, ...]
    chunk: int

    @property
    def id(self) -> str:
        return f"{self.outs[0].folder.name}-{self.chunk}"

    def run(self) -> Report:
        first = self.outs[0]
        if first.axis != 0:
            parts = [source.read(self.chunk) for source in self.sources]
            rows = slice(None)
        else:
            start, stop = first.span(self.chunk)
            low, high = max(0, start - self.halo), min(first.shape[0], stop + self.halo)
            parts = [source.read_rows(low, high) for source in self.sources]
            rows = slice(start - low, stop - low)
        found = self.function(*parts)
        results = found if isinstance(found, tuple) else (found,)
        written = [
            out.write(self.chunk, np.asarray(values)[rows])
            for out, values in zip(self.outs, results, strict=True)
        ]
        return {"bytes_written": sum(written)}


@dataclass(frozen=True)
class TakeViews:
    """Some of the views of projections, written as projections of their own."""

    source: ChunkFiles
    views: np.ndarray
    out: ChunkFiles
    chunk: int

    @property
    def id(self) -> str:
        return f"{self.out.folder.name}-{self.chunk}"

    def run(self) -> Report:
        values = arrays.empty(self.out.chunk_shape(self.chunk))
        if self.out.axis == 0:
            np.take(self.source.read(self.chunk), self.views, axis=1, out=values)
            return {"bytes_written": self.out.write(self.chunk, values)}
        wanted = self.views[slice(*self.out.span(self.chunk))]
        for chunk in np.unique(wanted // self.source.length):
            start, stop = self.source.span(int(chunk))
            here = np.flatnonzero((wanted >= start) & (wanted < stop))
            values[:, here] = self.source.read(int(chunk))[:, wanted[here] - start]
        return {"bytes_written": self.out.write(self.chunk, values)}


@dataclass(frozen=True)
class Bring:
    """A chunk of rows that `load(start, stop)` gives, at most `load_rows` at once."""

    load: Callable[[int, int], np.ndarray]
    load_rows: int | None
    out: ChunkFiles
    chunk: int

    @property
    def id(self) -> str:
        return f"{self.out.folder.name}-{self.chunk}"

    def run(self) -> Report:
        first, last = self.out.span(self.chunk)
        step = self.load_rows or last - first
        values = arrays.empty(self.out.chunk_shape(self.chunk))
        for start in range(first, last, step):
            stop = min(last, start + step)
            values[start - first : stop - first] = self.load(start, stop)
        return {"bytes_written": self.out.write(self.chunk, values), "rows": last - first}


@dataclass(frozen=True)
class Recut:
    """A run of views of projections that are cut along their rows."""

    source: ChunkFiles
    out: ChunkFiles
    chunk: int

    @property
    def id(self) -> str:
        return f"{self.out.folder.name}-{self.chunk}"

    def run(self) -> Report:
        values = arrays.empty(self.out.chunk_shape(self.chunk))
        for chunk in range(self.source.count):
            rows = slice(*self.source.span(chunk))
            values[rows] = self.source.read_lines(chunk, *self.out.span(self.chunk))
        return {"bytes_written": self.out.write(self.chunk, values)}


@dataclass(frozen=True)
class Projection:
    """The two geometries of A, and how it is to be computed."""

    volume: VolumeGeometry
    views: ProjectionGeometry
    backend: str
    threads: int

    def slab(self, start: int, stop: int) -> Box:
        """Volume rows [start, stop), whole."""
        _, ny, nx = self.volume.shape
        return Box((start, 0, 0), (stop, ny, nx))

    def select(self, start: int, stop: int) -> Projection:
        """A of the views [start, stop)."""
        return self.take(np.arange(start, stop))

    def take(self, views: np.ndarray) -> Projection:
        volume = self.volume if self.volume.is_resting else self.volume[views]
        return Projection(volume, self.views[views], self.backend, self.threads)

    def part(self, box: Box, rows: tuple[int, int]) -> Any:
        """A between a box of voxels and a run of detector rows."""
        views = self.views.take_rows(*rows)
        backend = backend_for_slabs(self.volume, views, self.backend)
        return operator(self.volume.part(box), views, backend, threads=self.threads)


@dataclass(frozen=True)
class Forward:
    """A(x) of a run of views: the slabs of x one after the other, each on the rows it meets."""

    A: Projection
    x: ChunkFiles
    out: ChunkFiles
    chunk: int

    @property
    def id(self) -> str:
        return f"{self.out.folder.name}-{self.chunk}"

    def run(self) -> Report:
        if self.out.axis == 0:
            return self._slices()
        A = self.A.select(*self.out.span(self.chunk))
        result = np.zeros(self.out.chunk_shape(self.chunk), np.float32)
        first, last = box_rows(A.volume, A.views, (0, self.out.shape[0]))
        for slab in range(self.x.count):
            start, stop = self.x.span(slab)
            rows = footprint(A.volume, A.views, A.slab(start, stop)).rows
            if len(rows) == 0 or stop <= first or start >= last:
                continue
            part = A.part(A.slab(start, stop), (rows.start, rows.stop))
            result[rows.start : rows.stop] += part(self.x.read(slab))
        return {"bytes_written": self.out.write(self.chunk, result)}

    def _slices(self) -> Report:
        """Rows and slices of the same index belong together."""
        start, stop = self.out.span(self.chunk)
        part = self.A.part(self.A.slab(start, stop), (start, stop))
        return {"bytes_written": self.out.write(self.chunk, part(self.x.read(self.chunk)))}


@dataclass(frozen=True)
class Adjoint:
    """A.T(y) of a slab: runs of views one after the other, of each the rows that the slab meets."""

    A: Projection
    y: ChunkFiles
    out: ChunkFiles
    chunk: int

    @property
    def id(self) -> str:
        return f"{self.out.folder.name}-{self.chunk}"

    def run(self) -> Report:
        start, stop = self.out.span(self.chunk)
        box = self.A.slab(start, stop)
        if self.y.axis == 0:
            values = self.A.part(box, (start, stop)).T(self.y.read(self.chunk))
            return {"bytes_written": self.out.write(self.chunk, values)}
        result = np.zeros(self.out.chunk_shape(self.chunk), np.float32)
        for views in range(self.y.count):
            A = self.A.select(*self.y.span(views))
            rows = footprint(A.volume, A.views, box).rows
            if len(rows):
                y = self.y.read(views, rows.start, rows.stop)
                result += A.part(box, (rows.start, rows.stop)).T(y)
        return {"bytes_written": self.out.write(self.chunk, result)}


def run_task(task: Any) -> Report:
    """One task of an operation, on a worker; a chunk that is there already is not made again."""
    report: Report = task.run()
    return report
