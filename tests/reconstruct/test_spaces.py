"""Sums, chains and neighbours on arrays of any kind."""

from types import SimpleNamespace

import numpy as np
import pytest

from tomodask.reconstruct import spaces
from tomodask.reconstruct.spaces import divided, domain_zeros, dot, fused, fused_norm, norm, stencil

ONE = SimpleNamespace(independent_rows=False)
ROWS = SimpleNamespace(independent_rows=True)
THREADS = SimpleNamespace(independent_rows=True, threads=3)


class Stored:
    """A stand-in for an array in a store: it shows what is asked of its kind."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __tomodask_dot__(self, other):
        return np.sum(self.values * other.values, axis=(1, 2), dtype=np.float64)

    def __tomodask_stencil__(self, function, halo, *others):
        return "by blocks", halo, function(self.values, *(other.values for other in others))


@pytest.fixture
def arrays(rng) -> list[np.ndarray]:
    return [rng.normal(size=(3, 70, 60)).astype(np.float32) for _ in range(3)]


@pytest.fixture(params=[2**18, 500], ids=["one piece", "many pieces"])
def _pieces(request, monkeypatch):
    monkeypatch.setattr(spaces, "CHUNK", request.param)
    monkeypatch.setattr(spaces, "LEAST_SHARED", 0)


@pytest.mark.usefixtures("_pieces")
def test_a_chain_in_pieces_on_threads_is_the_chain(arrays):
    a, b, c = arrays
    expected = a + 2 * b * c
    assert np.array_equal(fused(lambda a, b, c: a + 2 * b * c, a, b, c, A=THREADS), expected)
    other = np.empty_like(a)
    assert fused(lambda a, b, c: a + 2 * b * c, a, b, c, A=THREADS, out=other) is other
    assert np.array_equal(other, expected)
    out = fused(lambda a, b, c: a + 2 * b * c, a, b, c, A=THREADS, out=a)
    assert out is a
    assert np.array_equal(a, expected)


@pytest.mark.usefixtures("_pieces")
def test_strided_and_broadcast_arrays_take_part(arrays):
    a, b, _ = arrays
    strided = np.ascontiguousarray(b.swapaxes(0, 1)).swapaxes(0, 1)
    plane, scalar = b[:1], np.arange(3.0).reshape(3, 1, 1)
    found = fused(lambda a, s, p, k, n: a + s * p * k if n is None else None,
                  a, strided, plane, scalar, None, A=THREADS)  # fmt: skip
    assert found.dtype == np.float32  # float64 scalars of `dot` do not spread
    assert np.allclose(found, a + b * plane * scalar.astype(np.float32), atol=1e-6)


@pytest.mark.usefixtures("_pieces")
def test_a_norm_on_the_way_is_that_of_the_second_array(arrays):
    a, b, _ = arrays
    expected = norm(a - b, ROWS)
    found, length = fused_norm(lambda a, b: (3 * a, a - b), a, b, A=THREADS)
    assert np.array_equal(found, 3 * a)
    assert length == pytest.approx(expected, rel=1e-12)
    assert isinstance(fused_norm(lambda a: (a, a), a, A=ONE)[1], float)


def test_sums_are_as_good_as_in_float64(rng):
    a = rng.uniform(size=(2, 1000, 1000)).astype(np.float32)
    exact = np.sum(a.astype(np.float64) ** 2, axis=(1, 2))
    # float32 within a line of 1000: a sum of all in float32 would be off by 1e-4
    assert dot(a, a, ROWS).ravel() == pytest.approx(exact, rel=2e-7)
    assert dot(a, a, ONE) == pytest.approx(exact.sum(), rel=2e-7)
    assert isinstance(dot(a, a, ONE), float)


def test_a_row_has_the_same_sum_alone_and_on_threads(rng):
    a = rng.normal(size=(5, 300, 200)).astype(np.float32)
    together = dot(a, a, THREADS)
    assert together.shape == (5, 1, 1)
    assert all(dot(a[row : row + 1], a[row : row + 1], ROWS) == together[row] for row in range(5))


def test_torch_arrays_give_the_same(arrays):
    torch = pytest.importorskip("torch")
    a, b, _ = arrays
    t, u = torch.asarray(a), torch.asarray(b)
    assert dot(t, u, ROWS) == pytest.approx(dot(a, b, ROWS), rel=1e-5)
    assert isinstance(dot(t, u, ONE), float)
    step = np.arange(3.0).reshape(3, 1, 1)
    found = fused(lambda a, b, s: a + s * b, t, u, step, A=ROWS)
    assert found.dtype == torch.float32
    assert np.allclose(found.numpy(), a + step * b, atol=1e-6)
    A = SimpleNamespace(domain_shape=(2, 3, 4))
    assert domain_zeros(A, t).dtype == torch.float32
    assert tuple(domain_zeros(A, t).shape) == (2, 3, 4)


def test_stored_arrays_are_asked_for_sums_and_neighbours(arrays):
    a, b, _ = arrays
    s, t = Stored(a), Stored(b)
    assert dot(s, t, ROWS) == pytest.approx(dot(a, b, ROWS), rel=1e-5)
    assert dot(s, t, ONE) == pytest.approx(dot(a, b, ONE), rel=1e-5)
    where, halo, found = stencil(lambda a, b: a - b, 2, s, t)
    assert (where, halo) == ("by blocks", 2)
    assert np.array_equal(found, a - b)
    assert np.array_equal(stencil(lambda a, b: a - b, 2, a, b), a - b)
    A = SimpleNamespace(zeros_domain=lambda: "zeros in the store")
    assert domain_zeros(A, s) == "zeros in the store"


def test_a_quotient_by_zero_is_zero():
    assert divided(2.0, 0.0) == 0
    assert divided(2.0, 4.0) == 0.5
    found = divided(np.array([1.0, 0, np.nan]), np.array([2.0, 0, 1]))
    assert np.array_equal(found, [0.5, 0, np.nan], equal_nan=True)
