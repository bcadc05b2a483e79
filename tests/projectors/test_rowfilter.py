"""Filtering the rows of sinograms."""

import numpy as np
import pytest

from tomodask.projectors.rowfilter import EDGE_REACH, VIEWS_AT_ONCE, RowFilter, view_runs

COLUMNS, LENGTH = 20, 48


@pytest.fixture
def kernel(rng: np.random.Generator) -> np.ndarray:
    """(23,) an even kernel that reaches 11 columns to either side."""
    half = rng.normal(size=11)
    return np.concatenate((half[::-1], [2.0], half))


@pytest.fixture
def response(kernel: np.ndarray) -> np.ndarray:
    around = np.zeros(LENGTH)
    around[np.arange(-11, 12)] = kernel
    return np.fft.rfft(around).real


def test_rows_are_convolved_and_views_weighted(
    kernel: np.ndarray, response: np.ndarray, rng: np.random.Generator
) -> None:
    num_angles = VIEWS_AT_ONCE + 3  # more than one run
    sinogram, weights = rng.normal(size=(num_angles, COLUMNS)), rng.uniform(size=num_angles)
    found = np.empty((num_angles, COLUMNS), np.float32)
    RowFilter(response, weights).apply(sinogram, out=found)
    for view in range(num_angles):
        expected = weights[view] * np.convolve(sinogram[view], kernel)[11:-11]
        np.testing.assert_allclose(found[view], expected, atol=1e-5)  # float32 FFTs of values ~ 10


def test_columns_beyond_the_ends_go_on_with_the_convolution(
    kernel: np.ndarray, response: np.ndarray, rng: np.random.Generator
) -> None:
    row = rng.normal(size=(1, COLUMNS))
    found = RowFilter(response, np.ones(1)).rows(row, slice(0, 1), before=11, after=11)
    np.testing.assert_allclose(found[0], np.convolve(row[0], kernel), atol=1e-5)


def test_edges_fade_out_on_their_own_side() -> None:
    impulse = np.ones(LENGTH // 2 + 1)  # a filter that changes nothing
    row = np.linspace(5, 2, COLUMNS)[None]
    reach = round(EDGE_REACH * COLUMNS)
    found = RowFilter(impulse, np.ones(1), "edge").rows(row, slice(0, 1), 14, 14)[0]
    np.testing.assert_allclose(found[14:-14], row[0], atol=1e-5)
    left, right = found[13::-1], found[-14:]
    for side, edge in ((left, 5), (right, 2)):
        assert 0.9 * edge < side[0] < edge
        assert (np.diff(side[:reach]) < 0).all()
        np.testing.assert_allclose(side[reach:], 0, atol=1e-5)


def test_a_long_fade_stops_at_half_the_padding() -> None:
    row = np.array([[1.0, 1, 1, 1, 1, 1, 1, -1]])
    found = RowFilter(np.ones(6), np.ones(1), "edge").rows(row, slice(0, 1), 1, 1)[0]
    assert found[0] > 0 > found[-1]


def test_the_sinogram_is_not_written_to(response: np.ndarray) -> None:
    sinogram = np.ones((3, COLUMNS), np.float32)
    sinogram.flags.writeable = False
    RowFilter(response, np.full(3, 2.0), "edge").apply(sinogram, out=np.empty_like(sinogram))


@pytest.mark.parametrize("num_angles", [1, VIEWS_AT_ONCE, VIEWS_AT_ONCE + 1, 1000])
def test_runs_cover_every_view_once(num_angles: int) -> None:
    views = np.concatenate([np.arange(num_angles)[run] for run in view_runs(num_angles)])
    np.testing.assert_array_equal(views, np.arange(num_angles))
