"""The Fourier projector: O(N^2 log N) a slice instead of O(N^3), many slices at once.

The Fourier transform of a view is a line through the transform of the slice (the central slice
theorem). A.T adds the lines to a grid and transforms that into slices, A reads them off it. Places
and weights are the same for all slices, so one lookup serves the `LANES` slices of a vector; no
lane knows of the others, so a row's bytes depend on that row alone. (Arcadu et al. 2016,
doi:10.1109/TIP.2016.2516945, and Marone and Stampanoni 2012, doi:10.1107/S0909049512032864, grid
two slices as one complex image instead.)
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import lru_cache
from time import perf_counter

import numpy as np
import scipy.fft

from tomodask import arrays
from tomodask.geometry import ParallelBeam
from tomodask.projectors import row_centers
from tomodask.projectors.compiling import one_process_at_a_time
from tomodask.projectors.lane_plane import Plane, Rows, Sizes
from tomodask.projectors.lines import is_smooth, line_length
from tomodask.projectors.parts import Part
from tomodask.projectors.rowfilter import RowFilter
from tomodask.projectors.vectors import LANES

log = logging.getLogger(__name__)

TOLD_SECONDS = 2.0  # kernels that are only read from the disk take a tenth of it


class FourierBackend:
    """Line integrals of a slice that is band-limited to its pixels, and their adjoint.

    stage_seconds : of the last call, by stage ("rows", "grid", "slices"), all batches together.
    """

    def __init__(self, shape_yx: tuple[int, int], geometry: ParallelBeam, threads: int = 1) -> None:
        self.prepare()
        self.shape_yx = shape_yx
        self.angles = geometry.angles
        self.shifts = geometry.shifts()
        self.det_count = geometry.det_count
        self.threads = threads
        self.centers = row_centers(geometry)
        self.stage_seconds: dict[str, float] = {}
        self._planes: dict[int, Plane] = {}  # by length, for FBP's lines are longer than A.T's

    @staticmethod
    def prepare() -> float:
        """Load all kernels, and compile those that this machine has not compiled yet."""
        return compile_kernels()

    def forward(self, volume: np.ndarray) -> np.ndarray:
        """(z, y, x) -> (row, angle, column), lengths in pixels."""
        sinograms = arrays.empty((len(volume), self.angles.size, self.det_count))
        self.stage_seconds = {}
        for rows, length in self._batches():
            slices = np.ascontiguousarray(volume[rows])
            with self._plane(length).workspace(self.threads, self.stage_seconds) as work:
                work.read_lines(slices)
                work.lines_to_rows(Rows.of(sinograms[rows]), self._lanes(rows), self.shifts)
        return sinograms

    def adjoint(self, sinograms: np.ndarray) -> np.ndarray:
        """(row, angle, column) -> (z, y, x), lengths in pixels."""
        return self._put_back(sinograms, None)

    def filtered_adjoint(self, sinograms: np.ndarray, row_filter: RowFilter) -> np.ndarray:
        """Filter, weight and back-project; the filter is one more factor of the lines.

        Its tails beyond the detector's ends are kept, as cutting them off would let the edges ring.
        """
        return self._put_back(sinograms, row_filter)

    def filtered_adjoint_parts(
        self, sinograms: np.ndarray, row_filter: RowFilter, parts: Sequence[Part]
    ) -> np.ndarray:
        """The same with the sum over the views of each part alone, (part, z, y, x).

        The lines are filled and filtered once for all parts.
        """
        volumes = arrays.empty((len(parts), self.centers.size, *self.shape_yx))
        self._put_back(sinograms, row_filter, parts, volumes)
        return volumes

    def _put_back(
        self,
        sinograms: np.ndarray,
        row_filter: RowFilter | None,
        parts: Sequence[Part] = (),
        volumes: np.ndarray | None = None,
    ) -> np.ndarray:
        if volumes is None:
            volumes = arrays.empty((1, self.centers.size, *self.shape_yx))
        self.stage_seconds = {}
        for rows, length in self._batches():
            part, centers, fused = sinograms[rows], self._lanes(rows), row_filter
            if row_filter is not None and _can_be_fused(row_filter, length):
                length = row_filter.length
            elif row_filter is not None:  # filtered before, with tails as long as a line can hold
                before = (min(row_filter.length, length) - self.det_count) // 2
                part = np.stack([row_filter.rows(one, slice(None), before, before) for one in part])
                centers, fused = centers + before, None
            with self._plane(length).workspace(self.threads, self.stage_seconds) as work:
                work.rows_to_lines(Rows.of(part), centers, self.shifts, fused)
                for number, volume in enumerate(volumes):
                    work.put_lines_back(volume[rows], parts[number] if parts else None)
        return np.asarray(volumes[0])

    def _batches(self) -> Iterator[tuple[slice, int]]:
        """Runs of up to `LANES` rows whose lines are equally long."""
        lengths = [
            line_length(self.det_count, self.shape_yx, center, np.abs(self.shifts).max())
            for center in self.centers
        ]
        start = 0
        for row in range(1, len(lengths) + 1):
            if row == len(lengths) or row - start == LANES or lengths[row] != lengths[start]:
                yield slice(start, row), lengths[start]
                start = row

    def _lanes(self, rows: slice) -> np.ndarray:
        """(LANES,) columns of the axis; idle lanes have the last row's."""
        centers = self.centers[rows]
        return np.append(centers, np.repeat(centers[-1], LANES - centers.size))

    def _plane(self, length: int) -> Plane:
        if length not in self._planes:
            self._planes[length] = _last_plane(self.angles.tobytes(), self.shape_yx, length)
        return self._planes[length]

    @staticmethod
    def memory_bytes(
        num_angles: int, det_count: int, shape_yx: tuple[int, int], threads: int
    ) -> int:
        """Of FBP; A and A.T alone take less."""
        filtered = 2 * int(scipy.fft.next_fast_len(det_count, real=True))
        length = max(filtered, line_length(det_count, shape_yx, det_count / 2))
        return Sizes.of(num_angles, shape_yx, length).bytes(threads)

    @staticmethod
    def row_bytes(num_angles: int, det_count: int, shape_yx: tuple[int, int]) -> int:
        """Nothing grows with the rows."""
        return 0


