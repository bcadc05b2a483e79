"""Slices seen by a detector that is rolled, shifted, and of other pixels than voxels."""

from dataclasses import replace

import numpy as np
import pytest

import tomodask as td
from tomodask.ellipsoids import Ellipsoids, chiral_ellipsoids
from tomodask.errors import GeometryError
from tomodask.geometry import ProjectionGeometry, in_voxels, parallel, volume
from tomodask.geometry.distortion import Distortion
from tomodask.geometry.slices import AlignedBeam, as_aligned_beam
from tomodask.projectors.aligned import AlignedPair
from tomodask.projectors.choice import choose
from tomodask.reconstruct import FBP

SPACE = volume(shape=(20, 40, 40), size=(10, 20, 20))  # voxels of 0.5


def misaligned(
    projections: ProjectionGeometry,
    roll: np.ndarray,  # degrees
    rows: np.ndarray,  # shifts, in pixels
    columns: np.ndarray,
    scale: np.ndarray,
) -> ProjectionGeometry:
    """Pixels turned, moved and stretched, the rays as they were."""
    cos, sin = (scale * f(np.deg2rad(roll)) for f in (np.cos, np.sin))
    v, u = projections.det_v, projections.det_u
    return replace(
        projections,
        det_v=cos[:, None] * v - sin[:, None] * u,
        det_u=cos[:, None] * u + sin[:, None] * v,
        det_pos=projections.det_pos + rows[:, None] * v + columns[:, None] * u,
    )


def jittered(rng: np.random.Generator, num_angles: int = 12) -> ProjectionGeometry:
    """Rolled by up to 5 degrees, moved by up to 3 pixels, magnified by up to 5 %."""
    views = parallel(angles=num_angles, shape=(26, 46), size=(13, 23))
    return misaligned(
        views,
        rng.uniform(-5, 5, num_angles),
        rng.uniform(-3, 3, num_angles),
        rng.uniform(-3, 3, num_angles),
        rng.uniform(0.95, 1.05, num_angles),
    )


