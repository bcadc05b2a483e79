"""FBP by someone else's non-uniform FFT: 1D stage, transform, disc, pairs of slices side by side.

Threads within a transform are no faster than one thread a transform and transforms side by side,
which need one pair's buffers a thread: 2 threads, slices/s, within and beside, 232 and 218 at 512
columns and 57 and 58 at 1024 for FINUFFT's FBP; 368 and 398, 95 and 96 for ducc0's transform alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from timing import take_turns

from peers.lines import FilteredLines, side_by_side

Transform = Callable[[np.ndarray, np.ndarray], object]  # the lines of a pair, the image to fill
MakeTransform = Callable[[FilteredLines], Transform]

TRIALS = 5


class NonuniformFBP:
    """FBP with the fastest of some ways to transform, found by trying each on this geometry.

    choice : its name.
    """

    def __init__(
        self, angles: np.ndarray, columns: int, threads: int, ways: Mapping[str, MakeTransform]
    ) -> None:
        self._lines, self._threads = FilteredLines(angles, columns), threads
        self._spectra = [self._lines.line_buffer() for _ in range(threads)]
        self._images = [self._lines.image_buffer() for _ in range(threads)]
        self.choice, self._transforms = self._fastest(ways)

    def __call__(self, sinograms: np.ndarray) -> np.ndarray:
        """(row, angle, column) -> (z, y, x)."""
        columns = self._lines.columns
        volume = np.empty((len(sinograms), columns, columns), np.float32)

        def solve(thread: int, pair: slice) -> None:
            spectra, image = self._spectra[thread], self._images[thread]
            self._lines.to_spectra(sinograms[pair], spectra)
            self._transforms[thread](spectra, image)
            self._lines.from_image(image, volume[pair])

        side_by_side(solve, len(sinograms), self._threads)
        return volume

    def _fastest(self, ways: Mapping[str, MakeTransform]) -> tuple[str, list[Transform]]:
        """The way whose best of `TRIALS` turns, all threads at once, is the shortest."""
        for spectra in self._spectra:
            spectra[:] = 1
        made = {
            name: [make(self._lines) for _ in range(self._threads)] for name, make in ways.items()
        }

        def run(transforms: list[Transform]) -> None:
            def one(thread: int, _: slice) -> None:
                transforms[thread](self._spectra[thread], self._images[thread])

            side_by_side(one, 2 * self._threads, self._threads)

        turns = {name: partial(run, transforms) for name, transforms in made.items()}
        seconds = {name: each.min() for name, each in take_turns(turns, TRIALS).items()}
        choice = min(seconds, key=lambda name: float(seconds[name]))
        return choice, made[choice]
