"""Joseph's projector for parallel beams on any processor: the `LANES` slices of a vector at once.

A and A.T are those of `reference`, an exact pair: A follows each ray over the rows of pixels (or
the columns, if it runs closer to x), A.T gathers for each pixel the two columns around it. Threads
own what they write, so neither adds to a value that another one adds to.
(Joseph 1982, doi:10.1109/TMI.1982.4307572)
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from time import perf_counter

import numpy as np

from tomodask import arrays
from tomodask.geometry import ParallelBeam
from tomodask.projectors import row_centers
from tomodask.projectors.compiling import one_process_at_a_time
from tomodask.projectors.lane_joseph import (
    MARGIN,
    back_project,
    lines_into_lanes,
    project,
)
from tomodask.projectors.lane_plane import Rows
from tomodask.projectors.vectors import LANES
from tomodask.threads import share

log = logging.getLogger(__name__)

# What a core's second cache of 1 MB holds: sums, and the pixels or columns that they are taken from
VIEWS = 64  # of A, neighbours in angle: they meet nearly the same pixels
COLUMNS = 64
PIXELS = 64  # a side of the tiles of A.T
LINES = 64  # laid into lanes at once
TOLD_SECONDS = 2.0  # kernels that are only read from the disk take a tenth of it


class JosephSlices:
    """Joseph's projector and its transpose, as `ReferenceBackend` has them, in float32.

    Rows with one centre share the lanes of a vector. Where each row has its own, on an axis that
    leans, a vector has one row: exact all the same, and `LANES` times as slow.
    """

    def __init__(self, shape_yx: tuple[int, int], geometry: ParallelBeam, threads: int = 1) -> None:
        self.prepare()
        self._set_up(shape_yx, geometry, threads)

    def _set_up(self, shape_yx: tuple[int, int], geometry: ParallelBeam, threads: int) -> None:
        self.shape_yx = shape_yx
        self.det_count = geometry.det_count
        self.num_angles = geometry.num_angles
        self.centers = row_centers(geometry)
        self.threads = threads
        self._shifts = geometry.shifts()
        self._cos, self._sin = np.cos(geometry.angles), np.sin(geometry.angles)

    @staticmethod
    def prepare() -> float:
        """Load the kernels, and compile those that this machine has not compiled yet."""
        return compile_kernels()

    def forward(self, volume: np.ndarray) -> np.ndarray:
        """(z, y, x) -> (row, angle, column), lengths in pixels."""
        sinograms = arrays.empty((len(volume), self.num_angles, self.det_count))
        for rows in self._batches():
            self._project(volume[rows], self.centers[rows.start], sinograms[rows])
        return sinograms

    def adjoint(self, sinograms: np.ndarray) -> np.ndarray:
        """(row, angle, column) -> (z, y, x), lengths in pixels."""
        volume = arrays.empty((len(sinograms), *self.shape_yx))
        for rows in self._batches():
            self._back_project(sinograms[rows], self.centers[rows.start], volume[rows])
        return volume

    def _batches(self) -> Iterator[slice]:
        """Runs of up to `LANES` rows with the very same centre."""
        start = 0
        for row in range(1, self.centers.size + 1):
            full = row == self.centers.size or row - start == LANES
            if full or self.centers[row] != self.centers[start]:
                yield slice(start, row)
                start = row

    def _project(self, slices: np.ndarray, center: float, sinograms: np.ndarray) -> None:
        ny, nx = self.shape_yx
        step = _line_floats(nx)
        image = arrays.empty((ny + 2 * MARGIN) * step)
        image[: MARGIN * step] = image[(MARGIN + ny) * step :] = 0
        self._into_lanes(slices, image[MARGIN * step :], step)
        out = Rows.of(sinograms)
        along_y, along_x = (
            _rays(axis, self.shape_yx, center + self._shifts, self._cos, self._sin)
            for axis in (0, 1)
        )
        blocks = [
            (rays, views[first : first + VIEWS], column)
            for rays, views in zip((along_y, along_x), _by_axis(self._cos, self._sin), strict=True)
            for first in range(0, views.size, VIEWS)
            for column in range(0, self.det_count, COLUMNS)
        ]

        def work(number: int) -> None:
            rays, views, column = blocks[number]
            row_step, pixel_step = (step, LANES) if rays is along_y else (LANES, step)
            project(
                image, row_step, pixel_step, *(self.shape_yx if rays is along_y else (nx, ny)),
                views, rays.steps, rays.slopes, rays.starts, rays.lengths, column,
                min(COLUMNS, self.det_count - column), out.values, out.view_step, out.row_step,
                out.num_rows, self.det_count, arrays.empty(VIEWS * COLUMNS * LANES),
            )  # fmt: skip

        share(work, len(blocks), self.threads)

    def _back_project(self, sinograms: np.ndarray, center: float, slices: np.ndarray) -> None:
        ny, nx = self.shape_yx
        step = _line_floats(self.det_count)
        lines = arrays.empty(self.num_angles * step)
        self._into_lanes(sinograms, lines, step)
        starts = center + self._shifts - (ny - 1) / 2 * self._sin - (nx - 1) / 2 * self._cos
        width = np.maximum(np.abs(self._cos), np.abs(self._sin))
        heights, falls = (1 / width).astype(np.float32), (1 / width**2).astype(np.float32)
        out = Rows.of(slices)
        tiles = [(y, x) for y in range(0, ny, PIXELS) for x in range(0, nx, PIXELS)]

        def work(number: int) -> None:
            y, x = tiles[number]
            back_project(
                lines, step, self.num_angles, self.det_count, self._cos, self._sin, starts,
                heights, falls, y, min(PIXELS, ny - y), x, min(PIXELS, nx - x), out.values,
                out.view_step, out.row_step, out.num_rows, arrays.empty(PIXELS**2 * LANES),
            )  # fmt: skip

        share(work, len(tiles), self.threads)

    def _into_lanes(self, values: np.ndarray, out: np.ndarray, step: int) -> None:
        """(row, line, value) -> flat (line, value, LANES), `step` floats a line."""
        source, count = Rows.of(values), values.shape[1]

        def work(number: int) -> None:
            first = number * LINES
            lines_into_lanes(
                source.values, source.view_step, source.row_step, source.num_rows, source.count,
                first, min(first + LINES, count), out, step,
            )  # fmt: skip

        share(work, -(-count // LINES), self.threads)

    @staticmethod
    def memory_bytes(
        num_angles: int, det_count: int, shape_yx: tuple[int, int], threads: int
    ) -> int:
        """A slice and a sinogram in lanes, as A's memory is kept when A.T comes; and sums."""
        ny, nx = shape_yx
        sums = threads * LANES * (VIEWS * COLUMNS + PIXELS**2)
        lanes = (ny + 2 * MARGIN) * _line_floats(nx) + num_angles * _line_floats(det_count)
        return 4 * (lanes + sums)

    @staticmethod
    def row_bytes(num_angles: int, det_count: int, shape_yx: tuple[int, int]) -> int:
        """The filtered copy of a sinogram."""
        return 4 * num_angles * det_count


