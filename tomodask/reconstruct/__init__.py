"""Reconstruction: from corrected sinograms to a volume, written with A and A.T only.

`fbp` sums filtered views. The others iterate: `options` has what they share (masks, start, box,
callbacks), `spaces` what they do with arrays of any kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from tomodask.geometry import ParallelBeam
from tomodask.projectors import Projector
from tomodask.reconstruct.cgls import CGLS
from tomodask.reconstruct.fbp import FBP
from tomodask.reconstruct.fista_tv import FISTATV
from tomodask.reconstruct.lsqr import LSQR
from tomodask.reconstruct.mlem import MLEM
from tomodask.reconstruct.options import History, LinearMap, Options, Problem
from tomodask.reconstruct.pdhg_tv import PDHGTV
from tomodask.reconstruct.sart import SART
from tomodask.reconstruct.sirt import SIRT

__all__ = [
    "ALGORITHMS",
    "CGLS",
    "FBP",
    "FISTATV",
    "LSQR",
    "MLEM",
    "PDHGTV",
    "SART",
    "SIRT",
    "History",
    "LinearMap",
    "Options",
    "Problem",
    "Reconstructor",
]


class Reconstructor(Protocol):
    """What an algorithm must have: a frozen dataclass of parameters that is called."""

    def __call__(self, sinograms: np.ndarray, A: Projector, /) -> np.ndarray:
        """Sinograms (row, angle, column) -> volume (z, y, x) float32 in `A.geometry.value_unit`."""

    def projector_columns(self, geometry: ParallelBeam) -> int:
        """Detector columns of the widest projector it uses: A's own, or those of `A.widened`."""

    def row_bytes(self, geometry: ParallelBeam) -> int:
        """Working memory of each row, beside sinogram, slice and what the projector declares."""


ALGORITHMS: Mapping[str, type[Any]] = {
    "fbp": FBP,
    "sirt": SIRT,
    "sart": SART,
    "cgls": CGLS,
    "lsqr": LSQR,
    "mlem": MLEM,
    "fista_tv": FISTATV,
    "pdhg_tv": PDHGTV,
}
