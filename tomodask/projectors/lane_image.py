"""Between the grid of half a frequency plane and slices: the two axes of a 2D FFT.

Along x rows are transformed as their strips are finished, and just the columns of the slice kept,
as `columns`: flat (nx / TOGETHER, rows of half the grid, TOGETHER, SAMPLE), so that a column's
neighbours are in the cache when it was read. Along y each column becomes a real line.
"""

from __future__ import annotations

import numpy as np

from tomodask.projectors.lane_fft import (
    FORWARD,
    INVERSE,
    START,
    STEP,
    fft_line,
)
from tomodask.projectors.lane_grid import PAD, WIDTH, row_floats
from tomodask.projectors.lane_real import half_spectrum, pack_spectrum
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
    stream,
    sub,
    transpose,
)

TOGETHER = 4  # columns that lie side by side
COLUMNS_AT_ONCE = 16  # of y lines done together: a cache line of a slice's row


@inlined
def _place(row, column, num_rows):
    """Where a sample of `columns` lies."""
    return ((column // TOGETHER * num_rows + row) * TOGETHER + column % TOGETHER) * SAMPLE


@inlined
def _num_rows(ky):
    """Rows of half the grid, with those that the kernel reaches beyond."""
    return ky // 2 + WIDTH


def columns_floats(ky: int, nx: int) -> int:
    """Floats of `columns`."""
    return -(-nx // TOGETHER) * TOGETHER * (ky // 2 + WIDTH) * SAMPLE


# ---- along x ------------------------------------------------------------------------------------


@kernel
def strip_to_columns(strip, num_rows, ky, kx, nx, factors, plan, work, columns, first):
    """Transform the first rows of a strip; they are rows from `first` on of `columns`."""
    line, rest = work[: kx * SAMPLE], work[kx * SAMPLE :]
    row, in_place = row_floats(kx), plan[1] > 1
    for r in range(num_rows):
        for j in range(WIDTH):  # the grid is periodic
            if j < PAD:
                _add_sample(strip, r * row + j * SAMPLE, r * row + (kx + j) * SAMPLE)
            else:
                _add_sample(strip, r * row + (kx + j) * SAMPLE, r * row + j * SAMPLE)
        i = r * row + PAD * SAMPLE
        # into its own place, as the next cache holds no third copy of a long line
        out = strip[i : i + kx * SAMPLE] if in_place else line
        fft_line(strip, i, STEP, out, rest, plan, INVERSE)
        for i in range(nx):
            at, factor = (i - nx // 2) % kx * SAMPLE, splat(factors[i])
            o = _place(first + r, i, _num_rows(ky))
            stream(columns, o, mul(factor, load(out, at)))
            stream(columns, o + LANES, mul(factor, load(out, at + LANES)))


@kernel
def columns_to_strip(columns, first, num_rows, ky, kx, nx, factors, plan, work, strip, at_row):
    """The transpose: rows of `columns` fill rows from `at_row` on of a strip."""
    line, rest = work[: kx * SAMPLE], work[kx * SAMPLE :]
    row = row_floats(kx)
    for r in range(num_rows):
        line[:] = np.float32(0)
        for i in range(nx):
            at, factor = (i - nx // 2) % kx * SAMPLE, splat(factors[i])
            o = _place(first + r, i, _num_rows(ky))
            store(line, at, mul(factor, load(columns, o)))
            store(line, at + LANES, mul(factor, load(columns, o + LANES)))
        out = (at_row + r) * row
        cells = strip[out + PAD * SAMPLE : out + (PAD + kx) * SAMPLE]
        fft_line(line, START, STEP, cells, rest, plan, FORWARD)
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
    """Columns [first, last) of the slices, at most `COLUMNS_AT_ONCE`; out flat (rows, ny, nx)."""
    h = ky // 2
    spectrum, z, line, block, rest = _buffers(work, ky, ny)
    for column in range(first, last):
        _gather(columns, column, ky, spectrum)
        pack_spectrum(spectrum, h, turns, z)
        fft_line(z, START, STEP, line, rest, plan, INVERSE)
        o = (column - first) * (ny | 1) * LANES
        for y in range(ny):
            value = load(line, (y - ny // 2) % ky * LANES)
            store(block, o + y * LANES, mul(splat(factors[y]), value))
    _write_block(block, first, last, ny, nx, out, num_rows)


@kernel
def slices_to_columns(
    volume, first, last, ky, nx, ny, factors, turns, plan, work, columns, num_rows
):
    """The transpose: columns [first, last) of flat slices (rows, ny, nx)."""
    h = ky // 2
    spectrum, z, line, block, rest = _buffers(work, ky, ny)
    _read_block(volume, first, last, ny, nx, block, num_rows)
    for column in range(first, last):
        line[:] = np.float32(0)
        o = (column - first) * (ny | 1) * LANES
        for y in range(ny):
            value = mul(splat(factors[y]), load(block, o + y * LANES))
            store(line, (y - ny // 2) % ky * LANES, value)
        fft_line(line, START, STEP, z, rest, plan, FORWARD)
        half_spectrum(z, h, turns, spectrum, 0, SAMPLE)
        _scatter(spectrum, column, ky, columns)


@inlined
def _write_block(block, first, last, ny, nx, out, num_rows):
    """A block (column, y, LANES) -> columns [first, last) of flat slices (num_rows, ny, nx)."""
    step = (ny | 1) * LANES  # odd: else a row of the block would lie in one set of the cache
    for column in range(first, last, LANES):
        o = (column - first) * step
        if num_rows == LANES and last - column >= LANES:
            for y in range(ny):
                transpose(block, o + y * LANES, step, out, y * nx + column, ny * nx)
            continue
        for y in range(ny):
            for lane in range(num_rows):
                for i in range(min(LANES, last - column)):
                    out[(lane * ny + y) * nx + column + i] = block[o + i * step + y * LANES + lane]


@inlined
def _read_block(volume, first, last, ny, nx, block, num_rows):
    """Columns [first, last) of flat slices (num_rows, ny, nx) -> a block (column, y, LANES)."""
    step = (ny | 1) * LANES
    for column in range(first, last, LANES):
        o = (column - first) * step
        if num_rows == LANES and last - column >= LANES:
            for y in range(ny):
                transpose(volume, y * nx + column, ny * nx, block, o + y * LANES, step)
            continue
        for i in range(min(LANES, last - column)):
            for y in range(ny):
                store(block, o + i * step + y * LANES, splat(np.float32(0)))
                for lane in range(num_rows):
                    value = volume[(lane * ny + y) * nx + column + i]
                    block[o + i * step + y * LANES + lane] = value


@inlined
def _gather(columns, column, ky, spectrum):
    """One column's y = 0 .. h; what the kernel put beyond both ends is its own mirror image."""
    h, rows = ky // 2, _num_rows(ky)
    for k in range(h + 1):
        _copy(columns, _place(k + PAD, column, rows), spectrum, k * SAMPLE)
    for y in range(1, PAD + 1):
        _add_conjugate(columns, _place(PAD - y, column, rows), spectrum, y * SAMPLE)
    for y in range(1, WIDTH - PAD):
        _add_conjugate(columns, _place(h + PAD + y, column, rows), spectrum, (h - y) * SAMPLE)
    # the ends have no other half; packing takes their real parts alone
    two = splat(np.float32(2))
    store(spectrum, 0, mul(two, load(spectrum, 0)))
    store(spectrum, h * SAMPLE, mul(two, load(spectrum, h * SAMPLE)))


@inlined
def _scatter(spectrum, column, ky, columns):
    """One column's y = 0 .. h, mirrored beyond both ends."""
    h, rows = ky // 2, _num_rows(ky)
    for k in range(h + 1):
        _copy(spectrum, k * SAMPLE, columns, _place(k + PAD, column, rows))
    for y in range(1, PAD + 1):
        _copy_conjugate(spectrum, y * SAMPLE, columns, _place(PAD - y, column, rows))
    for y in range(1, WIDTH - PAD):
        o = _place(h + PAD + y, column, rows)
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
    d = c + COLUMNS_AT_ONCE * (ny | 1) * LANES
    return work[:a], work[a:b], work[b:c], work[c:d], work[d:]


def column_work(ky: int, ny: int) -> int:
    """Floats of the buffers that a thread needs beside `work_samples(ky / 2)`."""
    h = ky // 2
    return SAMPLE * (3 * h + 1) + COLUMNS_AT_ONCE * (ny | 1) * LANES
