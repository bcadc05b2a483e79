"""Pixels that stand out from the median of the window around them, of which few need a median."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from tomodask.preprocess.kernels import OPTIONS

SLACK = np.float32(1e-6)  # of the median


@njit(**OPTIONS)
def replace_outliers(
    source, view_step, row_step, size, signs, threshold, gain, noise_sigmas, padded, runs, lines,
    out,
):  # fmt: skip
    """Views without their outliers into `out` (views, rows, columns); returns how many there were.

    signs : 1 for pixels above the median, -1 for those below. gain : 0 where unknown.
    padded : (strip rows + size - 1, columns + size - 1) float32, for a strip with its surroundings.
    runs : (strip rows + size - 1, columns), see find_runs; lines : (2, columns).
    """
    views, rows, _ = out.shape
    half = size // 2
    strip = len(padded) - 2 * half
    bounds, scratch = lines[0], lines[1]
    found = 0
    for view in range(views):
        for begin in range(0, rows, strip):
            height = min(strip, rows - begin)
            for line in range(height + 2 * half):
                row = min(max(begin + line - half, 0), rows - 1)
                pad_line(source, view * view_step + row * row_step, half, padded[line])
            for line in range(height):
                copy_line(padded[half + line], half, out[view, begin + line])
            for sign in signs:
                for line in range(height + 2 * half):
                    find_runs(padded[line], size, sign, runs[line])
                for line in range(height):
                    own = padded[half + line]
                    bound_medians(own, runs, line, half, sign, bounds, scratch)
                    if count_candidates(own, half, sign, threshold, bounds):
                        found += replace_candidates(
                            padded, line, size, sign, threshold, gain, noise_sigmas, bounds,
                            out[view, begin + line],
                        )  # fmt: skip
    return found


@njit(**OPTIONS)
def copy_line(values, first, line):
    """Values from `first` on, as many as go into the line."""
    for column in range(len(line)):
        line[column] = values[np.uint64(first) + np.uint64(column)]


@njit(**OPTIONS)
def pad_line(source, start, half, line):
    """A detector line as float32, its outermost pixels repeated `half` times."""
    columns = len(line) - 2 * half
    values = source[start : start + columns]
    inner = line[half : half + columns]
    for column in range(columns):
        inner[column] = np.float32(values[column])
    line[:half] = inner[0]
    line[half + columns :] = inner[columns - 1]


@njit(**OPTIONS)
def take_nearer(values, first, sign, nearest):
    """Keep in `nearest` the lesser (sign 1) or greater (sign -1) of it and values from `first` on.

    A first index instead of a slice: to make slices costs as much as the loop. Unsigned, as an
    index that may be negative keeps the loop from being vectorised.
    """
    if sign > 0:
        for column in range(len(nearest)):
            new, kept = values[np.uint64(first) + np.uint64(column)], nearest[column]
            nearest[column] = new if new < kept else kept
    else:
        for column in range(len(nearest)):
            new, kept = values[np.uint64(first) + np.uint64(column)], nearest[column]
            nearest[column] = new if new > kept else kept


@njit(**OPTIONS)
def find_runs(padded, size, sign, run):
    """Least (sign 1) or greatest of each `size` pixels of a line, from the first of them on."""
    for column in range(len(run)):
        run[column] = padded[column]
    for shift in range(1, size):
        take_nearer(padded, shift, sign, run)


@njit(**OPTIONS)
def bound_medians(padded, runs, line, half, sign, before, after):
    """For pixels brighter than the median around them (sign 1), a value it can't be below.

    More than half of the window are at most the median then, all of them neighbours. So each half
    of the neighbours, those before the pixel and those after it in reading order, has one, and the
    median is at least the minimum of either half. Mirrored for darker pixels (sign -1).
    padded : the pixels' own line; line : of `runs`, where their windows begin. Into `before`.
    """
    above, below = runs[line], runs[line + half + 1]
    for column in range(len(before)):
        before[column] = above[column]
        after[column] = below[column]
    for shift in range(1, half):
        take_nearer(runs[line + shift], 0, sign, before)
        take_nearer(runs[line + half + 1 + shift], 0, sign, after)
    for shift in range(half):
        take_nearer(padded, shift, sign, before)
        take_nearer(padded, half + 1 + shift, sign, after)
    take_nearer(after, 0, -sign, before)


@njit(**OPTIONS)
def may_stand_out(value, median, sign, threshold):
    """Whether a pixel may stand out from a median, or from one on the near side of a bound for it.

    The slack is more than the rounding: what stands out from a median also does from each value on
    its far side. Where infinities give NaN, it may.
    """
    allowed = max(median, np.float32(0)) * threshold
    return not sign * (value - median) <= allowed - abs(median) * SLACK


@njit(**OPTIONS)
def count_candidates(padded, half, sign, threshold, bounds):
    """How many pixels of a line may stand out."""
    values = padded[half : half + len(bounds)]
    count = 0
    if sign > 0:  # two loops: with the sign known, they are vectorised better
        for column in range(len(bounds)):
            count += may_stand_out(values[column], bounds[column], np.float32(1), threshold)
    else:
        for column in range(len(bounds)):
            count += may_stand_out(values[column], bounds[column], np.float32(-1), threshold)
    return count


@njit(**OPTIONS)
def replace_candidates(padded, line, size, sign, threshold, gain, noise_sigmas, bounds, out):
    """Put the median in place of those pixels of a line that stand out; returns their number."""
    half, sign = size // 2, np.float32(sign)
    window = np.empty(size * size, np.float32)
    found = 0
    for column in range(len(out)):
        value = padded[line + half, column + half]
        if not may_stand_out(value, bounds[column], sign, threshold):
            continue
        if not stands_out_from_half(padded, line, column, size, value, sign, threshold):
            continue
        median = median_of(padded, line, column, size, window)
        level = max(median, np.float32(0))
        allowed = level * threshold
        if gain > 0:
            # the variance of N photons is N; one more, as none were expected is not no noise
            noise = np.float32(math.sqrt(gain * (level + gain)))
            allowed = max(allowed, noise_sigmas * noise)
        if sign * (value - median) > allowed:  # never with a NaN in the window
            out[column] = median
            found += 1
    return found


@njit(**OPTIONS)
def stands_out_from_half(padded, line, column, size, value, sign, threshold):
    """Whether a pixel may stand out from more than half of its window, as it must from the median.

    A count is several times as fast as a median.
    """
    count = 0
    for row in range(line, line + size):
        for place in range(column, column + size):
            count += may_stand_out(value, padded[row, place], sign, threshold)
    return count > size * size // 2


@njit(**OPTIONS)
def median_of(padded, line, column, size, window):
    """Median of the window that begins at a line and column; NaN where it holds one."""
    filled = 0
    for row in range(line, line + size):
        for place in range(column, column + size):
            value = padded[row, place]
            if math.isnan(value):
                return value
            at = filled
            while at > 0 and window[at - 1] > value:
                window[at] = window[at - 1]
                at -= 1
            window[at] = value
            filled += 1
    return window[size * size // 2]
