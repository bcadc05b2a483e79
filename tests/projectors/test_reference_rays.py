"""What the law of all backends for rays says, entry by entry; RAY_LAWS hold the rest."""

import tracemalloc

import numpy as np
import pytest

from tomodask.geometry import (
    Box,
    ParallelBeam,
    ProjectionGeometry,
    VoxelViews,
    in_voxels,
    parallel,
    volume,
)
from tomodask.projectors import make_projector
from tomodask.projectors.reference_rays import ReferenceRays
from tomodask.testing_rays import cone_views


def one_ray(
    shape: tuple[int, int, int],
    through: tuple[float, float, float],
    direction: tuple[float, float, float],
    beam: str = "parallel",
    size: tuple[float, float, float] | None = None,
) -> VoxelViews:
    """The views of one pixel: a ray through a point of the world; a cone's starts there."""
    ray = np.array(direction, float)
    det_u = np.cross(ray, (0.3, 0.5, 0.7))
    pixel = np.array(through) + (3 * ray if beam == "cone" else 0)
    source = through if beam == "cone" else ray
    views = ProjectionGeometry(beam, (1, 1), source, pixel, np.cross(ray, det_u), det_u)  # type: ignore[arg-type]
    return in_voxels(volume(shape=shape, size=size), views)


def entries(views: VoxelViews) -> dict[tuple[int, ...], float]:
    """The voxels that the only ray sees, with their weights."""
    seen = np.zeros(views.shape)
    for _, voxel, weight in ReferenceRays(views).weights(0):
        np.add.at(seen.ravel(), voxel, weight)
    return {tuple(map(int, where)): float(seen[tuple(where)]) for where in np.argwhere(seen)}


def test_a_ray_along_an_axis_shares_each_plane_among_four_voxels() -> None:
    # (0.25, -, -0.25) of the world is z = 1.25 and x = 0.75 among three voxels
    seen = entries(one_ray((3, 2, 3), (0.25, 0, -0.25), (0, 1, 0)))
    plane = {(1, 0): 0.75 * 0.25, (1, 1): 0.75 * 0.75, (2, 0): 0.25 * 0.25, (2, 1): 0.25 * 0.75}
    assert seen == pytest.approx({(z, y, x): w for (z, x), w in plane.items() for y in (0, 1)})


def test_a_plane_counts_for_the_length_between_planes() -> None:
    seen = entries(
        one_ray((3, 3, 3), (0, 0, 0), (0, 4, 3))
    )  # y is nearest, 5/4 from plane to plane
    assert sum(seen.values()) == pytest.approx(3 * 5 / 4)
    stretched = entries(one_ray((3, 3, 3), (0, 0, 0), (0, 2, 1), size=(3, 6, 6)))
    assert sum(stretched.values()) == pytest.approx(3 * np.sqrt(5))  # 2 along y in the world


def test_the_nearest_axis_is_that_of_voxels_not_of_the_world() -> None:
    # in the world nearer to y; voxels long in y are crossed more often along x
    seen = entries(one_ray((1, 9, 9), (0, 0, 0), (0, 2, 1), size=(1, 45, 9)))
    per_column = np.zeros(9)
    for (_, _, x), weight in seen.items():
        per_column[x] += weight
    np.testing.assert_allclose(per_column, np.sqrt(5), rtol=1e-12)


@pytest.mark.parametrize(
    ("direction", "axis"),
    [((1, 1, 1), 2), ((1, 1, -1), 2), ((1, -1, 0), 1), ((0, 1, 1), 2), ((-1, 0, 1), 2)],
)
def test_equal_axes_give_way_to_the_last(direction: tuple[int, ...], axis: int) -> None:
    views = one_ray((5, 5, 5), (0.0, 0.1, 0.3), direction)  # type: ignore[arg-type]
    per_plane = np.zeros((3, 5))
    for where, weight in entries(views).items():
        for along in range(3):
            per_plane[along, where[along]] += weight
    length = np.linalg.norm(direction)
    np.testing.assert_allclose(per_plane[axis, 1:4], length, rtol=1e-12)


def test_planes_behind_the_source_do_not_count() -> None:
    seen = entries(one_ray((1, 9, 1), (0, 0.5, 0), (0, 1, 0), beam="cone"))
    assert seen == pytest.approx({(0, y, 0): 1.0 for y in (5, 6, 7, 8)})
    back = entries(one_ray((1, 9, 1), (0, 0.5, 0), (0, -1, 0), beam="cone"))
    assert back == pytest.approx({(0, y, 0): 1.0 for y in (0, 1, 2, 3, 4)})


def test_rays_of_one_view_follow_axes_of_their_own() -> None:
    views = in_voxels(volume(shape=(6, 6, 6)), cone_views(np.array([0.7]), (31, 31), 9.0, 1.0))
    direction = np.abs(views.rays(0))
    nearest = direction.argmax(axis=-1)
    assert set(nearest.ravel()) == {0, 1, 2}
    ones = ReferenceRays(views).forward(np.ones((6, 6, 6), np.float32))[:, 0]
    length = np.linalg.norm(direction, axis=-1) / direction.max(axis=-1)
    # a ray crosses at most six planes, each whole
    assert (ones <= 6 * length * (1 + 1e-6)).all()
    assert ones.max() > 4


def test_slices_are_those_of_the_reference_for_slices() -> None:
    angles = np.arange(9) * 0.35 + 0.1
    views = in_voxels(volume(shape=(2, 9, 8)), parallel(angles=angles, shape=(2, 12)))
    A = ReferenceRays(views)
    beam = ParallelBeam(angles, 2, 12, center_of_rotation=5.5)
    slices = make_projector(Box((0, 0, 0), (2, 9, 8)), beam, "reference")
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=n).astype(np.float32) for n in (views.shape, views.range_shape))
    np.testing.assert_allclose(A.forward(x), slices(x), atol=1e-5)
    np.testing.assert_allclose(A.adjoint(y), slices.T(y), atol=1e-5)


def test_a_missing_voxel_spoils_only_the_rays_that_see_it() -> None:
    views = in_voxels(volume(shape=(4, 8, 8)), cone_views(np.arange(3.0), (5, 11)))
    A, x = ReferenceRays(views), np.ones((4, 8, 8), np.float32)
    x[2, 3, 4] = np.nan
    alone = np.zeros_like(x)
    alone[2, 3, 4] = 1
    np.testing.assert_array_equal(np.isnan(A.forward(x)), A.forward(alone) != 0)


@pytest.mark.parametrize(("size", "det_shape"), [(40, (30, 40)), (60, (20, 20)), (24, (60, 60))])
def test_the_memory_declared_is_enough(size: int, det_shape: tuple[int, int]) -> None:
    views = in_voxels(volume(shape=size), cone_views(np.array([0.1, 1.1]), det_shape))
    A = ReferenceRays(views)
    for apply, shape in ((A.forward, views.shape), (A.adjoint, views.range_shape)):
        ones = np.ones(shape, np.float32)
        tracemalloc.start()
        result = apply(ones)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak - result.nbytes <= A.memory_bytes(views, 1) <= 2 * peak