@dataclass(frozen=True)
class _Rays:
    """Of every view: column s meets row i of pixels at s steps + i slopes + starts."""

    steps: np.ndarray
    slopes: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray


def _rays(
    axis: int, shape_yx: tuple[int, int], centers: np.ndarray, cos: np.ndarray, sin: np.ndarray
) -> _Rays:
    """Rays followed along y (axis 0) or x (1); only those of views that run closest to it count."""
    across, along = (cos, sin) if axis == 0 else (sin, cos)
    followed, crossed = shape_yx if axis == 0 else shape_yx[::-1]
    with np.errstate(divide="ignore", invalid="ignore"):  # views that are followed the other way
        steps, slopes = 1 / across, -along / across
        starts = (crossed - 1) / 2 - centers * steps - (followed - 1) / 2 * slopes
        lengths = np.abs(steps).astype(np.float32)
    return _Rays(steps, slopes, starts, lengths)


def _by_axis(cos: np.ndarray, sin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Views whose rays run closest to y, and to x; neighbours in angle side by side."""
    order = np.argsort(np.arctan2(sin, cos) % np.pi, kind="stable")
    closest_to_x = np.abs(cos) < np.abs(sin)
    return order[~closest_to_x[order]], order[closest_to_x[order]]


def _line_floats(count: int) -> int:
    """Of a line in lanes with its margins; an odd number of vectors, or the lines of a tile would
    lie in the same few places of the cache."""
    return ((count + 2 * MARGIN) | 1) * LANES


@lru_cache(maxsize=1)
def compile_kernels() -> float:
    """Load the kernels, and compile those that this machine has not compiled yet; the seconds.

    Workers that start together wait for the first one, and then read what it has compiled.
    """
    began = perf_counter()
    with one_process_at_a_time():
        small = JosephSlices.__new__(JosephSlices)  # its __init__ would come here again
        small._set_up((4, 4), ParallelBeam(np.arange(2.0), 1, 4, center_of_rotation=1.5), 1)
        small.adjoint(small.forward(np.zeros((1, 4, 4), np.float32)))
    seconds = perf_counter() - began
    if seconds > TOLD_SECONDS:
        log.warning("compiled the projector in %.0f s; this machine keeps it from now on", seconds)
    return seconds
