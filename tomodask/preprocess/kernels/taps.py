"""A symmetric convolution along the rows, with other weights for each frequency of the columns."""

from __future__ import annotations

import numpy as np
from numba import njit

from tomodask.preprocess.kernels import OPTIONS

LANES = 256  # numbers filtered at a time: their rows stay in a core's cache


@njit(**OPTIONS)
def filter_rows(spectra, first, last, taps, filtered):
    """Rows [first, last) of `spectra`, convolved with `taps`, into the same rows of `filtered`.

    spectra, filtered : (rows, numbers) float32; rows `first` and `last - 1` are repeated outwards.
    taps : (distances, numbers) float32, the weights of the rows 0, 1, ... away on both sides.
    """
    numbers, reach = spectra.shape[1], len(taps) - 1
    for begin in range(0, numbers, LANES):
        lanes = min(LANES, numbers - begin)
        start = np.uint64(begin)  # unsigned, as in sort_by_digit
        for row in range(first, last):
            for lane in range(lanes):
                at = start + np.uint64(lane)
                filtered[row, at] = taps[0, at] * spectra[row, at]
            for near in range(1, reach, 2):  # two distances at a time write half as often
                far = near + 1
                above, below = max(row - near, first), min(row + near, last - 1)
                farther_up, farther_down = max(row - far, first), min(row + far, last - 1)
                for lane in range(lanes):
                    at = start + np.uint64(lane)
                    two = (spectra[above, at] + spectra[below, at]) * taps[near, at]
                    two += (spectra[farther_up, at] + spectra[farther_down, at]) * taps[far, at]
                    filtered[row, at] += two
