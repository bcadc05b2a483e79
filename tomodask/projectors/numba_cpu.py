"""Joseph's projector on the processor for any geometry, by the fastest kernel views allow."""

from __future__ import annotations

import numpy as np

from tomodask.geometry import VoxelViews
from tomodask.projectors.joseph_cone import JosephCone, columns_of
from tomodask.projectors.joseph_rays import JosephRays


class NumbaRays:
    """A matched pair for any source, detector and volume, compiled when it is used first.

    All kernels have the same weights: which one is taken shows in the time alone.
    """

    def __init__(self, views: VoxelViews, threads: int) -> None:
        self._pair: JosephCone | JosephRays
        columns = columns_of(views)
        if columns is not None:
            self._pair = JosephCone(views, columns, threads)
        else:
            self._pair = JosephRays(views, threads)

    def forward(self, volume: np.ndarray) -> np.ndarray:
        """(z, y, x) -> (row, angle, column), lengths of the world."""
        return self._pair.forward(volume)

    def adjoint(self, projections: np.ndarray) -> np.ndarray:
        """(row, angle, column) -> (z, y, x), lengths of the world."""
        return self._pair.adjoint(projections)

    @staticmethod
    def refusal(views: VoxelViews) -> str | None:
        """None: every geometry can be projected."""
        return None

    @staticmethod
    def memory_bytes(views: VoxelViews, threads: int) -> int:
        """What `JosephCone` takes, which is the most: other kernels need next to nothing.

        Volume and projections that are strided are copied besides.
        """
        return JosephCone.memory_bytes(views, threads)
