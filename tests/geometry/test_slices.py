"""Which views are parallel slices, and the beam that they are."""

from dataclasses import replace

import numpy as np
import pytest

from tomodask.geometry import (
    ParallelBeam,
    ProjectionGeometry,
    VolumeGeometry,
    laminography,
    parallel,
    volume,
)
from tomodask.geometry.slices import as_parallel_beam
from tomodask.testing_rays import cone_views, turning_volume

ANGLES = np.array([0.3, -2.0, 1.1, 5.0])
SPACE = volume(shape=(4, 9, 10))
VIEWS = parallel(angles=ANGLES, shape=(4, 12))


def beam_of(space: VolumeGeometry, projections: ProjectionGeometry) -> ParallelBeam:
    beam = as_parallel_beam(space, projections)
    assert isinstance(beam, ParallelBeam), beam
    return beam


def columns(beam: ParallelBeam, y: float, x: float) -> np.ndarray:
    """Where a point, from the middle of its slice, is seen in each view."""
    cos, sin = np.cos(beam.angles), np.sin(beam.angles)
    return x * cos + y * sin + beam.centers()[0] + beam.shifts()


def test_an_aligned_scan_is_the_beam_of_its_angles() -> None:
    beam = beam_of(SPACE, VIEWS)
    np.testing.assert_allclose(np.exp(1j * beam.angles), np.exp(1j * ANGLES))
    assert (beam.det_rows, beam.det_count, beam.row_start) == (4, 12, 0)
    assert beam.center_of_rotation == pytest.approx(5.5)
    assert beam.column_shifts is None


def test_everything_in_another_unit_is_the_same_beam() -> None:
    space = volume(shape=(4, 9, 10), size=(2, 4.5, 5), pos=(0, 0.3, 0.2))
    half = {name: getattr(VIEWS, name) / 2 for name in ("source", "det_pos", "det_v", "det_u")}
    beam = beam_of(space, replace(VIEWS, **half))
    # the volume's middle lies at (0.3, 0.2): the axis of its own slices is seen there
    expected = 5.5 + (0.2 * np.cos(ANGLES) + 0.3 * np.sin(ANGLES)) / 0.5
    np.testing.assert_allclose(columns(beam, 0, 0), expected)


def test_a_detector_that_moves_along_its_columns_shifts_them() -> None:
    along = np.array([0.2, -1.4, 3.0, 0.0])
    moved = replace(VIEWS, det_pos=along[:, None] * VIEWS.det_u)
    beam = beam_of(SPACE, moved)
    np.testing.assert_allclose(
        columns(beam, 1.0, 2.0), columns(beam_of(SPACE, VIEWS), 1, 2) - along
    )
    assert beam.column_shifts is not None


def test_moving_along_the_rays_changes_nothing() -> None:
    moved = replace(VIEWS, det_pos=100 * VIEWS.ray_dir, source=-3 * VIEWS.source)
    np.testing.assert_allclose(
        columns(beam_of(SPACE, moved), 1, 2), columns(beam_of(SPACE, VIEWS), 1, 2)
    )


@pytest.mark.parametrize(
    ("det_rows", "z", "row_start"), [(6, 0, 1), (6, 1, 0), (2, 0, -1), (3, 2.5, -3)]
)
def test_rows_are_counted_from_the_first_slice(det_rows: int, z: float, row_start: int) -> None:
    moved = replace(parallel(angles=ANGLES, shape=(det_rows, 12)), det_pos=np.array([z, 0, 0]))
    beam = beam_of(SPACE, moved)
    # slice 0 lies at -1.5, detector row 0 at z - (det_rows - 1) / 2
    assert beam.row_start == row_start == -1.5 - z + (det_rows - 1) / 2
    assert beam.det_rows == 4


def test_a_turning_volume_is_a_turning_beam() -> None:
    space = replace(turning_volume(ANGLES, (4, 9, 10)), pos=np.zeros(3))
    still = parallel(angles=np.zeros(1), shape=(4, 12))
    np.testing.assert_allclose(np.exp(1j * beam_of(space, still).angles), np.exp(-1j * ANGLES))


@pytest.mark.parametrize(
    ("space", "views", "reason"),
    [
        (SPACE, cone_views(ANGLES, (4, 12)), "cone beam"),
        (SPACE, parallel(angles=ANGLES, shape=(4, 1)), "one column"),
        (volume(shape=(4, 9, 10), size=(4, 9, 20)), VIEWS, "not square"),
        (
            SPACE,
            laminography(angles=ANGLES, shape=(4, 12), tilt=0.01),
            "rays leave their slice, 0.01 along z",
        ),
        (SPACE, replace(VIEWS, det_v=1.1 * VIEWS.det_v), "off by 0.1 voxels a row"),
        (SPACE, replace(VIEWS, det_u=1.2 * VIEWS.det_u), "1.2 voxels apart"),
        (SPACE, replace(VIEWS, det_u=VIEWS.det_u + np.array([0.02, 0, 0])), "lean, 0.02 voxels"),
        (SPACE, replace(VIEWS, source=VIEWS.source + 0.1 * VIEWS.det_u), "at an angle, 0.09"),
        (SPACE, replace(VIEWS, det_pos=np.array([0.3, 0, 0])), "0.3 voxels beside the slices"),
        (SPACE, replace(VIEWS, det_pos=np.array([4.0, 0, 0])), "the first one on slice 4"),
        (SPACE, replace(VIEWS, det_pos=np.array([-4.0, 0, 0])), "the first one on slice -4"),
        (turning_volume(ANGLES, (4, 9, 10)), VIEWS, "shift between views"),
        (turning_volume(ANGLES[:3], (4, 9, 10)), VIEWS, "3 steps and 4 views"),
    ],
)
def test_why_views_are_no_slices(
    space: VolumeGeometry, views: ProjectionGeometry, reason: str
) -> None:
    found = as_parallel_beam(space, views)
    assert isinstance(found, str)
    assert reason in found