def _can_be_fused(row_filter: RowFilter, length: int) -> bool:
    """Whether lines may be as long as the filter: slices may need longer ones."""
    return row_filter.length >= length and is_smooth(row_filter.length // 2)


@lru_cache(maxsize=1)
def compile_kernels() -> float:
    """Load all kernels, and compile those that this machine has not compiled yet; the seconds.

    Workers that start together wait for the first one, and then read what it has compiled.
    """
    began = perf_counter()
    with one_process_at_a_time():
        plane, shape = Plane(np.arange(3.0), (8, 8), 16), (LANES, 3, 8)
        with plane.workspace(1, {}) as work:
            rows, slices = Rows.of(np.zeros(shape, np.float32)), np.zeros((LANES, 8, 8), np.float32)
            work.rows_to_lines(rows, np.zeros(LANES), np.zeros(3), None)
            work.put_lines_back(slices)
            work.read_lines(slices)
            work.lines_to_rows(rows, np.zeros(LANES), np.zeros(3))
    seconds = perf_counter() - began
    if seconds > TOLD_SECONDS:
        log.warning("compiled the projector in %.0f s; this machine keeps it from now on", seconds)
    return seconds


@lru_cache(maxsize=1)
def _last_plane(angles: bytes, shape_yx: tuple[int, int], length: int) -> Plane:
    """The plane made last: the next block of a scan takes it over, with its buffers."""
    return Plane(np.frombuffer(angles), shape_yx, length)
