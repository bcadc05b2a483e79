"""Between half lines through the frequency plane and a Cartesian grid, by a kernel of 4 x 4 cells.

Where the samples lie and which weights they have is the same for every slice, so one index and one
weight serve all lanes. A slice is real: half the plane is enough, the rows y >= 0, and lines that
point below are conjugated. The grid is worked through by groups of rows that a thread has to
itself, in strips that stay in a cache: each cell adds up its samples in one order, whatever the
number of threads. Within a strip the samples are sorted by tiles, as runs along a view.

The kernel is Kaiser and Bessel's (Beatty, Nishimura, Pauly 2005, doi:10.1109/TMI.2005.848376), as
polynomials in the place within a cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import ceil

import numpy as np
from numpy.polynomial import Chebyshev, Polynomial

from tomodask.projectors.vectors import (
    LANES,
    SAMPLE,
    fma,
    inlined,
    kernel,
    load,
    mul,
    prefetch,
    splat,
    store,
)

WIDTH = 4  # cells; the kernels below are written out for it
PAD = WIDTH // 2 - 1  # cells of the kernel before the one that holds the sample
OVERSAMPLING = 27 / 16  # grid points a pixel: errors of 1e-3, as FINUFFT has for eps=1e-3
DEGREE = 7  # of the polynomials

STRIP_ROWS = 16
BUFFER_ROWS = STRIP_ROWS + WIDTH - 1
GROUP_STRIPS = 4
TILE_COLUMNS = 16
ONE = 1 << 32  # a cell in the fixed-point numbers that places are counted in


@inlined
def row_floats(kx):
    """Floats of a strip's row of kx cells, and those that the kernel reaches beyond.

    1 kB more than whole pages: rows that are pages apart are taken for each other by a processor
    that looks for a store a load must wait for.
    """
    floats = (kx + WIDTH) * SAMPLE
    return floats + (256 - floats) % 1024


# ---- the kernel -------------------------------------------------------------------------------


def kernel_shape(oversampling: float = OVERSAMPLING) -> float:
    """Beta of the kernel for its width and an oversampling, after Beatty et al., equation 5."""
    return float(np.pi * np.sqrt((WIDTH * (1 - 0.5 / oversampling)) ** 2 - 0.8))


def kernel_at(distance: np.ndarray, shape: float) -> np.ndarray:
    """Kaiser and Bessel's kernel at distances in cells, 1 at 0."""
    inside = np.maximum(1 - (2 * distance / WIDTH) ** 2, 0)
    value = np.i0(shape * np.sqrt(inside)) / np.i0(shape)
    return np.asarray(np.where(np.abs(distance) <= WIDTH / 2, value, 0))


def weight_polynomials(shape: float) -> np.ndarray:
    """(WIDTH, DEGREE + 1) coefficients, highest first, of t = 2 (place in a cell) - 1."""
    t = np.cos(np.pi * (np.arange(64) + 0.5) / 64)
    coefficients = [
        Chebyshev.fit(t, kernel_at(cell - PAD - (t + 1) / 2, shape), DEGREE, domain=[-1, 1])
        for cell in range(WIDTH)
    ]
    powers = [fitted.convert(kind=Polynomial).coef[::-1] for fitted in coefficients]
    return np.array(powers, np.float32)


