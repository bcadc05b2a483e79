import json

import h5py
import numpy as np
import pytest
import scipy.fft
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from tomodask.calibrate import find_center
from tomodask.errors import AnglesError, InputError
from tomodask.geometry import ParallelBeam


def with_angles(geometry, angles):
    return ParallelBeam(angles, geometry.det_rows, geometry.det_count)


# --- the centre is found ------------------------------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(center=st.floats(64, 96), seed=st.integers(0, 1000))
def test_a_hidden_centre_is_found_at_the_first_try(make_scan, center, seed):
    scan = make_scan(center, seed=seed)
    estimate = find_center(scan.sinograms, scan.geometry)
    assert estimate.confident, estimate.message
    # 4 rows of 1000 photons scatter by 0.06 columns
    assert estimate.center == pytest.approx(center, abs=0.3)


@pytest.mark.parametrize(("photons", "error"), [(np.inf, 0.03), (1000, 0.2), (100, 0.6)])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_error_grows_with_the_noise(make_scan, photons, error, seed):
    # error: about four times the scatter over seeds
    scan = make_scan(83.3, rows=8, photons=photons, seed=seed)
    estimate = find_center(scan.sinograms, scan.geometry)
    assert estimate.center == pytest.approx(scan.center, abs=error)
    assert abs(estimate.center - scan.center) < 4 * estimate.uncertainty + 0.01


@pytest.mark.parametrize(
    ("degrees", "last_view"),
    [(180, False), (180, True), (200, False), (360, False), (360, True), (540, False)],
)
def test_every_range_of_angles_over_half_a_turn_will_do(make_scan, degrees, last_view):
    views = round(150 * degrees / 180)
    scan = make_scan(74.6, views=views, degrees=degrees, last_view=last_view)
    estimate = find_center(scan.sinograms, scan.geometry)
    assert estimate.confident, estimate.message
    assert estimate.center == pytest.approx(scan.center, abs=0.3)


def test_an_axis_far_from_the_middle_is_found(make_scan):
    scan = make_scan(0.3 * 160, radius=44.0)
    estimate = find_center(scan.sinograms, scan.geometry)
    assert estimate.confident, estimate.message
    assert estimate.center == pytest.approx(scan.center, abs=0.3)


@pytest.mark.parametrize("degrees", [180, 360])
def test_an_object_wider_than_the_detector_is_no_obstacle(make_scan, degrees):
    scan = make_scan(85.2, radius=120.0, views=degrees, degrees=degrees, rows=8)
    estimate = find_center(scan.sinograms, scan.geometry)
    assert estimate.center == pytest.approx(scan.center, abs=0.6)


def test_a_whole_turn_about_an_axis_near_the_edge_is_found(make_scan):
    scan = make_scan(24.4, radius=120.0, views=300, degrees=360)
    estimate = find_center(scan.sinograms, scan.geometry)
    assert estimate.confident, estimate.message
    assert estimate.center == pytest.approx(scan.center, abs=0.3)


# --- laws ---------------------------------------------------------------------------------------


def test_columns_cut_off_move_the_centre_by_as_many(make_scan):
    scan = make_scan(90.7)
    whole = find_center(scan.sinograms, scan.geometry)
    cut = find_center(scan.sinograms[:, :, 9:], scan.geometry.take_columns(9, 160))
    # the same photons: only the window at the edges differs
    assert cut.center == pytest.approx(whole.center - 9, abs=0.05)


def test_a_mirrored_detector_mirrors_the_centre(make_scan):
    scan = make_scan(90.7)
    there = find_center(scan.sinograms, scan.geometry)
    back = find_center(scan.sinograms[:, :, ::-1], scan.geometry)
    assert back.center == pytest.approx(159 - there.center, abs=0.02)  # float32 and a parabola


def test_the_order_of_the_views_does_not_matter(make_scan, rng):
    scan = make_scan(71.8, degrees=360, views=200)
    center = find_center(scan.sinograms, scan.geometry).center
    for order in (np.arange(200)[::-1], rng.permutation(200)):
        geometry = with_angles(scan.geometry, scan.geometry.angles[order])
        assert find_center(scan.sinograms[:, order], geometry).center == center


