import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomodask.calibrate.rows import ViewOrder, signal_rows


@given(st.integers(0, 1000), st.floats(-10, 10))
def test_the_order_given_and_the_first_angle_do_not_matter(seed, start):
    rng = np.random.default_rng(seed)
    angles = np.deg2rad(np.arange(0, 180, 4.0))
    shuffled = rng.permutation(angles)
    order = ViewOrder.around(shuffled + start + 2 * np.pi * rng.integers(-2, 3, angles.size))
    # angles within 1e-6 of a whole turn count as one
    np.testing.assert_allclose(order.angles, angles, atol=2e-6)
    np.testing.assert_allclose(shuffled[order.order], angles, atol=1e-9)


def test_the_first_view_is_the_one_after_the_gap():
    order = ViewOrder.around(np.deg2rad([350.0, 0.0, 10.0, 20.0, 330.0, 340.0]))
    np.testing.assert_array_equal(order.order, [4, 5, 0, 1, 2, 3])
    np.testing.assert_allclose(order.angles, np.deg2rad([0, 10, 20, 30, 40, 50]), atol=1e-9)


def test_views_at_the_same_angle_are_averaged():
    angles = np.deg2rad([0.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0, 420.0])
    order = ViewOrder.around(angles)
    sinogram = np.arange(8.0)[:, None] * np.ones(3)
    np.testing.assert_allclose(order.take(sinogram)[:, 0], [3, 4, 2, 3, 4, 5])
    assert order.angles.size == 6


def test_rows_are_evenly_spread_over_those_that_show_something(make_scan, rng):
    scan = make_scan(80.0, rows=9)
    sinograms = np.where(np.arange(9)[:, None, None] % 2, scan.sinograms, 0)
    sinograms[0] = 0.02 * rng.normal(size=sinograms[0].shape)
    views = ViewOrder.around(scan.geometry.angles)
    np.testing.assert_array_equal(signal_rows(sinograms, views, 32).rows, [1, 3, 5, 7])
    np.testing.assert_array_equal(signal_rows(sinograms, views, 2).rows, [1, 7])


@pytest.mark.parametrize("photons", [np.inf, 1000])
@pytest.mark.parametrize(("radius", "truncated"), [(72.0, False), (83.0, True), (120.0, True)])
def test_an_object_that_reaches_the_edge_is_called_truncated(make_scan, radius, truncated, photons):
    scan = make_scan(79.5, radius=radius, photons=photons, rows=8)
    signal = signal_rows(scan.sinograms, ViewOrder.around(scan.geometry.angles), 32)
    assert signal.truncated == truncated


def test_background_that_is_not_air_is_not_taken_for_the_object(make_scan):
    scan = make_scan(79.5, radius=60.0)
    signal = signal_rows(scan.sinograms + 0.4, ViewOrder.around(scan.geometry.angles), 32)
    assert not signal.truncated


def cleaned(scan, sinograms):
    return signal_rows(sinograms, ViewOrder.around(scan.geometry.angles), 32).sinograms


def test_missing_pixels_are_taken_from_their_column(make_scan, rng):
    scan = make_scan(80.0)
    still = np.broadcast_to(scan.sinograms.mean(axis=1, keepdims=True), scan.sinograms.shape)
    holes = np.where(rng.random(still.shape) < 0.05, np.nan, still)
    # nothing turns, so the column's mean is the value itself
    np.testing.assert_allclose(cleaned(scan, holes), cleaned(scan, still), rtol=1e-3)


def test_stripes_are_taken_out(make_scan):
    scan = make_scan(80.0)
    stripes = np.zeros(160, np.float32)
    stripes[[30, 75, 76, 110]] = [0.5, -0.4, -0.4, 2.0]
    clean, changed = cleaned(scan, scan.sinograms), cleaned(scan, scan.sinograms + stripes)
    # in units of the noise: what is left is the object's own step there, which the median of 11
    # columns doesn't know; a dead column cut as a spike, view by view, would leave 4
    np.testing.assert_allclose(changed, clean, atol=1.5)


def test_spikes_are_cut_down_to_what_a_step_of_the_object_might_be(make_scan):
    scan = make_scan(80.0, photons=np.inf)
    spiked = scan.sinograms.copy()
    spiked[:, 10::30, 7::40] += 50.0
    spiked[:, 10::30, 8::40] -= 50.0
    # scaled to the noise, whatever that is: only the shape counts
    clean, changed = cleaned(scan, scan.sinograms), cleaned(scan, spiked)
    assert np.abs(changed / np.ptp(changed) - clean / np.ptp(clean)).max() < 0.5


def test_wide_detectors_are_binned(rng):
    angles = np.pi * np.arange(20) / 20
    sinograms = rng.normal(size=(1, 20, 1200)).astype(np.float32)
    sinograms += 10 * np.sin(np.arange(1200) / 50).astype(np.float32)
    signal = signal_rows(sinograms, ViewOrder.around(angles), 32)
    assert signal.binning == 3
    assert signal.sinograms.shape == (1, 20, 400)
