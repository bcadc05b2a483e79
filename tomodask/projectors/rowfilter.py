"""Filtering the rows of a sinogram: a convolution along the detector, view by view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.fft

from tomodask.errors import InputError

PadMode = Literal["zero", "edge"]

VIEWS_AT_ONCE = 64  # 64 padded rows of 4096 columns are 1 MB: they stay in a core's cache

# Of a disc 1.2, 1.6 and 2 times as wide as the detector, fading over 3/8 of the columns misses the
# value by .11, .02 and .20 on average; values held constant miss it by .26, .26 and .19, and zeros
# by .12, .45 and .80 with bright edges.
EDGE_REACH = 3 / 8


@dataclass(frozen=True, eq=False)
class RowFilter:
    """A convolution with a real, even kernel, and a weight for each view.

    response : (n // 2 + 1,) the kernel's real spectrum on n points, n even.
    weights : (num_angles,) factor of each view.
    pad_mode : "zero" beyond the detector's edges; "edge" lets the outermost values fade out there.
    """

    response: np.ndarray
    weights: np.ndarray
    pad_mode: PadMode = "zero"

    def check(self, num_angles: int, det_count: int) -> None:
        """Refuse what does not fit the sinograms."""
        if self.length < det_count:
            raise InputError(
                f"a filter of {self.length} points for {det_count} columns: give at least "
                f"{det_count}, and twice as many for a ramp"
            )
        if self.weights.shape != (num_angles,):
            raise InputError(f"weights of shape {self.weights.shape} for {num_angles} views")
        if self.pad_mode not in ("zero", "edge"):
            raise InputError(f"pad_mode {self.pad_mode!r}: there are zero, edge")

    @property
    def length(self) -> int:
        """Number of points n of the circular convolution."""
        return 2 * (len(self.response) - 1)

    def apply(self, sinogram: np.ndarray, out: np.ndarray) -> None:
        """Filter a whole sinogram (num_angles, det_count) into `out` of the same shape."""
        for views in view_runs(len(sinogram)):
            out[views] = self.rows(sinogram[views], views)

    def rows(self, rows: np.ndarray, views: slice, before: int = 0, after: int = 0) -> np.ndarray:
        """Filter the rows of some views, (num_views, before + det_count + after) float32.

        before, after : columns to give beyond the detector's ends, where the kernel reaches too.
        """
        num_views, det_count = rows.shape
        padded = np.zeros((num_views, self.length), np.float32)
        weights = self.weights[views, None].astype(np.float32)
        np.multiply(rows, weights, out=padded[:, :det_count])
        if self.pad_mode == "edge":
            _continue_edges(padded, det_count)
        spectra = scipy.fft.rfft(padded, axis=1, overwrite_x=True)
        spectra *= self.response.astype(np.float32)
        filtered = scipy.fft.irfft(spectra, self.length, axis=1, overwrite_x=True)
        if before == 0:
            return filtered[:, : det_count + after]
        return np.concatenate((filtered[:, -before:], filtered[:, : det_count + after]), axis=1)


def view_runs(num_angles: int) -> list[slice]:
    """The views in runs of a fixed length: what is done to a run does not depend on the block."""
    return [
        slice(start, min(start + VIEWS_AT_ONCE, num_angles))
        for start in range(0, num_angles, VIEWS_AT_ONCE)
    ]


def edge_fade(det_count: int, length: int) -> np.ndarray:
    """Factors of the outermost values on the columns beyond an edge, over `EDGE_REACH` of them."""
    reach = min(round(EDGE_REACH * det_count), (length - det_count) // 2)
    return np.asarray(np.cos(np.pi / 2 * np.arange(1, reach + 1) / (reach + 1)) ** 2, np.float32)


def _continue_edges(padded: np.ndarray, det_count: int) -> None:
    """Let the first and last values fade out beyond the edges."""
    fade = edge_fade(det_count, padded.shape[1])
    padded[:, det_count : det_count + fade.size] = padded[:, det_count - 1 : det_count] * fade
    padded[:, padded.shape[1] - fade.size :] = padded[:, :1] * fade[::-1]
