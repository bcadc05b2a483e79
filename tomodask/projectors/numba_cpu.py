"""Joseph's projector on the processor for any geometry, by the fastest kernel views allow."""

from __future__ import annotations

import numpy as np

from tomodask.geometry import VoxelViews
from tomodask.projectors.joseph_cone import JosephCone, columns_of, some_views
from tomodask.projectors.joseph_rays import JosephRays

Pair = JosephCone | JosephRays


class NumbaRays:
    """A matched pair for any source, detector and volume, compiled when it is used first.

    Each view gets the fastest kernel that can project it. All have the same weights, so which one
    it was shows in the time alone.
    """

    def __init__(self, views: VoxelViews, threads: int) -> None:
        self.views = views
        fits, table = columns_of(views)
        self._pairs: list[tuple[np.ndarray, Pair]] = []
        if fits.any():
            self._pairs.append((fits, JosephCone(some_views(views, fits), table, threads)))
        if not fits.all():
            self._pairs.append((~fits, JosephRays(some_views(views, ~fits), threads)))

    def forward(self, volume: np.ndarray) -> np.ndarray:
        """(z, y, x) -> (row, angle, column), lengths of the world."""
        if len(self._pairs) == 1:
            return self._pairs[0][1].forward(volume)
        projections = np.empty(self.views.range_shape, np.float32)
        for chosen, pair in self._pairs:
            projections[:, chosen] = pair.forward(volume)
        return projections

    def adjoint(self, projections: np.ndarray) -> np.ndarray:
        """(row, angle, column) -> (z, y, x), lengths of the world."""
        if len(self._pairs) == 1:
            return self._pairs[0][1].adjoint(projections)
        first, second = (pair.adjoint(projections[:, chosen]) for chosen, pair in self._pairs)
        first += second
        return first

    @staticmethod
    def refusal(views: VoxelViews) -> str | None:
        """None: every geometry can be projected."""
        return None

    @staticmethod
    def memory_bytes(views: VoxelViews, threads: int) -> int:
        """What `JosephCone` takes, which is the most: `JosephRays` needs next to nothing.

        Volume and projections that are strided are copied besides, and where the views differ in
        their kernels, so is a result.
        """
        return JosephCone.memory_bytes(views, threads)
