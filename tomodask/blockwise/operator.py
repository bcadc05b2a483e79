"""A and A.T of any geometry on arrays that are larger than memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tomodask.blockwise.arrays import BlockArray, Constant, Projection
from tomodask.blockwise.passes import projections_in
from tomodask.blockwise.plan import Cut, Problem, cut_adjoint, cut_forward
from tomodask.blockwise.scratch import Region, Shape
from tomodask.blockwise.tasks import BackProjection, ForwardProjection, Source, take_views
from tomodask.blockwise.workspace import Workspace, hash_of
from tomodask.errors import GeometryError
from tomodask.geometry import (
    ProjectionGeometry,
    VolumeGeometry,
    check_visible,
    in_voxels,
)
from tomodask.projectors import load_ray_backend

CHEAP_READS = 1  # stored arrays in an argument that is read as a formula, and not written first


class StoredOperator:
    """A linear map between stored volumes and projections; the same algorithms run on it.

    A(x) and A.T(y) are lazy: see `arrays`. Sums over slabs of the volume are exact, as A is linear
    and Joseph's weights of a voxel do not depend on its neighbours.

    Raises
    ------
    GeometryError : no view sees the volume, or the backend can't project the geometry.
    MemoryBudgetError : not even the smallest block fits.
    """

    independent_rows = False  # rays cross slices

    def __init__(
        self,
        place: Workspace,
        volume: VolumeGeometry,
        projections: ProjectionGeometry,
        backend: str = "numba_cpu",
        threads: int = 1,
    ) -> None:
        check_visible(volume, projections)
        views = in_voxels(volume, projections)
        refusal = load_ray_backend(backend).refusal(views)
        if refusal:
            raise GeometryError(f"the backend {backend!r} can't project this geometry: {refusal}")
        self.place, self.domain, self.range = place, volume, projections
        self.backend, self.threads = backend, threads
        self.domain_shape: Shape = volume.shape
        self.range_shape: Shape = views.range_shape

    @property
    def num_angles(self) -> int:
        return self.range_shape[1]

    def __call__(self, x: BlockArray) -> BlockArray:
        """Line integrals of a volume, (row, angle, column)."""
        return self._lazy(x, "A", self.domain_shape, self.range_shape)

    def T(self, y: BlockArray) -> BlockArray:  # noqa: N802  (the transpose of A)
        """Back-projection, the adjoint of `__call__`, (z, y, x)."""
        return self._lazy(y, "A.T", self.range_shape, self.domain_shape)

    def zeros_domain(self) -> Constant:
        """x = 0."""
        return Constant(self.place, self.domain_shape, 0.0)

    def views(self, selection: Any) -> StoredOperator:
        """A of some of the views: a slice, or their indices."""
        projections, volume = take_views(self.domain, self.range, selection)
        return StoredOperator(self.place, volume, projections, self.backend, self.threads)

    @cached_property
    def cuts(self) -> dict[str, Cut]:
        """How A and A.T are cut into tasks, for all to see: bytes read, memory of a task."""
        problem = Problem(self.domain, self.range, self.backend, self.threads, self.place.budget)
        return {"A": cut_forward(problem), "A.T": cut_adjoint(problem)}

    @cached_property
    def digest(self) -> str:
        """Tells one operator from another."""
        return geometry_hash(self.domain, self.range)

    def _lazy(self, array: Any, kind: str, start: Shape, end: Shape) -> BlockArray:
        if not isinstance(array, BlockArray) or array.shape != start:
            raise GeometryError(
                f"{kind} of {type(array).__name__} of shape {np.shape(array)}: a stored array of "
                f"shape {start} is expected"
            )
        if isinstance(array, Constant) and array.value == 0:
            return Constant(self.place, end, 0.0)
        return Projection(self.place, end, OnBlocks(self, array, kind))


@dataclass(eq=False)
class OnBlocks:
    """A or A.T of an array, region by region."""

    A: StoredOperator
    argument: BlockArray
    kind: str

    @property
    def name(self) -> str:
        return f"{self.kind}[{self.A.digest}]({self.argument.text()})"

    def prepare(self) -> None:
        """Write the argument, unless reading it as a formula costs no more."""
        leaves = self.argument.leaves()
        reads = sum(not isinstance(leaf, Constant) for leaf in leaves)
        if reads > CHEAP_READS or projections_in(leaves):
            self.argument.evaluate()

    def regions(self) -> list[Region]:
        return list(self.A.cuts[self.kind].kept)

    def source(self, region: Region) -> Source:
        """With the geometry that the region needs alone, as it travels with the task."""
        A, tree, cut = self.A, self.argument.tree({}, {}), self.A.cuts[self.kind]
        if self.kind == "A":
            views, volume = take_views(A.domain, A.range, slice(*region.lines))
            return ForwardProjection(tree, volume, views, cut.length, A.backend, A.threads)
        return BackProjection(tree, A.domain, A.range, cut.length, A.backend, A.threads)


def geometry_hash(volume: VolumeGeometry, projections: ProjectionGeometry) -> str:
    """Tells one geometry from another."""
    vectors = [getattr(volume, name) for name in ("pos", "w", "v", "u")]
    vectors += [getattr(projections, name) for name in ("source", "det_pos", "det_v", "det_u")]
    return hash_of(
        volume.shape, projections.beam, projections.det_shape, *(v.tobytes() for v in vectors)
    )
