"""From detector rows to half lines and back, against direct sums."""

import numpy as np
import pytest

from tomodask.projectors.lane_fft import line_fft, work_samples
from tomodask.projectors.lane_real import real_twiddles
from tomodask.projectors.lane_rows import lines_to_rows, row_work, rows_to_lines
from tomodask.projectors.vectors import LANES, SAMPLE, aligned_empty

VIEWS, N = 3, 300  # n/2 is more than one run of phases, and not a multiple of it
FLIPS = np.array([1, -1, 1], np.float32)
SHIFTS = np.array([0.0, 2.5, -1.25])
CENTERS = np.linspace(40.2, 61.7, LANES)
RESPONSE = np.linspace(1, 2, N // 2).astype(np.float32)
WEIGHTS = np.array([1, 0.5, 2], np.float32)


def plan(n: int = N) -> tuple[object, ...]:
    buffer = aligned_empty(row_work(n) + work_samples(n // 2) * SAMPLE)
    return n, real_twiddles(n), line_fft(n // 2).arguments, buffer


def to_lines(rows: np.ndarray, fade: np.ndarray | None = None) -> np.ndarray:
    """(views, n/2, lanes) complex of rows (row, view, column)."""
    num_rows, views, count = rows.shape
    lines = aligned_empty(views * N // 2 * SAMPLE)
    fade = np.empty(0, np.float32) if fade is None else fade
    n, turns, fft, buffer = plan()
    rows_to_lines(
        rows.ravel(), count, views * count, num_rows, count, 0, views, WEIGHTS, RESPONSE, fade,
        CENTERS, SHIFTS, FLIPS, n, turns, fft, buffer, lines,
    )  # fmt: skip
    samples = lines.reshape(views, N // 2, 2, LANES)
    return samples[:, :, 0] + 1j * samples[:, :, 1]


def direct(rows: np.ndarray, first_column: int = 0) -> np.ndarray:
    """The same by its definition: sum over u of value exp(-2 pi i k (u - axis) / n)."""
    num_rows, views, count = rows.shape
    k, u = np.arange(N // 2)[:, None], np.arange(count) + first_column
    lines = np.zeros((views, N // 2, LANES), complex)
    for view in range(views):
        for row in range(num_rows):
            waves = np.exp(-2j * np.pi / N * k * (u - CENTERS[row] - SHIFTS[view]))
            lines[view, :, row] = WEIGHTS[view] * RESPONSE * (waves @ rows[row, view])
        if FLIPS[view] < 0:
            lines[view] = lines[view].conj()
    return lines


@pytest.mark.parametrize("num_rows", [LANES, 5])
@pytest.mark.parametrize("count", [100, 97])
def test_lines_are_the_sums_over_columns(num_rows: int, count: int, rng) -> None:
    rows = rng.normal(size=(num_rows, VIEWS, count)).astype(np.float32)
    found, expected = to_lines(rows), direct(rows)
    assert np.abs(found - expected).max() < 2e-6 * np.abs(expected).max()
    assert (found[:, :, num_rows:] == 0).all(), "idle lanes are empty"


def test_edges_fade_out_on_both_sides(rng) -> None:
    rows = rng.normal(size=(LANES, VIEWS, 100)).astype(np.float32)
    fade = np.array([0.9, 0.5, 0.1], np.float32)
    continued = np.concatenate((rows[:, :, :1] * fade[::-1], rows, rows[:, :, -1:] * fade), axis=2)
    found, expected = to_lines(rows, fade), direct(continued, first_column=-3)
    assert np.abs(found - expected).max() < 2e-6 * np.abs(expected).max()


@pytest.mark.parametrize("num_rows", [LANES, 5])
def test_rows_are_the_transpose_of_lines(num_rows: int, rng) -> None:
    count = 90
    rows = rng.normal(size=(num_rows, VIEWS, count)).astype(np.float32)
    lines = aligned_empty(VIEWS * N // 2 * SAMPLE)
    lines[:] = rng.normal(size=lines.size)
    back = np.zeros_like(rows)
    n, turns, fft, buffer = plan()
    lines_to_rows(
        lines, 0, VIEWS, RESPONSE, CENTERS, SHIFTS, FLIPS, n, turns, fft, buffer, back.reshape(-1),
        count, VIEWS * count, num_rows, count,
    )  # fmt: skip
    samples = lines.reshape(VIEWS, N // 2, 2, LANES)
    given = samples[:, :, 0] + 1j * samples[:, :, 1]
    there = np.vdot(given / WEIGHTS[:, None, None], direct(rows)).real
    assert there == pytest.approx(np.vdot(back.astype(float), rows.astype(float)), rel=1e-5)
