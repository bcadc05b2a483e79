"""FINUFFT's A and A.T: type 2 reads the lines off slices, type 1 puts them back, two slices a time.

A pair of real slices as one complex slice needs no more points than half lines of each, and half
the FFTs. One thread a transform, transforms side by side, FFTW's plan measured: see `nonuniform`.
"""

from __future__ import annotations

import finufft
import numpy as np

from peers.finufft_fbp import FFTW_MEASURE
from peers.lines import PairLines, side_by_side


class FinufftProjector:
    """Line integrals of square slices and their adjoint, the axis in the detector's middle.

    length : samples of a line, those of the projector that it is compared with.
    dtype : complex128 for an oracle.
    """

    def __init__(
        self,
        angles: np.ndarray,
        columns: int,
        threads: int,
        length: int,
        tolerance: float,
        upsampling: float,
        dtype: type = np.complex64,
    ) -> None:
        self._lines = PairLines(angles, columns, length, dtype=dtype)
        self._threads, self._tolerance, self._upsampling = threads, tolerance, upsampling
        self._spectra = [self._lines.line_buffer() for _ in range(threads)]
        self._images = [self._lines.image_buffer() for _ in range(threads)]
        self._plans: dict[int, list[finufft.Plan]] = {}

    def forward(self, volume: np.ndarray) -> np.ndarray:
        """(z, y, x) -> (row, angle, column), lengths in pixels."""
        lines, plans = self._lines, self._planned(2)
        shape = len(volume), lines.num_angles, lines.columns
        sinograms = np.empty(shape, volume.dtype)

        def project(thread: int, pair: slice) -> None:
            lines.to_image(volume[pair], self._images[thread])
            plans[thread].execute(self._images[thread], out=self._spectra[thread])
            lines.from_spectra(self._spectra[thread], sinograms[pair])

        side_by_side(project, len(volume), self._threads)
        return sinograms

    def adjoint(self, sinograms: np.ndarray) -> np.ndarray:
        """(row, angle, column) -> (z, y, x), lengths in pixels."""
        lines, plans = self._lines, self._planned(1)
        volume = np.empty((len(sinograms), lines.columns, lines.columns), sinograms.dtype)

        def back_project(thread: int, pair: slice) -> None:
            lines.to_spectra(sinograms[pair], self._spectra[thread])
            plans[thread].execute(self._spectra[thread], out=self._images[thread])
            lines.from_image(self._images[thread], volume[pair])

        side_by_side(back_project, len(sinograms), self._threads)
        return volume

    def _planned(self, kind: int) -> list[finufft.Plan]:
        """A plan of type 1 or 2 for each thread."""
        if kind not in self._plans:
            self._plans[kind] = [self._plan(kind) for _ in range(self._threads)]
        return self._plans[kind]

    def _plan(self, kind: int) -> finufft.Plan:
        plan = finufft.Plan(
            kind,
            self._images[0].shape,
            eps=self._tolerance,
            isign=1 if kind == 1 else -1,
            dtype=np.dtype(self._lines.dtype).name,
            nthreads=1,
            upsampfac=self._upsampling,
            fftw=FFTW_MEASURE,
        )
        plan.setpts(*self._lines.points_yx)
        return plan
