"""Line integrals and voxel averages of ellipsoids, against what geometry alone says of them."""

from dataclasses import replace

import numpy as np
import pytest

from tomodask.ellipsoids import TURNED, Ellipsoids, aligned_ellipsoids, chiral_ellipsoids
from tomodask.errors import GeometryError, InputError
from tomodask.geometry import ProjectionGeometry, parallel, volume
from tomodask.phantom import disc_sinogram
from tomodask.testing_rays import cone_views, turning_volume

ANGLES = np.arange(5) * 1.1


def test_a_ball_in_a_parallel_beam_has_the_chords_of_discs() -> None:
    views = parallel(angles=ANGLES, shape=(9, 31))
    ball = aligned_ellipsoids([(0.5, 2.0, -3.0)], [7.0], [2.0])
    seen = ball.line_integrals(views, supersampling=8)
    for row, z in enumerate(np.arange(9) - 4.0):
        heights = z + (np.arange(8) + 0.5) / 8 - 0.5
        radii = np.sqrt(49 - (heights - 0.5) ** 2)
        discs = [disc_sinogram(ANGLES, 31, radius=r, x=-3.0, y=2.0, value=2.0) for r in radii]
        # disc_sinogram averages over each column exactly, here eight rays do
        np.testing.assert_allclose(seen[row], np.mean(discs, axis=0), atol=0.05)


def test_the_ray_through_the_middle_is_a_whole_diameter_in_any_direction() -> None:
    rng = np.random.default_rng(0)
    shape = Ellipsoids(np.array([(1.0, -2.0, 3.0)]), [TURNED @ np.diag([2.0, 3.0, 5.0])], [0.7])
    rays = rng.normal(size=(20, 3))
    det_u = np.cross(rays, rng.normal(size=(20, 3)))
    views = ProjectionGeometry("parallel", (1, 1), rays, shape.middle, np.cross(rays, det_u), det_u)
    # the surface in direction d lies where |d @ inverse(half_axes)| is 1
    unit = rays / np.linalg.norm(rays, axis=1)[:, None]
    expected = 0.7 * 2 / np.linalg.norm(unit @ np.linalg.inv(shape.half_axes[0]), axis=1)
    np.testing.assert_allclose(shape.line_integrals(views)[0, :, 0], expected, rtol=1e-6)


def test_nothing_behind_the_source_counts() -> None:
    views = cone_views(np.zeros(1), (1, 1), src_orig=30.0)  # from (0, -30, 0) towards +y
    before, behind, around = (
        aligned_ellipsoids([(0, y, 0)], [4.0], [1.0]).line_integrals(views).item()
        for y in (0.0, -60.0, -30.0)
    )
    assert (before, behind, around) == (pytest.approx(8), 0, pytest.approx(4))


def test_the_detector_does_not_end_the_rays() -> None:
    views = cone_views(np.zeros(1), (1, 1), src_orig=30.0, orig_det=15.0)
    beyond = aligned_ellipsoids([(0, 60.0, 0)], [4.0], [1.0]).line_integrals(views)
    assert beyond.item() == pytest.approx(8)


def test_values_of_ellipsoids_add_up() -> None:
    views, objects = cone_views(ANGLES, (8, 9)), chiral_ellipsoids(4.0)
    parts = [
        Ellipsoids(objects.middle[[i]], objects.half_axes[[i]], objects.value[[i]])
        for i in range(len(objects.value))
    ]
    together = objects.line_integrals(views)
    np.testing.assert_allclose(sum(part.line_integrals(views) for part in parts), together, 1e-5)


def test_voxel_averages_sum_to_the_mass() -> None:
    objects = chiral_ellipsoids(6.0)
    space = volume(shape=(20, 14, 17), size=14)
    total = objects.volume(space).sum() * space.voxel_size[0].prod()
    assert total == pytest.approx(objects.mass, rel=2e-3)  # 4 x 4 lines a voxel


def test_a_voxel_within_has_the_value_and_one_outside_nothing() -> None:
    averages = aligned_ellipsoids([(1.0, 0, 0)], [(2.0, 3.0, 4.0)], [0.5]).volume(volume(shape=13))
    assert averages[7, 6, 6] == pytest.approx(0.5)
    assert averages[8, 6, 6] == pytest.approx(0.5)
    assert averages[3, 6, 6] == 0
    assert averages[7, 6, 3] == pytest.approx(0.5)
    assert averages[7, 3, 3] == 0


def test_a_turned_volume_sees_the_ellipsoids_turned() -> None:
    objects, space = chiral_ellipsoids(5.0), volume(shape=(11, 12, 13))
    turned = replace(space, w=space.u, v=space.w, u=space.v, shape=(13, 11, 12))
    expected = objects.volume(space, supersampling=16).transpose(2, 0, 1)
    # exact along another axis: what a few lines leave at the edges
    np.testing.assert_allclose(objects.volume(turned, supersampling=16), expected, atol=1e-3)


def test_turning_the_volume_is_turning_the_views_the_other_way() -> None:
    objects = chiral_ellipsoids(5.0)
    still = cone_views(np.zeros(1), (8, 11))
    space = turning_volume(ANGLES, (10, 10, 10))
    space = replace(space, pos=np.zeros((5, 3)))
    seen = objects.line_integrals(still, space)
    assert seen.shape == (8, 5, 11)
    np.testing.assert_allclose(seen[:, 0], objects.line_integrals(still)[:, 0], rtol=1e-6)
    # v, u of the volume turn from x towards y as the views of cone_views do
    around = objects.line_integrals(cone_views(-ANGLES, (8, 11)))
    np.testing.assert_allclose(seen, around, atol=1e-6)


def test_the_chiral_phantom_is_not_its_mirror_image() -> None:
    averages = chiral_ellipsoids(7.0).volume(volume(shape=16))
    scale = np.abs(averages).max()
    for axis in range(3):
        mirrored = np.flip(averages, axis)
        for turn in range(4):
            for plane in ((0, 1), (0, 2), (1, 2)):
                assert np.abs(np.rot90(mirrored, turn, plane) - averages).max() > 0.3 * scale


@pytest.mark.parametrize(
    ("half_axes", "value", "message"),
    [
        (np.eye(3), [1.0], r"half_axes of shape \(3, 3\)"),
        (np.zeros((1, 3, 3)), [1.0], "axes in three directions"),
        (np.eye(3)[None], [np.nan], "finite values"),
        (np.eye(3)[None], [1.0, 2.0], r"values of shape \(2,\) for 1"),
    ],
)
def test_ellipsoids_that_are_none_are_refused(
    half_axes: np.ndarray, value: list[float], message: str
) -> None:
    with pytest.raises(GeometryError, match=message):
        Ellipsoids(np.zeros((1, 3)), half_axes, np.array(value))


def test_no_samples_are_refused() -> None:
    with pytest.raises(InputError, match="supersampling=0"):
        chiral_ellipsoids().volume(volume(shape=4), supersampling=0)
