"""Counts to transmission to line integrals, a detector line at a time while it is in the cache."""

from __future__ import annotations

import numpy as np
from numba import njit

from tomodask.preprocess.kernels import OPTIONS

# log(m) for m in [sqrt(1/2), sqrt(2)) is 2 atanh(s) with s = (m - 1) / (m + 1) = f / (2 + f). Its
# series 2 s + s R(s^2) is the same as f - s (f - R), of which f is exact and the rest small. R is
# fitted so that the greatest error of log(m) is 8e-10 of its value.
R1, R2, R3 = np.float32(0.66666777), np.float32(0.39977489), np.float32(0.29873011)
LN2_HIGH = np.float32(0.693359375)  # of 9 bits: its product with an exponent is exact
LN2_LOW = np.float32(-2.1219444e-4)
SQRT_HALF_BITS = np.int32(0x3F3504F3)
FRACTION_BITS = np.int32(0x7FFFFF)


@njit(**OPTIONS)
def minus_log(x):
    """-log(x) of a normal float32 to one unit in the last place, or 4e-8 next to 1; no branches."""
    offset = np.int32(np.float32(x).view(np.int32) - SQRT_HALF_BITS)
    exponent = np.float32(np.int32(offset >> 23))
    fraction = np.int32((offset & FRACTION_BITS) + SQRT_HALF_BITS).view(np.float32)
    f = fraction - np.float32(1)
    s = f / (np.float32(2) + f)
    z = s * s
    r = z * (R1 + z * (R2 + z * R3))
    value = s * (f - r) - exponent * LN2_LOW - f - exponent * LN2_HIGH
    return value if x - x == 0 else -x  # infinity and NaN


@njit(**OPTIONS)
def minus_log_line(line, floor):
    """-log(max(line, floor)) in place; returns how many were below. NaN stays."""
    below = 0
    for column in range(line.size):  # apart from the next loop, or both get narrower vectors
        if line[column] < floor:
            below += 1
    for column in range(line.size):
        line[column] = minus_log(floor if line[column] < floor else line[column])
    return below


@njit(**OPTIONS)
def copy_line(source, start, line):
    """float32 of source[start : start + line.size] into `line`."""
    values = source[start : start + line.size]  # start + column as an index isn't vectorised
    for column in range(line.size):
        line[column] = np.float32(values[column])


@njit(**OPTIONS)
def subtract_dark(source, start, dark, line):
    """Counts above dark, rounded once: float32 can't hold counts of 32 bits, but differences."""
    counts = source[start : start + line.size]
    if counts.itemsize <= 2:  # exact in float32; numba would subtract in float64
        for column in range(line.size):
            line[column] = np.float32(counts[column]) - dark[column]
    else:
        for column in range(line.size):
            line[column] = np.float32(counts[column] - dark[column])


@njit(**OPTIONS)
def divide_by_beam(line, first, second, share):
    """Divide in place by the beam that lies `share` of the way from `first` to `second`."""
    if share == 0:
        for column in range(line.size):
            line[column] /= first[column]
    else:
        for column in range(line.size):
            line[column] /= (second[column] - first[column]) * share + first[column]


@njit(**OPTIONS)
def fill_line(line, gaps, begin, end):
    """Fill the columns gaps[0, begin:end] from those in gaps[1] and gaps[2], by weights."""
    columns, lefts, rights, shares = gaps
    for gap in range(begin, end):
        share = shares[gap]
        line[columns[gap]] = (np.float32(1) - share) * line[lefts[gap]] + share * line[rights[gap]]


@njit(**OPTIONS)
def minus_log_views(source, view_step, row_step, floor, out, is_copied):
    """-log of some views, lines of `source` (see Lines), into `out` (views, rows, columns)."""
    below = 0
    views, rows, _ = out.shape
    for view in range(views):
        for row in range(rows):
            line = out[view, row]
            if not is_copied:
                copy_line(source, view * view_step + row * row_step, line)
            below += minus_log_line(line, floor)
    return below


@njit(**OPTIONS)
def subtract_views(source, view_step, row_step, dark, out, is_copied):
    """Counts above dark of some views, into `out`."""
    views, rows, columns = out.shape
    for row in range(rows):
        for view in range(views):
            line = out[view, row]
            if is_copied:
                for column in range(columns):
                    line[column] -= dark[row, column]
            else:
                subtract_dark(source, view * view_step + row * row_step, dark[row], line)


@njit(**OPTIONS)
def flatfield_views(
    source, view_step, row_step, dark, beams, sets, shares, gaps, gap_ends, empty, floor, out,
    is_copied,
):  # fmt: skip
    """Transmission of some views into `out`, and its -log where `floor` is above 0.

    beams : (sets, rows, columns) above dark; sets, shares : where among them each view lies.
    gaps : columns to fill, their left and right neighbours and the right one's weight.
    gap_ends : (rows + 1,) where each row's gaps begin; empty : (rows,) rows without a good pixel.
    is_copied : `out` holds the counts already. Returns how many were below `floor`.
    """
    below = 0
    views, rows, columns = out.shape
    last = len(beams) - 1
    for row in range(rows):  # dark and beam of one row stay in the cache over the views
        for view in range(views):
            line = out[view, row]
            if is_copied:
                for column in range(columns):
                    line[column] -= dark[row, column]
            else:
                subtract_dark(source, view * view_step + row * row_step, dark[row], line)
            number = sets[view]
            first, second = beams[number, row], beams[min(number + 1, last), row]
            divide_by_beam(line, first, second, shares[view])
            if empty[row]:
                line[:] = 1
            else:
                fill_line(line, gaps, gap_ends[row], gap_ends[row + 1])
            if floor > 0:
                below += minus_log_line(line, floor)
    return below