def blobs(sigma: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Middles of Gaussians in voxel indices, and the volume of them."""
    middles = np.array([(9.5, 22.0, 12.0), (8.0, 13.0, 21.0), (12.0, 26.0, 27.0)])
    grid = np.moveaxis(np.mgrid[:20, :40, :40], 0, -1)
    distance = np.linalg.norm(grid[None] - middles[:, None, None, None], axis=-1)
    return middles, np.exp(-(distance**2) / (2 * sigma**2)).sum(axis=0).astype(np.float32)


def blob_integrals(views: ProjectionGeometry, sigma: float = 2.0) -> np.ndarray:
    """Exact ones, in lengths of the world."""
    seen, middles = in_voxels(SPACE, views), blobs(sigma)[0]
    found = np.zeros(seen.range_shape)
    for view in range(seen.num_angles):
        ray = seen.source[view] / np.linalg.norm(seen.source[view])
        for middle in middles:
            away = seen.pixels(view) - middle
            distance = np.linalg.norm(away - (away @ ray)[..., None] * ray, axis=-1)
            found[:, view] += np.exp(-(distance**2) / (2 * sigma**2))
    return found * 0.5 * sigma * np.sqrt(2 * np.pi)


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values.astype(np.float64) ** 2)))


def pair_of(views: ProjectionGeometry, distortion: Distortion | None = None) -> AlignedPair:
    aligned = as_aligned_beam(SPACE, views)
    assert isinstance(aligned, AlignedBeam)
    return AlignedPair(SPACE, views, aligned, threads=2, distortion=distortion)


def test_smooth_objects_give_their_line_integrals(rng: np.random.Generator) -> None:
    views = jittered(rng)
    expected = blob_integrals(views)
    assert rms(pair_of(views).forward(blobs()[1]) - expected) < 2e-3 * rms(expected)


def test_it_agrees_with_rays(rng: np.random.Generator) -> None:
    """Joseph's rays are the coarser: 2 % for blobs of 2 voxels."""
    views = jittered(rng)
    by_rays = td.operator(SPACE, views, "reference")(blobs()[1])
    assert rms(pair_of(views).forward(blobs()[1]) - by_rays) < 3e-2 * rms(by_rays)


def test_ellipsoids_give_their_line_integrals(rng: np.random.Generator) -> None:
    views = jittered(rng)
    balls = Ellipsoids(
        [(0.3, 1.0, -2.0), (-1.0, -3.0, 2.0)],
        [np.diag([3.0, 5.0, 4.0]), np.diag([2.0, 2.0, 3.0])],
        [1.0, -0.5],
    )
    x, expected = balls.volume(SPACE), balls.line_integrals(views)
    by_rays = rms(td.operator(SPACE, views, "reference")(x) - expected)
    assert rms(pair_of(views).forward(x) - expected) < by_rays


@pytest.mark.parametrize("lens", [None, Distortion(12.5, 22.5, (1.0, 1e-4, 1e-5))])
def test_back_projection_is_the_adjoint(lens: Distortion | None, rng: np.random.Generator) -> None:
    A = pair_of(jittered(rng), lens)
    x = blobs()[1]
    y = A.forward(x)
    y += 0.1 * y.max() * rng.random(y.shape, dtype=np.float32)
    left = np.vdot(A.forward(x).astype(np.float64), y)
    assert left == pytest.approx(np.vdot(x.astype(np.float64), A.adjoint(y)), rel=1e-5)


def test_a_lens_bends_what_the_aligned_detector_sees(rng: np.random.Generator) -> None:
    views, lens = jittered(rng), Distortion(12.5, 22.5, (1.0, 2e-4, 2e-5))
    bent = pair_of(views, lens).forward(blobs()[1])
    i, j = np.mgrid[:26, :46].astype(float)
    ideal = lens.to_ideal(i, j)
    assert np.abs(ideal[1] - j).max() > 0.2
    straight = pair_of(views).rectify(blob_integrals(views))
    found = pair_of(views, lens).rectify(bent)
    middle = np.s_[4:-4, :, 8:-8]
    assert rms((found - straight)[middle]) < 1e-2 * rms(straight[middle])


def test_fbp_of_a_rolled_and_jittered_scan_is_as_good_as_of_an_aligned_one(
    rng: np.random.Generator,
) -> None:
    space, phantom = volume(shape=40, size=20), chiral_ellipsoids(9.0)
    straight = parallel(angles=90, shape=(46, 46), size=(23, 23))
    none, rows, columns = np.zeros(90), rng.uniform(-3, 3, 90), rng.uniform(-3, 3, 90)
    crooked = misaligned(straight, none + 2, rows, columns, none + 1)
    truth = phantom.volume(space)

    def error(views: ProjectionGeometry, believed: ProjectionGeometry) -> float:
        y = phantom.line_integrals(views, supersampling=2)
        return rms((FBP()(y, td.operator(space, believed)) - truth)[3:-3])

    same = straight.take_rows(3, 43)  # rows that are the slices
    best = error(same, same)
    assert error(crooked, crooked) < 1.1 * best
    # what shifts of columns alone mend
    moved = misaligned(same, none, none, columns, none + 1)
    assert error(crooked.take_rows(3, 43), moved) > 2 * best


def test_auto_resamples_and_says_what_for(
    rng: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    views = jittered(rng)
    with caplog.at_level("INFO", "tomodask.projectors.choice"):
        A = td.operator(SPACE, views)
    assert (A.backend, A.independent_rows) == ("fourier", False)
    assert "slices, which are resampled: detector rows are not" in caplog.text
    assert isinstance(choose(SPACE, views, "fourier", 1).pair, AlignedPair)
    assert A.views(np.s_[::3]).backend == "fourier"


def test_rays_tilted_out_of_the_slices_are_refused_with_how_far(rng: np.random.Generator) -> None:
    views = jittered(rng)
    tilted = replace(views, source=views.source + np.tan(np.deg2rad(0.2)) * np.eye(3)[0])
    assert as_aligned_beam(SPACE, tilted) == (
        "rays are tilted out of the slices by up to 0.2 degrees and cross 0.197 slices on their "
        "way through the volume"
    )
    with pytest.raises(GeometryError, match=r"fourier can't project this, rays are tilted"):
        td.operator(SPACE, tilted, "fourier")
    assert td.operator(SPACE, tilted).backend == "numba_cpu"
