"""FDK: true values in the plane of the orbit, from full turns, short scans and offset detectors."""

from dataclasses import replace

import numpy as np
import pytest

from tomodask.ellipsoids import Ellipsoids, aligned_ellipsoids
from tomodask.errors import GeometryError, InputError
from tomodask.geometry import (
    ProjectionGeometry,
    VolumeGeometry,
    cone,
    helical,
    laminography,
    parallel,
    rotate,
    scale,
    volume,
)
from tomodask.projectors.operator import Operator, operator
from tomodask.reconstruct.fdk import FDK

SIZE = 40
CUBE = volume(shape=SIZE)
MAGNIFICATION = 1.5
VALUE = 0.7
FILTERED = 0.02  # of the value: what the edges of a ball of few voxels leave in its middle


def views(
    num_angles: int = 72, arc: float = 2 * np.pi, radius: float = 3.0 * SIZE, offset: float = 0.0
) -> ProjectionGeometry:
    """Pixels as large as voxels at the axis. offset : columns that the detector is off."""
    pg = cone(
        angles=np.arange(num_angles) * arc / num_angles,
        shape=SIZE,
        size=SIZE * MAGNIFICATION,
        src_orig_dist=radius,
        src_det_dist=radius * MAGNIFICATION,
    )
    return replace(pg, det_pos=pg.det_pos + offset * pg.det_u)


def ball(radius: float = 11.0, middle: tuple[float, ...] = (0, 2, -3)) -> Ellipsoids:
    return aligned_ellipsoids([middle], [(radius,) * 3], [VALUE])


def reconstructed(
    pg: ProjectionGeometry, space: VolumeGeometry = CUBE, thing: Ellipsoids | None = None
) -> np.ndarray:
    A = operator(space, pg, "numba_cpu", threads=2)
    thing = ball() if thing is None else thing
    return np.asarray(FDK()(thing.line_integrals(pg, space, supersampling=2), A))


def inside(x: np.ndarray, space: VolumeGeometry, thing: Ellipsoids, within: float) -> np.ndarray:
    """Voxels of the two slices around the orbit's plane within some radius of a ball's middle."""
    index = np.stack(np.meshgrid(*map(np.arange, space.shape), indexing="ij"), axis=-1)
    place = space.first[0] + index @ space.axes[0]
    near = np.linalg.norm((place - thing.middle[0])[..., 1:], axis=-1) < within
    return x[near & (np.abs(place[..., 0]) <= 0.51 * space.voxel_size[0, 0])]


FULL = views()
CASES: dict[str, tuple[ProjectionGeometry, VolumeGeometry]] = {
    "full turn": (FULL, CUBE),
    "source close by": (views(radius=1.2 * SIZE), CUBE),
    "source far off": (views(radius=30 * SIZE), CUBE),
    "short scan": (views(54, 1.3 * np.pi), CUBE),
    "short scan the other way": (views(54, -1.3 * np.pi), CUBE),
    "short scan, columns from right to left": (
        replace(views(54, 1.3 * np.pi), det_u=-views(54, 1.3 * np.pi).det_u),
        CUBE,
    ),
    "offset detector": (views(offset=12), CUBE),
    "offset to the other side": (views(offset=-12), CUBE),
    "rows from top to bottom": (replace(FULL, det_v=-FULL.det_v), CUBE),
    "detector off by a column": (views(offset=1.3), CUBE),
    "oblong voxels": (FULL, volume(shape=(20, 36, 44), size=SIZE)),
    "views unevenly spread": (FULL[np.r_[0:20, 20:40:1, 40:72:2]], CUBE),
}


@pytest.mark.parametrize("case", CASES)
def test_a_ball_has_its_value_in_the_plane_of_the_orbit(case: str) -> None:
    pg, space = CASES[case]
    found = inside(reconstructed(pg, space), space, ball(), 8)
    assert found.mean() == pytest.approx(VALUE, rel=0.003)
    assert found.std() < FILTERED * VALUE


def test_lengths_are_those_of_the_world() -> None:
    """In mm where the geometry is in mm: a tenth of the lengths, ten times the values."""
    tenth = scale(0.1)
    y = ball().line_integrals(FULL, supersampling=2)
    large, small = (
        FDK()(y, operator(space, pg, "numba_cpu"))
        for pg, space in ((FULL, CUBE), (tenth * FULL, tenth * CUBE))
    )
    np.testing.assert_allclose(small, 10 * large, rtol=1e-3, atol=1e-4 * large.max())


def test_a_volume_that_turns_is_a_scan_around_it() -> None:
    angles = np.arange(72) * 2 * np.pi / 72
    turning = rotate(pos=0, axis=(1, 0, 0), angles=-angles) * CUBE
    still = FULL[0]
    y = ball().line_integrals(FULL, supersampling=2)
    found = FDK()(y, operator(turning, still, "numba_cpu"))
    expected = FDK()(y, operator(CUBE, FULL, "numba_cpu"))
    assert np.linalg.norm(found - expected) < 1e-3 * np.linalg.norm(expected)


