"""Filtered back-projection of a cone beam on a circle (Feldkamp, Davis and Kress 1984).

doi:10.1364/JOSAA.1.000612. Exact in the plane of the orbit; away from it, the more the object
changes along the axis, the worse, as a circle does not see it all.

A.T brings the weights of the back-projection along. Around a voxel at depth U from the source,
pixels of area p q at depth D are p q (U/D)^2 wide across the axis of their rays, and their rays
stand at the angle g to the detector's normal. So a plane of voxels gets as many rays a voxel, times
the length of ray from plane to plane, as is the voxel's volume over p q (U/D)^2 cos(g): FDK's
weight (R/U)^2, R the depth of the axis, but for factors of the view and of the pixel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np

from tomodask.errors import GeometryError, InputError
from tomodask.projectors.device_arrays import check_shape, like, on_host, to_float32
from tomodask.projectors.operator import Operator, operator
from tomodask.projectors.rowfilter import PadMode, RowFilter, view_runs
from tomodask.reconstruct.angular import is_full_turn
from tomodask.reconstruct.fbp import padded_length
from tomodask.reconstruct.filters import check_filter, filter_response
from tomodask.reconstruct.offset_detector import is_offset_detector, offset_detector_weights
from tomodask.reconstruct.orbit import Orbit, orbit_of
from tomodask.reconstruct.ray_density import divide_by_evenness
from tomodask.reconstruct.short_scan import short_scan_weights, view_steps
from tomodask.threads import share


@dataclass(frozen=True)
class FDK:
    """Filtered back-projection of a cone beam whose source goes around on a circle.

    filter : a name in `filters.FILTERS`.
    cutoff : highest frequency that passes, as a part of the greatest.
    padding : filtered rows are this many times as long as the detector, at least twice.
    pad_mode : "zero" where the object lies within the detector; "edge" where it does not.

    Less than a full turn gets Parker's weights (`short_scan`); a full turn with the axis off the
    detector's middle takes each line once, and reaches as far as the far edge (`offset_detector`).
    """

    filter: str = "ramp"
    cutoff: float = 1.0
    padding: float = 2.0
    pad_mode: PadMode = "zero"

    def __post_init__(self) -> None:
        check_filter(self.filter, self.cutoff)
        if not 2 <= self.padding <= 16:
            raise InputError(f"padding={self.padding:g}: 2 to 16 times the columns are expected")
        if self.pad_mode not in ("zero", "edge"):
            raise InputError(f"pad_mode {self.pad_mode!r}: there are zero, edge")

    def __call__(self, projections: Any, A: Operator) -> Any:
        """Projections (row, angle, column) -> volume (z, y, x), float32 of the same library.

        In 1/length of the world, as `A.projections` measures it.

        Raises
        ------
        GeometryError : the source is on no circle (see `orbit_of`), the views span less than half
            a turn and the fan, or the axis lies beyond the detector's edge.
        """
        values = to_float32(on_host(projections, "projections"), "projections")
        check_shape(values.shape, A.range_shape, "projections (row, angle, column)")
        orbit = _orbit(A)
        beyond = (0, 0)
        if is_full_turn(orbit.angles) and is_offset_detector(orbit.fan_angles):
            weights = offset_detector_weights(orbit.fan_angles)[None]
            beyond = _missing_columns(orbit.fan_angles)
        else:
            weights = short_scan_weights(orbit.angles, orbit.fan_angles)
        factors = _view_factors(A, orbit)
        filtered = self._filtered(values, orbit, weights, factors, beyond, A.threads)
        A = _widened(A, *beyond)
        volume = A.T(filtered)
        _fill_with_cosines(filtered, orbit, factors, beyond[0], A.threads)
        divide_by_evenness(volume, A.T(filtered), A.volume, orbit, factors, A.threads)
        return like(projections, volume)

    def _filtered(
        self,
        values: np.ndarray,
        orbit: Orbit,
        weights: np.ndarray,
        factors: np.ndarray,
        beyond: tuple[int, int],
        threads: int,
    ) -> np.ndarray:
        """Weighted, filtered along the rows and weighted for A.T.

        weights : (1 or num_angles, columns) how much each ray counts. factors : (num_angles,).
        beyond : columns to give before and after those of the detector.
        """
        rows, num_angles, columns = values.shape
        before, after = beyond
        length = padded_length(columns + max(beyond), self.padding)
        response = filter_response(self.filter, length, self.cutoff)
        row_filter = RowFilter(response, factors, self.pad_mode)
        filtered = np.empty((rows, num_angles, before + columns + after), np.float32)

        def filter_row(row: int) -> None:
            oblique = orbit.obliquity(row, before, after)
            weighted = values[row] * (weights * oblique[:, before : before + columns])
            for views in view_runs(num_angles):
                filtered[row, views] = row_filter.rows(weighted[views], views, before, after)
            filtered[row] *= oblique

        share(filter_row, rows, threads)
        return filtered


def _orbit(A: Operator) -> Orbit:
    try:
        return orbit_of(A.volume, A.projections)
    except GeometryError as error:
        raise GeometryError(f"FDK can't reconstruct from these views: {error}") from error


def _fill_with_cosines(
    filtered: np.ndarray, orbit: Orbit, factors: np.ndarray, before: int, threads: int
) -> None:
    """What constant views are after filtering."""
    after = filtered.shape[2] - before - orbit.fan_angles.size
    by_view = factors[:, None].astype(np.float32)

    def fill(row: int) -> None:
        np.multiply(orbit.obliquity(row, before, after), by_view, out=filtered[row])

    share(fill, len(filtered), threads)


def _view_factors(A: Operator, orbit: Orbit) -> np.ndarray:
    """(num_angles,) what the sum over views and A.T lack, once the pixels have their cosines.

    A view stands for some radians; the ramp is per pixel, of column pitch R/D at the axis; and A.T
    weighs by voxel over pixel and (D/U)^2 where (R/U)^2 is due.
    """
    voxel = float(np.abs(np.linalg.det(A.volume.axes[0])))
    magnification = orbit.det_distance / orbit.axis_distance
    per_length = magnification / orbit.column_pitch
    pixel = orbit.row_pitch * orbit.column_pitch / magnification**2
    return np.asarray(view_steps(orbit.angles) * per_length * pixel / voxel)


def _missing_columns(fan_angles: np.ndarray) -> tuple[int, int]:
    """Columns to add before and after, so that the axis comes to the detector's middle."""
    order = np.argsort(fan_angles)
    axis = float(np.interp(0, fan_angles[order], order))
    missing = fan_angles.size - 1 - 2 * axis
    return max(0, ceil(missing)), max(0, ceil(-missing))


def _widened(A: Operator, before: int, after: int) -> Operator:
    """A on a detector with more columns at both ends."""
    if before == after == 0:
        return A
    views, mask = A.projections, A.projection_mask
    rows, columns = views.det_shape
    wide = replace(
        views,
        det_shape=(rows, before + columns + after),
        det_pos=views.det_pos + (after - before) / 2 * views.det_u,
    )
    if mask is not None:
        ends = ((0, 0), (0, 0), (before, after))
        mask = np.pad(np.broadcast_to(mask, A.range_shape), ends, constant_values=1)
    return operator(
        A.volume,
        wide,
        A.backend,
        threads=A.threads,
        volume_mask=A.volume_mask,
        projection_mask=mask,
    )
