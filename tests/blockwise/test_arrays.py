"""Arrays on the disk calculate as NumPy's do, in few passes, and leave nothing behind."""

import gc

import numpy as np
import pytest

from tomodask.errors import GeometryError, InputError
from tomodask.reconstruct import spaces

SHAPE = 12, 40, 48


class OfOneScalar:
    """What `spaces` asks of an operator."""

    independent_rows = False


def values_of(array):
    return array.rows(0, array.shape[0])


@pytest.fixture
def pair(rng):
    return [rng.normal(size=SHAPE).astype(np.float32) for _ in range(2)]


FORMULAS = {
    "sums": lambda xp, a, b: 2 * a + b / 3 - (1 - a) * b,
    "negative and power": lambda xp, a, b: -a + b**2,
    "quotient": lambda xp, a, b: 1 / (2 + xp.abs(a)) + abs(b),
    "functions": lambda xp, a, b: xp.exp(a) + xp.sqrt(xp.abs(b)),
    "bounds": lambda xp, a, b: xp.maximum(xp.minimum(a, 0.5), b),
    "choice": lambda xp, a, b: xp.where(a > b, a, 0.0) + xp.where(b != 0, b, xp.ones_like(a)),
    "comparisons": lambda xp, a, b: (
        xp.where(a <= b, 1.0, a) + xp.where(a < 0, 0.0, b) + xp.where(b >= a, a, b)
    ),
    "zeros": lambda xp, a, b: xp.zeros_like(a) + b * np.float32(0.1),
    "in place": lambda xp, a, b: in_place(a, b),
}


def in_place(a, b):
    a = a * 1.0
    a += b
    a *= 2
    a -= 0.5
    a /= 3
    return a


@pytest.mark.parametrize("formula", FORMULAS.values(), ids=FORMULAS)
def test_formulas_give_the_bytes_of_numpy(put, pair, formula):
    a, b = (put(values) for values in pair)
    found = formula(spaces.namespace(a), a, b)
    assert found.shape == SHAPE
    np.testing.assert_array_equal(values_of(found), formula(np, *pair).astype(np.float32))


def test_arrays_in_memory_are_broadcast_into_formulas(put, pair):
    a = put(pair[0])
    xp = spaces.namespace(a)
    mask = pair[1][:1] > 0
    np.testing.assert_array_equal(values_of(xp.where(mask, a, 0.0)), np.where(mask, pair[0], 0))
    row = pair[1][0, 0]
    np.testing.assert_array_equal(values_of(row * a), row * pair[0])
    with pytest.raises(GeometryError, match=r"\(12, 40, 48\) and \(7,\)"):
        _ = a * np.ones(7)


def test_inner_products_are_added_up_in_double_precision(put, rng):
    values = (1 + rng.random(SHAPE)).astype(np.float32)
    a, A = put(values), OfOneScalar()
    expected = float(np.vdot(values.astype(np.float64), values))
    # lines of 48 in float32, then double: 1e-8 is far below what a float32 sum would leave
    assert spaces.dot(a, a, A) == pytest.approx(expected, rel=1e-7)
    assert spaces.norm(2 * a, A) == pytest.approx(2 * expected**0.5, rel=1e-7)


def test_a_fused_norm_passes_over_the_disk_once(place, put, pair):
    a, b = (put(values) for values in pair)
    before = place.counts
    found, norm = spaces.fused_norm(lambda a, b: (a - b, a + b), a, b, A=OfOneScalar(), out=a)
    after = place.counts
    assert after.operations == before.operations + 1
    assert after.bytes_read - before.bytes_read == 2 * pair[0].nbytes
    assert after.bytes_written - before.bytes_written == pair[0].nbytes
    np.testing.assert_array_equal(values_of(found), pair[0] - pair[1])
    assert norm == pytest.approx(np.linalg.norm(pair[0] + pair[1]), rel=1e-6)


def second_differences(a, b):
    """Needs one neighbour along z, and treats the ends as mirrors."""
    along = np.diff(np.pad(a, ((1, 1), (0, 0), (0, 0)), mode="edge"), 2, axis=0)
    return along + b, a * b


def test_a_stencil_sees_its_neighbours_across_blocks(put, rng):
    shape = 40, 10, 12  # blocks of less than 40 rows within the budget
    a, b = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
    found = spaces.stencil(second_differences, 1, put(a), put(b) * 2)
    for array, expected in zip(found, second_differences(a, b * 2), strict=True):
        np.testing.assert_array_equal(values_of(array), expected)


def test_a_stencil_must_keep_the_shape(put, pair):
    with pytest.raises(GeometryError, match="keep the shape"):
        spaces.stencil(lambda a: a[1:], 0, put(pair[0]))


def test_some_views_are_an_array_of_their_own(put, pair):
    a = put(pair[0])
    for views in (slice(1, None, 7), slice(None, None, -1), np.array([3, 39, 0])):
        np.testing.assert_array_equal(values_of((a + 1)[:, views]), (pair[0] + 1)[:, views])
    with pytest.raises(InputError, match=r"only y\[:, views\]"):
        _ = a[0]


def test_files_go_with_the_last_reference(place, put, pair):
    def on_disk():
        gc.collect()
        place.sweep()
        return len(list(place.folder.glob("*.float32")))

    a, b = (put(values) for values in pair)
    lazy = a + b
    del a
    assert on_disk() == 2  # the formula still needs it
    stored = lazy.evaluate()
    assert on_disk() == 2  # of a, which is gone, and b; and the sum
    del lazy, b
    assert on_disk() == 1
    del stored
    assert on_disk() == 0


def test_long_formulas_are_worked_out_on_the_way(place, put, pair):
    a = put(pair[0])
    x = spaces.namespace(a).zeros_like(a)
    for _ in range(200):
        x = x + a
    assert x.nodes <= 64
    np.testing.assert_allclose(values_of(x), 200 * pair[0], rtol=2e-5)


def test_misuse_is_refused_with_what_was_wrong(put, pair):
    a = put(pair[0])
    with pytest.raises(GeometryError, match=r"\(12, 40, 48\) and \(12, 3, 48\)"):
        _ = a + put(pair[0][:, :3])
    with pytest.raises(InputError, match="truth of an array"):
        bool(a > 0)
    with pytest.raises(InputError, match="rows 5 to 13 of an array of 12"):
        a.rows(5, 13)
