"""Transforms compose, go back, and move volumes and views alike."""

import numpy as np
import pytest

import tomodask as td
from tests.geometry.kinds import alike, same_lines
from tomodask.errors import GeometryError
from tomodask.geometry import in_voxels


def path(steps: int, seed: int = 0) -> td.Transform:
    """A motion that turns, stretches and shifts, another at every step."""
    rng = np.random.default_rng(seed)
    turn = td.rotate(
        pos=rng.normal(size=3), axis=rng.normal(size=(steps, 3)), angles=rng.normal(size=steps)
    )
    return td.translate(rng.normal(size=(steps, 3))) * turn * td.scale((1.1, 0.9, 1.2))


def test_moving_volume_and_views_together_changes_no_line(projections, sheared):
    T = path(1)
    assert alike(
        (sheared, projections),
        (
            td.rotate(axis=(1, 2, 3), angles=1) * sheared,
            td.rotate(axis=(1, 2, 3), angles=1) * projections,
        ),
    )
    # a stretch changes lengths, no ray
    assert same_lines(in_voxels(sheared, projections), in_voxels(T * sheared, T * projections))
    many = path(8)
    assert same_lines(
        in_voxels(sheared, projections), in_voxels(many * sheared, many * projections)
    )


def test_moving_the_volume_is_moving_source_and_detector_back(projections, sheared):
    T = td.rigid(
        shifts=np.random.default_rng(1).normal(size=(8, 3)),
        rotations=np.random.default_rng(2).normal(size=(8, 3)),
    )
    assert alike((T * sheared, projections), (sheared, T.inv * projections))
    assert not alike((T * sheared, projections), (sheared, T * projections))


def test_transforms_are_associative_and_act_in_turn(projections, sheared):
    A, B = path(8, 1), path(1, 2)
    np.testing.assert_allclose(((A * B) * A).matrix, (A * (B * A)).matrix)
    for thing, names in ((sheared, ("pos", "w", "u")), (projections, ("source", "det_pos"))):
        for name in names:
            np.testing.assert_allclose(
                getattr((A * B) * thing, name), getattr(A * (B * thing), name)
            )


def test_the_inverse_takes_back():
    T = path(5)
    np.testing.assert_allclose((T * T.inv).matrix, np.tile(np.eye(4), (5, 1, 1)), atol=1e-12)
    np.testing.assert_array_equal(td.identity().inv.matrix, td.identity().matrix)


def test_sources_are_places_and_rays_are_directions():
    T = td.translate((1, 2, 3))
    beam = T * td.parallel(angles=2, shape=2)
    np.testing.assert_allclose(beam.ray_dir[0], (0, 1, 0), atol=1e-15)
    np.testing.assert_allclose(beam.det_pos[0], (1, 2, 3))
    cone = T * td.cone(angles=2, shape=2, src_orig_dist=5)
    np.testing.assert_allclose(cone.src_pos[0], (1, -3, 3))


def test_rotations_are_right_handed_in_x_y_z():
    quarter = np.pi / 2
    np.testing.assert_allclose(
        td.rotate(axis=(1, 0, 0), angles=quarter).transform_vec((0, 0, 1)), [(0, 1, 0)], atol=1e-15
    )  # around z: x to y
    np.testing.assert_allclose(
        td.rotate(axis=(0, 0, 1), angles=quarter).transform_vec((0, 1, 0)), [(1, 0, 0)], atol=1e-15
    )  # around x: y to z
    np.testing.assert_allclose(
        td.rotate(axis=(0, 1, 0), angles=quarter).transform_vec((1, 0, 0)), [(0, 0, 1)], atol=1e-15
    )  # around y: z to x
    left = td.rotate(axis=(0, 1, 0), angles=0.3, right_handed=False)
    np.testing.assert_allclose(left.matrix, td.rotate(axis=(0, 1, 0), deg=np.rad2deg(-0.3)).matrix)
    np.testing.assert_allclose(left.matrix, td.rotate(axis=(0, 2, 0), rad=-0.3).matrix)


def test_a_rotation_leaves_its_axis_where_it_is():
    T = td.rotate(pos=(1, 2, 3), axis=(0, 1, 1), angles=np.linspace(0, 6, 7))
    np.testing.assert_allclose(T.transform_point((1, 4, 5)), np.tile((1, 4, 5), (7, 1)))
    assert T.num_steps == 7


def test_views_around_the_object_are_the_object_turned_the_other_way():
    angles = np.linspace(0, 5, 6)
    still = td.parallel(angles=0.0, shape=(4, 5))
    around = td.parallel(angles=angles, shape=(4, 5))
    volume = td.volume(shape=(3, 4, 5), pos=(0.3, 1, -1))
    turned = td.rotate(axis=(1, 0, 0), angles=-angles) * volume
    assert alike((volume, around), (turned, still))


