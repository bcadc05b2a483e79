"""Joseph's pair in lanes is the reference's, row by row, whatever the sizes and the angles."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from tomodask.geometry import ParallelBeam
from tomodask.projectors import joseph_slices, prepare_backend
from tomodask.projectors.joseph_slices import JosephSlices
from tomodask.projectors.reference import ReferenceBackend
from tomodask.projectors.vectors import LANES

EVEN = np.linspace(0, np.pi, 7, endpoint=False)
QUARTERS = np.arange(-4, 9) * np.pi / 4  # rays along the axes, and between two of them

GEOMETRIES = {
    "even sizes": (ParallelBeam(EVEN, 2, 32, center_of_rotation=15.5), (32, 32)),
    "odd sizes": (ParallelBeam(EVEN, 2, 37, center_of_rotation=17.3), (31, 45)),
    "one view": (ParallelBeam(np.array([0.7]), 1, 32, center_of_rotation=15.5), (32, 32)),
    "one pixel": (ParallelBeam(EVEN, 1, 3, center_of_rotation=1.0), (1, 1)),
    "two columns": (ParallelBeam(EVEN, 1, 2, center_of_rotation=0.2), (20, 21)),
    "wide detector": (ParallelBeam(EVEN, 1, 150, center_of_rotation=70.2), (20, 33)),
    "narrow detector": (ParallelBeam(EVEN, 1, 9, center_of_rotation=4.0), (80, 75)),
    "along the axes and diagonals": (
        ParallelBeam(QUARTERS, 1, 40, center_of_rotation=19.5), (32, 33),
    ),
    "axis far from the detector": (ParallelBeam(EVEN, 1, 20, center_of_rotation=-1e7), (20, 20)),
    "more rows than lanes": (
        ParallelBeam(EVEN, LANES + 3, 20, center_of_rotation=9.1), (20, 20),
    ),
    "axis that leans": (ParallelBeam(EVEN, 4, 32).with_center(14.0, slope=0.6), (30, 32)),
    "a stage that jitters": (
        ParallelBeam(EVEN, 1, 32, center_of_rotation=15.5, column_shifts=3 * np.cos(9 * EVEN)),
        (32, 32),
    ),
    "more views than a block": (
        ParallelBeam(np.linspace(0, 7, 150), 1, 70, center_of_rotation=34.0), (66, 70),
    ),
}  # fmt: skip


@pytest.fixture(params=GEOMETRIES)
def geometry_and_shape(request) -> tuple[ParallelBeam, tuple[int, int]]:
    return GEOMETRIES[request.param]


def random_pair(
    geometry: ParallelBeam, shape_yx: tuple[int, int], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A volume and sinograms."""
    rows = geometry.det_rows
    x = rng.standard_normal((rows, *shape_yx), np.float32)
    y = rng.standard_normal((rows, geometry.num_angles, geometry.det_count), np.float32)
    return x, y


def test_both_directions_are_those_of_the_reference(geometry_and_shape, rng) -> None:
    geometry, shape_yx = geometry_and_shape
    ours, law = JosephSlices(shape_yx, geometry, 2), ReferenceBackend(shape_yx, geometry)
    x, y = random_pair(geometry, shape_yx, rng)
    for found, expected in (
        (ours.forward(x), law.forward(x)),
        (ours.adjoint(y), law.adjoint(y)),
    ):
        # positions to 1e-6 columns, and float32 sums
        error = np.linalg.norm(found - expected)
        assert error <= 2e-6 * np.linalg.norm(expected)


def test_positions_are_as_exact_on_a_wide_detector(rng) -> None:
    """Float32 alone would be out by 2^-13 columns at column 2000."""
    angles = np.array([0.01, 0.6, 1.2, 2.2, 3.0])
    geometry = ParallelBeam(angles, 1, 2048, center_of_rotation=1023.37)
    shape_yx = 9, 2048
    ours, law = JosephSlices(shape_yx, geometry), ReferenceBackend(shape_yx, geometry)
    x, y = random_pair(geometry, shape_yx, rng)
    for found, expected in (
        (ours.forward(x), law.forward(x)),
        (ours.adjoint(y), law.adjoint(y)),
    ):
        assert np.linalg.norm(found - expected) <= 2e-6 * np.linalg.norm(expected)


