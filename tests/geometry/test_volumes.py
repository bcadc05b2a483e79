"""Volumes are grids of voxels in the world, at rest or on their way."""

import numpy as np
import pytest

import tomodask as td
from tomodask.errors import GeometryError
from tomodask.geometry import Box


def test_size_is_shape_unless_given_and_voxels_share_it():
    assert td.volume(shape=(2, 3, 4)).voxel_size.tolist() == [[1, 1, 1]]
    volume = td.volume(shape=(2, 3, 4), size=(1, 6, 2), pos=(0, 1, 2))
    np.testing.assert_allclose(volume.voxel_size, [(0.5, 2, 0.5)])
    np.testing.assert_allclose(volume.size, [(1, 6, 2)])
    np.testing.assert_allclose(volume.first, [(-0.25, -1, 1.25)])
    assert td.volume(shape=5, pos=2).shape == (5, 5, 5)
    assert td.volume(shape=5, pos=2).pos.tolist() == td.volume_vec(shape=5, pos=2).pos.tolist()
    assert td.volume(shape=5, pos=2).pos.tolist() == [[2, 2, 2]]


def test_an_extent_is_pos_and_size():
    volume = td.volume(shape=(2, 3, 4), extent=((0, 1), (-2, 4), (5, 7)))
    np.testing.assert_allclose(volume.pos, [(0.5, 1, 6)])
    np.testing.assert_allclose(volume.size, [(1, 6, 2)])
    with pytest.raises(GeometryError, match="either an extent, or pos and size"):
        td.volume(shape=2, size=2, extent=((0, 1), (0, 1), (0, 1)))


def test_corners_are_half_a_voxel_beyond_the_outer_voxels(sheared):
    corners = sheared.corners()[0]
    outward = sheared.axes[0].sum(axis=0) / 2
    np.testing.assert_allclose(corners[0], sheared.first[0] - outward)
    np.testing.assert_allclose(corners.mean(axis=0), sheared.pos[0])
    assert len(np.unique(corners.round(9), axis=0)) == 8


def test_a_part_is_where_it_was(sheared):
    box = Box((1, 2, 3), (4, 4, 9))
    part = sheared.part(box)
    assert part.shape == box.shape
    np.testing.assert_allclose(part.first, sheared.first + np.array([(1, 2, 3)]) @ sheared.axes[0])
    np.testing.assert_array_equal(part.axes, sheared.axes)
    whole = sheared.part(Box((0, 0, 0), sheared.shape))
    np.testing.assert_allclose(whole.pos, sheared.pos)
    for wrong in (
        Box((0, 0, 0), (1, 1, 10)),
        Box((-1, 0, 0), (1, 1, 1)),
        Box((2, 2, 2), (2, 3, 3)),
    ):
        with pytest.raises(GeometryError, match=r"of a volume of shape \(7, 8, 9\)"):
            sheared.part(wrong)


def test_a_volume_knows_whether_it_rests_and_is_aligned(sheared):
    still = td.volume(shape=3, size=2)
    assert still.is_resting
    assert still.is_aligned
    assert not sheared.is_aligned
    assert not (td.translate((0, 0, 1), alpha=[0, 1]) * still).is_resting
    assert not (td.scale((1, 1, -1)) * still).is_aligned


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: td.volume(shape=(2, 0, 2)), r"volume shape \(2, 0, 2\)"),
        (lambda: td.volume(shape=(2, 2)), r"volume shape \(2, 2\)"),
        (lambda: td.volume(shape=2, size=(1, -1, 1)), r"volume size \(1, -1, 1\)"),
        (lambda: td.volume(shape=2, pos=(0, np.nan, 0)), "pos .*nan"),
        (lambda: td.volume_vec(shape=2, w=(0, 1, 0)), "voxels of step 0 are flat"),
        (lambda: td.volume_vec(shape=2, w=[(1, 0, 0)] * 2, u=[(0, 0, 1)] * 3), "'w': 2.*'u': 3"),
    ],
)
def test_what_cannot_be_is_refused_with_its_values(build, said):
    with pytest.raises(GeometryError, match=said):
        build()
