"""Noise2Inverse: which splits a network sees, and which one it is to predict.

The noise of the splits is independent and has mean zero, so the target's noise can't be predicted
and what minimises the squared error is the object as far as the input tells it (Hendriksen, Pelt,
Batenburg 2020, doi:10.1109/TCI.2020.3019647; X:1 and 1:X are theirs). What is averaged is weighted
by the splits' shares of the angles, so that no mean is off where splits are not equally large.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tomodask.errors import InputError
from tomodask.learn.options import Strategy

MIXED_EVEN = 0.3  # of "mixed": half of the splits predict the other half, with less noisy targets

Pair = tuple[tuple[int, ...], tuple[int, ...]]


def draw_pair(rng: np.random.Generator, num_splits: int, strategy: Strategy) -> Pair:
    """Splits whose mean is the input, and those whose mean is the target; they share none."""
    order = [int(k) for k in rng.permutation(num_splits)]
    wants_even = strategy == "mixed" and num_splits >= 4 and rng.random() < MIXED_EVEN
    first = num_splits // 2 if wants_even else 1
    some, others = tuple(sorted(order[:first])), tuple(sorted(order[first:]))
    return (some, others) if strategy == "1:X" else (others, some)


def pairs_of(num_splits: int, strategy: Strategy) -> list[Pair]:
    """All K ways to predict with one split apart: what a held-out loss is averaged over."""
    pairs: list[Pair] = []
    for k in range(num_splits):
        others = tuple(i for i in range(num_splits) if i != k)
        pairs.append(((k,), others) if strategy == "1:X" else (others, (k,)))
    return pairs


def inputs_of(num_splits: int, strategy: Strategy) -> list[tuple[int, ...]]:
    """The inputs whose K outputs are averaged when a volume is denoised in quality."""
    return [seen for seen, _ in pairs_of(num_splits, strategy)]


def mean_of(
    splits: np.ndarray | Sequence[np.ndarray], which: Sequence[int], weights: np.ndarray
) -> np.ndarray:
    """The weighted mean of some splits (K, ...), float32; of one split that split itself."""
    if not which:
        raise InputError("the mean of no split: at least one is needed")
    if len(which) == 1:
        return np.asarray(splits[which[0]])
    shares = np.asarray(weights, np.float64)[list(which)]
    shares = (shares / shares.sum()).astype(np.float32)
    mean = splits[which[0]] * shares[0]
    for k, share in zip(which[1:], shares[1:], strict=True):
        mean += splits[k] * share
    return np.asarray(mean)
