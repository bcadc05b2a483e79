"""Reconstruction: from corrected sinograms to a volume, written with A and A.T only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from tomodask.geometry import ParallelBeam
from tomodask.projectors import Projector
from tomodask.reconstruct.fbp import FBP

__all__ = ["ALGORITHMS", "FBP", "Reconstructor"]


class Reconstructor(Protocol):
    """What an algorithm must have: a frozen dataclass of parameters that is called."""

    def __call__(self, sinograms: np.ndarray, A: Projector) -> np.ndarray:
        """Sinograms (row, angle, column) -> volume (z, y, x) float32 in `A.geometry.value_unit`."""

    def projector_columns(self, geometry: ParallelBeam) -> int:
        """Detector columns of the widest projector it uses: A's own, or those of `A.widened`."""

    def row_bytes(self, geometry: ParallelBeam) -> int:
        """Working memory of each row, beside sinogram, slice and what the projector declares."""


ALGORITHMS: Mapping[str, type[Any]] = {
    "fbp": FBP,
}
