"""Sorting the columns of a sinogram, smoothing values of equal rank, and putting them back."""

from __future__ import annotations

import numpy as np
from numba import njit

from tomodask.preprocess.kernels import OPTIONS

BLOCK_COLUMNS = 32  # columns moved at a time: two cache lines of each view
DIGIT_BITS = 11  # of a radix sort: a float32 has three such digits
LANES = 128  # ranks smoothed at a time: windows and ring of 21 columns are 34 kB, a core's L1
LEAST, GREATEST = np.int32(-(2**31)), np.int32(2**31 - 1)  # beyond the keys of all finite floats
ONE, TWO, THREE, FOUR = (np.uint64(places * LANES) for places in (1, 2, 3, 4))
CELL_DIGIT_BITS = 10
CELL_DIGIT, CELLS = 1 << CELL_DIGIT_BITS, 1 << (2 * CELL_DIGIT_BITS)
SMALLEST_RANGE, GREATEST_RANGE = np.float32(1e-30), np.float32(1e30)  # as their inverse is finite
MOST_MOVES = 4  # a value, by more than three passes cost
ONE_PLACE = np.uint32(1)
EXPONENT_BITS = np.int32(0x7F800000)


@njit(**OPTIONS)
def turn_negatives(bits):
    """Invert all but the sign of a negative int32; its own inverse. Floats' bits order then."""
    bits = np.int32(bits)
    return np.int32(bits ^ ((bits >> 31) & GREATEST))


@njit(**OPTIONS)
def value_of(key):
    """The float32 that a key stands for."""
    return np.int32(turn_negatives(key)).view(np.float32)


@njit(**OPTIONS)
def sort_columns(source, view_step, tile, cells, keys, order, scratch, ends):
    """Sort each column of a sinogram, ties by view; False, at once, where a value isn't finite.

    source, view_step : lines of one row (see Lines).
    keys : (columns, views) int32, to hold the bits of the sorted values, negatives turned.
    order : (columns, views) unsigned, to hold the views they come from.
    tile : (BLOCK_COLUMNS, views or more) int32; cells : (views,) uint32; scratch : (2, views) as
    order; ends : a place for each value of a digit, uint32.
    """
    columns, views = keys.shape
    for begin in range(0, columns, BLOCK_COLUMNS):
        width = min(BLOCK_COLUMNS, columns - begin)
        special = 0
        for view in range(views):
            start = view * view_step + begin
            values = source[start : start + width]
            for column in range(width):
                bits = np.float32(values[column]).view(np.int32)
                special += (bits & EXPONENT_BITS) == EXPONENT_BITS
                tile[column, view] = turn_negatives(bits)
        if special:
            return False
        for column in range(width):
            line, of_column = tile[column, :views], order[begin + column]
            if not sort_by_cells(line, keys[begin + column], of_column, cells, scratch, ends):
                sort_by_digits(line, keys[begin + column], of_column, cells, scratch, ends)
    return True


@njit(**OPTIONS)
def sort_by_cells(line, keys, order, cells, scratch, ends):
    """Sort by which of 2^20 equal parts of its range a value lies in, and mend what shares one.

    Two passes instead of three. False where it is left undone, as too many share a part, next to
    an outlier, say.
    """
    least, greatest = line[0], line[0]
    for view in range(len(line)):
        key = line[view]
        least = key if key < least else least
        greatest = key if key > greatest else greatest
    low, high = value_of(least), value_of(greatest)
    if not SMALLEST_RANGE < high - low < GREATEST_RANGE:
        return False
    scale = np.float32(CELLS - 1) / (high - low)
    for view in range(len(line)):
        cells[view] = np.int32((value_of(line[view]) - low) * scale)
    sort_by_digit(cells, 0, scratch[0], scratch[0], ends[:CELL_DIGIT])
    sort_by_digit(cells, CELL_DIGIT_BITS, scratch[0], order, ends[:CELL_DIGIT])
    moves, last = np.int64(0), LEAST
    for rank in range(len(line)):
        view = order[rank]
        key = line[view]
        place = np.uint32(rank)
        if key < last:
            while place > 0 and keys[place - ONE_PLACE] > key:
                keys[place] = keys[place - ONE_PLACE]
                order[place] = order[place - ONE_PLACE]
                place -= ONE_PLACE
            moves += np.int64(rank) - np.int64(place)
            if moves > MOST_MOVES * len(line):
                return False
        else:
            last = key
        keys[place] = key
        order[place] = view
    return True


@njit(**OPTIONS)
def sort_by_digits(line, keys, order, cells, scratch, ends):
    """Sort by all bits of the keys, in three passes."""
    for view in range(len(line)):
        cells[view] = line[view] ^ LEAST  # signed keys order like unsigned ones without their sign
    sort_by_digit(cells, 0, scratch[0], scratch[0], ends)
    sort_by_digit(cells, DIGIT_BITS, scratch[0], scratch[1], ends)
    sort_by_digit(cells, 2 * DIGIT_BITS, scratch[1], order, ends)
    for rank in range(len(line)):
        keys[rank] = line[order[rank]]