def test_whole_turns_and_the_direction_of_rotation_do_not_matter(make_scan, rng):
    scan = make_scan(71.8)
    center = find_center(scan.sinograms, scan.geometry).center
    turned = scan.geometry.angles + 2 * np.pi * rng.integers(-3, 4, 150) + 1.0
    geometry = with_angles(scan.geometry, turned)
    assert find_center(scan.sinograms, geometry).center == pytest.approx(center, abs=1e-3)
    geometry = with_angles(scan.geometry, -scan.geometry.angles)
    # the same two ends, seen as the other half of the turn
    assert find_center(scan.sinograms, geometry).center == pytest.approx(center, abs=0.05)


def test_contrast_and_background_do_not_matter(make_scan):
    scan = make_scan(86.1)
    plain = find_center(scan.sinograms, scan.geometry)
    changed = find_center(3 * scan.sinograms + 0.4, scan.geometry)
    assert changed.center == pytest.approx(plain.center, abs=1e-3)  # float32


def test_views_that_repeat_are_taken_together(make_scan):
    scan = make_scan(86.1)
    once = find_center(scan.sinograms, scan.geometry)
    again = with_angles(scan.geometry, np.tile(scan.geometry.angles, 2))
    twice = find_center(np.tile(scan.sinograms, (1, 2, 1)), again)
    assert twice.center == pytest.approx(once.center, abs=1e-3)  # float32 means


def test_threads_do_not_change_a_bit(make_scan):
    scan = make_scan(86.1)
    one = find_center(scan.sinograms, scan.geometry)
    with scipy.fft.set_workers(2):
        two = find_center(scan.sinograms, scan.geometry)
    assert (one.center, one.uncertainty) == (two.center, two.uncertainty)
    np.testing.assert_array_equal(one.metric, two.metric)


def test_stripes_spikes_and_missing_pixels_do_not_move_the_centre(make_scan, rng):
    scan = make_scan(73.9)
    stripes = np.where(rng.random((4, 1, 160)) < 0.1, rng.normal(size=(4, 1, 160)), 0)
    sinograms = scan.sinograms + stripes.astype(np.float32)
    sinograms[rng.random(sinograms.shape) < 3e-3] = -7.0  # zingers
    sinograms[rng.random(sinograms.shape) < 1e-2] = np.nan
    estimate = find_center(sinograms, scan.geometry)
    assert estimate.confident, estimate.message
    assert estimate.center == pytest.approx(scan.center, abs=0.4)


# --- what is told about it ----------------------------------------------------------------------


def test_the_metric_is_highest_at_the_centre_and_rows_have_their_own(make_scan):
    scan = make_scan(84.4, views=300, degrees=360)
    estimate = find_center(scan.sinograms, scan.geometry)
    best = estimate.candidates[estimate.metric.argmax()]
    assert best == pytest.approx(scan.center, abs=1)  # the coarse search
    np.testing.assert_allclose(estimate.per_row, scan.center, atol=0.5)
    assert set(estimate.methods) == {"vo", "pairs"}
    assert estimate.method == "vo and pairs"


def test_rows_without_a_signal_are_passed_over(make_scan, rng):
    scan = make_scan(84.4, rows=6)
    sinograms = scan.sinograms.copy()
    sinograms[0] = 0
    sinograms[2] = 0.03 * rng.normal(size=sinograms[2].shape)  # air
    sinograms[5] = np.nan
    estimate = find_center(sinograms, scan.geometry)
    np.testing.assert_array_equal(estimate.rows, [1, 3, 4])
    assert estimate.center == pytest.approx(scan.center, abs=0.3)
    assert "3 of 6 rows" in estimate.message


@pytest.mark.parametrize("method", ["vo", "pairs"])
def test_a_single_method_can_be_asked_for(make_scan, method):
    scan = make_scan(84.4, views=300, degrees=360)
    estimate = find_center(scan.sinograms, scan.geometry, method=method)
    assert estimate.method == method
    assert list(estimate.methods) == [method]
    assert estimate.confident, estimate.message
    assert estimate.center == pytest.approx(scan.center, abs=0.3)


