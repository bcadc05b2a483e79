"""Where the named geometries put source and detector."""

import numpy as np
import pytest

import tomodask as td
from tests.geometry.kinds import alike
from tomodask.errors import GeometryError

VOLUME = td.volume(shape=(7, 8, 9))


def test_the_volume_is_the_geometry_whatever_was_imported():
    from tomodask import query  # which imports the store of volumes

    assert query is not None
    assert td.volume(shape=3).shape == (3, 3, 3)


def test_a_parallel_beam_sees_x_cos_plus_y_sin():
    angles = np.array([0.0, 0.3, np.pi / 2, 4.0])
    views = td.parallel(angles=angles, shape=(4, 6), size=(8, 3))
    cos, sin, zero = np.cos(angles), np.sin(angles), np.zeros(4)
    np.testing.assert_allclose(views.det_u, 0.5 * np.stack([zero, sin, cos], axis=1), atol=1e-15)
    np.testing.assert_allclose(views.ray_dir, np.stack([zero, cos, -sin], axis=1), atol=1e-15)
    np.testing.assert_array_equal(views.det_v, np.tile((2.0, 0, 0), (4, 1)))
    np.testing.assert_array_equal(views.det_pos, np.zeros((4, 3)))


def test_a_number_of_angles_is_half_a_turn_in_parallel_and_a_full_one_in_a_cone():
    half = td.parallel(angles=4, shape=2)
    np.testing.assert_allclose(half.det_u[1], (0, np.sqrt(0.5), np.sqrt(0.5)))
    full = td.cone(angles=4, shape=2, src_orig_dist=3)
    np.testing.assert_allclose(
        full.src_pos, [(0, -3, 0), (0, 0, 3), (0, 3, 0), (0, 0, -3)], atol=1e-12
    )
    assert half.det_pixel_size.tolist() == [[1, 1]] * 4  # size is shape


def test_source_and_detector_of_a_cone_are_src_det_dist_apart():
    views = td.cone(angles=5, shape=(4, 6), size=(2, 3), src_orig_dist=10, src_det_dist=14)
    np.testing.assert_allclose(views.src_pos[0], (0, -10, 0))
    np.testing.assert_allclose(views.det_pos[0], (0, 4, 0))
    np.testing.assert_allclose(np.linalg.norm(views.src_pos - views.det_pos, axis=1), 14)
    np.testing.assert_allclose(views.det_size, np.tile((2, 3), (5, 1)))


def test_a_cone_angle_is_height_over_distance_with_the_detector_at_the_origin():
    views = td.cone(angles=3, shape=(4, 6), size=(2, 3), cone_angle=0.5)
    np.testing.assert_allclose(np.linalg.norm(views.src_pos, axis=1), 4)
    np.testing.assert_allclose(views.det_pos, 0, atol=1e-12)


@pytest.mark.parametrize("given", ["src_orig_dist", "src_det_dist"])
def test_one_distance_of_a_cone_stands_for_both(given):
    views = td.cone(angles=1, shape=2, **{given: 6.0})
    np.testing.assert_allclose(views.src_pos, [(0, -6, 0)])
    np.testing.assert_allclose(views.det_pos, [(0, 0, 0)])


def test_laminography_leans_the_axis_away_from_the_source():
    tilt = 0.4
    views = td.laminography(angles=6, shape=(4, 6), tilt=tilt)
    np.testing.assert_allclose(views.ray_dir @ (1, 0, 0), np.sin(tilt))  # the axis is z
    np.testing.assert_allclose(views.det_v @ (1, 0, 0), np.cos(tilt))
    for along in (views.det_v, views.det_u):
        np.testing.assert_allclose(np.sum(views.ray_dir * along, axis=1), 0, atol=1e-12)


def test_laminography_without_tilt_is_the_ordinary_scan():
    angles, flat = np.linspace(0, 5, 4), {"shape": (4, 6), "size": (5, 6)}
    far = {"src_orig_dist": 30.0, "src_det_dist": 40.0}
    straight = td.laminography(angles=angles, **flat, tilt=0.0)
    assert alike((VOLUME, straight), (VOLUME, td.parallel(angles=angles, **flat)))
    straight = td.laminography(angles=angles, **flat, tilt=0.0, **far)
    assert alike((VOLUME, straight), (VOLUME, td.cone(angles=angles, **flat, **far)))


def test_a_helix_rises_by_its_pitch_in_every_turn():
    angles = np.linspace(0, 6 * np.pi, 13)
    far = {"src_orig_dist": 30.0, "src_det_dist": 40.0}
    views = td.helical(angles=angles, shape=(4, 6), **far, pitch=2.5)
    np.testing.assert_allclose(views.src_pos[4:, 0] - views.src_pos[:-4, 0], 2.5)
    assert views.src_pos[6, 0] == pytest.approx(0)
    circle = td.cone(angles=angles, shape=(4, 6), **far)
    np.testing.assert_allclose(views.src_pos[:, 1:], circle.src_pos[:, 1:], atol=1e-12)
    np.testing.assert_allclose(views.det_pos - views.src_pos, circle.det_pos - circle.src_pos)