@njit(**OPTIONS)
def sort_by_digit(cells, shift, before, after, ends):
    """One pass of a radix sort: views in the order `before` go to `after`, stably by a digit.

    The lowest digit is sorted first, of views in their own order. Unsigned numbers all along, as
    each index that may be negative costs a comparison: a third of the time.
    """
    shift, mask, one = np.uint32(shift), np.uint32(len(ends) - 1), np.uint32(1)
    ends[:] = 0
    for view in range(len(cells)):
        ends[np.uint32((cells[view] >> shift) & mask)] += one
    total = np.uint32(0)
    for digit in range(len(ends)):
        count = ends[digit]
        ends[digit] = total
        total = np.uint32(total + count)
    if shift == 0:
        for view in range(len(cells)):
            cell = np.uint32((cells[view] >> shift) & mask)
            after[ends[cell]] = view
            ends[cell] += one
    else:
        for rank in range(len(cells)):
            view = before[rank]
            cell = np.uint32((cells[view] >> shift) & mask)
            after[ends[cell]] = view
            ends[cell] += one


@njit(**OPTIONS)
def smooth_ranks(keys, size, windows, ring):
    """Median over `size` neighbouring columns of each rank, in place; outermost columns repeated.

    A window of sorted values moves along the columns, for LANES ranks at a time: line by line the
    same is done to all of them, which makes vectors of them.

    keys : (columns, ranks) int32; windows : (2, (places + 2) LANES), ring : (size, LANES) as keys,
    with places the next multiple of 3 from size on.
    """
    columns, ranks = keys.shape
    half = size // 2
    middle = (1 + half) * LANES
    old, new = windows[0], windows[1]
    for begin in range(0, ranks, LANES):
        lanes = min(LANES, ranks - begin)
        ring[:] = GREATEST  # as if columns of greatest values went before
        windows[:] = GREATEST
        windows[:, :LANES] = LEAST
        for incoming in range(-half, columns + half):
            values = keys[min(max(incoming, 0), columns - 1), begin : begin + lanes]
            oldest = ring[(incoming + half) % size]
            replace(old, new, oldest, values)
            for lane in range(lanes):
                oldest[lane] = values[lane]
            if incoming >= half:
                smooth = keys[incoming - half, begin : begin + lanes]
                for lane in range(lanes):
                    smooth[lane] = new[middle + lane]
            old, new = new, old


@njit(**OPTIONS)
def replace(old, new, outgoing, incoming):
    """In each lane's ascending window, `incoming` takes the place of one value `outgoing`.

    Without the outgoing value, those from its place on move down by one; the incoming one lies
    between two that are neighbours then, and is clamped by all others. Windows begin with LEAST and
    end with GREATEST. Three places at a time read each value once or twice instead of three times.
    """
    for place in range(0, len(old) - TWO, THREE):
        for lane in range(len(incoming)):
            first = np.uint64(place) + np.uint64(lane)  # unsigned, see sort_by_digit
            out, put = outgoing[lane], incoming[lane]
            a, b, c = old[first], old[first + ONE], old[first + TWO]
            d, e = old[first + THREE], old[first + FOUR]
            kept_0 = a if a < out else b
            kept_1 = b if b < out else c
            kept_2 = c if c < out else d
            kept_3 = d if d < out else e
            put_1 = kept_0 if put < kept_0 else put
            put_2 = kept_1 if put < kept_1 else put
            put_3 = kept_2 if put < kept_2 else put
            new[first + ONE] = kept_1 if kept_1 < put_1 else put_1
            new[first + TWO] = kept_2 if kept_2 < put_2 else put_2
            new[first + THREE] = kept_3 if kept_3 < put_3 else put_3


@njit(**OPTIONS)
def place_columns(keys, order, tile, out, row):
    """Put the values of each column back to their views, in a row of (views, rows, columns)."""
    columns, views = keys.shape
    for begin in range(0, columns, BLOCK_COLUMNS):
        width = min(BLOCK_COLUMNS, columns - begin)
        for column in range(width):
            line, smooth, views_of = tile[column], keys[begin + column], order[begin + column]
            for rank in range(views):
                line[views_of[rank]] = turn_negatives(smooth[rank])
        for view in range(views):
            line = out[view, row, begin : begin + width].view(np.int32)
            for column in range(width):
                line[column] = tile[column, view]


@njit(**OPTIONS)
def copy_row(source, view_step, out, row):
    """A row as it is."""
    views, _, columns = out.shape
    for view in range(views):
        values = source[view * view_step : view * view_step + columns]
        for column in range(columns):
            out[view, row, column] = np.float32(values[column])
