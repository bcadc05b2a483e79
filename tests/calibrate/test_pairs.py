import numpy as np
import pytest

from tomodask.calibrate.mirror import find_axis
from tomodask.calibrate.pairs import MAX_PAIRS, MirroredPairs, mirrored_pairs
from tomodask.calibrate.rows import ViewOrder, signal_rows


def find(scan, *, truncated=False):
    views = ViewOrder.around(scan.geometry.angles)
    signal = signal_rows(scan.sinograms, views, 32)
    pairs = mirrored_pairs(signal.sinograms, views.angles)
    columns = signal.sinograms.shape[-1]
    return find_axis(lambda b: MirroredPairs(pairs, b), columns, (8.0, 151.0), truncated)


def even_turn(count, degrees):
    return np.deg2rad(degrees) * np.arange(count) / count


def test_a_whole_turn_is_all_pairs(rng):
    sinograms = rng.normal(size=(2, 60, 9)).astype(np.float32)
    pairs = mirrored_pairs(sinograms, even_turn(60, 360))
    np.testing.assert_array_equal(pairs.direct, sinograms[:, :30])
    np.testing.assert_array_equal(pairs.mirrored, sinograms[:, 30:])
    assert not pairs.extrapolated


def test_a_closed_half_turn_has_one_pair(rng):
    sinograms = rng.normal(size=(2, 61, 9)).astype(np.float32)
    pairs = mirrored_pairs(sinograms, np.pi * np.arange(61) / 60)
    np.testing.assert_array_equal(pairs.direct, sinograms[:, :1])
    np.testing.assert_array_equal(pairs.mirrored, sinograms[:, 60:])


def test_partners_between_views_are_interpolated():
    angles = even_turn(61, 360)  # odd: every partner lies half way between two views
    views = np.cos(angles)[None, :, None] * np.ones((1, 1, 9))
    pairs = mirrored_pairs(views.astype(np.float32), angles)
    # the chord of the cosine lies cos(half a step) below it
    np.testing.assert_allclose(pairs.mirrored, -pairs.direct * np.cos(np.pi / 61), atol=1e-6)
    assert pairs.direct.shape[1] == 31


def test_a_partner_nearer_to_one_view_is_mostly_that_one():
    first = np.pi * np.arange(60) / 60
    angles = np.concatenate([first, first + np.pi + np.pi / 240])  # a quarter of a step late
    views = (angles[:, None] * np.ones(9)).astype(np.float32)[None]
    pairs = mirrored_pairs(views, angles)
    wanted = first[-pairs.direct.shape[1] :] + np.pi
    np.testing.assert_allclose(pairs.direct[0, :, 0], wanted - np.pi, atol=1e-5)
    np.testing.assert_allclose(pairs.mirrored[0, :, 0], wanted, atol=1e-5)


def test_the_two_ends_of_an_open_half_turn_are_extrapolated_to_meet():
    angles = even_turn(60, 180)
    slope = np.arange(9, dtype=np.float32)
    views = (angles[:, None] * slope).astype(np.float32)[None]
    pairs = mirrored_pairs(views, angles)
    assert pairs.extrapolated
    half_step = np.pi / 120
    np.testing.assert_allclose(pairs.direct[0, 0], -half_step * slope, atol=1e-5)
    np.testing.assert_allclose(pairs.mirrored[0, 0], (np.pi - half_step) * slope, atol=1e-5)


def test_pairs_are_at_most_so_many_and_spread_over_the_turn(rng):
    sinograms = rng.normal(size=(1, 4 * MAX_PAIRS, 8)).astype(np.float32)
    pairs = mirrored_pairs(sinograms, even_turn(4 * MAX_PAIRS, 360))
    assert pairs.direct.shape[1] == MAX_PAIRS
    np.testing.assert_array_equal(pairs.direct[:, -1], sinograms[:, 2 * MAX_PAIRS - 1])


@pytest.mark.parametrize("degrees", [90, 170])
def test_less_than_half_a_turn_has_no_pairs(degrees):
    angles = np.deg2rad(np.arange(0, degrees, 1.0))
    assert mirrored_pairs(np.zeros((1, angles.size, 9), np.float32), angles) is None


@pytest.mark.parametrize("center", [30.8, 79.5, 96.2])
@pytest.mark.parametrize("views", [240, 241])
def test_the_axis_is_found_to_a_fiftieth_of_a_column_without_noise(make_scan, center, views):
    scan = make_scan(center, radius=100.0, views=views, degrees=360, photons=np.inf)
    assert find(scan, truncated=True).center == pytest.approx(center, abs=0.02)


@pytest.mark.parametrize("photons", [10, 100])
def test_many_pairs_need_few_photons(make_scan, photons):
    scan = make_scan(83.3, views=240, degrees=360, photons=photons)
    peak = find(scan)
    # 120 pairs in 4 rows scatter by about 0.05 columns at 10 photons
    assert peak.center == pytest.approx(83.3, abs=0.3)
    assert peak.standard_error < 0.3
    assert peak.sigmas > 10


def test_a_single_pair_gives_the_axis_within_its_error(make_scan):
    peak = find(make_scan(83.3, last_view=True, rows=8))
    assert abs(peak.center - 83.3) < 4 * peak.standard_error + 0.02