def test_an_offset_detector_sees_beyond_its_near_edge() -> None:
    """The ball lies where half the views look past it."""
    thing = ball(6.0, (0, 25, 0))
    space = volume(shape=(6, 70, 70))
    found = inside(reconstructed(views(120, offset=15), space, thing), space, thing, 3.5)
    assert found.mean() == pytest.approx(VALUE, rel=0.02)


def test_it_is_as_good_as_with_the_reference() -> None:
    """RMSE at most 1 % larger, and the same volume to rounding."""
    pg, space = views(40)[::2].take_columns(6, 34).take_rows(10, 30), volume(shape=(12, 24, 24))
    y, truth = ball().line_integrals(pg), ball().volume(space)
    numba_cpu, reference = (
        FDK()(y, operator(space, pg, backend)) for backend in ("numba_cpu", "reference")
    )
    errors = [float(np.sqrt(np.mean((x - truth) ** 2))) for x in (numba_cpu, reference)]
    assert errors[0] <= 1.01 * errors[1]
    assert np.linalg.norm(numba_cpu - reference) < 1e-5 * np.linalg.norm(reference)


def test_uniform_object_shows_no_ring_in_the_plane_of_the_orbit() -> None:
    """Rows that lie on slices from all sides get too much by A.T: 2 % near the rim."""
    rod = aligned_ellipsoids([(0, 0, 0)], [(1000, 15, 15)], [VALUE])
    x = reconstructed(FULL, CUBE, rod)
    profile = [inside(x, CUBE, rod, radius).mean() for radius in (3, 11)]
    assert profile == pytest.approx([VALUE, VALUE], rel=2e-3)


def test_what_no_view_sees_stays_empty() -> None:
    tall = volume(shape=(3 * SIZE, SIZE, SIZE))
    x = reconstructed(FULL, tall)
    assert np.isfinite(x).all()
    assert not x[:20].any()
    assert not x[-20:].any()


def test_threads_do_not_change_a_byte() -> None:
    y = ball().line_integrals(FULL)
    one, two = (FDK()(y, operator(CUBE, FULL, "numba_cpu", threads=n)) for n in (1, 2))
    assert one.tobytes() == two.tobytes()


def test_a_window_tames_noise() -> None:
    A = operator(CUBE, FULL, "numba_cpu")
    y = np.random.default_rng(0).standard_normal(A.range_shape, np.float32)
    assert FDK(filter="hann")(y, A).std() < 0.5 * FDK()(y, A).std()


def test_torch_in_torch_out() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    A = operator(CUBE, FULL, "numba_cpu")
    y = ball().line_integrals(FULL)
    found = FDK()(torch.from_numpy(y), A)
    assert isinstance(found, torch.Tensor)
    assert np.array_equal(found.numpy(), FDK()(y, A))


def deformed() -> VolumeGeometry:
    return replace(CUBE, pos=np.zeros((72, 3)), u=np.linspace(1, 2, 72)[:, None] * CUBE.u)


REFUSED: dict[str, tuple[ProjectionGeometry, VolumeGeometry, str]] = {
    "parallel": (parallel(angles=9, shape=SIZE), CUBE, "FBP is for parallel beams"),
    "laminography": (
        laminography(angles=9, shape=SIZE, tilt=0.3, src_orig_dist=120, src_det_dist=180),
        CUBE,
        "leans on the axis of the orbit by 17.19 degrees",
    ),
    "helix": (
        helical(angles=99, shape=SIZE, src_orig_dist=120, src_det_dist=180, pitch=30),
        CUBE,
        "the source leaves a circle of radius 120",
    ),
    "two views": (FULL[:2], CUBE, "2 views: an orbit needs 3"),
    "half a turn": (views(40, np.pi), CUBE, "half a turn and twice that"),
    "axis beyond the detector": (views(offset=21), CUBE, "the axis lies beyond"),
    "a volume that is deformed": (FULL, deformed(), "deformed from view to view"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_views_of_no_orbit_are_refused(case: str) -> None:
    pg, space, message = REFUSED[case]
    A = operator(space, pg, "numba_cpu")
    with pytest.raises(GeometryError, match=message):
        FDK()(np.zeros(A.range_shape, np.float32), A)


def test_wrong_options_and_shapes_are_refused() -> None:
    with pytest.raises(InputError, match="no filter 'rampe'"):
        FDK(filter="rampe")
    with pytest.raises(InputError, match="padding=1: 2 to 16"):
        FDK(padding=1)
    with pytest.raises(InputError, match="pad_mode 'wrap'"):
        FDK(pad_mode="wrap")  # type: ignore[arg-type]
    A: Operator = operator(CUBE, FULL, "numba_cpu")
    with pytest.raises(GeometryError, match=r"projections .* of shape \(40, 71, 40\)"):
        FDK()(np.zeros((40, 71, 40), np.float32), A)
