"""A detector that is off to one side, over a full turn: sees almost twice as far.

A line near the axis is seen from both sides, one further out by the far side alone. Weights that
run from 0 to 1 across the overlap and add up to 1 on each line take every line once, before the
filter (Wang 2002, doi:10.1118/1.1489043).
"""

from __future__ import annotations

import numpy as np

from tomodask.errors import GeometryError

OFFSET_AXIS = 0.1  # of the columns off the middle: nearer, and the whole overlap is worth its noise


def is_offset_detector(positions: np.ndarray) -> bool:
    """Whether the axis is more than `OFFSET_AXIS` of the columns off the detector's middle.

    positions : (columns,) from the axis, in steps that are nearly even: fan angles or columns.
    """
    step = np.abs(np.diff(positions)).mean()
    return bool(abs(positions[0] + positions[-1]) / 2 > OFFSET_AXIS * positions.size * step)


def offset_detector_weights(positions: np.ndarray) -> np.ndarray:
    """(..., columns) float32: w(p) + w(-p) = 1, and 1 where a line is seen from one side alone.

    positions : (..., columns) fan angles (radians) or columns from the axis, rising or falling
        along the last axis. Where they differ between views, the overlap is that of all views.

    Raises
    ------
    GeometryError : the axis lies beyond the detector's edge, so lines are missing.
    """
    half = np.abs(np.diff(positions, axis=-1)).min() / 2
    low, high = positions.min(axis=-1).max(), positions.max(axis=-1).min()
    near = min(-low, high) + half  # the edge of the outermost pixel
    if not near > 0:
        raise GeometryError(
            f"the axis lies beyond the detector's edge, whose pixels reach from {low:g} to "
            f"{high:g} around it: a detector that sees the axis in every view is expected"
        )
    far_side = positions if high >= -low else -positions
    return opposite_weights(far_side, near)


def opposite_weights(positions: np.ndarray, near: float) -> np.ndarray:
    """(..., columns) float32 weights that rise from 0 at -near to 1 at near, positions far > 0."""
    across = np.clip((1 + positions / near) / 2, 0, 1)
    return np.asarray((np.sin(np.pi / 2 * across) ** 2).astype(np.float32))
