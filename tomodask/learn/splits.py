"""Which view belongs to which split, and how many splits a scan can bear.

Each split is to see the object from evenly spread directions, so that the splits differ in their
noise alone. Where views are few they differ in their aliases too, which a network then takes for
noise (Hendriksen, Pelt, Batenburg 2020, doi:10.1109/TCI.2020.3019647, section III).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tomodask.errors import InputError
from tomodask.learn.options import SPLIT_NUMBERS, SplitKind
from tomodask.reconstruct.angular import is_full_turn

LEAST_VIEWS = 8  # of a split
ENOUGH_VIEWS = 1.0  # views a column of each split: its aliases then lie within the field of view
SAME_DIRECTION = 1e-3  # of the mean gap
TOGETHER = 0.25  # of the mean gap: views of nearly one direction, from in front and from behind


@dataclass(frozen=True, eq=False)
class ViewSplits:
    """Rising indices of the views of each split; every view is in one of them.

    A scan whose photons are dealt has all views in every split: kind "thinning".
    """

    kind: SplitKind
    views: tuple[np.ndarray, ...]

    @property
    def num_splits(self) -> int:
        return len(self.views)


def split_views(
    angles: np.ndarray,
    num_splits: int,
    kind: SplitKind = "interleaved",
    block_views: int = 4,
) -> ViewSplits:
    """Deal the views of a scan to so many splits.

    Parameters
    ----------
    angles : (num_angles,) radians, in the order of acquisition.
    kind : see `options.SplitOptions`; block_views : consecutive views that stay together.

    Raises
    ------
    InputError : a split would have fewer than 8 views, or the scan has no two half turns.
    """
    num_angles = len(angles)
    if num_splits not in SPLIT_NUMBERS:
        raise InputError(f"{num_splits} splits: one of {SPLIT_NUMBERS} is expected")
    if kind == "thinning":
        return ViewSplits(kind, (np.arange(num_angles),) * num_splits)
    if num_angles < num_splits * LEAST_VIEWS:
        raise InputError(
            f"{num_angles} views in {num_splits} splits leave {num_angles // num_splits} views "
            f"each: at least {LEAST_VIEWS} are needed, take fewer splits"
        )
    if kind == "blocks":
        owner = _blocks(num_angles, num_splits, block_views)
    elif kind == "half_turn":
        owner = _half_turns(angles, num_splits)
    else:
        owner = _interleaved(angles, num_splits)
    views = tuple(np.flatnonzero(owner == k) for k in range(num_splits))
    fewest = min(len(some) for some in views)
    if fewest < LEAST_VIEWS:
        raise InputError(
            f"{num_splits} splits by {kind} of {num_angles} views leave {fewest} views to one of "
            f"them: at least {LEAST_VIEWS} are needed, take fewer splits or kind interleaved"
        )
    return ViewSplits(kind, views)


def direction_order(angles: np.ndarray, period: float) -> np.ndarray:
    """Indices of the views by their direction within a period, from the lowest angle on.

    Views of one direction keep their order. Where a scan ends a period on from its first view, as
    a half turn with both ends does, that view comes last: rising angles stay as they are.
    """
    tolerance = SAME_DIRECTION * period / len(angles)
    turned = angles - angles.min()
    direction = np.mod(turned, period)
    at_ends = np.minimum(direction, period - direction) < tolerance
    ends_there = turned.max() < period + tolerance
    direction[at_ends] = np.where(ends_there & (turned[at_ends] > tolerance), period, 0.0)
    # views within the tolerance are one direction, whatever rounding made of them
    order = np.argsort(direction, kind="stable")
    group = np.cumsum(np.diff(direction[order], prepend=0.0) >= tolerance)
    return order[np.lexsort((order, group))]


def choose_num_splits(num_angles: int, det_count: int) -> tuple[int, str]:
    """K for a scan, and why, in words.

    Four where each split then has as many views as there are columns, so that half of what a split
    sees wrongly is noise; two otherwise, as aliases grow with every split more.
    """
    each = num_angles / 4
    if each >= ENOUGH_VIEWS * det_count:
        return 4, (
            f"4 splits: each has {each:.0f} views of {det_count} columns, so that they differ "
            "in little but their noise"
        )
    if num_angles / 2 >= ENOUGH_VIEWS * det_count / 2:
        return 3 if num_angles / 3 >= ENOUGH_VIEWS * det_count / 2 else 2, (
            f"{num_angles} views of {det_count} columns: with 4 splits each would have "
            f"{each:.0f}, and their aliases would be learnt as noise"
        )
    return 2, (
        f"2 splits: {num_angles} views are few for {det_count} columns, so that the splits "
        f"({num_angles // 2} views each) differ in their aliases as well as in their noise, and "
        "details can be lost with both"
    )


def _interleaved(angles: np.ndarray, num_splits: int) -> np.ndarray:
    """Dealt in turn in the order of direction; of half a turn, rising angles keep their order.

    Views from behind show the same lines. To deal those of a full turn by their direction within
    half a turn gives each split twice as many directions as to deal them as they come: a quarter
    of the aliases (foam, 128 columns, 512 views, K = 4: 0.013 of the range instead of 0.049).
    """
    dealt = _dealt(direction_order(angles, np.pi), angles, num_splits)
    if not is_full_turn(angles):
        return dealt
    # an axis at the detector's edge needs both sides in each split, odd numbers of views give one
    around = _in_turn(direction_order(angles, 2 * np.pi), num_splits)
    widest = _widest_gap(dealt, angles, num_splits)
    return dealt if widest < 2.01 * _widest_gap(around, angles, num_splits) else around


def _dealt(order: np.ndarray, angles: np.ndarray, num_splits: int) -> np.ndarray:
    """Dealt in turn; who begins changes where one direction is seen several times.

    Without that, one split of a full turn would have all the views from the front.
    """
    direction = np.mod(angles[order] - angles.min() + TOGETHER * np.pi / len(angles), np.pi)
    starts = np.abs(np.diff(direction, prepend=-np.pi)) > TOGETHER * np.pi / len(angles)
    first = np.flatnonzero(starts)
    sizes = np.diff(first, append=len(order))
    turned = order.copy()
    for start, size in zip(first, sizes, strict=True):
        rounds = start // np.lcm(num_splits, size)
        turned[start : start + size] = np.roll(order[start : start + size], -(rounds % size))
    return _in_turn(turned, num_splits)


def _in_turn(order: np.ndarray, num_splits: int) -> np.ndarray:
    owner = np.empty(len(order), np.intp)
    owner[order] = np.arange(len(order)) % num_splits
    return owner


def _widest_gap(owner: np.ndarray, angles: np.ndarray, num_splits: int) -> float:
    """Radians of a full turn that a split does not look from, at worst."""
    widest = 0.0
    for k in range(num_splits):
        around = np.sort(np.mod(angles[owner == k], 2 * np.pi))
        gaps = np.diff(around, append=around[0] + 2 * np.pi)
        widest = max(widest, float(gaps.max()))
    return widest


def _blocks(num_angles: int, num_splits: int, block_views: int) -> np.ndarray:
    """Runs of consecutive views, dealt in turn."""
    if block_views < 1:
        raise InputError(f"blocks of {block_views} views: at least 1 is needed")
    owner = np.arange(num_angles) // block_views % num_splits
    if owner.max() < num_splits - 1:
        raise InputError(
            f"blocks of {block_views} of {num_angles} views fill {owner.max() + 1} of "
            f"{num_splits} splits: take smaller blocks"
        )
    return owner


def _half_turns(angles: np.ndarray, num_splits: int) -> np.ndarray:
    """Half turn after half turn, counted from the first view."""
    turned = np.abs(np.unwrap(angles) - angles[0])  # angles may be told modulo a turn
    step = float(np.median(np.abs(np.diff(np.unwrap(angles)))))
    if step > np.pi / LEAST_VIEWS:
        raise InputError(
            f"views {np.rad2deg(step):.0f} degrees apart, one after the other, make no half turns "
            f"of {LEAST_VIEWS} views or more: take kind interleaved"
        )
    # the step's share absorbs rounding: a view at 180 degrees begins the second half turn
    half_turn = np.floor((turned + SAME_DIRECTION * step) / np.pi).astype(np.intp)
    total = (turned.max() + step) / np.pi
    if total < num_splits - 0.02:
        raise InputError(
            f"the scan turns by {np.rad2deg(turned.max()):.0f} degrees: {num_splits} splits by "
            f"half turns need {180 * num_splits}; take kind interleaved, or fewer splits"
        )
    return np.asarray(half_turn % num_splits)
