"""Half acquisition: a full turn around an axis near the detector's edge sees almost twice as far.

Views from opposite sides then see two overlapping halves of each other's lines. Weights that run
from 0 to 1 across the overlap and add up to 1 on each line take every line once, before the filter
(Wang 2002, doi:10.1118/1.1489043, for a cone beam).
"""

from __future__ import annotations

from math import ceil

import numpy as np

from tomodask.geometry import ParallelBeam
from tomodask.projectors import Projector, row_centers
from tomodask.reconstruct.angular import is_full_turn
from tomodask.reconstruct.offset_detector import OFFSET_AXIS, opposite_weights


def is_half_acquisition(geometry: ParallelBeam) -> bool:
    """Whether a full turn has its axis more than `OFFSET_AXIS` of the columns off the middle."""
    off = abs(_axis_at_first_row(geometry) - (geometry.det_count - 1) / 2)
    return off > OFFSET_AXIS * geometry.det_count and is_full_turn(geometry.angles)


def see_each_line_once(sinograms: np.ndarray, A: Projector) -> tuple[np.ndarray, Projector]:
    """Sinograms weighted and widened with zeros until the axis is in their middle, and A for them.

    The views then stand for a full turn: their weights sum to 2 pi.
    """
    geometry = A.geometry
    missing = (geometry.det_count - 1) - 2 * _axis_at_first_row(geometry)
    before, after = max(0, ceil(missing)), max(0, ceil(-missing))
    wide = A.widened(before, after)
    widened = np.zeros(wide.range_shape, np.float32)
    columns = slice(before, before + geometry.det_count)
    shifts = geometry.shifts()[:, None]
    for row, center in enumerate(row_centers(geometry)):
        weights = overlap_weights(geometry.det_count, center, shifts)
        np.multiply(sinograms[row], weights, out=widened[row, :, columns], casting="same_kind")
    return widened, wide


def overlap_weights(det_count: int, center: float, shifts: np.ndarray | float = 0.0) -> np.ndarray:
    """(..., det_count) float32: w(s) + w(-s) = 1 at distance s from the axis, 1 where seen once.

    shifts : (..., 1) columns that the axis is off in a view.
    """
    near = min(center + np.min(shifts), det_count - 1 - center - np.max(shifts)) + 0.5
    s = np.arange(det_count) - center - shifts
    if center > (det_count - 1) / 2:
        s = -s  # the far side is where s is positive
    return opposite_weights(s, near)


def far_radius(geometry: ParallelBeam) -> np.ndarray:
    """(det_rows,) pixels around the axis that are seen at least from one side."""
    centers = row_centers(geometry)
    return np.maximum(centers + 0.5, geometry.det_count - 0.5 - centers)


def _axis_at_first_row(geometry: ParallelBeam) -> float:
    """Axis at the whole detector's first row: all blocks of a scan must decide alike."""
    return round(float(geometry.centers()[0]) - geometry.center_slope * geometry.row_start, 6)
