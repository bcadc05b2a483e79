import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomodask.calibrate.mirror import (
    Window,
    bin_columns,
    column_steps,
    line_column,
    matched_weights,
    parabola_peak,
    views_column,
)


def test_a_symmetric_window_is_its_own_mirror_image():
    window = Window.symmetric(100, 30.5)
    start, stop = window.span
    assert (start, stop) == (0, 62)
    np.testing.assert_allclose(window.values(), window.values()[::-1], atol=1e-6)


def test_a_whole_window_keeps_all_but_the_outermost_columns():
    values = Window.whole(100).values()
    assert values.size == 100
    np.testing.assert_array_equal(values[3:-3], 1)


@given(st.integers(1, 9), st.floats(-50, 50))
def test_columns_of_lines_and_of_views_are_converted_back_and_forth(binning, column):
    assert line_column(views_column(column, binning), binning) == pytest.approx(column, abs=1e-9)


@given(st.integers(1, 5), st.integers(6, 12))
def test_a_step_lies_where_its_column_says(binning, column):
    # a ramp that begins in `column` rises first between the bins around it
    views = (np.arange(80) >= column * binning)[None].astype(np.float32)
    steps = column_steps(views, binning)[0]
    assert views_column(float(steps.argmax()), binning) == column * binning - 0.5


def test_binning_keeps_the_mean_and_drops_the_rest(rng):
    views = rng.normal(size=(3, 20)).astype(np.float32)
    np.testing.assert_allclose(
        bin_columns(views, 6).mean(axis=-1), views[:, :18].mean(axis=-1), rtol=1e-5
    )


def test_the_peak_of_a_parabola_is_exact():
    x = np.linspace(0, 1, 11)
    assert parabola_peak(x, -((x - 0.4321) ** 2), 4) == pytest.approx(0.4321, abs=1e-12)


def test_weights_fall_with_the_square_of_the_noise_and_do_not_follow_a_strong_signal():
    signal = np.array([1.0, 1.0, 1e6, 1e8])
    noise = np.array([1e3, 1e4, 1e-3, 1e-3])
    weights = matched_weights(signal, noise)
    assert weights[0] / weights[1] == pytest.approx(100, rel=0.01)
    products = weights * signal
    assert products[2] == pytest.approx(products[3], rel=0.01)
