"""Joseph's projector on the processor for any geometry, by the fastest kernel views allow."""

from __future__ import annotations

import numpy as np

from tomodask.geometry import VoxelViews
from tomodask.projectors.joseph_rays import JosephRays


class NumbaRays:
    """A matched pair for any source, detector and volume, compiled when it is used first."""

    def __init__(self, views: VoxelViews, threads: int) -> None:
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
        """Nothing but contiguous copies, where volume or projections are strided."""
        return 0
