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
    angles: np.ndarray, num_splits: int, kind: SplitKind = "interleaved", block_views: int = 4
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
        owner = np.arange(num_angles) // block_views % num_splits
        if owner.max() < num_splits - 1:
            raise InputError(
                f"blocks of {block_views} of {num_angles} views fill {owner.max() + 1} of "
                f"{num_splits} splits: take smaller blocks"
            )
    elif kind == "half_turn":
        owner = _half_turns(angles, num_splits)
    else:
        owner = _interleaved(angles, num_splits)
    return ViewSplits(kind, tuple(np.flatnonzero(owner == k) for k in range(num_splits)))


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
    """Dealt in turn in the order of direction; rising angles keep the order of acquisition."""
    period = 2 * np.pi if is_full_turn(angles) else np.pi
    direction = np.mod(angles - angles.min(), period)
    owner = np.empty(len(angles), np.intp)
    owner[np.argsort(direction, kind="stable")] = np.arange(len(angles)) % num_splits
    return owner


def _half_turns(angles: np.ndarray, num_splits: int) -> np.ndarray:
    """Half turn after half turn, counted from the first view."""
    turned = np.abs(angles - angles[0])
    gap = np.abs(np.diff(angles)).mean() if len(angles) > 1 else 0.0
    half_turn = np.floor(turned / np.pi + 1e-6).astype(np.intp)
    total = (turned.max() + gap) / np.pi
    if total < num_splits - 0.02:
        raise InputError(
            f"the scan turns by {np.rad2deg(turned.max()):.0f} degrees: {num_splits} splits by "
            f"half turns need {180 * num_splits}; take kind interleaved, or fewer splits"
        )
    return np.asarray(half_turn % num_splits)
