"""How much of the half turn each view stands for: the weights of FBP's sum over angles."""

from __future__ import annotations

import numpy as np

SAME_DIRECTION = 1e-3  # of the mean gap: views closer than this are one direction seen twice
WEDGE_GAP = 4.0  # times the second widest gap: a wider one is a missing wedge
FULL_TURN_GAP = 4.0  # mean gaps: a wider one, and the views do not go all the way around


def gap_weights(angles: np.ndarray, period: float = np.pi) -> np.ndarray:
    """Half the gap to the next direction on either side, (num_angles,) radians; sums to `period`.

    Angles may come in any order and over any range: they count modulo `period`, as a view from
    behind shows the same lines. Views of one direction share its weight equally, and so do the
    first and last views of a half turn with both ends in.
    """
    direction, members = _directions(angles, period)
    center = np.bincount(members, _unwrapped(angles, direction[members], period))
    count = np.bincount(members)
    gaps = _without_wedge(np.diff(center / count, append=center[0] / count[0] + period))
    return np.asarray(((gaps + np.roll(gaps, 1)) / 2 / count)[members])


def is_full_turn(angles: np.ndarray) -> bool:
    """Whether the views go all the way around, so that every line is seen from both sides."""
    direction, _ = _directions(angles, 2 * np.pi)
    widest = np.diff(direction, append=direction[0] + 2 * np.pi).max()
    return direction.size > 2 and bool(widest < FULL_TURN_GAP * 2 * np.pi / direction.size)


def _without_wedge(gaps: np.ndarray) -> np.ndarray:
    """The gaps with a lone wide one cut, and all stretched to the same sum."""
    if gaps.size < 3:
        return gaps
    *_, second, widest = np.sort(gaps)
    kept = np.where(gaps == widest, min(widest, WEDGE_GAP * second), gaps)
    return np.asarray(kept * (gaps.sum() / kept.sum()))


def _directions(angles: np.ndarray, period: float) -> tuple[np.ndarray, np.ndarray]:
    """Directions that differ, rising within one period, and the index of each view's own."""
    position = np.mod(angles, period)
    order = np.argsort(position, kind="stable")
    gaps = np.diff(position[order], prepend=position[order[-1]] - period)
    starts = gaps > SAME_DIRECTION * period / angles.size
    if not starts.any():  # all the views together
        starts[0] = True
    members = np.empty(angles.size, np.intp)
    # views before the first start end the last direction's run, across the period's end
    members[order] = (np.cumsum(starts) - 1) % np.count_nonzero(starts)
    return position[order][starts], members


def _unwrapped(angles: np.ndarray, direction: np.ndarray, period: float) -> np.ndarray:
    """The angles moved by whole periods to lie around `direction`."""
    return np.asarray(direction + (angles - direction + period / 2) % period - period / 2)