def test_scattered_rays_leave_the_beam_at_two_theta_and_arrive_in_the_detectors_middle():
    beam = td.parallel(angles=np.linspace(0, 6, 5), shape=(4, 6))
    views = td.scatter(
        angles=np.linspace(0, 6, 5), shape=(4, 6), two_theta=0.3, azimuth=np.pi / 2, distance=20
    )
    np.testing.assert_allclose(np.sum(views.ray_dir * beam.ray_dir, axis=1), np.cos(0.3))
    np.testing.assert_allclose(views.ray_dir[:, 0], np.sin(0.3))  # a quarter turn: to later rows
    np.testing.assert_allclose(np.cross(views.det_pos, views.ray_dir), 0, atol=1e-12)
    np.testing.assert_allclose(np.sum(views.det_pos * beam.ray_dir, axis=1), 20)
    np.testing.assert_allclose(views.det_u, beam.det_u)


def test_unscattered_rays_are_the_parallel_beam():
    beam = td.parallel(angles=np.linspace(0, 6, 5), shape=(4, 6))
    none = td.scatter(angles=np.linspace(0, 6, 5), shape=(4, 6), two_theta=0, distance=9)
    assert alike((VOLUME, none), (VOLUME, beam))


def test_a_pose_shifts_by_pixels_along_the_detector(projections):
    views = projections.num_angles
    moved = td.posed(projections, row_shifts=2, column_shifts=-np.arange(views), along=0.5)
    columns = -np.arange(views)[:, None] * projections.det_u
    off = moved.det_pos - projections.det_pos - 2 * projections.det_v - columns
    np.testing.assert_allclose(np.linalg.norm(off, axis=1), 0.5)
    rays = projections.central_rays()
    assert (np.sum(off * rays, axis=1) > 0).all()  # away from the source
    np.testing.assert_allclose(np.sum(off * projections.det_u, axis=1), 0, atol=1e-12)


def test_a_roll_turns_columns_towards_rows_and_leaves_the_normal():
    beam = td.parallel(angles=3, shape=(4, 6))
    rolled = td.posed(beam, roll=np.pi / 2)
    # seen along the rays (towards +y at angle 0) x lies right and z up: right-handed turns z to x
    np.testing.assert_allclose(rolled.det_v, beam.det_u, atol=1e-12)
    np.testing.assert_allclose(rolled.det_u, -beam.det_v, atol=1e-12)


def test_pitch_and_yaw_turn_around_the_detectors_own_axes(projections):
    pitched = td.posed(projections, pitch=0.2)
    np.testing.assert_allclose(pitched.det_u, projections.det_u, atol=1e-12)
    yawed = td.posed(projections, yaw=0.2)
    np.testing.assert_allclose(yawed.det_v, projections.det_v, atol=1e-12)
    np.testing.assert_allclose(yawed.det_pixel_size, projections.det_pixel_size)
    np.testing.assert_array_equal(yawed.source, projections.source)


def test_a_turned_detector_counts_its_length_along_the_rays():
    """A pixel yawed by 60 degrees is half as wide for parallel rays."""
    beam = td.parallel(angles=1, shape=(1, 5))
    seen = td.posed(beam, yaw=np.pi / 3).det_u @ beam.det_u[0]
    np.testing.assert_allclose(seen, 0.5)


def test_vectors_are_one_for_all_views_or_one_a_view():
    views = td.parallel_vec(
        shape=3, ray_dir=[(0, 1, 0), (0, 0, 1)], det_pos=(0, 0, 0), det_v=(1, 0, 0), det_u=(0, 1, 1)
    )
    assert views.num_angles == 2
    assert td.cone_vec(
        shape=3, src_pos=(0, -9, 0), det_pos=(0, 1, 0), det_v=(1, 0, 0), det_u=(0, 0, 1)
    ).is_cone
    assert td.volume_vec(shape=4).is_aligned


FAR = {"src_orig_dist": 5.0, "src_det_dist": 9.0}


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: td.parallel(angles=[0, np.nan], shape=2), r"angles\[1\] is nan"),
        (lambda: td.parallel(angles=0, shape=2), "0 angles: at least 1"),
        (lambda: td.parallel(angles=[], shape=2), r"angles of shape \(0,\)"),
        (lambda: td.parallel(angles=3, shape=(0, 4)), r"detector shape \(0, 4\)"),
        (lambda: td.parallel(angles=3, shape=4, size=(0, 2)), r"detector size \(0, 2\)"),
        (lambda: td.cone(angles=3, shape=4), "needs either cone_angle or"),
        (lambda: td.cone(angles=3, shape=4, cone_angle=0.1, src_orig_dist=3), "cone_angle=0.1"),
        (lambda: td.cone(angles=3, shape=4, src_orig_dist=-3), "src_orig_dist.*-3.*above 0"),
        (lambda: td.laminography(angles=3, shape=4, tilt=np.inf), "tilt inf"),
        (lambda: td.laminography(angles=3, shape=4, tilt=0.1, src_det_dist=2), "both or none"),
        (lambda: td.helical(angles=3, shape=4, pitch=np.nan, **FAR), r"pitch\[0\] is nan"),
        (lambda: td.scatter(angles=3, shape=4, two_theta=1.6, distance=1), "quarter turn"),
        (lambda: td.scatter(angles=3, shape=4, two_theta=[0.1, 0.2], distance=1), "3 steps.*2"),
        (lambda: td.posed(td.parallel(angles=3, shape=4), roll=[1, 2]), "2 roll for 3 views"),
        (
            lambda: td.parallel_vec(
                shape=2, ray_dir=(0, 1, 0), det_pos=(0, 0, 0), det_v=(1, 0, 0), det_u=(0, 0, 0)
            ),
            "no area",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_its_values(build, said):
    with pytest.raises(GeometryError, match=said):
        build()
