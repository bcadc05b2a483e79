import numpy as np
import pytest

from tomodask.calibrate.mirror import find_axis
from tomodask.calibrate.rows import ViewOrder, signal_rows
from tomodask.calibrate.vo import DoubleWedge, half_turn


def prepared(scan):
    views = ViewOrder.around(scan.geometry.angles)
    return half_turn(signal_rows(scan.sinograms, views, 32).sinograms, views.angles)


def find(scan, *, truncated=False):
    half = prepared(scan)
    return find_axis(lambda b: DoubleWedge(half, b), half.shape[-1], (16.0, 143.0), truncated)


def energy_outside_the_wedge(half, center, radius):
    """As in the paper: half a turn, then the same views mirrored about `center`, transformed."""
    views, columns = half.shape
    stack = np.zeros((2 * views, 3 * columns))
    stack[:views, columns : 2 * columns] = half
    first = columns + round(2 * center) - (columns - 1)
    stack[views:, first : first + columns] = half[:, ::-1]
    order = np.abs(np.fft.fftfreq(2 * views, 1 / (2 * views)))[:, None]
    frequency = 2 * np.pi * np.abs(np.fft.fftfreq(3 * columns))
    power = np.abs(np.fft.fft2(stack)) ** 2
    return power[order > radius * frequency + 2].sum()


def test_the_energy_outside_the_wedge_is_least_where_the_correlation_is_highest(make_scan):
    scan = make_scan(83.5, rows=1, photons=np.inf)
    half = scan.sinograms[0]
    candidates = np.arange(70, 97, 0.5)
    energies = [energy_outside_the_wedge(half, center, 60.0) for center in candidates]
    assert candidates[np.argmin(energies)] == scan.center
    assert find(scan).center == pytest.approx(scan.center, abs=0.05)


@pytest.mark.parametrize("center", [48.3, 79.5, 105.9])
def test_the_axis_is_found_to_a_fiftieth_of_a_column_without_noise(make_scan, center):
    peak = find(make_scan(center, radius=44.0, photons=np.inf))
    # what remains is the error of binning and of the parabola
    assert peak.center == pytest.approx(center, abs=0.02)
    assert peak.sigmas > 20


def test_a_truncated_object_needs_a_symmetric_window(make_scan):
    scan = make_scan(51.2, radius=90.0, rows=6, seed=1)
    assert find(scan, truncated=True).center == pytest.approx(51.2, abs=0.5)
    # half of the object's width is missing at one side: its middle passes for the axis
    assert find(scan, truncated=False).center > 60


def test_a_few_views_will_do(make_scan):
    peak = find(make_scan(83.3, views=30, rows=8))
    assert peak.center == pytest.approx(83.3, abs=0.5)


def test_even_views_are_taken_as_they_are_and_the_repeat_at_half_a_turn_is_left_out(rng):
    sinograms = rng.normal(size=(2, 61, 9)).astype(np.float32)
    angles = np.pi * np.arange(61) / 60
    np.testing.assert_array_equal(half_turn(sinograms, angles), sinograms[:, :60])
    whole = rng.normal(size=(2, 120, 9)).astype(np.float32)
    np.testing.assert_array_equal(half_turn(whole, 2 * np.pi * np.arange(120) / 120), whole[:, :60])


def test_uneven_views_are_interpolated_linearly():
    angles = np.pi * np.delete(np.arange(80), [20, 33, 34]) / 80
    slope = np.arange(5, dtype=np.float32)
    half = half_turn(slope * angles[None, :, None].astype(np.float32), angles)
    even = np.pi * np.arange(80) / 80
    np.testing.assert_allclose(half[0], even[:, None] * slope, atol=1e-5)  # float32


@pytest.mark.parametrize(
    "angles",
    [
        np.deg2rad(np.arange(0, 150, 1.0)),
        np.deg2rad(np.delete(np.arange(0, 180, 1.0), np.s_[60:80])),
        np.deg2rad([0.0, 60.0, 120.0]),
        np.array([0.0]),
    ],
    ids=["150 degrees", "a gap of 20 degrees", "three views", "one view"],
)
def test_views_that_leave_a_gap_are_no_half_turn(angles):
    assert half_turn(np.zeros((1, angles.size, 9), np.float32), angles) is None
