"""Filtered back-projection: one filter, one back-projection (Kak and Slaney 1988, chapter 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import ceil

import numpy as np
import scipy.fft

from tomodask.errors import GeometryError, InputError
from tomodask.geometry import ParallelBeam
from tomodask.projectors import Projector, row_centers
from tomodask.projectors.operator import Operator
from tomodask.projectors.parts import Part
from tomodask.projectors.rowfilter import PadMode
from tomodask.reconstruct.angular import gap_weights, is_full_turn
from tomodask.reconstruct.filters import check_filter, filter_response
from tomodask.reconstruct.half_acquisition import (
    far_radius,
    is_half_acquisition,
    see_each_line_once,
)


@dataclass(frozen=True)
class FBP:
    """Filtered back-projection of a parallel beam over half a turn, a full turn or more.

    filter : a name in `filters.FILTERS`.
    cutoff : highest frequency that passes, as a part of the greatest.
    padding : filtered rows are this many times as long as the detector, at least twice: a shorter
        row lets the ramp wrap around and bends a flat object into a bowl.
    pad_mode : "zero" where the object lies within the detector; "edge" where it does not, and the
        outermost values go on beyond it.
    circle : set to 0 what not every view has seen, outside the disc around the axis.

    Where a full turn has its axis near the detector's edge (`half_acquisition`), each line counts
    once, from the side that sees it, and the disc reaches to the far edge.
    """

    filter: str = "ramp"
    cutoff: float = 1.0
    padding: float = 2.0
    pad_mode: PadMode = "zero"
    circle: bool = True

    def __post_init__(self) -> None:
        check_filter(self.filter, self.cutoff)
        if not 2 <= self.padding <= 16:
            raise InputError(f"padding={self.padding:g}: 2 to 16 times the columns are expected")
        if self.pad_mode not in ("zero", "edge"):
            raise InputError(f"pad_mode {self.pad_mode!r}: there are zero, edge")

    def __call__(self, sinograms: np.ndarray, A: Projector | Operator) -> np.ndarray:
        """Sinograms (row, angle, column) -> volume (z, y, x) float32.

        The volume is in 1/mm where the pixel size is known, otherwise 1/pixel.

        Raises
        ------
        GeometryError : the axis lies beyond the detector's edge, so no view sees around it; or an
            operator's views are no slices.
        """
        if isinstance(A, Operator):
            volume: np.ndarray = A.on_slices(self, sinograms)
            return volume
        radius = self.radius(A.geometry)
        sinograms, A, weights = self.prepared(sinograms, A)
        volume = A.filtered_adjoint(sinograms, self._response(A), weights, self.pad_mode)
        if self.circle:
            clear_outside(volume, radius)
        return volume

    def parts(
        self, sinograms: np.ndarray, A: Projector, views: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """FBP of each part of the views, filtered once: (part, z, y, x), and the parts' shares.

        views : rising indices of each part. Each view keeps the weight that it has among all of
            them, so that the sum of the parts times their shares is FBP of all views, exactly.
        """
        radius = self.radius(A.geometry)
        sinograms, A, weights = self.prepared(sinograms, A)
        shares = np.array([weights[some].sum() for some in views]) / weights.sum()
        parts = [Part(some, 1 / share) for some, share in zip(views, shares, strict=True)]
        volumes = A.filtered_adjoint_parts(
            sinograms, self._response(A), weights, parts, self.pad_mode
        )
        if self.circle:
            for volume in volumes:
                clear_outside(volume, radius)
        return volumes, shares

    def radius(self, geometry: ParallelBeam) -> np.ndarray:
        """(det_rows,) pixels around the axis that are seen: by every view, or from one side."""
        seen_by_all = view_radius(geometry)
        return far_radius(geometry) if is_half_acquisition(geometry) else seen_by_all

    def prepared(
        self, sinograms: np.ndarray, A: Projector
    ) -> tuple[np.ndarray, Projector, np.ndarray]:
        """Sinograms and projector in which each line counts once, and the weights of the views."""
        angles, period = A.geometry.angles, np.pi
        if is_half_acquisition(A.geometry):
            period = 2 * np.pi
            sinograms, A = see_each_line_once(sinograms, A)
        # A.T counts a ray by its length, which the ramp, per pixel, does too
        return sinograms, A, gap_weights(angles, period) / A.geometry.pixel_length**2

    def _response(self, A: Projector) -> np.ndarray:
        num_samples = padded_length(A.geometry.det_count, self.padding)
        return filter_response(self.filter, num_samples, self.cutoff)

    def projector_columns(self, geometry: ParallelBeam) -> int:
        """Twice the detector's for a full turn, whose axis may lie near the edge."""
        return geometry.det_count * (2 if is_full_turn(geometry.angles) else 1)

    def row_bytes(self, geometry: ParallelBeam) -> int:
        """The widened copy of a sinogram, where a full turn may need one."""
        wide = 4 * geometry.num_angles * 2 * geometry.det_count
        return wide if is_full_turn(geometry.angles) else 0


def padded_length(det_count: int, padding: float = 2.0) -> int:
    """Even number of samples, fast for an FFT, of at least `padding` times the columns."""
    return 2 * int(scipy.fft.next_fast_len(ceil(padding * det_count / 2), real=True))


def view_radius(geometry: ParallelBeam) -> np.ndarray:
    """(det_rows,) pixels around the axis that every view sees whole."""
    centers, shifts = row_centers(geometry), geometry.shifts()
    last = geometry.det_count - 1
    radius = np.minimum(centers + shifts.min(), last - centers - shifts.max()) + 0.5
    if radius.min() <= 0:
        raise GeometryError(
            f"the axis at column {centers[radius.argmin()]:g} lies beyond a detector of "
            f"{geometry.det_count} columns: filtered back-projection sees nothing whole there"
        )
    return np.asarray(radius)


def clear_outside(volume: np.ndarray, radius: np.ndarray) -> None:
    """Set to 0, in place, the pixels whose middles lie beyond a radius for each slice."""
    _, ny, nx = volume.shape
    starts = np.flatnonzero(np.diff(radius, prepend=np.nan))  # runs of slices of one radius
    for start, stop in pairwise([*starts, len(radius)]):
        slices = volume[start:stop]
        for y, outside in enumerate(_outside(ny, nx, float(radius[start]))):
            # assigned, not multiplied: a missing slice is NaN
            slices[:, y, :outside] = 0
            slices[:, y, nx - outside :] = 0


@lru_cache(maxsize=8)
def _outside(ny: int, nx: int, radius: float) -> list[int]:
    """How many pixels at either end of each row lie beyond the radius."""
    y, x = np.arange(ny) - (ny - 1) / 2, np.arange(nx // 2) - (nx - 1) / 2
    beyond = [int(np.count_nonzero(np.hypot(x, place) > radius)) for place in y]
    return [nx if abs(place) > radius else n for place, n in zip(y, beyond, strict=True)]
