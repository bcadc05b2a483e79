"""The Fourier projector by FINUFFT: slower than `fourier`, of any accuracy, and its oracle.

The Fourier transform of a view is a line through the transform of the slice (the central slice
theorem). A non-uniform FFT of type 2 reads those lines off a slice, one of type 1 puts them back
(Barnett, Magland, af Klinteberg 2019, doi:10.1137/18M120885X). A slice is real, so half of each
line is enough; every slice is transformed alone and by one thread, so its bytes depend on no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from math import ceil
from threading import Lock

import finufft
import numpy as np
import scipy.fft

from tomodask.geometry import ParallelBeam
from tomodask.projectors import row_centers
from tomodask.projectors.lines import line_length
from tomodask.projectors.rowfilter import VIEWS_AT_ONCE, RowFilter, view_runs

TOLERANCE = 1e-4  # of FINUFFT; 1e-3 is a tenth faster; float32 places allow 3e-4 at 4096 columns
UPSAMPLING = 1.25  # of its grid; its default, 2, takes twice as long for the same tolerance


class FinufftBackend:
    """Line integrals of a slice that is band-limited to its pixels, and their adjoint."""

    def __init__(self, shape_yx: tuple[int, int], geometry: ParallelBeam, threads: int = 1) -> None:
        self.shape_yx = shape_yx
        self.angles = geometry.angles
        self.det_count = geometry.det_count
        self.threads = threads
        self.centers = row_centers(geometry)
        self.shifts = geometry.shifts()
        self._lines_of_length: dict[int, _Lines] = {}  # one, or two where a leaning axis needs it

    def forward(self, volume: np.ndarray) -> np.ndarray:
        """(z, y, x) -> (row, angle, column), lengths in pixels."""
        sinograms = np.empty((len(volume), self.angles.size, self.det_count), np.float32)

        def project(row: int) -> None:
            lines = self._lines(row)
            turn = np.conj(lines.turn(self.centers[row]))
            with lines.workspace() as work:
                work.read_lines(volume[row])
                for views in view_runs(self.angles.size):
                    spectra = work.spectra[views] * np.conj(lines.moved[views])
                    spectra *= turn
                    rows = scipy.fft.irfft(spectra, lines.length, axis=1, overwrite_x=True)
                    sinograms[row, views] = rows[:, : self.det_count]

        self._for_each_row(project)
        return sinograms

    def adjoint(self, sinograms: np.ndarray) -> np.ndarray:
        """(row, angle, column) -> (z, y, x), lengths in pixels."""
        return self._put_back(lambda row, views, length: sinograms[row, views], lambda length: 0)

    def filtered_adjoint(self, sinograms: np.ndarray, row_filter: RowFilter) -> np.ndarray:
        """Filter, weight and back-project, run of views by run of views, while in the cache.

        The filter reaches beyond the detector's ends; as much of that as a line can hold is kept,
        as cutting it off would let the edges ring.
        """

        def before(length: int) -> int:
            return (min(length, row_filter.length) - self.det_count) // 2

        def filtered(row: int, views: slice, length: int) -> np.ndarray:
            tail = before(length)
            return row_filter.rows(sinograms[row, views], views, tail, tail)

        return self._put_back(filtered, before)

    def _put_back(
        self, rows_of: Callable[[int, slice, int], np.ndarray], before: Callable[[int], int]
    ) -> np.ndarray:
        """Back-project what `rows_of` gives for row, views, length: columns from -`before` on."""
        volume = np.empty((self.centers.size, *self.shape_yx), np.float32)

        def back_project(row: int) -> None:
            lines = self._lines(row)
            turn = lines.turn(self.centers[row] + before(lines.length)) * lines.adjoint_weights
            with lines.workspace() as work:
                for views in view_runs(self.angles.size):
                    rows = rows_of(row, views, lines.length)
                    spectra = scipy.fft.rfft(rows, lines.length, axis=1)
                    out = work.spectra[views]
                    np.multiply(spectra[:, : lines.num_frequencies], turn, out=out)
                    out *= lines.moved[views]
                work.put_lines_back(volume[row])

        self._for_each_row(back_project)
        return volume

    def _lines(self, row: int) -> _Lines:
        shift = float(np.abs(self.shifts).max())
        length = line_length(self.det_count, self.shape_yx, self.centers[row], shift)
        if length not in self._lines_of_length:
            self._lines_of_length[length] = _last_lines(
                self.angles.tobytes(), self.shifts.tobytes(), self.shape_yx, length
            )
        return self._lines_of_length[length]

    def _for_each_row(self, do: Callable[[int], None]) -> None:
        rows = range(self.centers.size)
        if self.threads == 1:
            for row in rows:
                do(row)
        else:
            with ThreadPoolExecutor(self.threads) as pool:
                list(pool.map(do, rows))  # the list raises what a thread raised

    @staticmethod
    def memory_bytes(
        num_angles: int, det_count: int, shape_yx: tuple[int, int], threads: int
    ) -> int:
        """For an axis up to a quarter of the detector off its middle, both directions in use."""
        length = line_length(det_count, shape_yx, det_count / 4)
        points, pixels = num_angles * ceil(length / 2), shape_yx[0] * shape_yx[1]
        shared = (8 + 8) * points  # places on the plane, shifts by half a pixel
        plan = 8 * points + 8 * UPSAMPLING**2 * pixels  # order of the points, FFT grid
        buffers = 8 * points + 8 * pixels + 8 * 4 * VIEWS_AT_ONCE * (2 * det_count + length)
        return int(shared + threads * (2 * plan + buffers))

    @staticmethod
    def row_bytes(num_angles: int, det_count: int, shape_yx: tuple[int, int]) -> int:
        """Nothing grows with the rows."""
        return 0


class _Lines:
    """Half lines through the frequency plane of a slice, one for each view.

    A line has the frequencies from 0 to below 1/2 a pixel; 1/2 itself has no sign and is left out.
    """

    def __init__(
        self, angles: np.ndarray, shifts: np.ndarray, shape_yx: tuple[int, int], length: int
    ) -> None:
        self.length = length
        self.num_frequencies = (length + 1) // 2
        self.shape_yx = shape_yx
        self.num_angles = angles.size
        self._frequencies = 2 * np.pi / length * np.arange(self.num_frequencies)
        shape = angles.size, self.num_frequencies
        self.points_yx = np.empty((2, *shape), np.float32)
        self.moved = np.empty(shape, np.complex64)
        # FINUFFT counts from pixel n // 2, half a pixel off the middle of an even row
        off_y, off_x = (1 - np.mod(shape_yx, 2)) / 2
        for views in view_runs(angles.size):  # float64 in pieces
            y = np.outer(np.sin(angles[views]), self._frequencies)
            x = np.outer(np.cos(angles[views]), self._frequencies)
            self.points_yx[0, views], self.points_yx[1, views] = y, x
            moved = off_y * y + off_x * x + np.outer(shifts[views], self._frequencies)
            self.moved[views] = np.exp(1j * moved)
        # the transpose of an inverse real FFT: 1/n, and the other half of the line
        self.adjoint_weights = np.full(self.num_frequencies, 2 / length, np.float32)
        self.adjoint_weights[0] = 1 / length
        self._idle: list[_Workspace] = []

    def turn(self, column: float) -> np.ndarray:
        """(num_frequencies,) factors that move the axis from column 0 to `column`, for A.T."""
        return np.asarray(np.exp(1j * column * self._frequencies).astype(np.complex64))

    @contextmanager
    def workspace(self) -> Iterator[_Workspace]:
        """Plans and buffers that no other thread uses meanwhile."""
        try:
            work = self._idle.pop()
        except IndexError:
            work = _Workspace(self)
        yield work
        self._idle.append(work)


class _Workspace:
    """One thread's plans and buffers for the slices of one geometry."""

    def __init__(self, lines: _Lines) -> None:
        self._points_yx = lines.points_yx.reshape(2, -1)
        self._plans: dict[int, finufft.Plan] = {}
        self._image = np.zeros(lines.shape_yx, np.complex64)
        self.spectra = np.empty((lines.num_angles, lines.num_frequencies), np.complex64)

    def read_lines(self, image: np.ndarray) -> None:
        """Fill `spectra` with the transform of a real slice."""
        self._image.real = image
        self._image.imag = 0
        self._plan(2).execute(self._image, out=self.spectra.reshape(-1))

    def put_lines_back(self, out: np.ndarray) -> None:
        """Fill a real slice with the sum of the lines in `spectra`."""
        self._plan(1).execute(self.spectra.reshape(-1), out=self._image)
        out[:] = self._image.real

    def _plan(self, kind: int) -> finufft.Plan:
        """FINUFFT's plan of type 1 or 2, with one thread, for it alone sums in a fixed order."""
        if kind not in self._plans:
            with _planning:
                plan = finufft.Plan(
                    kind,
                    self._image.shape,
                    eps=TOLERANCE,
                    isign=1 if kind == 1 else -1,
                    dtype="complex64",
                    nthreads=1,
                    upsampfac=UPSAMPLING,
                )
                plan.setpts(*self._points_yx)
            self._plans[kind] = plan
        return self._plans[kind]


@lru_cache(maxsize=1)
def _last_lines(angles: bytes, shifts: bytes, shape_yx: tuple[int, int], length: int) -> _Lines:
    """The lines made last: the next block of a scan takes them over, with their plans."""
    return _Lines(np.frombuffer(angles), np.frombuffer(shifts), shape_yx, length)


_planning = Lock()  # the FFT planner within is not thread-safe everywhere
