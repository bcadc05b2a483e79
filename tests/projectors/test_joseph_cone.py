"""Columns parallel to z: the weights of `joseph_rays`, by vectors of rows."""

from dataclasses import replace

import numpy as np
import pytest

from tests.projectors.ray_cases import noise, relative
from tomodask.geometry import ProjectionGeometry, VolumeGeometry, in_voxels, parallel, volume
from tomodask.projectors import joseph_cone
from tomodask.projectors.joseph_columns import columns_of, some_views
from tomodask.projectors.joseph_cone import JosephCone
from tomodask.projectors.joseph_rays import JosephRays
from tomodask.projectors.vectors import LANES
from tomodask.testing_rays import cone_views, ray_cases

TURN = np.arange(7) * 2 * np.pi / 7 + 0.1
CUBE, FLAT_BOX = volume(shape=(21, 12, 13)), volume(shape=(7, 12, 13))
TALL_BOX = volume(shape=(3 * LANES + 5, 9, 8))


def stretched(views: ProjectionGeometry, height: float, width: float = 1.0) -> ProjectionGeometry:
    """The same views with pixels that many times as high and wide."""
    return replace(views, det_v=height * views.det_v, det_u=width * views.det_u)


def rising(views: ProjectionGeometry, by: float) -> ProjectionGeometry:
    """Rays of a parallel beam that climb along z, on a detector that stays upright."""
    return replace(views, source=views.source + np.array([by, 0, 0]))


CONE, FLAT = cone_views(TURN, (20, 14)), parallel(angles=TURN / 2, shape=(23, 14))
CASES: dict[str, tuple[VolumeGeometry, ProjectionGeometry]] = {
    "cone": (CUBE, CONE),
    "pixels half as high": (CUBE, stretched(CONE, 0.5)),
    "pixels a sixth as high": (FLAT_BOX, stretched(cone_views(TURN, (60, 9)), 1 / 6)),
    "pixels 0.8 as high": (CUBE, stretched(CONE, 0.8, 0.4)),
    "pixels 4 times as high": (TALL_BOX, stretched(cone_views(TURN, (15, 14), 120.0), 4, 2)),
    "rows from top to bottom": (CUBE, stretched(CONE, -1.0)),
    "columns from right to left": (CUBE, stretched(CONE, 1.0, -1.0)),
    "more rows than a vector": (CUBE, cone_views(TURN, (5 * LANES + 3, 9), 90.0)),
    "more slices than a vector": (TALL_BOX, cone_views(TURN, (50, 9), 90.0)),
    "high above": (CUBE, replace(CONE, det_pos=CONE.det_pos + np.array([17, 0, 0]))),
    "helix": (CUBE, replace(CONE, **{
        name: getattr(CONE, name) + np.linspace(-4, 4, 7)[:, None] * (1, 0, 0)
        for name in ("source", "det_pos")
    })),
    "parallel": (CUBE, FLAT),
    "parallel, rays that climb": (CUBE, rising(FLAT, 0.4)),
    "parallel, low rows": (CUBE, stretched(FLAT, -0.3, 0.7)),
    "long voxels": (volume(shape=(11, 12, 13), size=(20, 9, 14)), CONE),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_columns_have_the_weights_of_single_rays(case: str) -> None:
    views = in_voxels(*CASES[case])
    fits, table = columns_of(views)
    assert fits.all(), "else this tests nothing"
    pair, law = JosephCone(views, table, 2), JosephRays(views, 1)
    x, y = noise(views.shape), noise(views.range_shape)
    # heights are float32 within a vector: off by 1e-6 of a voxel at most
    assert relative(pair.forward(x), law.forward(x)) < 2e-6
    assert relative(pair.adjoint(y), law.adjoint(y)) < 2e-6


@pytest.mark.parametrize("case", CASES)
def test_back_projection_is_the_adjoint_of_projection(case: str) -> None:
    views = in_voxels(*CASES[case])
    pair = JosephCone(views, columns_of(views)[1], 1)
    x = noise(views.shape)
    Ax = pair.forward(x)
    y = Ax + np.float32(0.1) * Ax.std() * noise(Ax.shape, 1)
    there, back = (np.vdot(a.astype(float), b) for a, b in ((Ax, y), (pair.adjoint(y), x)))
    assert back == pytest.approx(there, rel=1e-6)


def test_views_that_fit_are_taken_and_no_others() -> None:
    fit = {name: columns_of(in_voxels(*case))[0].tolist() for name, case in ray_cases().items()}
    assert all(all(fit[name]) for name in ("parallel", "cone", "helical", "anisotropic voxels"))
    others = (
        "laminography",
        "rays nearly upright",
        "posed view by view",
        "source within the volume",
    )
    assert not any(any(fit[name]) for name in others)
    assert len(set(fit["steep cone"])) == 2  # some of its views have rays closest to z


def test_a_column_that_leans_does_not_fit() -> None:
    leaning = replace(CONE, det_v=CONE.det_v + 1e-5 * CONE.det_u)
    assert not columns_of(in_voxels(CUBE, leaning))[0].any()


def test_a_ray_closest_to_z_does_not_fit() -> None:
    """At 45 degrees it still follows x or y, as in `joseph_rays`."""
    rows = parallel(angles=np.zeros(1), shape=3)
    for climb, expected in ((1.0, True), (1.0001, False)):
        fits, _ = columns_of(in_voxels(CUBE, rising(rows, climb)))
        assert fits.item() is expected


def test_groups_and_tiles_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    views = in_voxels(*CASES["cone"])
    _, table = columns_of(views)
    x, y = noise(views.shape), noise(views.range_shape)
    pair = JosephCone(views, table, 1)
    expected = pair.forward(x), pair.adjoint(y)
    for name, value in (("GROUP", 2), ("VIEWS", 3), ("FORWARD_PLANES", 3), ("BACKWARD_PLANES", 3)):
        monkeypatch.setattr(joseph_cone, name, value)
    pair = JosephCone(views, table, 2)
    assert relative(pair.forward(x), expected[0]) < 1e-6
    assert relative(pair.adjoint(y), expected[1]) < 1e-6


def test_rows_beyond_the_volume_see_nothing_and_leave_nothing() -> None:
    """Not even that of the rows beside them in a vector."""
    views = in_voxels(CUBE, replace(FLAT, det_pos=FLAT.det_pos + np.array([200, 0, 0])))
    pair = JosephCone(views, columns_of(views)[1], 1)
    assert not pair.forward(np.full(views.shape, np.nan, np.float32)).any()
    assert not pair.adjoint(np.full(views.range_shape, np.nan, np.float32)).any()


def test_memory_declared_holds_what_is_kept() -> None:
    views = in_voxels(*CASES["cone"])
    fits, table = columns_of(views)
    lines = 4 * np.prod(views.shape)
    assert JosephCone.memory_bytes(views, 2) > lines + table.nbytes
    assert JosephCone.memory_bytes(some_views(views, fits), 8) >= JosephCone.memory_bytes(views, 2)
