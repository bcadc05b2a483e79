"""The frequency plane of `LANES` slices: what is made once a geometry, and the stages on threads.

    rows_to_lines     detector rows -> half lines, filtered      lines_to_rows    and its transpose
    put_lines_back    lines -> grid -> slices                    read_lines       and its transpose

Buffers are made once and used for every batch; each stage is cut into parts that a thread has to
itself, so no sum depends on the number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil
from time import perf_counter
from typing import Any, Self

import numpy as np

from tomodask.projectors import lane_grid as grid
from tomodask.projectors.lane_fft import line_fft, work_samples
from tomodask.projectors.lane_image import (
    COLUMNS_AT_ONCE,
    column_work,
    columns_floats,
    columns_to_slices,
    columns_to_strip,
    slices_to_columns,
    strip_to_columns,
)
from tomodask.projectors.lane_real import real_twiddles
from tomodask.projectors.lane_rows import lines_to_rows, row_work, rows_to_lines
from tomodask.projectors.lines import fast_length
from tomodask.projectors.parts import Part
from tomodask.projectors.rowfilter import RowFilter, edge_fade
from tomodask.projectors.vectors import SAMPLE, aligned_empty
from tomodask.threads import share

VIEWS_AT_ONCE = 16  # of a thread's turn
PAGE_BYTES = 2 * 2**20  # a large page of memory: what is begun counts whole
_NO_FADE = np.empty(0, np.float32)


@dataclass(frozen=True)
class Sizes:
    """Floats of the buffers: of the half lines, of the columns, and of each thread."""

    lines: int
    columns: int
    work: int

    @classmethod
    def of(cls, num_angles: int, shape_yx: tuple[int, int], n: int) -> Self:
        (ny, nx), (ky, kx) = shape_yx, grid_shape(shape_yx)
        work = max(
            row_work(n) + work_samples(n // 2) * SAMPLE,
            column_work(ky, ny) + work_samples(ky // 2) * SAMPLE,
            grid.BUFFER_ROWS * grid.row_floats(kx) + (kx + work_samples(kx)) * SAMPLE,
        )
        return cls(num_angles * (n // 2) * SAMPLE, columns_floats(ky, nx), work)

    def bytes(self, threads: int) -> int:
        """All buffers, and a fiftieth more for runs, factors and the ends of pages."""
        buffers = 4 * (self.lines + self.columns + threads * self.work)
        return buffers + buffers // 50 + PAGE_BYTES


def grid_shape(shape_yx: tuple[int, int]) -> tuple[int, int]:
    """(ky, kx) points of the grid for slices of a shape."""
    least = [max(2 * grid.WIDTH, ceil(grid.OVERSAMPLING * size)) for size in shape_yx]
    return fast_length(least[0]), fast_length(least[1])


@dataclass(frozen=True, eq=False)
class Rows:
    """Detector rows in memory: value u of row r in view v at v view_step + r row_step + u."""

    values: np.ndarray
    view_step: int
    row_step: int
    num_rows: int
    count: int

    @classmethod
    def of(cls, sinograms: np.ndarray) -> Self:
        """From (row, angle, column) float32, copied only where columns are not neighbours."""
        if sinograms.strides[2] != 4 or min(sinograms.strides) < 0:
            sinograms = np.ascontiguousarray(sinograms)
        row_step, view_step, _ = (stride // 4 for stride in sinograms.strides)
        num_rows, num_angles, count = sinograms.shape
        span = (num_rows - 1) * row_step + (num_angles - 1) * view_step + count
        flat = np.lib.stride_tricks.as_strided(sinograms, (span,), (4,))
        return cls(flat, view_step, row_step, num_rows, count)


class Plane:
    """Samples, factors and plans for slices of a shape, some angles and lines of n columns."""

    def __init__(self, angles: np.ndarray, shape_yx: tuple[int, int], n: int) -> None:
        ny, nx = shape_yx
        self.n, self.shape_yx, self.angles, self.num_angles = n, shape_yx, angles, angles.size
        self.ky, self.kx = grid_shape(shape_yx)
        self.plan = grid.plan_grid(angles, n, self.ky, self.kx)
        # even sizes have their middle between two pixels
        self.half_pixel = (1 - ny % 2) / 2 * np.sin(angles) + (1 - nx % 2) / 2 * np.cos(angles)
        shape = grid.kernel_shape()
        self.polynomials = grid.weight_polynomials(shape).ravel()
        sign = 1 - 2 * (np.abs(np.arange(nx) - nx // 2) % 2)  # the grid begins at -kx / 2
        self.factors_x = (grid.pixel_factors(nx, self.kx, shape) * sign).astype(np.float32)
        self.factors_y = grid.pixel_factors(ny, self.ky, shape).astype(np.float32)
        self.response = np.full(n // 2, 2 / n, np.float32)  # of an inverse real FFT
        self.response[0] = 1 / n
        self.fft_n, self.fft_x, self.fft_y = (
            line_fft(length).arguments for length in (n // 2, self.kx, self.ky // 2)
        )
        self.turns_n, self.turns_y = real_twiddles(n), real_twiddles(self.ky)
        self.sizes = Sizes.of(angles.size, shape_yx, n)
        self._idle: list[Workspace] = []
        self._part_plans: dict[bytes, grid.GridPlan] = {}

    def plan_of(self, views: np.ndarray) -> grid.GridPlan:
        """Where the samples of some of the views lie; its runs name the views of all of them."""
        key = views.tobytes()
        if key not in self._part_plans:
            alone = grid.plan_grid(self.angles[views], self.n, self.ky, self.kx)
            runs = alone.runs.copy()
            runs[:, 0] = views[runs[:, 0]]
            whole = self.plan
            self._part_plans[key] = replace(
                alone, step_x=whole.step_x, step_y=whole.step_y, flips=whole.flips, runs=runs
            )
        return self._part_plans[key]

    @contextmanager
    def workspace(self, threads: int, seconds: dict[str, float]) -> Iterator[Workspace]:
        """Buffers that no other call uses meanwhile; `seconds` gets the time of each stage."""
        try:
            work = self._idle.pop()
        except IndexError:
            work = Workspace(self.sizes)
        work.plane, work.threads, work.seconds = self, threads, seconds
        yield work
        del work.plane  # no cycle: the memory goes with the plane
        self._idle.append(work)


class Workspace:
    """The buffers of one batch of slices, and what is done in them."""

    plane: Plane
    threads: int
    seconds: dict[str, float]

    def __init__(self, sizes: Sizes) -> None:
        self.lines = aligned_empty(sizes.lines)
        self.columns = aligned_empty(sizes.columns)
        self._buffers: list[np.ndarray] = []

    def rows_to_lines(
        self, rows: Rows, centers: np.ndarray, shifts: np.ndarray, row_filter: RowFilter | None
    ) -> None:
        """Fill the lines from detector rows, filtered; centers by lane, shifts by view."""
        plane, h = self.plane, self.plane.n // 2
        response, weights, fade = plane.response, np.ones(plane.num_angles, np.float32), _NO_FADE
        if row_filter is not None:
            response = (response * row_filter.response[:h]).astype(np.float32)
            weights = row_filter.weights.astype(np.float32)
            if row_filter.pad_mode == "edge":
                fade = edge_fade(rows.count, plane.n)

        def part(number: int, buffer: np.ndarray) -> None:
            first, last = self._views(number)
            rows_to_lines(
                rows.values, rows.view_step, rows.row_step, rows.num_rows, rows.count, first, last,
                weights, response, fade, centers, shifts + plane.half_pixel, plane.plan.flips,
                plane.n, plane.turns_n, plane.fft_n, buffer, self.lines,
            )  # fmt: skip

        self._share("rows", part, -(-plane.num_angles // VIEWS_AT_ONCE))

    def lines_to_rows(self, rows: Rows, centers: np.ndarray, shifts: np.ndarray) -> None:
        """The transpose without a filter: fill detector rows from the lines."""
        plane = self.plane

        def part(number: int, buffer: np.ndarray) -> None:
            first, last = self._views(number)
            lines_to_rows(
                self.lines, first, last, plane.response, centers, shifts + plane.half_pixel,
                plane.plan.flips, plane.n, plane.turns_n, plane.fft_n, buffer, rows.values,
                rows.view_step, rows.row_step, rows.num_rows, rows.count,
            )  # fmt: skip

        self._share("rows", part, -(-plane.num_angles // VIEWS_AT_ONCE))

    def put_lines_back(self, slices: np.ndarray, part: Part | None = None) -> None:
        """Fill slices (rows, ny, nx) with the sum of the lines, or of a part of them."""
        plane = self.plane
        plan = plane.plan if part is None else plane.plan_of(part.views)
        scale = np.float32(1 if part is None else part.scale)

        def spread(group: int, buffer: np.ndarray) -> None:
            self._spread_group(plan, group, buffer)

        self._share("grid", spread, len(plan.groups) - 1)
        factors = plane.factors_y * (scale / 2)  # half the plane was kept
        flat = slices.reshape(-1)

        def transform(number: int, buffer: np.ndarray) -> None:
            columns_to_slices(
                self.columns, *self._columns(number, factors, buffer), flat, len(slices)
            )

        self._share("slices", transform, -(-slices.shape[2] // COLUMNS_AT_ONCE))

    def read_lines(self, slices: np.ndarray) -> None:
        """The transpose: fill the lines from slices."""
        flat = slices.reshape(-1)

        def part(number: int, buffer: np.ndarray) -> None:
            arguments = self._columns(number, self.plane.factors_y, buffer)
            slices_to_columns(flat, *arguments, self.columns, len(slices))

        self._share("slices", part, -(-slices.shape[2] // COLUMNS_AT_ONCE))
        self._share("grid", self._read_group, len(self.plane.plan.groups) - 1)

    def _spread_group(self, plan: grid.GridPlan, group: int, buffer: np.ndarray) -> None:
        """Add samples to a group's rows, strip by strip; each is transformed while in the cache."""
        plane = self.plane
        row = grid.row_floats(plane.kx)
        strip, rest = buffer[: grid.BUFFER_ROWS * row], buffer[grid.BUFFER_ROWS * row :]
        strip[:] = 0
        for number in range(*plan.group_strips[group : group + 2]):
            start, stop = plan.strips[number]
            tiles = plan.tiles[number]
            grid.spread_strip(
                self.lines, plane.n // 2, plan.step_x, plan.step_y, plane.kx,
                plan.runs[tiles[0] : tiles[-1]], start, plane.polynomials, strip,
            )  # fmt: skip
            height = stop - start
            if start >= plan.groups[group]:
                strip_to_columns(
                    strip, height, plane.ky, plane.kx, self.nx, plane.factors_x, plane.fft_x, rest,
                    self.columns, start,
                )  # fmt: skip
            grid.next_strip(strip, plane.kx, height)

    def _read_group(self, group: int, buffer: np.ndarray) -> None:
        """The transpose: transform a group's rows, strip by strip, and read the samples off."""
        plane, plan = self.plane, self.plane.plan
        row = grid.row_floats(plane.kx)
        strip, rest = buffer[: grid.BUFFER_ROWS * row], buffer[grid.BUFFER_ROWS * row :]
        ready = plan.groups[group]  # rows before it are in the strip
        for number in range(*plan.group_strips[group : group + 2]):
            start, stop = plan.strips[number]
            if start < plan.groups[group]:
                continue  # the group before reads them
            kept = ready - start
            last = min(stop + grid.WIDTH - 1, plan.rows)
            columns_to_strip(
                self.columns, ready, last - ready, plane.ky, plane.kx, self.nx, plane.factors_x,
                plane.fft_x, rest, strip, kept,
            )  # fmt: skip
            ready = last
            tiles = plan.tiles[number]
            grid.read_strip(
                strip, plane.n // 2, plan.step_x, plan.step_y, plane.kx,
                plan.runs[tiles[0] : tiles[-1]], start, plane.polynomials, self.lines,
            )  # fmt: skip
            done = (stop - start) * row
            carried = (ready - stop) * row
            strip[:carried] = strip[done : done + carried].copy()

    @property
    def nx(self) -> int:
        return self.plane.shape_yx[1]

    def _columns(self, number: int, factors: np.ndarray, buffer: np.ndarray) -> tuple[Any, ...]:
        """What both kernels along y take of a block of columns."""
        plane, (ny, nx) = self.plane, self.plane.shape_yx
        first = number * COLUMNS_AT_ONCE
        return (
            first, min(nx, first + COLUMNS_AT_ONCE), plane.ky, nx, ny, factors, plane.turns_y,
            plane.fft_y, buffer,
        )  # fmt: skip

    def _views(self, number: int) -> tuple[int, int]:
        first = number * VIEWS_AT_ONCE
        return first, min(self.plane.num_angles, first + VIEWS_AT_ONCE)

    def _share(self, stage: str, part: Any, count: int) -> None:
        """Do all parts of a stage, each with a buffer that no other thread has meanwhile."""
        began = perf_counter()

        def one(number: int) -> None:
            try:
                buffer = self._buffers.pop()
            except IndexError:
                buffer = aligned_empty(self.plane.sizes.work)
            part(number, buffer)
            self._buffers.append(buffer)

        share(one, count, self.threads)
        self.seconds[stage] = self.seconds.get(stage, 0.0) + perf_counter() - began
