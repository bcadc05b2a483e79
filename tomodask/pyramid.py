"""The next level of a pyramid: means of 2 x 2 x 2 voxels, whatever the slab they come in."""

from __future__ import annotations

import numpy as np

from tomodask import arrays


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
    halved = arrays.empty((nz, ny, nx))
    both, rows = arrays.empty(volume.shape[1:]), arrays.empty((ny, volume.shape[2]))
    for index, mean in enumerate(halved):
        pair = volume[2 * index : 2 * index + 2]
        with np.errstate(invalid="ignore", over="ignore"):  # infinities of both signs in one mean
            np.add(pair[0], pair[-1], out=both)
            _sum_of_four(both, rows, mean)
            if np.isnan(mean).any():
                _mean_of_known(pair[0], pair[-1], rows, mean)
            else:
                mean /= 8
    return halved


def _mean_of_known(upper: np.ndarray, lower: np.ndarray, rows: np.ndarray, out: np.ndarray) -> None:
    here, below = np.isnan(upper), np.isnan(lower)
    count = np.empty_like(out)
    _sum_of_four((~here).astype(np.float32) + ~below, rows, count)
    _sum_of_four(np.where(here, 0, upper) + np.where(below, 0, lower), rows, out)
    out /= np.maximum(count, 1)
    out[count == 0] = np.nan


def _sum_of_four(image: np.ndarray, rows: np.ndarray, out: np.ndarray) -> None:
    """Sums of 2 x 2 pixels, by way of the sums of 2 x 1 in `rows`."""
    _sum_of_two(image, rows)
    _sum_of_two(rows.T, out.T)


def _sum_of_two(image: np.ndarray, out: np.ndarray) -> None:
    pairs = len(image) // 2
    np.add(image[0 : 2 * pairs : 2], image[1::2], out=out[:pairs])
    np.multiply(image[2 * pairs :], 2, out=out[pairs:])
