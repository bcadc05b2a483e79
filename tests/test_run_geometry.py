"""Recipe and scan as vectors: each voxel's shadow falls where the conventions say."""

import numpy as np
import pytest

from tomodask.errors import GeometryError, InputError, MissingInputError
from tomodask.geometry import ParallelBeam, in_voxels
from tomodask.recipe import GeometryOptions
from tomodask.run_geometry import POSES, read_poses, run_geometry

ANGLES = np.array([0.0, 0.4, np.pi / 2, 2.0, 4.5])
BEAM = ParallelBeam(ANGLES, 9, 12, center_of_rotation=4.7, pixel_size_um=20.0)
VOXEL = np.array([6.0, 2.0, 9.0])  # (z, y, x)


def shadow(views, view: int) -> np.ndarray:
    """(row, column) where the ray through VOXEL meets the detector: linear equations."""
    ray = VOXEL - views.source[view] if views.beam == "cone" else views.source[view]
    steps = np.stack([views.step_v[view], views.step_u[view], -ray], axis=1)
    return np.linalg.solve(steps, VOXEL - views.first[view])[:2]


def shadows(options: GeometryOptions, beam: ParallelBeam = BEAM, whole_rows: int = 9) -> np.ndarray:
    views = in_voxels(*run_geometry(options, beam, whole_rows))
    return np.array([shadow(views, view) for view in range(beam.num_angles)])


def expected(beam: ParallelBeam = BEAM) -> tuple[np.ndarray, np.ndarray]:
    """x cos + y sin, and y's counterpart along the ray, in pixels from the axis."""
    middle = (beam.det_count - 1) / 2
    y, x = VOXEL[1:] - middle
    return (
        x * np.cos(beam.angles) + y * np.sin(beam.angles),
        y * np.cos(beam.angles) - x * np.sin(beam.angles),
    )


def test_a_plain_beam_has_its_slices_on_its_rows():
    across, _ = expected()
    found = shadows(GeometryOptions())
    assert np.allclose(found[:, 0], VOXEL[0])
    assert np.allclose(found[:, 1], across + 4.7)


def test_shifts_and_a_leaning_axis_move_the_columns_as_a_parallel_beam_says(tmp_path):
    across, _ = expected()
    shifts = np.array([0.5, -1.0, 2.0, 0.0, 1.5])
    beam = ParallelBeam(ANGLES, 9, 12, 4.7, 0.0, 20.0, column_shifts=shifts)
    assert np.allclose(shadows(GeometryOptions(), beam)[:, 1], across + 4.7 + shifts)
    leaning = ParallelBeam(ANGLES, 9, 12, 4.7, 0.05, 20.0)
    found = shadows(GeometryOptions(), leaning)
    roll = np.arctan(0.05)
    at = VOXEL[0] - 4  # rows from the middle, where the roll turns
    assert np.allclose(found[:, 1], 4.7 + 0.05 * 4 + across * np.cos(roll) + at * np.sin(roll))
    table = tmp_path / "poses.csv"
    table.write_text("row_shift,column_shift\n" + "\n".join(f"{s},{2 * s}" for s in shifts))
    moved = shadows(GeometryOptions(poses=str(table)))
    assert np.allclose(moved, shadows(GeometryOptions()) + shifts[:, None] * (1, 2))


def test_a_cone_magnifies_what_is_near_the_source():
    across, along = expected()
    distance = 2.0 / 0.02  # mm in pixels
    found = shadows(GeometryOptions(source_distance_mm=2.0))
    magnification = distance / (distance + along)
    assert np.allclose(found[:, 1], 4.7 + across * magnification)
    assert np.allclose(found[:, 0], 4 + (VOXEL[0] - 4) * magnification)


def test_a_crop_of_rows_leaves_every_ray_where_it_was():
    options = GeometryOptions(source_distance_mm=2.0, tilt_deg=20.0)
    full = in_voxels(*run_geometry(options, BEAM, 9))
    part = in_voxels(*run_geometry(options, BEAM.take_rows(5, 8), 9))
    volume, views = run_geometry(options, BEAM, 9)
    _, cropped = run_geometry(options, BEAM.take_rows(5, 8), 9)
    moved = views.take_rows(5, 8).det_pos - cropped.det_pos
    assert np.allclose(moved, moved[0])  # the volume's middle went along with the rows
    assert np.allclose(moved[:, 1:], 0)
    assert np.allclose(views.source - cropped.source, moved)
    assert (full.det_shape[0], part.det_shape[0]) == (9, 3)
    assert volume.shape == (9, 12, 12)


def test_a_tilted_axis_shows_depth_as_height():
    _, along = expected()
    tilt = np.deg2rad(25)
    found = shadows(GeometryOptions(tilt_deg=25.0))
    height = (VOXEL[0] - 4) * np.cos(tilt) - along * np.sin(tilt)
    assert np.allclose(found[:, 0], 4 + height)


def test_a_rising_object_is_followed_and_has_room():
    options = GeometryOptions(source_distance_mm=2.0, pitch_mm=0.1)
    volume, _ = run_geometry(options, BEAM, 9)
    rise = 0.1 * (ANGLES - (ANGLES.max() + ANGLES.min()) / 2) / (2 * np.pi)
    assert volume.shape[0] == 9 + np.ceil(np.ptp(rise) / 0.02)
    parallel = GeometryOptions(pitch_mm=0.1)
    found = shadows(parallel)
    at = (VOXEL[0] - (run_geometry(parallel, BEAM, 9)[0].shape[0] - 1) / 2) + rise / 0.02
    assert np.allclose(found[:, 0], 4 + at)


def test_what_cannot_be_is_refused(tmp_path):
    with pytest.raises(GeometryError, match="lies within the volume"):
        run_geometry(GeometryOptions(source_distance_mm=0.1), BEAM, 9)
    unsized = ParallelBeam(ANGLES, 9, 12, 4.7)
    with pytest.raises(GeometryError, match="--pixel-size"):
        run_geometry(GeometryOptions(source_distance_mm=5), unsized, 9)
    with pytest.raises(MissingInputError, match="no table of poses"):
        read_poses(str(tmp_path / "none.csv"), 5)
    table = tmp_path / "poses.csv"
    for text, message in (
        ("row_shift\n1\n2\n", "2 lines"),
        ("rowshift\n1\n2\n3\n4\n5\n", "rowshift"),
        ("row_shift\n1\n2\nnan\n4\n5\n", "view 2 is nan"),
        ("row_shift\n1\n2\nx\n4\n5\n", "not a table"),
        ("row_shift,roll_deg\n1,2\n2\n", "not a table"),
    ):
        table.write_text(text)
        with pytest.raises(InputError, match=message):
            read_poses(str(table), 5)
    table.write_text("roll_deg\n" + "180\n" * 5)
    assert read_poses(str(table), 5)["roll_deg"] == pytest.approx(np.pi)
    assert set(read_poses(None, 3)) == set(POSES)
