"""MLEM: counts are kept, values stay positive, the likelihood rises."""

import numpy as np
import pytest

from tests.reconstruct.dense import dense, projector, smooth_volume
from tomodask.errors import InputError
from tomodask.reconstruct import MLEM


@pytest.fixture
def counts(rng) -> np.ndarray:
    return rng.poisson(3 * dense(2)(smooth_volume(2))).astype(np.float32)


def test_a_step_is_that_of_the_paper(counts):
    A = dense(2)
    x = np.ones(A.domain_shape)
    for _ in range(3):
        projected = A(x)
        quotient = np.divide(counts, projected, out=np.zeros_like(projected), where=projected > 0)
        x *= A.T(quotient) / A.T(np.ones_like(projected))
    assert MLEM(3, circle=False)(counts, A) == pytest.approx(x, rel=1e-5)


def test_counts_are_kept_values_positive_and_the_likelihood_rises(counts):
    A, xs = dense(2), []
    counts *= A(np.ones(A.domain_shape, np.float32)) > 0  # rays beside the volume count nothing
    MLEM(30, circle=False)(counts, A, callbacks=[lambda i, x, r: xs.append(x.copy())])
    likelihood = []
    for x in xs:
        projected = A(x)
        assert projected.sum(axis=(1, 2)) == pytest.approx(counts.sum(axis=(1, 2)), rel=1e-5)
        assert x.min() >= 0
        logarithm = np.log(projected.clip(1e-30), dtype=np.float64)
        likelihood.append(float((counts * logarithm - projected).sum(dtype=np.float64)))
    assert np.all(np.diff(likelihood) > -1e-6 * abs(likelihood[0]))
    assert likelihood[-1] > likelihood[0]


def test_subsets_go_farther_in_a_pass(counts):
    A, truth = dense(2), 3 * smooth_volume(2)
    y = A(truth)
    error = [np.linalg.norm(MLEM(3, num_subsets=n, circle=False)(y, A) - truth) for n in (1, 7)]
    assert error[1] < 0.6 * error[0]


def test_a_projector_with_overshoots_keeps_values_positive(rng):
    A = projector(1, "fourier", views=20, size=16)
    truth = np.zeros(A.domain_shape, np.float32)
    truth[0, 5:9, 6:11] = 1
    y = rng.poisson(20 * np.maximum(A(truth), 0)).astype(np.float32)
    x = MLEM(20)(y, A)
    assert x.min() >= 0
    assert np.linalg.norm(x - 20 * truth) < 0.5 * np.linalg.norm(20 * truth)


def test_a_single_bright_pixel_leaves_no_negative_value():
    A = projector(1, "fourier", views=20, size=16)
    y = np.zeros(A.range_shape, np.float32)
    y[0, 3, 8] = 1
    factor = A.T(y)
    assert factor.min() < -0.01 * factor.max()  # of one ray it swings below 0 beside the ray
    assert MLEM(1, circle=False)(y, A).min() >= 0


def test_negative_data_are_refused_or_taken_for_zero(counts):
    A = dense(2)
    counts[0, 1, 2] = counts[1, 3, 4] = -2
    with pytest.raises(InputError, match="y has 2 negative values"):
        MLEM(2)(counts, A)
    clipped = MLEM(2, clip=True)(counts, A)
    assert np.array_equal(clipped, MLEM(2)(counts.clip(0), A))
    assert counts.min() == -2
    with pytest.raises(InputError, match="x_init has 128 negative values"):
        MLEM(2)(counts.clip(0), A, x_init=np.full(A.domain_shape, -1, np.float32))