def test_the_pair_is_matched(geometry_and_shape, rng) -> None:
    geometry, shape_yx = geometry_and_shape
    A = JosephSlices(shape_yx, geometry, 2)
    x, noise = random_pair(geometry, shape_yx, rng)
    Ax = A.forward(x)
    y = Ax + 0.1 * Ax.std() * noise  # near A x: nothing cancels
    there, back = np.vdot(Ax.astype(float), y), np.vdot(x.astype(float), A.adjoint(y))
    assert there == pytest.approx(back, rel=1e-6)


def test_rows_with_one_centre_share_a_vector_and_others_do_not() -> None:
    slopes = {0.0: [(0, LANES), (LANES, LANES + 2)], 0.5: [(r, r + 1) for r in range(LANES + 2)]}
    for slope, expected in slopes.items():
        geometry = ParallelBeam(EVEN, LANES + 2, 20).with_center(9.0, slope=slope)
        batches = JosephSlices((20, 20), geometry)._batches()
        assert [(rows.start, rows.stop) for rows in batches] == expected


def test_a_row_is_the_same_beside_rows_of_its_centre_and_of_others(rng) -> None:
    """Its vector is full in one case and its own in the other."""
    flat = ParallelBeam(EVEN, LANES, 33, center_of_rotation=15.0)
    x, y = random_pair(flat, (31, 40), rng)
    leaning = replace(flat, center_slope=0.25)
    one, other = JosephSlices((31, 40), flat, 2), JosephSlices((31, 40), leaning, 2)
    row = int(np.argmin(np.abs(other.centers - one.centers[0])))
    shared = flat.with_center(float(other.centers[row]))
    one = JosephSlices((31, 40), shared, 2)
    assert one.centers[row] == other.centers[row]
    assert one.forward(x)[row].tobytes() == other.forward(x)[row].tobytes()
    assert one.adjoint(y)[row].tobytes() == other.adjoint(y)[row].tobytes()


def test_nan_stays_where_its_ray_goes(rng) -> None:
    """A missing pixel spoils the columns whose rays meet it and no other, in its row alone."""
    geometry = ParallelBeam(np.array([0.0, np.pi / 2]), 3, 21, center_of_rotation=10.0)
    A = JosephSlices((21, 21), geometry, 2)
    x = rng.standard_normal((3, 21, 21), np.float32)
    x[1, 4, 9] = np.nan
    spoilt = np.isnan(A.forward(x))
    assert not spoilt[[0, 2]].any()
    assert spoilt[1, 0, 9]
    assert spoilt[1, 1, 4]
    assert spoilt.sum() <= 4  # a weight of 0 times NaN is NaN: the neighbour, too


def test_tiles_and_blocks_do_not_show(monkeypatch, rng) -> None:
    """With tiles and blocks of other sizes each value is summed in the same order."""
    geometry = ParallelBeam(np.linspace(0, 3, 70), 2, 70, center_of_rotation=34.2)
    A = JosephSlices((66, 70), geometry, 2)
    x, y = random_pair(geometry, (66, 70), rng)
    projected, put_back = A.forward(x), A.adjoint(y)
    for name, size in itertools.product(("VIEWS", "COLUMNS"), (16, 32)):
        monkeypatch.setattr(joseph_slices, name, size)
        assert A.forward(x).tobytes() == projected.tobytes()
    monkeypatch.setattr(joseph_slices, "PIXELS", 32)
    assert A.adjoint(y).tobytes() == put_back.tobytes()


def test_it_is_compiled_before_workers_start() -> None:
    prepare_backend("numba_cpu")
    assert joseph_slices.project.signatures
    assert joseph_slices.back_project.signatures
    assert len(joseph_slices.project.signatures) == 1, "another call would compile again"
