"""SART: the subsets of views in turn."""

import numpy as np
import pytest

from tests.reconstruct.dense import COLUMNS, VIEWS, dense, slice_matrix, smooth_volume
from tomodask.errors import InputError
from tomodask.reconstruct import SART, SIRT, History, subsets
from tomodask.reconstruct.subsets import ORDERS


@pytest.fixture
def noisy(rng) -> np.ndarray:
    y = dense(2)(smooth_volume(2))
    return (y + rng.normal(scale=0.1, size=y.shape)).astype(np.float32)


def test_one_subset_is_sirt(noisy):
    x = SART(5, num_subsets=1, relaxation=0.8, circle=False)(noisy, dense(2))
    assert np.array_equal(x, SIRT(5, relaxation=0.8, circle=False)(noisy, dense(2)))


def test_a_subset_for_each_view_is_andersen_and_kak(noisy):
    """Every view corrects what the one before has left."""
    matrix = slice_matrix().reshape(VIEWS, COLUMNS, -1)
    x = np.zeros((2, 64))
    for _ in range(2):
        for view, one in enumerate(matrix):
            rays, voxels = one.sum(axis=1), one.sum(axis=0)
            residual = np.where(rays > 1e-6, (noisy[:, view] - x @ one.T) / rays.clip(1e-6), 0)
            x += 0.5 * np.where(voxels > 1e-6, residual @ one / voxels.clip(1e-6), 0)
    solve = SART(2, num_subsets=VIEWS, order="sequential", relaxation=0.5, circle=False)
    assert solve(noisy, dense(2)).reshape(2, -1) == pytest.approx(x, abs=1e-5)


def test_a_pass_goes_farther_than_an_iteration_of_sirt(noisy):
    passes, iterations = History(), History()
    SART(4, num_subsets=7, circle=False)(noisy, dense(2), callbacks=[passes])
    SIRT(12, circle=False)(noisy, dense(2), callbacks=[iterations])
    assert passes.residual_norms[3] < iterations.residual_norms[11]


def test_the_residual_told_is_that_of_all_subsets_together(noisy):
    history = History()
    still = SART(1, num_subsets=5, relaxation=1e-6, circle=False)  # x is the same for each
    still(noisy, dense(2), callbacks=[history])
    assert history.residual_norms == pytest.approx([np.linalg.norm(noisy)], rel=1e-4)


@pytest.mark.parametrize("num_subsets", [1, 2, 7, 10, 64])
@pytest.mark.parametrize("order", ORDERS)
def test_every_subset_has_its_turn(order, num_subsets):
    assert sorted(ORDERS[order](num_subsets)) == list(range(num_subsets))


def test_golden_subsets_are_far_from_those_just_before():
    order = ORDERS["golden"](64)
    steps = np.abs(np.diff(order))
    assert np.minimum(steps, 64 - steps).min() >= 8


def test_weights_of_many_subsets_are_made_anew_and_the_same(noisy, monkeypatch):
    kept = SART(2, num_subsets=7)
    x = kept(noisy, dense(2))
    monkeypatch.setattr(subsets, "KEPT", 3)
    assert np.array_equal(kept(noisy, dense(2)), x)


def test_more_subsets_than_views_are_refused(noisy):
    with pytest.raises(InputError, match="num_subsets=15, but there are 14 views"):
        SART(num_subsets=15)(noisy, dense(2))
