"""K reconstructions of parts of the views beside that of all of them, from one block of sinograms.

Noise2Inverse needs them (Hendriksen, Pelt, Batenburg 2020, doi:10.1109/TCI.2020.3019647). FBP is
linear: the rows are filtered once, each part is back-projected alone, and the whole is their
weighted sum. Any other algorithm is called for each part, and for all views.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tomodask import arrays
from tomodask.blocks import MemoryNeed
from tomodask.errors import InputError
from tomodask.geometry import ParallelBeam
from tomodask.projectors import Projector
from tomodask.reconstruct.angular import gap_weights
from tomodask.reconstruct.fbp import FBP
from tomodask.reconstruct.half_acquisition import is_half_acquisition
from tomodask.threads import share


@dataclass(frozen=True, eq=False)
class SplitSlices:
    """Splits (K, z, y, x) and `full` (z, y, x), float32; full is None where it wasn't asked for.

    weights : (K,) shares of the angles; they sum to 1.
    is_weighted_sum : whether sum_k weights[k] splits[k] is `full`.
    """

    splits: np.ndarray
    full: np.ndarray | None
    weights: np.ndarray
    is_weighted_sum: bool


def reconstruct_splits(
    algorithm: Any,
    sinograms: np.ndarray,
    A: Projector,
    views: Sequence[np.ndarray],
    *,
    with_full: bool = True,
) -> SplitSlices:
    """Reconstruct each part of the views, and all of them, by an algorithm.

    Parameters
    ----------
    sinograms : (row, angle, column), corrected.
    views : rising indices of each split; every view is in one of them.

    Raises
    ------
    InputError : a view is in none of the splits, or in two.
    """
    _check(views, A.geometry.num_angles)
    if isinstance(algorithm, FBP):
        splits, shares = algorithm.parts(sinograms, A, views)
        full = weighted_sum(splits, shares, A.threads) if with_full else None
        return SplitSlices(splits, full, shares, is_weighted_sum=True)
    shares = split_shares(algorithm, A.geometry, views)
    splits = np.empty((len(views), *A.domain_shape), np.float32)
    for split, some in zip(splits, views, strict=True):
        split[...] = algorithm(np.ascontiguousarray(sinograms[:, some]), A.views(some))
    full = algorithm(sinograms, A) if with_full else None
    return SplitSlices(splits, full, shares, is_weighted_sum=False)


def split_shares(algorithm: Any, geometry: ParallelBeam, views: Sequence[np.ndarray]) -> np.ndarray:
    """(K,) weights of the splits in the mean that stands for all views; they sum to 1."""
    weights = np.ones(geometry.num_angles)
    if isinstance(algorithm, FBP):
        period = 2 * np.pi if is_half_acquisition(geometry) else np.pi
        weights = gap_weights(geometry.angles, period)
    return np.asarray([weights[some].sum() for some in views]) / float(weights.sum())


def weighted_sum(splits: np.ndarray, shares: np.ndarray, threads: int = 1) -> np.ndarray:
    """sum_k shares[k] splits[k], (z, y, x) float32, slice by slice while it is in the cache."""
    total = arrays.empty(splits.shape[1:])
    factors = np.asarray(shares, np.float32)

    def add(z: int) -> None:
        np.multiply(splits[0, z], factors[0], out=total[z])
        for split, factor in zip(splits[1:], factors[1:], strict=True):
            total[z] += split[z] * factor

    share(add, len(total), threads)
    return total


def splits_need(
    one: MemoryNeed, algorithm: Any, geometry: ParallelBeam, num_splits: int
) -> MemoryNeed:
    """Working memory of `reconstruct_splits` beside its results, from that of one projector.

    one : what a projector of all views declares.
    """
    if isinstance(algorithm, FBP):
        # places of the samples, by split; a run of them takes 12 bytes and has 4 samples or more
        plans = 3 * geometry.num_angles * 2 * geometry.det_count
        return MemoryNeed(one.fixed + plans, one.per_row)
    a_row = 4 * geometry.det_count * (geometry.num_angles // num_splits + geometry.det_count)
    return MemoryNeed(2 * one.fixed, one.per_row + a_row)


def _check(views: Sequence[np.ndarray], num_angles: int) -> None:
    together = np.sort(np.concatenate([np.asarray(some) for some in views]))
    if not np.array_equal(together, np.arange(num_angles)):
        raise InputError(
            f"{len(views)} splits hold {together.size} views of {num_angles}: every view is "
            "expected in one split, and in no other"
        )
