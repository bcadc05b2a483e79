"""How much an algorithm has to calculate: what times of one size are foreseen by from another."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tomodask.geometry import Box, ParallelBeam
from tomodask.projectors import SLICE_BACKEND, make_projector
from tomodask.reconstruct import Reconstructor
from tomodask.reconstruct.fbp import padded_length

BY_TRANSFORMS = ("fourier", "finufft")  # backends whose work grows with n log n, not with n^2
PROBE = 16  # columns and views of the slice on which projections are counted


def fbp_operations(geometry: ParallelBeam) -> float:
    """Operations of a slice by the usual count for FFTs, 5 n log2 n, half of it for real ones.

    One padded transform of each view and one of the slice: what filtered back-projection by the
    central slice theorem costs at least. Filtering and gridding are not counted.
    """
    n, pixels = padded_length(geometry.det_count), geometry.det_count**2
    views = geometry.num_angles * 2.5 * n * math.log2(n)
    return views + 2.5 * pixels * math.log2(pixels)


def work_unit(backend: str) -> str:
    """What a backend's work is counted in: rates of one unit say nothing of the other."""
    backend = SLICE_BACKEND if backend == "auto" else backend
    return "operations" if backend in BY_TRANSFORMS else "voxel updates"


def slice_work(algorithm: Reconstructor, geometry: ParallelBeam, backend: str) -> float:
    """Work of one slice, in `work_unit`s."""
    if work_unit(backend) == "operations":
        a_projection = fbp_operations(geometry)
    else:
        a_projection = float(geometry.num_angles * geometry.det_count**2)
    return num_projections(algorithm) * a_projection


def num_projections(algorithm: Reconstructor) -> float:
    """How often all views are projected, forth or back: counted on a tiny slice."""
    angles = np.linspace(0, np.pi, PROBE, endpoint=False)
    beam = ParallelBeam(angles, 1, PROBE, center_of_rotation=(PROBE - 1) / 2)
    A = make_projector(Box((0, 0, 0), (1, PROBE, PROBE)), beam, "reference")
    counted: Any = _Counted(A)
    algorithm(A(np.ones(A.domain_shape, np.float32)), counted)
    return float(counted.count[0])


class _Counted:
    """A projector that counts how often it is used; subsets of views count as parts of it."""

    def __init__(self, A: Any, count: list[float] | None = None, share: float = 1.0) -> None:
        self._A, self._share = A, share
        self.count = [0.0] if count is None else count

    def __getattr__(self, name: str) -> Any:
        return getattr(self._A, name)

    def __call__(self, x: Any) -> Any:
        self.count[0] += self._share
        return self._A(x)

    def T(self, y: Any) -> Any:  # noqa: N802  (the transpose of A)
        self.count[0] += self._share
        return self._A.T(y)

    def filtered_adjoint(self, *arguments: Any) -> Any:
        self.count[0] += self._share
        return self._A.filtered_adjoint(*arguments)

    def widened(self, before: int, after: int) -> _Counted:
        return _Counted(self._A.widened(before, after), self.count, self._share)

    def views(self, selection: Any) -> _Counted:
        part = self._A.views(selection)
        share = self._share * part.num_angles / self._A.num_angles
        return _Counted(part, self.count, share)