# --- what can't be told is not claimed ----------------------------------------------------------


@pytest.mark.parametrize("value", [0.0, 1.5, np.nan])
def test_empty_rows_give_no_confidence_and_no_crash(value):
    sinograms = np.full((3, 90, 64), value, np.float32)
    estimate = find_center(sinograms, ParallelBeam(np.linspace(0, np.pi, 90), 3, 64))
    assert not estimate.confident
    assert estimate.center == 31.5
    assert estimate.rows.size == 0
    assert "none of the 3 rows" in estimate.message


@pytest.mark.parametrize("degrees", [180, 360])
def test_noise_gives_no_confidence(rng, degrees):
    sinograms = rng.normal(size=(8, 120, 96)).astype(np.float32)
    geometry = ParallelBeam(np.deg2rad(degrees) * np.arange(120) / 120, 8, 96)
    estimate = find_center(sinograms, geometry)
    assert not estimate.confident
    assert estimate.uncertainty > 20  # it may be anywhere


@pytest.mark.parametrize("views", [1, 2, 3, 5])
def test_too_few_views_give_no_confidence_and_no_crash(make_scan, views):
    scan = make_scan(84.4, views=views)
    assert not find_center(scan.sinograms, scan.geometry).confident


def test_less_than_half_a_turn_gives_no_confidence(make_scan):
    scan = make_scan(84.4, degrees=140)
    estimate = find_center(scan.sinograms, scan.geometry)
    assert not estimate.confident
    assert estimate.method == "none"
    assert "half a turn" in estimate.message


@pytest.mark.parametrize("degrees", [180, 360])
@pytest.mark.parametrize("photons", [1000, np.inf])
def test_an_axis_beside_the_detector_gives_no_confidence(make_scan, degrees, photons):
    scan = make_scan(
        80.0, columns=260, radius=180.0, views=2 * degrees // 2, degrees=degrees, photons=photons
    )
    off = scan.geometry.take_columns(130, 260)
    assert not find_center(scan.sinograms[:, :, 130:], off).confident


def test_an_axis_outside_the_search_gives_no_confidence(make_scan):
    scan = make_scan(84.4)
    assert not find_center(scan.sinograms, scan.geometry, search=(10, 70)).confident


def test_a_single_row_gives_no_confidence_in_a_single_method(make_scan):
    scan = make_scan(84.4, rows=1)
    estimate = find_center(scan.sinograms, scan.geometry, method="vo")
    assert estimate.center == pytest.approx(84.4, abs=0.5)
    assert not estimate.confident
    assert "single row" in estimate.message


def test_methods_that_disagree_give_no_confidence(make_scan):
    scan = make_scan(84.4, last_view=True)
    sinograms = scan.sinograms.copy()
    sinograms[:, -1] = np.roll(sinograms[:, -1], 6, axis=-1)  # knocked before the last view
    estimate = find_center(sinograms, scan.geometry)
    assert not estimate.confident
    assert estimate.methods["pairs"] - estimate.methods["vo"] == pytest.approx(3, abs=0.5)
    assert "3.0 columns apart" in estimate.message
    assert estimate.uncertainty > 2


def test_a_beam_lost_half_way_round_gives_no_confidence(make_scan, rng):
    scan = make_scan(84.4, views=300, degrees=360)
    sinograms = scan.sinograms.copy()
    sinograms[:, 150:] = rng.normal(size=(4, 150, 160))
    estimate = find_center(sinograms, scan.geometry)
    assert estimate.methods["vo"] == pytest.approx(84.4, abs=0.5)  # the first half is good
    assert not estimate.confident


# --- input that can't be used -------------------------------------------------------------------


def test_input_that_cannot_be_used_is_refused_by_name(make_scan):
    scan = make_scan(84.4, rows=1)
    with pytest.raises(AnglesError, match="150 angles for 149 views"):
        find_center(scan.sinograms[:, 1:], scan.geometry)
    with pytest.raises(InputError, match=r"\(150, 160\)"):
        find_center(scan.sinograms[0], scan.geometry)
    with pytest.raises(InputError, match="'mass' is unknown"):
        find_center(scan.sinograms, scan.geometry, method="mass")
    with pytest.raises(InputError, match="from column 90 to 70"):
        find_center(scan.sinograms, scan.geometry, search=(90, 70))


