"""Between the grid of half a frequency plane and slices: the two axes of a 2D FFT.

Along x rows are transformed as their strips are finished, and just the columns of the slice kept:
`columns`, flat (rows of half the grid, nx, SAMPLE). Along y each column becomes a real line.
"""

from __future__ import annotations

import numpy as np

from tomodask.projectors.lane_fft import fft_line, half_spectrum, pack_spectrum
from tomodask.projectors.lane_grid import PAD, WIDTH
from tomodask.projectors.vectors import (
    LANES,
    SAMPLE,
    add,
    inlined,
    kernel,
    load,
    mul,
    splat,
    store,
    sub,
)

COLUMNS_AT_ONCE = 16  # of y lines done together: a cache line of a slice's row


# ---- along x ------------------------------------------------------------------------------------


@kernel
def strip_to_columns(strip, num_rows, kx, nx, factors, plan, work, columns, first):
    """Transform the first rows of a strip; they are rows from `first` on of `columns`."""
    line, rest = work[: kx * SAMPLE], work[kx * SAMPLE :]
    row = (kx + WIDTH) * SAMPLE
    for r in range(num_rows):
        for j in range(WIDTH):  # the grid is periodic
            if j < PAD:
                _add_sample(strip, r * row + j * SAMPLE, r * row + (kx + j) * SAMPLE)
            else:
                _add_sample(strip, r * row + (kx + j) * SAMPLE, r * row + j * SAMPLE)
        fft_line(strip, r * row + PAD * SAMPLE, SAMPLE, line, rest, plan, True)
        out = (first + r) * nx * SAMPLE
        for i in range(nx):
            at, factor = (i - nx // 2) % kx * SAMPLE, splat(factors[i])
            store(columns, out + i * SAMPLE, mul(factor, load(line, at)))
            store(columns, out + i * SAMPLE + LANES, mul(factor, load(line, at + LANES)))


@kernel
def columns_to_strip(columns, first, num_rows, kx, nx, factors, plan, work, strip, at_row):
    """The transpose: rows of `columns` fill rows from `at_row` on of a strip."""
    line, rest = work[: kx * SAMPLE], work[kx * SAMPLE :]
    row = (kx + WIDTH) * SAMPLE
    for r in range(num_rows):
        line[:] = np.float32(0)
        start = (first + r) * nx * SAMPLE
        for i in range(nx):
            at, factor = (i - nx // 2) % kx * SAMPLE, splat(factors[i])
            store(line, at, mul(factor, load(columns, start + i * SAMPLE)))
            store(line, at + LANES, mul(factor, load(columns, start + i * SAMPLE + LANES)))
        out = (at_row + r) * row
        cells = strip[out + PAD * SAMPLE : out + (PAD + kx) * SAMPLE]
        fft_line(line, 0, SAMPLE, cells, rest, plan, False)
        for j in range(WIDTH):
            if j < PAD:
                _copy_sample(strip, out + (kx + j) * SAMPLE, out + j * SAMPLE)
            else:
                _copy_sample(strip, out + j * SAMPLE, out + (kx + j) * SAMPLE)


@inlined
def _add_sample(x, i, o):
    store(x, o, add(load(x, o), load(x, i)))
    store(x, o + LANES, add(load(x, o + LANES), load(x, i + LANES)))


@inlined
def _copy_sample(x, i, o):
    store(x, o, load(x, i))
    store(x, o + LANES, load(x, i + LANES))


# ---- along y ------------------------------------------------------------------------------------


@kernel
def columns_to_slices(columns, first, last, ky, nx, ny, factors, turns, plan, work, out, num_rows):
    """Columns [first, last) of the slices, at most `COLUMNS_AT_ONCE`; out (rows, ny, nx)."""
    h = ky // 2
    spectrum, z, line, block, rest = _buffers(work, ky, ny)
    for column in range(first, last):
        _gather(columns, column, h, nx, spectrum)
        pack_spectrum(spectrum, h, turns, z)
        fft_line(z, 0, SAMPLE, line, rest, plan, True)
        o = (column - first) * ny * LANES
        for y in range(ny):
            value = load(line, (y - ny // 2) % ky * LANES)
            store(block, o + y * LANES, mul(splat(factors[y]), value))
    for y in range(ny):
        for lane in range(num_rows):
            for column in range(first, last):
                out[lane, y, column] = block[((column - first) * ny + y) * LANES + lane]


@kernel
def slices_to_columns(
    volume, first, last, ky, nx, ny, factors, turns, plan, work, columns, num_rows
):
    """The transpose: columns [first, last) of slices (rows, ny, nx)."""
    h = ky // 2
    spectrum, z, line, block, rest = _buffers(work, ky, ny)
    block[:] = np.float32(0)
    for y in range(ny):
        for lane in range(num_rows):
            for column in range(first, last):
                block[((column - first) * ny + y) * LANES + lane] = volume[lane, y, column]
    for column in range(first, last):
        line[:] = np.float32(0)
        o = (column - first) * ny * LANES
        for y in range(ny):
            value = mul(splat(factors[y]), load(block, o + y * LANES))
            store(line, (y - ny // 2) % ky * LANES, value)
        fft_line(line, 0, SAMPLE, z, rest, plan, False)
        half_spectrum(z, h, turns, spectrum, 0, SAMPLE)
        _scatter(spectrum, column, h, nx, columns)


@inlined
def _gather(columns, column, h, nx, spectrum):
    """One column's y = 0 .. h; what the kernel put beyond both ends is its own mirror image."""
    for k in range(h + 1):
        _copy(columns, ((k + PAD) * nx + column) * SAMPLE, spectrum, k * SAMPLE)
    for y in range(1, PAD + 1):
        _add_conjugate(columns, ((PAD - y) * nx + column) * SAMPLE, spectrum, y * SAMPLE)
    for y in range(1, WIDTH - PAD):
        _add_conjugate(columns, ((h + PAD + y) * nx + column) * SAMPLE, spectrum, (h - y) * SAMPLE)
    # the ends have no other half; packing takes their real parts alone
    two = splat(np.float32(2))
    store(spectrum, 0, mul(two, load(spectrum, 0)))
    store(spectrum, h * SAMPLE, mul(two, load(spectrum, h * SAMPLE)))


@inlined
def _scatter(spectrum, column, h, nx, columns):
    """One column's y = 0 .. h, mirrored beyond both ends."""
    for k in range(h + 1):
        _copy(spectrum, k * SAMPLE, columns, ((k + PAD) * nx + column) * SAMPLE)
    for y in range(1, PAD + 1):
        _copy_conjugate(spectrum, y * SAMPLE, columns, ((PAD - y) * nx + column) * SAMPLE)
    for y in range(1, WIDTH - PAD):
        o = ((h + PAD + y) * nx + column) * SAMPLE
        _copy_conjugate(spectrum, (h - y) * SAMPLE, columns, o)


@inlined
def _copy(x, i, y, o):
    store(y, o, load(x, i))
    store(y, o + LANES, load(x, i + LANES))


@inlined
def _copy_conjugate(x, i, y, o):
    store(y, o, load(x, i))
    store(y, o + LANES, sub(splat(np.float32(0)), load(x, i + LANES)))


@inlined
def _add_conjugate(x, i, y, o):
    store(y, o, add(load(y, o), load(x, i)))
    store(y, o + LANES, sub(load(y, o + LANES), load(x, i + LANES)))


@inlined
def _buffers(work, ky, ny):
    """A spectrum, what is transformed, its transform, a block of columns, and what is left."""
    h = ky // 2
    a = (h + 1) * SAMPLE
    b = a + h * SAMPLE
    c = b + h * SAMPLE
    d = c + COLUMNS_AT_ONCE * ny * LANES
    return work[:a], work[a:b], work[b:c], work[c:d], work[d:]


def column_work(ky: int, ny: int) -> int:
    """Floats of the buffers that a thread needs beside `work_samples(ky / 2)`."""
    h = ky // 2
    return SAMPLE * (3 * h + 1) + COLUMNS_AT_ONCE * ny * LANES
