"""Views in the frame of the voxels: the same places and lengths as in the world."""

import numpy as np
import pytest

import tomodask as td
from tests.geometry.kinds import alike, kinds
from tomodask.errors import GeometryError
from tomodask.geometry import in_voxels


def test_pixels_in_voxel_indices_are_those_of_the_world(projections, sheared):
    views = in_voxels(sheared, projections)
    rows, columns = projections.det_shape
    assert views.range_shape == (rows, 8, columns)
    for view in (0, 5):
        world = (
            projections.first[view]
            + np.arange(rows)[:, None, None] * projections.det_v[view]
            + np.arange(columns)[None, :, None] * projections.det_u[view]
        )
        again = sheared.first[0] + views.pixels(view) @ sheared.axes[0]
        np.testing.assert_allclose(again, world, atol=1e-12)


def test_rays_run_from_the_source_to_the_pixels(sheared):
    cone = kinds()["posed_cone"]
    views = in_voxels(sheared, cone)
    world = views.rays(3) @ sheared.axes[0]
    ends = sheared.first[0] + views.pixels(3) @ sheared.axes[0]
    np.testing.assert_allclose(cone.source[3] + world, ends, atol=1e-12)
    parallel = in_voxels(sheared, kinds()["scatter"])
    direction = parallel.rays(3) @ sheared.axes[0]
    np.testing.assert_allclose(
        direction, np.broadcast_to(kinds()["scatter"].ray_dir[3], direction.shape), atol=1e-12
    )


def test_the_metric_gives_lengths_of_the_world(sheared):
    views = in_voxels(sheared, kinds()["parallel"])
    step = np.array([1.0, -2, 0.5])
    assert np.sqrt(step @ views.metric[0] @ step) == pytest.approx(
        np.linalg.norm(step @ sheared.axes[0])
    )


def test_a_still_view_is_repeated_for_a_volume_that_moves():
    still = kinds()["cone"][2]
    moving = td.translate((1, 2, 3), alpha=[0, 1, 2]) * td.volume(shape=4)
    assert alike((moving, still), (moving, td.concatenate([still] * 3)))
    with pytest.raises(GeometryError, match="3 steps and 8 views"):
        in_voxels(moving, kinds()["cone"])
