"""Sorting the columns of a sinogram, smoothing values of equal rank, and putting them back."""

from __future__ import annotations

import numpy as np
from numba import njit

from tomodask.preprocess.kernels import OPTIONS
from tomodask.preprocess.kernels.vectors import (
    LANES,
    SQUARE,
    first_if_below,
    greater,
    lesser,
    load,
    prefetch,
    store,
    transpose,
)

INLINED = OPTIONS | {"forceinline": True}

BLOCK_COLUMNS = 64  # moved at a time: what a core's cache holds; of 32 a value takes 5 ns, not 4
AHEAD = 6  # columns: a cache line from beyond a core's own cache takes about as long
LEAST, GREATEST = np.int32(-(2**31)), np.int32(2**31 - 1)  # beyond the keys of all finite floats
CELL_BITS = 24  # a float32 tells no more parts apart
HALF = np.uint64(32)
SMALLEST_RANGE, GREATEST_RANGE = np.float32(1e-30), np.float32(1e30)  # as their inverse is finite
MOST_MOVES = 4  # a value: more cost more than to sort whole values
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
def pack_columns(source, view_step, begin, view_bits, strip, tile, packed):
    """Columns from `begin` on, to be sorted; False, at once, where a value isn't finite.

    source, view_step : lines of one row (see Lines).
    strip : (SQUARE, BLOCK_COLUMNS) int32, in between.
    tile : (BLOCK_COLUMNS, whole squares of views) int32, to hold the bits of the values, negatives
    turned.
    packed : (columns, views) uint32, to hold in which of many equal parts of its column's range a
    value lies, and in the last `view_bits` bits its view: sorting these numbers sorts the views.
    """
    columns, views = packed.shape
    length = tile.shape[1]
    special = 0
    for first in range(0, views, SQUARE):
        for line in range(min(SQUARE, views - first)):
            start = (first + line) * view_step + begin
            values, bits_of = source[start : start + columns], strip[line]
            for column in range(columns):
                bits = np.float32(values[column]).view(np.int32)
                special += (bits & EXPONENT_BITS) == EXPONENT_BITS
                bits_of[column] = turn_negatives(bits)
        for column in range(0, columns, SQUARE):
            transpose(strip, column, BLOCK_COLUMNS, tile, column * length + first, length)
    if special:
        return False
    for column in range(columns):
        pack_column(tile[column, :views], view_bits, packed[column])
    return True


@njit(**OPTIONS)
def pack_column(line, view_bits, packed):
    """One of pack_columns; where its range is no float or has no inverse, all is in one part."""
    least, greatest = line[0], line[0]
    for view in range(len(line)):
        key = line[view]
        least = key if key < least else least
        greatest = key if key > greatest else greatest
    low, high = value_of(least), value_of(greatest)
    most = np.float32((1 << min(32 - view_bits, CELL_BITS)) - 2)
    scale = most / (high - low) if SMALLEST_RANGE < high - low < GREATEST_RANGE else np.float32(0)
    if scale == 0:
        low = np.float32(0)
    shift = np.uint32(view_bits)
    for view in range(len(line)):
        cell = np.uint32(np.int32((value_of(line[view]) - low) * scale))
        packed[view] = np.uint32(cell << shift) | np.uint32(view)


@njit(**OPTIONS)
def unpack_columns(tile, packed, view_bits, keys, order):
    """Sorted values and their views from sorted `packed`; False where too many share a part.

    keys : (columns, views) int32, bits of the values, negatives turned; order : (columns, views).
    """
    mask = np.uint32((1 << view_bits) - 1)
    for column in range(len(packed)):
        line = tile[column]
        if not unpack_column(line, packed[column], mask, keys[column], order[column]):
            return False
    return True


@njit(**OPTIONS)
def unpack_column(line, packed, mask, keys, order):
    """One of unpack_columns; mends by insertion what shares a part."""
    moves, last = np.int64(0), LEAST
    for rank in range(len(packed)):
        view = packed[rank] & mask
        key = line[view]
        place = np.uint32(rank)
        if key < last:
            while place > 0 and keys[place - ONE_PLACE] > key:
                keys[place] = keys[place - ONE_PLACE]
                order[place] = order[place - ONE_PLACE]
                place -= ONE_PLACE
            moves += np.int64(rank) - np.int64(place)
            if moves > MOST_MOVES * len(packed):
                return False
        else:
            last = key
        keys[place] = key
        order[place] = view
    return True