# --- measured scans -----------------------------------------------------------------------------


def attenuation(projections, flats, darks):
    """(angle, row, column) counts -> (row, angle, column); opaque and dead pixels stay finite."""
    beam = flats.mean(axis=0) - darks.mean(axis=0)
    transmission = (projections - darks.mean(axis=0)) / np.where(beam > 1, beam, np.inf)
    sinograms = np.swapaxes(-np.log(np.clip(transmission, 1e-3, None)), 0, 1)
    return np.ascontiguousarray(
        np.where(np.swapaxes(beam[None] > 1, 0, 1), sinograms, 0), np.float32
    )


def read_dxchange(path):
    with h5py.File(path) as file:
        group = file["exchange"]
        counts = (group[name][...] for name in ("data", "data_white", "data_dark"))
        sinograms = attenuation(*counts)
        angles = np.deg2rad(group["theta"][...])
    return sinograms, ParallelBeam(angles, sinograms.shape[0], sinograms.shape[2])


@pytest.mark.real
def test_the_tooth_is_found_from_its_two_rows(data_dir):
    estimate = find_center(*read_dxchange(data_dir / "tooth_aps" / "tooth.h5"))
    assert estimate.confident, estimate.message
    assert estimate.center == pytest.approx(296.0, abs=1)  # known to 0.5


@pytest.mark.real
@pytest.mark.parametrize("rows", [slice(None), slice(3, None, 27), slice(60, 90)])
def test_the_opaque_rod_that_fools_the_centre_of_mass_is_found(data_dir, rows):
    sinograms, geometry = read_dxchange(data_dir / "i12_24737" / "i12_24737.h5")
    estimate = find_center(sinograms[rows], geometry)
    assert estimate.confident, estimate.message
    assert estimate.center == pytest.approx(86.0, abs=1)  # known to 0.3


@pytest.mark.real
def test_the_basalt_is_found_from_one_row_with_uneven_angles(data_dir):
    stored = scipy.io.loadmat(data_dir / "basalt" / "sino_basalt.mat")
    sinogram = stored["sino_basalt"].T[None].astype(np.float32)
    estimate = find_center(sinogram, ParallelBeam(stored["angles"].ravel(), 1, 627))
    assert estimate.center == pytest.approx(311.5, abs=1)  # known to 0.75


@pytest.mark.real
def test_the_interior_region_that_cannot_be_told_is_not_claimed(data_dir):
    folder = data_dir / "k11_diad"
    with h5py.File(folder / "k11-18014.nxs") as file:
        key = file["entry/instrument/imaging/image_key"][...]
    with h5py.File(folder / "k11-18014" / "k11-18014-imaging.h5") as file:
        frames = file["entry/detector/detector"][...]
    with h5py.File(folder / "k11-18014" / "k11-18014-pcompPanda.h5") as file:
        degrees = file["entry/gts_theta.value/gts_theta.value"][...]
    sinograms = attenuation(frames[key == 0].astype(float), frames[key == 1], frames[key == 2])
    estimate = find_center(sinograms, ParallelBeam(np.deg2rad(degrees[key == 0]), 22, 26))
    assert not estimate.confident
    assert "Look at slices" in estimate.message


def test_an_estimate_on_a_crop_is_moved_to_the_detector(make_scan):
    scan = make_scan(80.0)
    estimate = find_center(scan.sinograms, scan.geometry)
    moved = estimate.shifted(25)
    assert moved.center == estimate.center + 25
    np.testing.assert_allclose(moved.candidates - estimate.candidates, 25)
    np.testing.assert_allclose(moved.per_row - estimate.per_row, 25)
    assert moved.uncertainty == estimate.uncertainty
    assert json.loads(json.dumps(moved.as_dict()))["center"] == pytest.approx(
        moved.center, abs=1e-4
    )
