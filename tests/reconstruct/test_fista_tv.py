"""FISTA reaches what PDHG reaches, and what total variation promises."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from tests.reconstruct.dense import dense, projector, smooth_volume
from tests.reconstruct.tv_problems import exact_views, noisy_problem, objective
from tomodask.errors import InputError
from tomodask.reconstruct import FBP, FISTATV, PDHGTV

SOLVERS = {"fista": FISTATV(0.01, 300, circle=False), "pdhg": PDHGTV(0.01, 300, circle=False)}
each = pytest.mark.parametrize("solve", SOLVERS.values(), ids=SOLVERS)
DIMENSIONS = pytest.mark.parametrize("dimensions", [2, 3])


@DIMENSIONS
@pytest.mark.parametrize("box", [(None, None), (0.0, 1.0)])
def test_both_reach_the_same_minimum(dimensions, box):
    A, y = noisy_problem()
    low, high = box
    found = [
        replace(solve, dimensions=dimensions, regularisation=0.1, min_constraint=low,
                max_constraint=high)(y, A)
        for solve in SOLVERS.values()
    ]  # fmt: skip
    values = [objective(x, y, A, 0.1, dimensions) for x in found]
    assert values[0] == pytest.approx(values[1], rel=1e-4)
    assert np.linalg.norm(found[0] - found[1]) < 1e-2 * np.linalg.norm(found[1])
    other = replace(SOLVERS["fista"], regularisation=0.1, dimensions=5 - dimensions)(y, A)
    assert np.linalg.norm(found[0] - other) > 2e-2 * np.linalg.norm(other)


@each
def test_the_objective_ends_lower_than_anywhere_near(solve, rng):
    A, y = noisy_problem()
    x = solve(y, A)
    least = objective(x, y, A, 0.01, 2)
    for size in (1e-2, 1e-1):
        moved = x + size * rng.normal(size=x.shape).astype(np.float32)
        assert objective(moved, y, A, 0.01, 2) > least
    assert objective(0.99 * x, y, A, 0.01, 2) > least


@cache
def few_views() -> tuple:
    return exact_views(size=32, views=16)


@each
def test_piecewise_constant_slices_come_out_of_few_views(solve):
    A, y, truth = few_views()
    x = replace(solve, regularisation=2e-3, min_constraint=0.0)(y, A)
    error = np.linalg.norm(x - truth) / np.linalg.norm(truth)
    by_fbp = np.linalg.norm(FBP(circle=False)(y, A) - truth) / np.linalg.norm(truth)
    assert error < 0.01
    assert by_fbp > 0.15


@each
def test_much_regularisation_leaves_a_constant_and_none_leaves_least_squares(solve):
    A = dense(2)
    y = A(smooth_volume(2))
    flat = replace(solve, regularisation=1e3)(y, A)
    assert np.ptp(flat, axis=(1, 2)) == pytest.approx([0, 0], abs=1e-2)
    ones = A(np.ones(A.domain_shape, np.float32))
    best = [float(np.vdot(o, r) / np.vdot(o, o)) for o, r in zip(ones, y, strict=True)]
    assert flat.mean(axis=(1, 2)) == pytest.approx(best, rel=1e-2)
    free = replace(solve, regularisation=0.0)(y, A)
    assert np.linalg.norm(A(free) - y) < 1e-2 * np.linalg.norm(y)


@each
def test_the_number_serves_for_other_units_and_views(solve):
    A, y = noisy_problem()

    class InMillimetres:
        domain_shape, range_shape = A.domain_shape, A.range_shape
        num_angles, independent_rows = A.num_angles, True

        def __call__(self, x):
            return np.float32(0.01) * A(x)

        def T(self, y):  # noqa: N802
            return np.float32(0.01) * A.T(y)

    x = solve(y, A)
    assert np.allclose(0.01 * solve(y, InMillimetres()), x, atol=2e-3 * np.abs(x).max())
    twice = A.views(np.arange(2 * A.num_angles) // 2)
    # the same noise twice is not less noise: the weight must grow as the views, not as their root
    again = replace(solve, regularisation=0.01 * 2**0.5)(np.repeat(y, 2, axis=1), twice)
    assert np.allclose(again, x, atol=2e-3 * np.abs(x).max())


@each
@pytest.mark.parametrize("backend", ["reference", "fourier"])
def test_slab_by_slab_is_all_at_once(solve, backend):
    solve = replace(solve, num_iterations=4)
    whole = projector(5, backend, views=12, size=16)
    y = whole(smooth_volume(5, 16))
    x = solve(y, whole)
    for rows in (slice(0, 2), slice(2, 5)):
        part = projector(rows.stop - rows.start, backend, views=12, size=16)
        assert np.array_equal(solve(y[rows], part), x[rows])


@each
def test_three_dimensions_are_two_where_nothing_changes_along_z(solve):
    A, y = noisy_problem()
    y = np.repeat(y[:1], 3, axis=0)
    flat, solid = solve(y, A), replace(solve, dimensions=3)(y, A)
    assert np.allclose(solid, flat, atol=2e-3 * np.abs(flat).max())
    assert replace(solve, dimensions=3).couples_rows
    assert not solve.couples_rows


@each
def test_weights_of_zero_are_a_mask_and_count_in_units_of_noise(solve, rng):
    A, y = noisy_problem()
    weights = rng.uniform(0.5, 2, size=y.shape).astype(np.float32)
    weights[:, 3] = 0
    mask = weights > 0
    x = solve(y, A, weights=weights)
    spoilt = np.where(mask, y, np.float32(np.nan))
    heavier = replace(solve, regularisation=0.01 * 7**0.5)
    again = heavier(spoilt, A, weights=7 * weights, projection_mask=mask)
    assert np.allclose(again, x, atol=2e-3)
    uniform = solve(y, A, weights=mask.astype(np.float32))
    assert np.allclose(uniform, solve(y, A, projection_mask=mask), atol=2e-3)
    assert np.linalg.norm(x - uniform) > 1e-2 * np.linalg.norm(x)
    with pytest.raises(InputError, match="weights down to -1"):
        solve(y, A, weights=-np.ones((1, 1)))


@each
def test_a_row_of_nan_spoils_all_where_slices_are_coupled(solve):
    A, y = noisy_problem()
    y = y.copy()
    y[1, 2, 3] = np.nan
    with pytest.raises(InputError, match="1 values that are NaN"):
        replace(solve, dimensions=3)(y, A)


def test_the_residual_told_is_that_of_x_as_the_iteration_began():
    A, y = noisy_problem()
    xs, told = [np.zeros(A.domain_shape, np.float32)], []

    def keep(iteration, x, norm):
        xs.append(x.copy())
        told.append(norm)

    PDHGTV(0.01, 5, circle=False)(y, A, callbacks=[keep])
    assert told == pytest.approx([np.linalg.norm(y - A(x)) for x in xs[:-1]], rel=1e-4)


@pytest.mark.parametrize(
    "wrong", [{"regularisation": -1.0}, {"dimensions": 1}, {"num_iterations": 0}]
)
@pytest.mark.parametrize("kind", [FISTATV, PDHGTV])
def test_parameters_that_can_not_be_are_refused(kind, wrong):
    (name,) = wrong
    with pytest.raises(InputError, match=name):
        kind(**wrong)


def test_denoising_needs_iterations():
    with pytest.raises(InputError, match="num_projections=0"):
        FISTATV(num_projections=0)
