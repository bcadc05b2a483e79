"""SIRT goes down the least squares weighted by the length of rays."""

import numpy as np
import pytest

from tests.reconstruct.dense import dense, projector, slice_matrix, smooth_volume
from tomodask.errors import DivergedError
from tomodask.reconstruct import SIRT, options


@pytest.fixture
def noisy(rng) -> np.ndarray:
    y = dense(2)(smooth_volume(2))
    return (y + rng.normal(scale=0.5, size=y.shape)).astype(np.float32)


def inverse(sums: np.ndarray) -> np.ndarray:
    return np.divide(1, sums, out=np.zeros_like(sums), where=sums > 1e-9)


def test_a_step_is_that_of_the_paper(noisy):
    matrix = slice_matrix()
    ray_weights, voxel_weights = inverse(matrix.sum(axis=1)), inverse(matrix.sum(axis=0))
    x = np.zeros((2, 64))
    for _ in range(3):
        residual = noisy.reshape(2, -1) - x @ matrix.T
        x += 0.7 * voxel_weights * ((ray_weights * residual) @ matrix)
    found = SIRT(3, relaxation=0.7, circle=False)(noisy, dense(2))
    assert found.reshape(2, -1) == pytest.approx(x, abs=1e-5)


@pytest.mark.parametrize("backend", ["reference", "fourier"])
@pytest.mark.parametrize("relaxation", [1.0, 1.9])
def test_the_weighted_residual_never_grows(backend, relaxation, rng):
    A = projector(1, backend, views=20, size=16)
    y = A(smooth_volume(1, 16))
    y += rng.normal(scale=1.0, size=y.shape).astype(np.float32)
    sums = A(np.ones(A.domain_shape, np.float32))
    weights = inverse(np.where(sums > 0.1, sums, 0))
    norms = []
    SIRT(30, relaxation=relaxation, circle=False)(
        y, A, callbacks=[lambda i, x, r: norms.append(np.sum(weights * (y - A(x)) ** 2))]
    )
    assert np.all(np.diff(norms) <= 1e-6 * norms[0])
    assert norms[-1] < 0.9 * norms[0]


def test_it_rests_at_the_weighted_least_squares_solution(noisy):
    matrix = slice_matrix()
    root = np.sqrt(inverse(matrix.sum(axis=1)))[:, None]
    best = [np.linalg.lstsq(root * matrix, root[:, 0] * y.ravel(), rcond=None)[0] for y in noisy]
    best = np.array(best, np.float32).reshape(2, 8, 8)
    x = SIRT(50, circle=False)(noisy, dense(2), x_init=best)
    assert x == pytest.approx(best, abs=1e-4 * float(np.abs(best).max()))
    unweighted = [np.linalg.lstsq(matrix, y.ravel(), rcond=None)[0] for y in noisy]
    assert np.abs(np.reshape(unweighted, best.shape) - best).max() > 0.05


def test_rays_that_meet_next_to_nothing_do_not_count():
    """Of 1 / sums: beside the volume `fourier` swings around 0."""
    sums = np.full((2, 10, 10), 4, np.float32)
    sums[0, 0, :3], sums[1, 0, :3] = (0.03, -0.03, 0.06), 0
    found = options.inverse(sums.copy(), dense(2))
    assert np.allclose(found[0, 0, :4], [0, 0, 1 / 0.06, 1 / 4])
    assert not found[1, 0, :3].any()


def test_steps_that_are_too_long_diverge_and_are_told_with_their_residuals(noisy):
    with pytest.raises(DivergedError, match="take a smaller step") as caught:
        SIRT(100, relaxation=4.0)(noisy, projector(2))
    residuals = caught.value.residuals
    assert 100 * residuals[0] < residuals[-1] < 1e4 * residuals[0]
    assert len(residuals) < 50
