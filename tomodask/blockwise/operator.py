"""A and A.T of arrays larger than memory, block by block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tomodask.blockwise.chunkfiles import ChunkFiles
from tomodask.blockwise.expressions import Full
from tomodask.blockwise.stored import StoredArray, new_array
from tomodask.blockwise.tasks import Adjoint, Forward, Projection
from tomodask.blockwise.workspace import Workspace
from tomodask.errors import GeometryError
from tomodask.geometry import ParallelBeam, ProjectionGeometry, VolumeGeometry, in_voxels
from tomodask.geometry.slices import as_parallel_beam


class StoredOperator:
    """A(x) and A.T(y) of stored arrays: what algorithms see, as of an `Operator` in memory.

    A(x) is made of runs of views, each from the slabs of x that it sees; A.T(y) of slabs, each from
    the detector rows that see it. Where rows and slices of the same index belong together, both are
    cut along them and each part is projected by itself.
    """

    def __init__(self, space: Workspace, A: Projection) -> None:
        self.space, self._projection = space, A
        self.domain_shape = A.volume.shape
        self.range_shape = in_voxels(A.volume, A.views).range_shape
        self.threads = A.threads
        self.domain_cut = space.cut(self.domain_shape, 0)
        self.range_cut = space.cut(self.range_shape, 1)
        if self.independent_rows:
            shapes = self.domain_shape, self.range_shape
            one = 4 * max(int(np.prod(shape[1:])) for shape in shapes)
            rows = max(1, space.chunk_bytes // one)
            self.domain_cut, self.range_cut = (
                ChunkFiles(space.folder, shape, 0, rows) for shape in shapes
            )

    @property
    def domain(self) -> VolumeGeometry:
        return self._projection.volume

    @property
    def range(self) -> ProjectionGeometry:
        return self._projection.views

    volume, projections = domain, range

    @property
    def num_angles(self) -> int:
        return self.range_shape[1]

    @property
    def independent_rows(self) -> bool:
        """Whether row i of y and slice i of x belong together, and to no others."""
        beam = as_parallel_beam(self.domain, self.range)
        same_rows = self.domain_shape[0] == self.range_shape[0]
        return isinstance(beam, ParallelBeam) and beam.row_start == 0 and same_rows

    def __call__(self, x: StoredArray) -> StoredArray:
        """Line integrals, (row, angle, column)."""
        self._check(x, self.domain_shape)
        files = x.files

        def tasks(out: ChunkFiles) -> list[Any]:
            return [Forward(self._projection, files, out, chunk) for chunk in range(out.count)]

        return new_array(self.space, self.range_cut, "A", tasks)

    @property
    def T(self) -> Callable[[StoredArray], StoredArray]:  # noqa: N802
        return self._adjoint

    def _adjoint(self, y: StoredArray) -> StoredArray:
        """Back-projection, (z, y, x)."""
        self._check(y, self.range_shape)
        files = y.files

        def tasks(out: ChunkFiles) -> list[Any]:
            return [Adjoint(self._projection, files, out, chunk) for chunk in range(out.count)]

        return new_array(self.space, self.domain_cut, "A.T", tasks)

    def views(self, selection: Any) -> StoredOperator:
        """A of some of the views."""
        indices = np.arange(self.num_angles)[selection]
        return StoredOperator(self.space, self._projection.take(indices))

    def zeros_domain(self) -> StoredArray:
        """x = 0."""
        return StoredArray(self.space, self.domain_cut, Full(0.0))

    def _check(self, array: StoredArray, shape: tuple[int, ...]) -> None:
        if array.shape != shape:
            raise GeometryError(f"an array of shape {array.shape}: A says {shape}")
