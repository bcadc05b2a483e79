"""Less than a full turn of a fan: some lines are seen twice, from both ends, and count once.

A ray at source angle a and fan angle g (positive along det_u) runs along the same line as the ray
at a + pi - 2 g and -g. Half a turn and the fan sees every line at least once. Parker 1982
(doi:10.1118/1.595078) shares the lines seen twice smoothly, so that no view begins or ends with a
jump; Silver 2000 (doi:10.1118/1.1289250) takes a fan as wide as the range allows in the place of
the detector's, which serves every range up to a full turn.
"""

from __future__ import annotations

import numpy as np

from tomodask.errors import GeometryError
from tomodask.reconstruct.angular import gap_weights, is_full_turn


def short_scan_weights(angles: np.ndarray, fan_angles: np.ndarray) -> np.ndarray:
    """(num_angles, columns) float32: the weights of all rays along a line add up to 1.

    angles : (num_angles,) radians, any order and any whole turns beside them.
    fan_angles : (columns,) radians from the ray through the axis, positive along det_u.

    A full turn or more weighs 1/2 everywhere. The sum over views takes `view_steps` beside.

    Raises
    ------
    GeometryError : the views span less than half a turn and the fan, so lines are missing.
    """
    if is_full_turn(angles):
        return np.full((angles.size, fan_angles.size), 0.5, np.float32)
    after, span = _after_first(angles)
    widest = float(np.abs(fan_angles).max())
    fan = (span - np.pi) / 2  # half the widest one for which this is enough
    step = span / max(1, angles.size - 1)
    if fan < widest - step / 2:  # a step too short is a matter of counting its ends
        raise GeometryError(
            f"views over {np.rad2deg(span):.2f} degrees of a fan that reaches "
            f"{np.rad2deg(widest):.2f} degrees to one side: half a turn and twice that, "
            f"{np.rad2deg(np.pi + 2 * widest):.2f} degrees, or a full turn are expected"
        )
    begin = _ramp(after[:, None], fan + fan_angles)
    end = _ramp(span - after[:, None], fan - fan_angles)
    return np.asarray((begin * end).astype(np.float32))  # at most one of them is not 1


def view_steps(angles: np.ndarray) -> np.ndarray:
    """(num_angles,) radians that each view stands for: those of a full turn sum to 2 pi.

    Of less than that, to the span of the views: the two ends stand for half a gap.
    """
    if is_full_turn(angles):
        return gap_weights(angles, 2 * np.pi)
    after, _ = _after_first(angles)
    places, members, counts = np.unique(after, return_inverse=True, return_counts=True)
    gaps = np.diff(places)
    steps = (np.append(gaps, 0) + np.insert(gaps, 0, 0)) / 2
    return np.asarray((steps / counts)[members])


def _after_first(angles: np.ndarray) -> tuple[np.ndarray, float]:
    """Radians from the first view, which follows the widest gap, and from there to the last."""
    position = np.sort(np.mod(angles, 2 * np.pi))
    gaps = np.diff(position, prepend=position[-1] - 2 * np.pi)
    first = position[gaps.argmax()]
    after = np.mod(angles - first, 2 * np.pi)
    after[after > 2 * np.pi - 1e-9] = 0  # rounding put the first one at the end
    return after, float(after.max())


def _ramp(after: np.ndarray, half_fan: np.ndarray) -> np.ndarray:
    """From 0 to 1 while the lines are seen twice, which takes twice `half_fan` radians."""
    share = after / np.maximum(2 * half_fan, 1e-12)
    return np.asarray(np.sin(np.pi / 2 * np.clip(share, 0, 1)) ** 2)
