"""The next level of a pyramid: means of 2 x 2 x 2 voxels, whatever the slab they come in."""

from __future__ import annotations

import numpy as np


def halve(volume: np.ndarray) -> np.ndarray:
    """Mean of 2 x 2 x 2 voxels; at an odd end the last one counts twice, so nothing is lost.

    Parameters
    ----------
    volume : (z, y, x) float32. NaN is left out of a mean; a mean of nothing but NaN is NaN.

    Returns
    -------
    (z, y, x) float32 of half the size, rounded up. No voxel depends on which slab it came with.
    """
    nz, ny, nx = (-(-length // 2) for length in volume.shape)
    halved = np.empty((nz, ny, nx), np.float32)
    for row in range(nz):
        pair = volume[2 * row : 2 * row + 2]
        halved[row] = _mean_of_pair(pair[0], pair[-1])
    return halved


def _mean_of_pair(upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    total: np.ndarray
    with np.errstate(invalid="ignore", over="ignore"):  # infinities of both signs in one mean
        total = _sum_of_four(upper + lower)
        if not np.isnan(total).any():
            total /= 8
            return total
        here, below = np.isnan(upper), np.isnan(lower)
        total = _sum_of_four(np.where(here, 0, upper) + np.where(below, 0, lower))
        count = _sum_of_four((~here).astype(np.float32) + ~below)
        return np.where(count > 0, total / np.maximum(count, 1), np.float32(np.nan))


def _sum_of_four(image: np.ndarray) -> np.ndarray:
    return _sum_of_two(_sum_of_two(image).T).T


def _sum_of_two(image: np.ndarray) -> np.ndarray:
    total = image[0::2].copy(order="K")  # keeps a transposed image's order in memory: fast
    pairs = len(image) // 2
    total[:pairs] += image[1::2]
    total[pairs:] *= 2
    return total
