"""Spreading on the grid against its definition, sample by sample and cell by cell."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tomodask.projectors.lane_grid import (
    BUFFER_ROWS,
    DEGREE,
    ONE,
    PAD,
    WIDTH,
    GridPlan,
    kernel_at,
    kernel_shape,
    pixel_factors,
    plan_grid,
    read_strip,
    row_floats,
    spread_strip,
    weight_polynomials,
)
from tomodask.projectors.vectors import LANES, SAMPLE, aligned_empty

SHAPE = kernel_shape()
ANGLES = np.array([0.0, 0.3, 1.2, np.pi / 2, 2.4, np.pi, 4.0, -1.1, 30.0])


def all_strips(plan: GridPlan, n: int, lines: np.ndarray) -> np.ndarray:
    """(rows, kx + WIDTH, LANES) complex: each group's strips, carried on as the backend does."""
    row = row_floats(plan.kx)
    whole = np.zeros((plan.rows, plan.kx + WIDTH, 2, LANES), np.float32)
    for group in range(len(plan.groups) - 1):
        strip = aligned_empty(BUFFER_ROWS * row)
        strip[:] = 0
        for number in range(*plan.group_strips[group : group + 2]):
            start, stop = plan.strips[number]
            runs = plan.runs[plan.tiles[number, 0] : plan.tiles[number, -1]]
            spread_strip(
                lines, n // 2, plan.step_x, plan.step_y, plan.kx, runs, start,
                weight_polynomials(SHAPE).ravel(), strip,
            )  # fmt: skip
            cells = strip.reshape(BUFFER_ROWS, row)[:, : (plan.kx + WIDTH) * SAMPLE]
            cells = cells.reshape(BUFFER_ROWS, plan.kx + WIDTH, 2, LANES)
            if start >= plan.groups[group]:
                whole[start:stop] = cells[: stop - start]
            carried = strip[(stop - start) * row :][: (WIDTH - 1) * row].copy()
            strip[:] = 0
            strip[: carried.size] = carried
    return whole[:, :, 0] + 1j * whole[:, :, 1]


def random_lines(num_angles: int, n: int) -> np.ndarray:
    lines = aligned_empty(num_angles * n // 2 * SAMPLE)
    lines[:] = np.random.default_rng(1).normal(size=lines.size)
    return lines


def test_every_cell_has_the_sum_of_the_samples_around_it() -> None:
    n, ky, kx = 48, 150, 40
    plan, lines = plan_grid(ANGLES, n, ky, kx), random_lines(ANGLES.size, 48)
    values = lines.reshape(ANGLES.size, n // 2, 2, LANES)
    expected = np.zeros((plan.rows, kx + WIDTH, LANES), complex)
    for view, angle in enumerate(ANGLES):
        along = np.array([kx * np.cos(angle), ky * np.sin(angle)]) / n
        along *= -1 if np.sin(angle) < 0 else 1
        # the kernel jumps by 0.003 at its ends, so the very same places are needed on whole cells
        steps = np.array([plan.step_x[view], plan.step_y[view]]) / ONE
        assert np.abs(steps - along).max() <= 0.5 / ONE
        for k in range(n // 2):
            x, y = k * steps
            left, low = int(np.floor(x)) - PAD, int(np.floor(y)) - PAD
            for cy in range(low, low + WIDTH):
                for cx in range(left, left + WIDTH):
                    weight = kernel_at(np.array(cx - x), SHAPE) * kernel_at(np.array(cy - y), SHAPE)
                    value = values[view, k, 0] + 1j * values[view, k, 1]
                    expected[cy + PAD, cx + PAD + kx // 2] += weight * value
    found = all_strips(plan, n, lines)
    # polynomials of degree 7, and places to 2^-24 of a cell
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


@settings(deadline=None, max_examples=30)
@given(
    angles=st.lists(st.floats(-7, 400), min_size=1, max_size=8),
    n=st.sampled_from([16, 54, 250]),
    ky=st.sampled_from([8, 54, 200]),
    kx=st.sampled_from([8, 60, 150]),
)
def test_each_sample_is_in_one_run_of_the_strip_that_owns_it(
    angles: list[float], n: int, ky: int, kx: int
) -> None:
    plan = plan_grid(np.array(angles), n, ky, kx)
    assert (plan.step_y >= 0).all()
    seen = np.zeros((len(angles), n // 2), int)
    for group in range(len(plan.groups) - 1):
        for number in range(*plan.group_strips[group : group + 2]):
            start, stop = plan.strips[number]
            for view, first, length in plan.runs[plan.tiles[number, 0] : plan.tiles[number, -1]]:
                k = np.arange(first, first + length)
                rows, columns = k * plan.step_y[view] // ONE, k * plan.step_x[view] // ONE + kx // 2
                assert ((start <= rows) & (rows < stop)).all()
                assert ((columns >= 0) & (columns + WIDTH <= kx + WIDTH)).all()
                if start >= plan.groups[group]:  # else a sample of the group before reaches in
                    seen[view, k] += 1
    assert (seen == 1).all()


def test_reading_is_the_transpose_of_spreading() -> None:
    n, ky, kx = 40, 60, 44
    plan, lines = plan_grid(ANGLES, n, ky, kx), random_lines(ANGLES.size, 40)
    row, polynomials = row_floats(kx), weight_polynomials(SHAPE).ravel()
    grid, spread = aligned_empty(plan.rows * row), aligned_empty(plan.rows * row)
    grid[:], spread[:] = np.random.default_rng(2).normal(size=grid.size), 0
    found = np.zeros_like(lines)
    for number, (start, _) in enumerate(plan.strips):
        runs = plan.runs[plan.tiles[number, 0] : plan.tiles[number, -1]]
        steps = n // 2, plan.step_x, plan.step_y, kx, runs
        spread_strip(lines, *steps, start, polynomials, spread[start * row :])
        read_strip(grid[start * row :], *steps, start, polynomials, found)
    there = np.vdot(spread.astype(float), grid.astype(float))
    back = np.vdot(lines.astype(float), found.astype(float))
    assert there == pytest.approx(back, rel=1e-5)


def test_polynomials_are_the_kernel() -> None:
    places = np.linspace(0, 1, 101)
    for cell, coefficients in enumerate(weight_polynomials(SHAPE)):
        assert coefficients.size == DEGREE + 1
        error = np.polyval(coefficients, 2 * places - 1) - kernel_at(cell - PAD - places, SHAPE)
        assert np.abs(error).max() < 2e-6  # of a kernel that is 1 in its middle


def test_factors_undo_the_transform_of_the_kernel() -> None:
    """A wave of any pixel, sampled through the kernel on the grid, comes out as itself."""
    size, grid = 33, 56
    factors = pixel_factors(size, grid, SHAPE)
    cells = np.arange(-40, 41)
    for pixel, factor in zip(np.arange(size) - size // 2, factors, strict=True):
        for place in (0.0, 0.37):
            weights = kernel_at(cells - place, SHAPE)
            wave = (weights * np.exp(2j * np.pi * pixel * cells / grid)).sum() * factor
            # neighbouring copies of the grid leak in: 3e-3 at the slice's edge, 1e-3 on average
            assert abs(wave - np.exp(2j * np.pi * pixel * place / grid)) < 3e-3
