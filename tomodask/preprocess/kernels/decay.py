"""A filter along the rows by recursion, with another length of decay for each column frequency.

Each sum q^d x[row - d] over d >= 0 is a recursion f = q f + (1 - q) x, whatever its length. So that
rounding depends on no row beyond the reach, a row's recursion starts a fixed number of whole tiles
above the row's own, in the state of a detector whose rows above that are all alike. The ends of the
tiles before one are found once, and then joined: a row costs less than two steps.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from tomodask.preprocess.kernels import OPTIONS

STEP, TILE_DECAY, WEIGHT, TAPS = 0, 1, 2, 3  # lines of the coefficients


@njit(**OPTIONS)
def filter_rows(spectra, first, last, factors, tile_rows, reach_tiles, ends, filtered):
    """Rows [first, last) of `spectra`, filtered in place; those at its ends are repeated outwards.

    spectra : (rows, numbers) float32, row 0 the first of a tile.
    factors : (TAPS + 1 + even number, numbers) float32: 1 - q, q to the power of `tile_rows`, the
        weight of both recursions together, and those of the rows 0, 1, ... away that it leaves.
    reach_tiles : tiles that a row takes in on each side, besides its own.
    ends, filtered : scratch, (2, tiles, lanes) and (rows, lanes) float32, for as many numbers as
        are filtered at a time: their rows stay in a core's cache.
    """
    tiles = (first // tile_rows, (last - 1) // tile_rows + 1)
    most = filtered.shape[1]
    state = np.empty(most, dtype=np.float32)
    for begin in range(0, spectra.shape[1], most):
        lanes = (begin, min(most, spectra.shape[1] - begin))
        for tile in range(*tiles):
            top, bottom = max(tile * tile_rows, first), min((tile + 1) * tile_rows, last) - 1
            _end_tile(spectra, top, bottom, 1, lanes, factors, ends[0, tile])
            _end_tile(spectra, bottom, top, -1, lanes, factors, ends[1, tile])
        for tile in range(*tiles):
            top, bottom = max(tile * tile_rows, first), min((tile + 1) * tile_rows, last) - 1
            farthest = max(tile - reach_tiles, tiles[0])
            start = max(farthest * tile_rows, first)
            _join(spectra, start, (farthest, tile, 1), lanes, factors, ends[0], state)
            _go_down(spectra, (top, bottom), lanes, factors, state, filtered)
            farthest = min(tile + reach_tiles, tiles[1] - 1)
            start = min((farthest + 1) * tile_rows, last) - 1
            _join(spectra, start, (farthest, tile, -1), lanes, factors, ends[1], state)
            _go_up(spectra, (top, bottom), lanes, factors, state, filtered)
            _add_taps(spectra, (first, last), (top, bottom), lanes, factors, filtered)
        _put_back(spectra, first, last, lanes, filtered)


@njit(**OPTIONS)
def _end_tile(spectra, start, stop, step, lanes, factors, state):
    """What a tile adds to the state behind it: its end, less what its first row had brought in."""
    begin, count = np.uint64(lanes[0]), lanes[1]
    for lane in range(count):
        at = np.uint64(lane)  # unsigned, as in sort_by_digit
        state[at] = spectra[start, begin + at]
    for row in range(start + step, stop + step, step):
        for lane in range(count):
            at = np.uint64(lane)
            state[at] += factors[STEP, begin + at] * (spectra[row, begin + at] - state[at])
    for lane in range(count):
        at = np.uint64(lane)
        state[at] -= factors[TILE_DECAY, begin + at] * spectra[start, begin + at]


@njit(**OPTIONS)
def _join(spectra, start, tiles, lanes, factors, ends, state):
    """The state behind `tiles`, of which the farthest begins at row `start`."""
    begin, count = np.uint64(lanes[0]), lanes[1]
    for lane in range(count):
        at = np.uint64(lane)
        state[at] = spectra[start, begin + at]
    for tile in range(*tiles):
        for lane in range(count):
            at = np.uint64(lane)
            state[at] = ends[tile, at] + factors[TILE_DECAY, begin + at] * state[at]


@njit(**OPTIONS)
def _go_down(spectra, rows, lanes, factors, state, filtered):
    """The recursion from the state above the rows, into `filtered`."""
    begin, count = np.uint64(lanes[0]), lanes[1]
    for row in range(rows[0], rows[1] + 1):
        for lane in range(count):
            at = np.uint64(lane)
            state[at] += factors[STEP, begin + at] * (spectra[row, begin + at] - state[at])
            filtered[row, at] = state[at]


@njit(**OPTIONS)
def _go_up(spectra, rows, lanes, factors, state, filtered):
    """The recursion from the state below, and its weighted sum with the other and the row."""
    begin, count = np.uint64(lanes[0]), lanes[1]
    for row in range(rows[1], rows[0] - 1, -1):
        for lane in range(count):
            at = np.uint64(lane)
            here = spectra[row, begin + at]
            state[at] += factors[STEP, begin + at] * (here - state[at])
            both = factors[WEIGHT, begin + at] * (filtered[row, at] + state[at])
            filtered[row, at] = both + factors[TAPS, begin + at] * here


@njit(**OPTIONS)
def _add_taps(spectra, ends, rows, lanes, factors, filtered):
    """What the recursion leaves, of the nearest rows."""
    first, last = ends[0], ends[1] - 1
    begin, count = np.uint64(lanes[0]), lanes[1]
    for row in range(rows[0], rows[1] + 1):
        for near in range(1, len(factors) - TAPS, 2):  # two distances write half as often
            far = near + 1
            above, below = max(row - near, first), min(row + near, last)
            farther_up, farther_down = max(row - far, first), min(row + far, last)
            for lane in range(count):
                at = np.uint64(lane)
                number = begin + at
                two = (spectra[above, number] + spectra[below, number]) * factors[
                    TAPS + near, number
                ]
                two += (spectra[farther_up, number] + spectra[farther_down, number]) * (
                    factors[TAPS + far, number]
                )
                filtered[row, at] += two


@njit(**OPTIONS)
def _put_back(spectra, first, last, lanes, filtered):
    begin, count = np.uint64(lanes[0]), lanes[1]
    for row in range(first, last):
        for lane in range(count):
            at = np.uint64(lane)
            spectra[row, begin + at] = filtered[row, at]