def pixel_factors(size: int, grid: int, shape: float) -> np.ndarray:
    """(size,) one over the transform of the kernel, at the pixels -(size // 2), ..."""
    nodes, node_weights = np.polynomial.legendre.leggauss(64)
    distance = nodes * WIDTH / 2
    values = kernel_at(distance, shape) * node_weights * WIDTH / 2
    places = (np.arange(size) - size // 2) / grid
    return np.asarray(1 / (np.cos(2 * np.pi * places[:, None] * distance) @ values))


# ---- the plan ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class GridPlan:
    """Where the samples of all views lie on a grid of ky x kx cells, of which y >= 0 is kept.

    step_x, step_y : (views,) cells a frequency, in units of 1 / ONE; y steps are not negative.
    flips : (views,) -1 where the line points below and is conjugated.
    groups : (num_groups + 1,) first row of each group of strips; row r is y = r - PAD.
    strips : (num_strips, 2) rows of the samples' first cells, [start, stop).
    group_strips : (num_groups + 1,) first strip of each group.
    tiles : (num_strips, num_tiles + 1) first run of each tile. runs : (num_runs, 3) view, first
        frequency, number of frequencies.
    """

    ky: int
    kx: int
    step_x: np.ndarray
    step_y: np.ndarray
    flips: np.ndarray
    groups: np.ndarray
    strips: np.ndarray
    group_strips: np.ndarray
    tiles: np.ndarray
    runs: np.ndarray

    @property
    def rows(self) -> int:
        """Rows of half the grid, with those that the kernel reaches beyond."""
        return self.ky // 2 + WIDTH


def plan_grid(angles: np.ndarray, n: int, ky: int, kx: int) -> GridPlan:
    """Sort the n/2 frequencies of each view by strip and tile."""
    flips = np.where(np.sin(angles) < 0, -1.0, 1.0)
    step_x = np.rint(flips * np.cos(angles) * kx / n * ONE).astype(np.int64)
    step_y = np.rint(flips * np.sin(angles) * ky / n * ONE).astype(np.int64)
    rows = ky // 2 + WIDTH
    groups = np.append(np.arange(0, rows, GROUP_STRIPS * STRIP_ROWS), rows)
    strips: list[tuple[int, int]] = []
    group_strips = [0]
    for start, stop in pairwise(groups):
        # samples of the group before, whose kernels reach into this one
        if start > 0:
            strips.append((start - WIDTH + 1, start))
        edges = np.append(np.arange(start, stop, STRIP_ROWS), stop)
        strips += list(pairwise(edges))
        group_strips.append(len(strips))
    num_tiles = ceil((kx + WIDTH) / TILE_COLUMNS)
    tiles = np.zeros((len(strips), num_tiles + 1), np.int64)
    pieces = []
    total = 0
    for number, (start, stop) in enumerate(strips):
        counts = np.zeros(num_tiles + 1, np.int64)
        _find_runs(step_x, step_y, start, stop, n // 2, kx, counts, np.empty((0, 3), np.int32))
        tiles[number] = total + counts
        runs = np.empty((counts[-1], 3), np.int32)
        _find_runs(step_x, step_y, start, stop, n // 2, kx, counts, runs)
        pieces.append(runs)
        total += len(runs)
    return GridPlan(
        ky, kx, step_x, step_y, flips.astype(np.float32), groups, np.array(strips),
        np.array(group_strips), tiles, np.concatenate(pieces),
    )  # fmt: skip


@kernel
def _find_runs(step_x, step_y, start, stop, h, kx, first, runs):
    """Runs of frequencies whose first cell lies in rows [start, stop), by tile.

    With no room in `runs` fills `first` with the first run of each tile, else fills the runs.
    """
    counting = len(runs) == 0
    put = np.zeros(len(first) + 1, np.int64)
    if not counting:
        put[: len(first)] = first
    for view in range(len(step_x)):
        k, end = _frequencies_in(step_y[view], start, stop, h)
        while k < end:
            x = k * step_x[view] + kx // 2 * ONE
            tile = (x >> 32) // TILE_COLUMNS
            length = min(end - k, _steps_to_leave(x, step_x[view], tile))
            if counting:
                put[tile + 1] += 1
            else:
                run = put[tile]
                runs[run, 0], runs[run, 1], runs[run, 2] = view, k, length
                put[tile] += 1
            k += length
    if counting:
        for tile in range(len(first)):
            if tile > 0:
                put[tile] += put[tile - 1]
            first[tile] = put[tile]


@inlined
def _frequencies_in(step, start, stop, h):
    """[first, end) of the frequencies k with start <= floor(k step) < stop, k < h."""
    if step == 0:
        return (0, h) if start <= 0 < stop else (0, 0)
    first = 0 if start <= 0 else (start * ONE + step - 1) // step
    return min(first, h), min((stop * ONE + step - 1) // step, h)


@inlined
def _steps_to_leave(x, step, tile):
    """Steps from x until the cell is in another tile, at least 1."""
    if step > 0:
        edge = (tile + 1) * TILE_COLUMNS * ONE
        return (edge - x + step - 1) // step
    if step < 0:
        edge = tile * TILE_COLUMNS * ONE
        return (x - edge) // -step + 1
    return np.int64(1) << 40


# ---- samples to cells and back ----------------------------------------------------------------


@inlined
def _weights(x, step, polynomials, t, weights):
    """(WIDTH, LANES) weights along one axis of the next `LANES` samples of a run.

    For all of them at once: one by one, a sample would wait for its own weights.
    """
    unit = np.float32(2.0**-23)
    for s in range(LANES):
        t[s] = np.float32(np.int32(((x + s * step) >> 8) & 0xFFFFFF)) * unit - np.float32(1)
    place = load(t, 0)
    for cell in range(WIDTH):
        at = cell * (DEGREE + 1)
        value = splat(polynomials[at])
        for degree in range(1, DEGREE + 1):
            value = fma(value, place, splat(polynomials[at + degree]))
        store(weights, cell * LANES, value)


@inlined
def _add_row(grid, o, re, im, a, b, c, d):
    store(grid, o, fma(a, re, load(grid, o)))
    store(grid, o + LANES, fma(a, im, load(grid, o + LANES)))
    o += SAMPLE
    store(grid, o, fma(b, re, load(grid, o)))
    store(grid, o + LANES, fma(b, im, load(grid, o + LANES)))
    o += SAMPLE
    store(grid, o, fma(c, re, load(grid, o)))
    store(grid, o + LANES, fma(c, im, load(grid, o + LANES)))
    o += SAMPLE
    store(grid, o, fma(d, re, load(grid, o)))
    store(grid, o + LANES, fma(d, im, load(grid, o + LANES)))


@inlined
def _weighted(grid, o, a, b, c, d):
    first = fma(b, load(grid, o + SAMPLE), mul(a, load(grid, o)))
    return fma(d, load(grid, o + 3 * SAMPLE), fma(c, load(grid, o + 2 * SAMPLE), first))


@kernel
def spread_strip(lines, h, step_x, step_y, kx, runs, top, polynomials, strip):
    """Add the runs' samples to a strip, flat (rows, row_floats), whose first row is `top`."""
    row = row_floats(kx)
    t, wx, wy = _scratch()
    for run in range(len(runs)):
        _fetch_run(lines, h, runs, run + 1)
        view, k, left = np.int64(runs[run, 0]), np.int64(runs[run, 1]), np.int64(runs[run, 2])
        dx, dy = step_x[view], step_y[view]
        x, y = k * dx + kx // 2 * ONE, k * dy - top * ONE
        at = (view * h + k) * SAMPLE
        while left > 0:
            _weights(x, dx, polynomials, t, wx)
            _weights(y, dy, polynomials, t, wy)
            for s in range(left if left < LANES else LANES):
                o = (y >> 32) * row + (x >> 32) * SAMPLE
                re, im = load(lines, at), load(lines, at + LANES)
                a, b = splat(wx[s]), splat(wx[LANES + s])
                c, d = splat(wx[2 * LANES + s]), splat(wx[3 * LANES + s])
                for j in range(WIDTH):
                    w = splat(wy[j * LANES + s])
                    _add_row(strip, o + j * row, mul(w, re), mul(w, im), a, b, c, d)
                x += dx
                y += dy
                at += SAMPLE
            left -= LANES


@kernel
def next_strip(strip, kx, height):
    """Move what was begun of the next strip to the top, and clear the rest."""
    row = row_floats(kx)
    for at in range(0, (WIDTH - 1) * row, LANES):
        store(strip, at, load(strip, height * row + at))
    for at in range((WIDTH - 1) * row, len(strip), LANES):
        store(strip, at, splat(np.float32(0)))


@inlined
def _fetch_run(lines, h, runs, run):
    """Ask for a run's samples while the run before is worked on: they lie anywhere in memory."""
    if run < len(runs):
        at = (np.int64(runs[run, 0]) * h + np.int64(runs[run, 1])) * SAMPLE
        for line in range(np.int64(runs[run, 2]) * SAMPLE // 16):
            prefetch(lines, at + line * 16)


@kernel
def read_strip(strip, h, step_x, step_y, kx, runs, top, polynomials, lines):
    """The transpose of `spread_strip`: the runs' samples, interpolated from a strip."""
    row = row_floats(kx)
    t, wx, wy = _scratch()
    for run in range(len(runs)):
        _fetch_run(lines, h, runs, run + 1)
        view, k, left = np.int64(runs[run, 0]), np.int64(runs[run, 1]), np.int64(runs[run, 2])
        dx, dy = step_x[view], step_y[view]
        x, y = k * dx + kx // 2 * ONE, k * dy - top * ONE
        at = (view * h + k) * SAMPLE
        while left > 0:
            _weights(x, dx, polynomials, t, wx)
            _weights(y, dy, polynomials, t, wy)
            for s in range(left if left < LANES else LANES):
                o = (y >> 32) * row + (x >> 32) * SAMPLE
                a, b = splat(wx[s]), splat(wx[LANES + s])
                c, d = splat(wx[2 * LANES + s]), splat(wx[3 * LANES + s])
                re, im = splat(np.float32(0)), splat(np.float32(0))
                for j in range(WIDTH):
                    w = splat(wy[j * LANES + s])
                    re = fma(w, _weighted(strip, o + j * row, a, b, c, d), re)
                    im = fma(w, _weighted(strip, o + j * row + LANES, a, b, c, d), im)
                store(lines, at, re)
                store(lines, at + LANES, im)
                x += dx
                y += dy
                at += SAMPLE
            left -= LANES


@inlined
def _scratch():
    """Places within a cell, and weights along x and along y, of `LANES` samples."""
    return (
        np.empty(LANES, np.float32),
        np.empty(WIDTH * LANES, np.float32),
        np.empty(WIDTH * LANES, np.float32),
    )