def test_a_path_has_a_step_for_each_number_or_vector():
    assert td.translate((1, 0, 0), alpha=[0, 1, 2]).num_steps == 3
    assert td.translate([(1, 0, 0), (2, 0, 0)]).num_steps == 2
    assert td.scale(2, alpha=[1, 2]).num_steps == 2
    moving = td.translate((1, 0, 0), alpha=[0, 1, 2]) * td.volume(shape=4)
    np.testing.assert_array_equal(moving.pos, [(0, 0, 0), (1, 0, 0), (2, 0, 0)])
    np.testing.assert_array_equal(moving[1].pos, [(1, 0, 0)])
    np.testing.assert_array_equal(
        (path(3)[1:] * path(3)[1]).matrix[1], (path(3)[2] * path(3)[1]).matrix[0]
    )


def test_scaling_keeps_its_fixed_point_and_stretches_voxels():
    big = td.scale((2, 3, 4), pos=(1, 1, 1)) * td.volume(shape=2, pos=(1, 1, 1))
    np.testing.assert_allclose(big.pos, [(1, 1, 1)])
    np.testing.assert_allclose(big.voxel_size, [(2, 3, 4)])


def test_reflecting_twice_is_nothing_and_points_in_the_mirror_stay():
    T = td.reflect(pos=(0, 1, 0), axis=(0, 2, 0))
    np.testing.assert_allclose((T * T).matrix, td.identity().matrix, atol=1e-15)
    np.testing.assert_allclose(T.transform_point((3, 2, 1)), [(3, 0, 1)])


def test_a_small_rotation_vector_holds_the_angles_around_the_axes():
    small = 1e-5 * np.array([1.0, -2, 3])
    one_by_one = [
        td.rotate(axis=axis, angles=angle) for axis, angle in zip(np.eye(3), small, strict=True)
    ]
    together = one_by_one[0] * one_by_one[1] * one_by_one[2]
    np.testing.assert_allclose(td.rigid(rotations=small).matrix, together.matrix, atol=1e-8)
    np.testing.assert_array_equal(td.rigid().matrix, td.identity().matrix)


def test_a_perspective_takes_a_volume_to_the_origin_and_back(sheared):
    away = td.from_perspective(vol=sheared, ignore_scale=False) * sheared
    np.testing.assert_allclose(away.pos, [(0, 0, 0)], atol=1e-12)
    np.testing.assert_allclose(away.axes[0], np.eye(3), atol=1e-12)
    back = td.to_perspective(vol=sheared, ignore_scale=False) * away
    np.testing.assert_allclose(back.axes, sheared.axes, atol=1e-15)
    turned = td.rotate(axis=(1, 1, 0), angles=0.5) * td.volume(shape=3, pos=(1, 2, 3), size=6)
    np.testing.assert_allclose(
        (td.from_perspective(vol=turned) * turned).axes[0], 2 * np.eye(3), atol=1e-12
    )  # lengths stay


def test_every_fourth_view_put_together_again_are_all_views(projections):
    parts = [projections[k::4] for k in range(4)]
    order = np.argsort(np.concatenate([np.arange(8)[k::4] for k in range(4)]))
    again = td.concatenate(parts)[order]
    for name in ("source", "det_pos", "det_v", "det_u"):
        np.testing.assert_array_equal(getattr(again, name), getattr(projections, name))
    assert again.det_shape == projections.det_shape


def test_steps_of_volumes_and_transforms_join():
    T = path(3)
    np.testing.assert_array_equal(td.concatenate([T[0], T[1:]]).matrix, T.matrix)
    moving = T * td.volume(shape=(2, 3, 4))
    np.testing.assert_array_equal(td.concatenate([moving[:2], moving[2]]).pos, moving.pos)


BEAM, VOLUME = td.parallel(angles=3, shape=4), td.volume(shape=4)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: td.translate((1, 0, np.nan)), "axis .*nan"),
        (lambda: td.translate((1, 0, 0, 1)), r"axis of shape \(4,\)"),
        (lambda: td.rotate(axis=(1, 0, 0)), "one of angles, rad and deg"),
        (lambda: td.rotate(axis=(1, 0, 0), angles=1, deg=2), "one of angles, rad and deg.*2"),
        (lambda: td.rotate(axis=(0, 0, 0), angles=1), "direction of some length"),
        (lambda: td.rotate(axis=[(1, 0, 0)] * 3, angles=[1, 2]), "angles has 2 steps and axis 3"),
        (lambda: td.scale((1, 0, 1)), "flattens space"),
        (lambda: path(2) * path(3), "2 steps and the other 3"),
        (lambda: path(2) * BEAM, "2 steps and the views 3"),
        (lambda: path(2)[5:], "chooses none of 2"),
        (lambda: td.to_perspective(pos=0, w=(1, 0, 0)), r"\['v', 'u'\] not given"),
        (lambda: td.Transform(np.eye(3)), r"shape \(3, 3\)"),
        (lambda: td.concatenate([]), "nothing"),
        (lambda: td.concatenate([BEAM, VOLUME]), "ProjectionGeometry.*VolumeGeometry"),
        (lambda: td.concatenate([BEAM, td.parallel(angles=3, shape=5)]), "one det_shape"),
        (
            lambda: td.concatenate([BEAM, td.cone(angles=3, shape=4, src_orig_dist=9)]),
            "one beam.*parallel.*cone",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_its_values(build, said):
    with pytest.raises(GeometryError, match=said):
        build()


def test_a_transform_of_something_else_is_a_type_error():
    with pytest.raises(TypeError):
        _ = td.identity() * 3