@njit(**OPTIONS)
def pack_exactly(tile, wide):
    """Whole values, and views below them, as (columns, views) uint64."""
    columns, views = wide.shape
    for column in range(columns):
        for view in range(views):
            unsigned = np.uint32(tile[column, view] ^ LEAST)  # order like signed ones
            wide[column, view] = np.uint64(unsigned) << HALF | np.uint64(view)


@njit(**OPTIONS)
def unpack_exactly(wide, keys, order):
    """Sorted values and their views, as in unpack_columns."""
    columns, views = wide.shape
    for column in range(columns):
        for rank in range(views):
            keys[column, rank] = np.int32(np.uint32(wide[column, rank] >> HALF)) ^ LEAST
            order[column, rank] = np.uint32(wide[column, rank])


@njit(**OPTIONS)
def smooth_ranks(keys, size, window, ring):
    """Median over `size` neighbouring columns of each rank, in place; outermost columns repeated.

    A window of sorted values moves along the columns, for LANES ranks at a time.

    keys : (columns, whole vectors of ranks) int32; window : (size + 2, LANES), ring : (size, LANES)
    as keys.
    """
    columns, ranks = keys.shape
    half = size // 2
    middle = (1 + half) * LANES
    last = columns - 1
    for begin in range(0, ranks, LANES):
        ring[:] = GREATEST  # as if columns of greatest values went before
        window[:] = GREATEST
        window[0] = LEAST
        slot = 0
        for incoming in range(-half, columns + half):
            prefetch(keys, min(max(incoming + AHEAD, 0), last) * ranks + begin)
            put = load(keys, min(max(incoming, 0), last) * ranks + begin)
            replace(window, load(ring, slot), put)
            store(ring, slot, put)
            slot = slot + LANES if slot + LANES < size * LANES else 0
            if incoming >= half:
                store(keys, (incoming - half) * ranks + begin, load(window, middle))


@njit(**INLINED)
def replace(window, out, put):
    """In each lane's ascending window, `put` takes the place of one value `out`.

    Without the outgoing value, those from its place on move down by one; the incoming one lies
    between two that are neighbours then, and is clamped by all others. A window begins with LEAST
    and ends with GREATEST.
    """
    own = load(window, LANES)
    before = first_if_below(load(window, 0), out, own)
    for place in range(LANES, window.size - LANES, LANES):
        after = load(window, place + LANES)
        kept = first_if_below(own, out, after)
        store(window, place, lesser(kept, greater(before, put)))
        before, own = kept, after


@njit(**OPTIONS)
def place_columns(keys, order, strip, tile, out, row):
    """Put the values of each column back to their views, in a row of (views, rows, columns).

    strip, tile : as in pack_columns.
    """
    columns, views = order.shape
    length = tile.shape[1]
    for begin in range(0, columns, BLOCK_COLUMNS):
        width = min(BLOCK_COLUMNS, columns - begin)
        for column in range(width):
            line, smooth, views_of = tile[column], keys[begin + column], order[begin + column]
            for rank in range(views):
                line[views_of[rank]] = smooth[rank]
        for first in range(0, views, SQUARE):
            for column in range(0, width, SQUARE):
                transpose(tile, column * length + first, length, strip, column, BLOCK_COLUMNS)
            for number in range(min(SQUARE, views - first)):
                line = out[first + number, row, begin : begin + width].view(np.int32)
                for column in range(width):
                    line[column] = turn_negatives(strip[number, column])


@njit(**OPTIONS)
def copy_row(source, view_step, out, row):
    """A row as it is."""
    views, _, columns = out.shape
    for view in range(views):
        values = source[view * view_step : view * view_step + columns]
        for column in range(columns):
            out[view, row, column] = np.float32(values[column])
