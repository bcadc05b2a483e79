"""One ray after the other: any direction, the weights of the reference, planes owned by threads."""

import numpy as np
import pytest

from tests.projectors.ray_cases import ball, chords, noise, relative
from tomodask.geometry import (
    ProjectionGeometry,
    VoxelViews,
    in_voxels,
    laminography,
    volume,
)
from tomodask.projectors import joseph_rays
from tomodask.projectors.joseph_rays import JosephRays
from tomodask.projectors.reference_rays import ReferenceRays
from tomodask.testing_rays import cone_views, ray_cases

TURN = np.arange(7) * 2 * np.pi / 7 + 0.1


def from_all_sides(beam: str, num_angles: int = 12) -> VoxelViews:
    """Rays of every dominant axis through few voxels, on detectors that are not rectangular."""
    rng = np.random.default_rng(0)
    away = rng.normal(size=(num_angles, 3))
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    u = np.cross(away, rng.normal(size=(num_angles, 3)))
    v = np.cross(away, u) + 0.1 * rng.normal(size=u.shape)
    source, det_pos = (-20 * away, 9 * away) if beam == "cone" else (away, 0 * away)
    pg = ProjectionGeometry(beam, (9, 11), source, det_pos, v, u)  # type: ignore[arg-type]
    return in_voxels(volume(shape=(9, 8, 11), size=(9, 12, 10), pos=(0.3, 0, 0.5)), pg)


@pytest.mark.parametrize("beam", ["parallel", "cone"])
def test_rays_from_all_sides_are_those_of_the_reference(beam: str) -> None:
    views = from_all_sides(beam)
    pair, law = JosephRays(views, 2), ReferenceRays(views)
    assert pair.axes().any(axis=0).all(), "some rays follow each axis"
    x, y = noise(views.shape), noise(views.range_shape)
    assert relative(pair.forward(x), law.forward(x)) < 1e-6  # sums in float64, rounded once
    assert relative(pair.adjoint(y), law.adjoint(y)) < 1e-6


@pytest.mark.parametrize("case", ray_cases())
def test_columns_along_z_need_no_kernel_of_their_own(case: str) -> None:
    """Whatever faster kernels do for some views, this one does for all."""
    views = in_voxels(*ray_cases()[case])
    pair, law = JosephRays(views, 1), ReferenceRays(views)
    x, y = noise(views.shape), noise(views.range_shape)
    assert relative(pair.forward(x), law.forward(x)) < 1e-6
    assert relative(pair.adjoint(y), law.adjoint(y)) < 2e-6  # a few hundred float32 terms


def test_a_ray_at_45_degrees_counts_every_plane_once() -> None:
    """Of two equal axes the last is followed: through the corners, all voxels are hit whole."""
    step = np.array([[0.0, 1, 1]])
    pg = ProjectionGeometry("parallel", (1, 1), step, [0, 0, 0], [1, 0, 0], [0, -1, 1])
    views = in_voxels(volume(shape=(1, 6, 6)), pg)
    pair = JosephRays(views, 1)
    assert pair.axes().tolist() == [[False, False, True]]
    expected = np.sqrt(2) * np.eye(6, dtype=np.float32)
    assert pair.adjoint(np.ones((1, 1, 1), np.float32))[0] == pytest.approx(expected)
    assert pair.forward(np.ones((1, 6, 6), np.float32)).item() == pytest.approx(6 * np.sqrt(2))


def test_planes_behind_the_source_and_its_own_are_not_hit() -> None:
    """A source on a plane of voxels, rays along x."""
    pg = ProjectionGeometry("cone", (1, 1), [0, 0, 0.5], [0, 0, 9], [1, 0, 0], [0, 1, 0])
    pair = JosephRays(in_voxels(volume(shape=(1, 1, 6)), pg), 1)  # the source is at voxel 3
    seen = pair.adjoint(np.ones((1, 1, 1), np.float32))
    assert seen.ravel().tolist() == [0, 0, 0, 0, 1, 1]
    assert pair.forward(np.arange(6, dtype=np.float32)[None, None]).item() == 4 + 5


@pytest.mark.parametrize("beam", ["parallel", "cone"])
def test_a_ball_casts_its_chords(beam: str) -> None:
    views = in_voxels(
        volume(shape=(40, 44, 42)),
        cone_views(TURN, (40, 42), 60.0, 30.0)
        if beam == "cone"
        else laminography(angles=TURN, shape=(40, 42), tilt=0.5),
    )
    center, radius = (20.0, 23.0, 19.5), 13.0
    found = JosephRays(views, 2).forward(ball(views.shape, center, radius))
    exact = chords(views, center, radius)
    inner = exact > radius  # at the rim a chord of nothing goes through half-filled voxels
    assert np.abs(found - exact)[inner].max() < 0.5  # of a voxel, at both surfaces
    assert found.sum() == pytest.approx(exact.sum(), rel=2e-3)


def test_tiles_of_planes_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    views = from_all_sides("cone")
    y = noise(views.range_shape)
    expected = JosephRays(views, 1).adjoint(y)
    monkeypatch.setattr(joseph_rays, "PLANES", 2)
    monkeypatch.setattr(joseph_rays, "ROWS", 2)
    pair = JosephRays(views, 2)
    assert pair.adjoint(y).tobytes() == expected.tobytes()


def test_one_voxel_is_projected() -> None:
    """No plane has four voxels around a crossing: all is done at the edges."""
    views = in_voxels(volume(shape=1), cone_views(TURN, (3, 3)))
    pair, law = JosephRays(views, 1), ReferenceRays(views)
    x = np.ones((1, 1, 1), np.float32)
    y = pair.forward(x)
    assert relative(y, law.forward(x)) < 1e-6
    assert pair.adjoint(y).item() == pytest.approx(np.vdot(y, y), rel=1e-6)
