"""CGLS and LSQR: the best that k uses of A can reach."""

import numpy as np
import pytest

from tests.reconstruct.dense import Dense, dense, slice_matrix, smooth_volume
from tomodask.reconstruct import CGLS, LSQR, History

KINDS = pytest.mark.parametrize("kind", [CGLS, LSQR])


@pytest.fixture
def noisy(rng) -> np.ndarray:
    y = dense(2)(smooth_volume(2))
    return (y + rng.normal(scale=0.5, size=y.shape)).astype(np.float32)


@pytest.fixture
def tall(rng) -> Dense:
    """42 equations for 20 unknowns, well conditioned."""
    return Dense(rng.normal(size=(42, 20)), (3, 4, 5), (3, 6, 7))


def krylov_solution(matrix: np.ndarray, y: np.ndarray, k: int) -> np.ndarray:
    """The least squares within the span of A.T y, (A.T A) A.T y, ... k of them; in float64."""
    basis = [matrix.T @ y]
    for _ in range(k - 1):
        orthogonal, _ = np.linalg.qr(np.stack(basis, axis=1))
        basis.append(matrix.T @ (matrix @ orthogonal[:, -1]))
    orthogonal, _ = np.linalg.qr(np.stack(basis, axis=1))
    return orthogonal @ np.linalg.lstsq(matrix @ orthogonal, y, rcond=None)[0]


@KINDS
@pytest.mark.parametrize("k", [1, 2, 5])
def test_k_iterations_give_the_least_squares_of_the_krylov_space(kind, k, noisy):
    x = kind(k, circle=False)(noisy, dense(2))
    for found, y in zip(x, noisy, strict=True):
        expected = krylov_solution(slice_matrix(), y.ravel().astype(float), k)
        assert found.ravel() == pytest.approx(expected, abs=1e-4 * np.abs(expected).max())


@KINDS
def test_rows_that_hang_together_share_one_krylov_space(kind, noisy):
    A = dense(2, independent_rows=False)
    expected = krylov_solution(A.matrix, noisy.ravel().astype(float), 4)
    x = kind(4, circle=False)(noisy, A)
    assert x.ravel() == pytest.approx(expected, abs=1e-4 * np.abs(expected).max())
    apart = kind(4, circle=False)(noisy, dense(2))
    assert np.abs(apart - x).max() > 0.01


@KINDS
def test_as_many_iterations_as_unknowns_solve_the_least_squares(kind, tall, rng):
    y = rng.normal(size=tall.range_shape).astype(np.float32)
    expected = np.linalg.lstsq(tall.matrix, y.reshape(3, -1).T, rcond=None)[0].T
    assert kind(20)(y, tall).reshape(3, -1) == pytest.approx(expected, abs=1e-4)
    # and going on from there changes nothing, nor is anything divided by what is left
    assert kind(200)(y, tall).reshape(3, -1) == pytest.approx(expected, abs=1e-4)


@KINDS
def test_damp_weighs_the_distance_from_the_start(kind, tall, rng):
    y = rng.normal(size=tall.range_shape).astype(np.float32)
    start = rng.normal(size=tall.domain_shape).astype(np.float32)
    damped = np.vstack([tall.matrix, 3.0 * np.eye(20)])
    data = np.concatenate([y.reshape(3, -1), 3.0 * start.reshape(3, -1)], axis=1)
    expected = np.linalg.lstsq(damped, data.T, rcond=None)[0].T
    x = kind(20, damp=3.0)(y, tall, x_init=start)
    assert x.reshape(3, -1) == pytest.approx(expected, abs=1e-5)


@KINDS
def test_damp_leaves_masked_voxels_alone(kind, tall, rng):
    y = rng.normal(size=tall.range_shape).astype(np.float32)
    free = rng.uniform(size=(4, 5)) < 0.5
    damped = np.vstack([tall.matrix, 3.0 * np.eye(20)])[:, free.ravel()]
    data = np.concatenate([y.reshape(3, -1), np.zeros((3, 20))], axis=1)
    expected = np.linalg.lstsq(damped, data.T, rcond=None)[0].T
    x = kind(20, damp=3.0)(y, tall, volume_mask=free)
    assert x[:, free] == pytest.approx(expected, abs=1e-5)
    assert not x[:, ~free].any()


@KINDS
def test_residuals_never_grow(kind, noisy):
    history = History()
    kind(15)(noisy, dense(2), callbacks=[history])
    assert np.all(np.diff(history.residual_norms) <= 1e-6 * history.residual_norms[0])


@KINDS
def test_a_start_that_solves_it_is_kept(kind, tall):
    truth = np.ones(tall.domain_shape, np.float32)
    y = tall(truth)
    y[0] = tall(np.zeros_like(truth))[0]
    truth[0] = 0
    assert kind(5)(y, tall, x_init=truth) == pytest.approx(truth, abs=1e-5)
