"""Phantoms obey the laws of projection that every reconstruction is judged by."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import rotate
from scipy.spatial import KDTree

from tomodask.errors import GeometryError, InputError
from tomodask.phantom import (
    Discs,
    Foam,
    beam_profile,
    chiral_phantom,
    detector_counts,
    disc_image,
    disc_sinogram,
    foam,
    simulate_scan,
)

ANGLES = np.linspace(0, np.pi, 7)


@pytest.fixture
def small_foam() -> Foam:
    return foam(20, 16, 60, seed=4, dense_fraction=0.2).moved(2.3, -1.6)


def sphere_rows(z: float, radius: float, edges: np.ndarray) -> np.ndarray:
    """Volume of a sphere between each pair of heights."""
    t = np.clip(edges - z, -radius, radius)
    return np.pi * np.diff(radius**2 * t - t**3 / 3)


def row_masses(sample: Foam, first_row: int, rows: int) -> np.ndarray:
    edges = np.clip(first_row + np.arange(rows + 1) - 0.5, -0.5, sample.height - 0.5)
    masses = sample.attenuation * np.pi * sample.cylinder_radius**2 * np.diff(edges)
    for z, radius, value in zip(sample.z, sample.radius, sample.value, strict=True):
        masses += value * sphere_rows(z, radius, edges)
    return masses


def test_every_projection_of_discs_sums_to_their_mass():
    discs = chiral_phantom(30)
    sums = discs.sinogram(ANGLES, 70, 36.2).sum(axis=1, dtype=np.float64)
    assert sums == pytest.approx(discs.mass, rel=1e-6)  # float32 pixels


def test_a_projection_is_the_mean_of_finer_samples_over_each_pixel():
    u = (np.arange(64 * 400) + 0.5) / 400 - 0.5
    chords = 2 * np.sqrt(
        np.maximum(10.3**2 - (u - (5 * np.cos(0.7) + 2 * np.sin(0.7) + 30)) ** 2, 0)
    )
    fine = 0.5 * chords.reshape(64, 400).mean(axis=1)
    exact = disc_sinogram(np.array([0.7]), 64, 30, radius=10.3, x=5, y=2, value=0.5)[0]
    # 400 samples see the root's vertical start with an error of about 400**-1.5
    assert exact == pytest.approx(fine, abs=2e-4)


def test_the_centroid_of_a_projection_moves_as_the_convention_says():
    sinogram = disc_sinogram(ANGLES, 90, 41.7, radius=8, x=11, y=-17).astype(np.float64)
    centroid = sinogram @ np.arange(90) / sinogram.sum(axis=1)
    expected = 11 * np.cos(ANGLES) - 17 * np.sin(ANGLES) + 41.7
    # within the pixels at its two ends the disc's middle of mass is not the pixel's middle
    assert centroid == pytest.approx(expected, abs=2e-3)


def test_a_disc_image_has_its_area_and_its_place():
    image = disc_image(50, 60, radius=9.4, x=8.25, y=-5.5, value=2).astype(np.float64)
    y, x = np.mgrid[:50, :60]
    assert image.sum() == pytest.approx(2 * np.pi * 9.4**2, rel=1e-4)  # 8 lines per pixel
    assert (image * x).sum() / image.sum() - 29.5 == pytest.approx(8.25, abs=2e-3)  # as above
    assert (image * y).sum() / image.sum() - 24.5 == pytest.approx(-5.5, abs=2e-3)


def test_a_projection_along_y_sums_the_columns_of_the_image():
    discs = chiral_phantom(20)
    image = discs.image(64, 64, supersampling=32)
    sinogram = discs.sinogram(np.array([0.0]), 64)
    # the image samples lines in y: their error shows where an edge is parallel to the ray
    assert sinogram[0] == pytest.approx(image.sum(axis=0), abs=2e-3 * float(sinogram.max()))


def test_discs_outside_the_detector_leave_only_what_it_sees():
    wide = disc_sinogram(ANGLES, 200, 99.5, radius=30, x=55)
    narrow = disc_sinogram(ANGLES, 100, 49.5, radius=30, x=55)
    np.testing.assert_array_equal(narrow, wide[:, 50:150])
    assert not disc_sinogram(ANGLES[:1], 20, 9.5, radius=3, x=100).any()


def test_the_mirror_image_of_the_chiral_phantom_is_no_rotation_of_it():
    discs = chiral_phantom(30)
    solid = disc_image(64, 64, 30, value=0.01)
    image = discs.image(64, 64) - solid
    mirrored = image[:, ::-1]

    def likeness(turn: float, other: np.ndarray) -> float:
        return float(np.corrcoef(rotate(image, turn, reshape=False).ravel(), other.ravel())[0, 1])

    turns = range(0, 360, 10)
    assert max(likeness(turn, mirrored) for turn in turns) < 0.8
    assert likeness(0, image) == pytest.approx(1)


def test_every_row_of_a_foam_projection_sums_to_the_mass_of_its_slice(small_foam):
    projections = small_foam.project(ANGLES, 20, 60, 27.4, first_row=-2)  # air above and below
    sums = projections.sum(axis=2, dtype=np.float64)
    expected = np.broadcast_to(row_masses(small_foam, -2, 20), sums.shape)
    assert sums == pytest.approx(expected, rel=1e-5, abs=1e-5)  # float32 sums of 60 spheres
    assert not sums[:, [0, 1, 18, 19]].any()


def test_a_foam_pixel_is_the_mean_of_the_chords_through_it():
    sphere = Foam([4.2], [-3.1], [3.3], [2.7], [-0.02], 9.0, 7, 0.02)
    s = (np.arange(60) + 0.5) / 60 - 0.5
    z = (np.arange(7)[:, None] + s).reshape(-1, 1)
    u = (np.arange(30)[:, None] + s).ravel()
    u0 = 4.2 * np.cos(0.4) - 3.1 * np.sin(0.4) + 14
    chords = 0.02 * 2 * np.sqrt(np.maximum(81 - (u - 14) ** 2, 0))
    chords = chords - 0.02 * 2 * np.sqrt(np.maximum(2.7**2 - (u - u0) ** 2 - (z - 3.3) ** 2, 0))
    fine = chords.reshape(7, 60, 30, 60).mean(axis=(1, 3))
    exact = sphere.project(np.array([0.4]), 7, 30, 14)[0]
    assert exact == pytest.approx(fine, abs=1e-4 * fine.max())


def test_turning_the_foam_by_a_right_angle_is_the_same_as_turning_the_view(small_foam):
    turned = replace(
        small_foam,
        x=-small_foam.y,
        y=small_foam.x,
        cylinder_x=-small_foam.cylinder_y,
        cylinder_y=small_foam.cylinder_x,
    )
    # u = x cos + y sin: turning the object from x to y and the view by as much changes nothing
    there = small_foam.project(ANGLES, 16, 60)
    again = turned.project(ANGLES + np.pi / 2, 16, 60)
    assert again == pytest.approx(there, abs=1e-6)
    volume = small_foam.volume(16, 52, 52, supersampling=8)
    # exact along x and sampled along y: they differ where an edge is parallel to the sampling, by
    # less than one of 8 lines
    turned_volume = turned.volume(16, 52, 52, supersampling=8)
    tolerance = small_foam.attenuation / 8
    assert np.rot90(volume, -1, axes=(1, 2)) == pytest.approx(turned_volume, abs=tolerance)


def test_the_volume_holds_the_solid_that_the_spheres_leave(small_foam):
    volume = small_foam.volume(16, 52, 52)
    sums = volume.sum(axis=(1, 2), dtype=np.float64)
    assert sums == pytest.approx(row_masses(small_foam, 0, 16), rel=1e-3)  # 4 x 4 lines per voxel


def test_the_volume_is_what_the_projections_see(small_foam):
    volume = small_foam.volume(16, 60, 60, supersampling=8)
    along_y = small_foam.project(np.array([0.0]), 16, 60)[0]
    along_x = small_foam.project(np.array([np.pi / 2]), 16, 60)[0]
    assert volume.sum(axis=1) == pytest.approx(along_y, abs=5e-3 * float(along_y.max()))
    assert volume.sum(axis=2) == pytest.approx(along_x, abs=5e-3 * float(along_x.max()))


def test_rows_made_a_slab_at_a_time_equal_all_at_once(small_foam):
    whole = small_foam.project(ANGLES, 16, 60, 30.1)
    slabs = [small_foam.project(ANGLES, 4, 60, 30.1, first_row=row) for row in range(0, 16, 4)]
    assert np.concatenate(slabs, axis=1) == pytest.approx(whole, abs=1e-6)
    rows = [small_foam.slice(row, 50, 50) for row in range(16)]
    assert np.stack(rows) == pytest.approx(small_foam.volume(16, 50, 50), abs=1e-7)


def test_planes_of_the_foam_as_discs_average_to_the_row_they_lie_in(small_foam):
    planes = [small_foam.discs(6.5 + (i + 0.5) / 50).sinogram(ANGLES, 60) for i in range(50)]
    row = small_foam.project(ANGLES, 1, 60, first_row=7)[:, 0]
    assert np.mean(planes, axis=0) == pytest.approx(row, abs=2e-3 * float(row.max()))


def test_a_moved_foam_moves_in_the_projections_and_the_volume(small_foam):
    moved = small_foam.moved(3, -2)
    volume = small_foam.volume(4, 60, 60)
    assert moved.volume(4, 60, 60)[:, :-2, 3:] == pytest.approx(volume[:, 2:, :-3], abs=1e-7)
    angle = np.array([0.4])
    shift = 3 * np.cos(0.4) - 2 * np.sin(0.4)
    there, again = small_foam.project(angle, 4, 60, 28 + shift), moved.project(angle, 4, 60, 28)
    assert again == pytest.approx(there, abs=1e-6)


def test_spheres_of_many_sizes_keep_their_walls():
    sample = foam(50, 60, 400, seed=1, wall=0.7)
    centers = np.stack([sample.z, sample.y, sample.x], axis=1)
    for first, second in KDTree(centers).query_pairs(2 * sample.radius.max() + 0.7):
        distance = np.linalg.norm(centers[first] - centers[second])
        assert distance >= sample.radius[first] + sample.radius[second] + 0.7 - 1e-9
    reach = np.hypot(sample.x, sample.y) + sample.radius
    assert reach.max() <= 50 - 0.7 + 1e-9
    assert sample.radius.max() > 4 * np.median(sample.radius)  # a heavy tail


def test_the_same_seed_grows_the_same_foam_and_another_seed_another():
    first, again, other = (foam(30, 20, 50, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.x, again.x)
    np.testing.assert_array_equal(first.radius, again.radius)
    assert not np.array_equal(first.x, other.x)


def test_more_spheres_than_fit_are_refused_with_their_number():
    with pytest.raises(GeometryError, match=r"only \d+ of 500 spheres fit"):
        foam(20, 10, 500, seed=0, sphere_radii=(3, 4))
    with pytest.raises(GeometryError, match="spheres of 5 to 30 pixels"):
        foam(20, 10, 5, seed=0, sphere_radii=(5, 30))


def test_discs_of_unequal_lists_or_no_radius_are_refused():
    with pytest.raises(GeometryError, match="lists of one length"):
        Discs([0, 1], [0], [1], [1])
    with pytest.raises(GeometryError, match="smallest radius of 0"):
        Discs([0], [0], [0], [1])


def test_flat_fielded_counts_average_to_the_transmission():
    line_integrals = np.broadcast_to(np.linspace(0, 2, 40), (200, 6, 40))
    projections, flats, darks = detector_counts(
        line_integrals, 2000, seed=0, gain=4, num_flats=200, num_darks=200
    )
    flat, dark = flats.mean(axis=0), darks.mean(axis=0)
    transmission = ((projections.mean(axis=0) - dark) / (flat - dark)).mean(axis=0)
    # 1200 exposures of at least 150 photons: 0.0025 relative noise, four of them allowed
    assert -np.log(transmission) == pytest.approx(np.linspace(0, 2, 40), abs=0.01)
    variance = flats.var(axis=0, ddof=1).mean()
    assert variance / (flat - dark).mean() == pytest.approx(4, rel=0.05)  # the gain


def test_darks_hold_the_offset_and_the_read_noise():
    _, _, darks = detector_counts(np.zeros((1, 20, 30)), 100, seed=0, dark_level=90, read_noise=3)
    assert darks.mean() == pytest.approx(90, abs=0.2)
    assert darks.std() == pytest.approx(np.sqrt(9 + 1 / 12), rel=0.03)  # and the rounding's 1/12


def test_rings_stand_in_the_projections_but_not_in_the_flats():
    air = np.zeros((400, 8, 50))
    projections, flats, _ = detector_counts(air, 1e4, seed=0, ring_level=0.05, num_flats=400)
    columns = projections.mean(axis=(0, 1)) / flats.mean(axis=(0, 1))
    assert columns.std() == pytest.approx(0.05, rel=0.4)  # 50 draws
    clean, flats, _ = detector_counts(air, 1e4, seed=0, num_flats=400)
    assert (clean.mean(axis=(0, 1)) / flats.mean(axis=(0, 1))).std() < 1e-3


def test_a_beam_that_saturates_the_detector_is_refused():
    with pytest.raises(InputError, match="stay below 65535 counts"):
        detector_counts(np.zeros((1, 4, 8)), 1000, seed=0, gain=100)


def test_the_open_beam_has_a_mean_of_one_and_is_uneven():
    beam = beam_profile(30, 60, seed=2)
    assert beam.mean() == pytest.approx(1)
    assert beam.max() / beam.min() > 1.2


def test_a_simulated_scan_is_consistent_with_its_own_truth():
    scan = simulate_scan(8, 64, 12, seed=5, num_spheres=30, photons=5000)
    flat = scan.flats.mean(axis=0) - scan.darks.mean(axis=0)
    transmission = (scan.projections - scan.darks.mean(axis=0)) / flat
    truth = scan.foam.project(scan.angles, 8, 64, scan.center_of_rotation)
    # photon noise of exp(1) / sqrt(5000 exp(-2)) at the darkest pixels, below 0.06
    assert np.abs(-np.log(transmission) - truth).mean() < 0.06
    assert scan.projections.dtype == np.uint16
    assert abs(scan.center_of_rotation - 31.5) <= 0.04 * 64
    again = simulate_scan(8, 64, 12, seed=5, num_spheres=30, photons=5000)
    np.testing.assert_array_equal(again.projections, scan.projections)


def test_no_radius_rounds_a_disc_to_nan(rng):
    """Where an edge meets the rim, radius**2 - edge**2 may come out below 0."""
    angles = np.linspace(0, np.pi, 60)
    for radius in rng.uniform(1, 30, 400):
        assert np.isfinite(disc_sinogram(angles, 64, 31.5, radius=radius)).all()
