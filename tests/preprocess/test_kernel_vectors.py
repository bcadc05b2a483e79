"""Vectors in the loops of corrections are arrays of whole numbers, taken lane by lane."""

import numba
import numpy as np

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


@numba.njit
def _combine(a, b, c, out):
    x, y, z = load(a, 0), load(b, 0), load(c, 0)
    prefetch(out, 10**9)
    store(out, 0, lesser(x, y))
    store(out, LANES, greater(x, y))
    store(out, 2 * LANES, first_if_below(x, y, z))


@numba.njit
def _turn(source, target):
    transpose(source, 2, source.shape[1], target, 1, target.shape[1])


def test_lanes_are_compared_as_signed_numbers(rng: np.random.Generator) -> None:
    a, b, c = rng.integers(-(2**31), 2**31, size=(3, LANES)).astype(np.int32)
    a[::5] = b[::5]  # below is not equal
    out = np.empty((3, LANES), np.int32)
    _combine(a, b, c, out)
    np.testing.assert_array_equal(out, [np.minimum(a, b), np.maximum(a, b), np.where(a < b, a, c)])


def test_a_square_is_turned_within_arrays_of_any_width_and_nothing_else_is_written() -> None:
    source = np.arange(SQUARE * (SQUARE + 5), dtype=np.int32).reshape(SQUARE, -1)
    target = np.full((SQUARE, SQUARE + 3), -1, np.int32)
    expected = target.copy()
    expected[:, 1 : 1 + SQUARE] = source[:, 2 : 2 + SQUARE].T
    _turn(source, target)
    np.testing.assert_array_equal(target, expected)
