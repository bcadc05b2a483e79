"""Outliers in projections: pixels hit by a stray photon (zingers), or hot and dead ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from tomodask.errors import RecipeError
from tomodask.geometry import ParallelBeam
from tomodask.projections import Projections

CHUNK_PIXELS = 1 << 17  # as many at a time as stay in the cache over a dozen passes
NOISE_SIGMAS = 6.0  # one pixel in 1e9 is that far off by Gaussian noise


@dataclass(frozen=True)
class Outliers:
    """Replaces pixels that stand out from the median of the `size` x `size` pixels around them.

    Made for raw counts, before the flat-field. It looks within one projection only, so views stay
    independent of each other. A pixel stands out when it is above (mode "bright") or below ("dark")
    the median by more than `threshold` times the median, and where the gain is known also by more
    than six standard deviations of the photon noise: without a gain choose a threshold well above
    the noise. Only what covers less than half of the window goes: with size 3 up to 2 x 2 pixels,
    at the detector's edges single ones, as its outermost pixels are repeated beyond. What was
    replaced is counted as "zingers". NaN, and what has NaN around it, is left as it is.
    """

    threshold: float = 0.5
    size: int = 3
    mode: Literal["bright", "dark", "both"] = "bright"

    mixes_angles: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.mode not in ("bright", "dark", "both"):
            raise RecipeError(f"mode {self.mode!r}: 'bright', 'dark' or 'both' is expected")
        if self.size not in (3, 5, 7, 9):
            raise RecipeError(f"size {self.size}: 3, 5, 7 or 9 pixels are expected")
        if not self.threshold > 0:
            raise RecipeError(
                f"threshold {self.threshold}: a share of the median above 0 is expected, like 0.5"
            )
        if self.mode != "bright" and not self.threshold < 1:
            raise RecipeError(
                f"threshold {self.threshold} with mode {self.mode!r}: no pixel is darker than its "
                "neighbours by all of their counts; a share below 1 is expected"
            )

    def halo(self, geometry: ParallelBeam) -> int:
        """Half the window."""
        return self.size // 2

    def working_bytes(self, shape: tuple[int, int, int]) -> int:
        """The result and a chunk's copies, the windows of its candidates being the largest."""
        chunk = max(CHUNK_PIXELS, math.prod(shape[1:]))
        return 4 * math.prod(shape) + chunk * (32 + 8 * self.size**2)

    def __call__(self, block: Projections) -> Projections:
        """The counts as float32, without the outliers."""
        num_angles, rows, columns = block.data.shape
        result = np.empty(block.data.shape, dtype=np.float32)
        step = max(1, CHUNK_PIXELS // (rows * columns))
        found = 0
        for start in range(0, num_angles, step):
            counts = block.data[start : start + step]
            cleaned = result[start : start + step]
            cleaned[...] = counts
            padded = pad_edges(counts, self.size // 2)
            with np.errstate(invalid="ignore"):  # NaN compares as not standing out, as wanted
                if self.mode != "dark":
                    found += self._replace(padded, cleaned, 1, block.gain)
                if self.mode != "bright":
                    found += self._replace(padded, cleaned, -1, block.gain)
        return block.replace(data=result).count(zingers=found)

    def _replace(
        self, padded: np.ndarray, cleaned: np.ndarray, sign: int, gain: float | None
    ) -> int:
        """Replace outliers above (sign 1) or below (-1) the median; returns their number."""
        nearest = median_bound(padded, self.size, sign).astype(np.float32)
        nearest += sign * self._allowed(nearest, None)
        half = self.size // 2
        value = padded[:, half:-half, half:-half]
        candidate = value > nearest if sign > 0 else value < nearest
        places = np.unravel_index(np.flatnonzero(candidate), candidate.shape)
        if places[0].size == 0:
            return 0
        windows = sliding_window_view(padded, (self.size, self.size), axis=(1, 2))[places]
        windows = windows.reshape(len(windows), -1)
        middle = self.size**2 // 2
        median = np.partition(windows, middle, axis=1)[:, middle].astype(np.float32)
        excess = sign * (value[places].astype(np.float32) - median)
        stands_out = excess > self._allowed(median, gain)
        replaced = tuple(index[stands_out] for index in places)
        cleaned[replaced] = median[stands_out]
        return int(np.count_nonzero(stands_out))

    def _allowed(self, median: np.ndarray, gain: float | None) -> np.ndarray:
        """How far from its median a pixel may lie."""
        level = np.maximum(median, 0)
        share: np.ndarray = level * np.float32(self.threshold)
        if gain is None:
            return share
        # the variance of N photons is N; one more, as none were expected does not mean no noise
        noise = np.sqrt(np.float32(gain) * (level + np.float32(gain)))
        np.maximum(share, np.float32(NOISE_SIGMAS) * noise, out=share)
        return share


def pad_edges(counts: np.ndarray, half: int) -> np.ndarray:
    """(angles, rows, columns) with the outermost rows and columns repeated `half` times."""
    num_angles, rows, columns = counts.shape
    padded = np.empty((num_angles, rows + 2 * half, columns + 2 * half), dtype=counts.dtype)
    inner = padded[:, half:-half]
    inner[..., half:-half] = counts
    inner[..., :half] = counts[..., :1]
    inner[..., -half:] = counts[..., -1:]
    padded[:, :half] = inner[:, :1]
    padded[:, -half:] = inner[:, -1:]
    return padded


def median_bound(padded: np.ndarray, size: int, sign: int) -> np.ndarray:
    """For a pixel brighter than the median around it (sign 1), a value that median can't be below.

    More than half of the window are at most the median then, all of them neighbours. So each half
    of the neighbours, those before the pixel and those after it in reading order, has one, and the
    median is at least the minimum of either half. Medians are taken only where a pixel stands out
    from this bound too: few, on a projection that isn't all noise. Mirrored for darker pixels
    (sign -1).
    """
    closer, farther = (np.minimum, np.maximum) if sign > 0 else (np.maximum, np.minimum)
    half = size // 2
    rows, columns = padded.shape[1] - 2 * half, padded.shape[2] - 2 * half
    runs = padded[..., :columns]
    for shift in range(1, size):
        runs = closer(runs, padded[..., shift : shift + columns])
    centre = padded[:, half : half + rows]
    before, after = runs[:, half - 1 : half - 1 + rows], runs[:, half + 1 : half + 1 + rows]
    for shift in range(2, half + 1):
        before = closer(before, runs[:, half - shift : half - shift + rows])
        after = closer(after, runs[:, half + shift : half + shift + rows])
    for shift in range(half):
        before = closer(before, centre[..., shift : shift + columns])
        after = closer(after, centre[..., half + 1 + shift : half + 1 + shift + columns])
    bound: np.ndarray = farther(before, after)
    return bound
