"""Outliers in projections: pixels hit by a stray photon (zingers), or hot and dead ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from tomodask import arrays
from tomodask.errors import RecipeError
from tomodask.geometry import ParallelBeam
from tomodask.preprocess import kernels
from tomodask.preprocess.lines import Lines, result_bytes, result_of, view_runs
from tomodask.projections import Projections
from tomodask.threads import share

STRIP_ROWS = 32  # rows at a time: of 2048 columns half a megabyte, half of a core's cache
NOISE_SIGMAS = np.float32(6)  # one pixel in 1e9 is that far off by Gaussian noise


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
    in_place: ClassVar[bool] = False  # a pixel's neighbours are needed as they were

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

    def working_bytes(self, shape: tuple[int, int, int], threads: int = 1) -> int:
        """The result and, for each thread, a strip of one projection."""
        scratch = sum(4 * math.prod(made) for made in self._scratch(shape))
        return result_bytes(shape, threads) + min(threads, len(view_runs(shape))) * scratch

    def __call__(
        self, block: Projections, threads: int = 1, out: np.ndarray | None = None
    ) -> Projections:
        """The counts as float32, without the outliers."""
        result = result_of(block.data, out)
        runs = view_runs(result.shape)
        signs = {"bright": (1,), "dark": (-1,), "both": (1, -1)}[self.mode]
        threshold, gain = np.float32(self.threshold), np.float32(block.gain or 0)
        found = np.zeros(len(runs), dtype=np.int64)

        def clean(number: int) -> None:
            run = runs[number]
            lines = Lines.of(block.data[run])
            scratch = [arrays.empty(made, dtype=np.float32) for made in self._scratch(result.shape)]
            found[number] = kernels.median.replace_outliers(
                lines.stretch, lines.view_step, lines.row_step, self.size, np.array(signs),
                threshold, gain, NOISE_SIGMAS, *scratch, result[run],
            )  # fmt: skip

        share(clean, len(runs), threads)
        return block.replace(data=result).count(zingers=int(found.sum()))

    def _scratch(self, shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        """Shapes of the float32 arrays of `kernels.median.replace_outliers`."""
        _, rows, columns = shape
        lines = min(STRIP_ROWS, rows) + self.size - 1
        return (lines, columns + self.size - 1), (lines, columns), (2, columns)
