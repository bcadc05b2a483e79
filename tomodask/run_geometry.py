"""The geometry of a run whose slices hang together: recipe and scan as a volume and its views.

The detector is put at the rotation axis with pixels as large as they are at the object, which gives
the very rays of the real one further back. Lengths are mm where the pixel size is known, else
pixels; the volume's middle is where the axis meets the detector's middle row.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from tomodask.errors import GeometryError, InputError, MissingInputError
from tomodask.geometry import ParallelBeam, ProjectionGeometry, VolumeGeometry, volume
from tomodask.recipe import GeometryOptions

# columns of a table of poses: how far the object's image is off, how the detector is turned
SHIFTS = ("row_shift", "column_shift")  # pixels
# around the ray (positive: the axis leans to later columns in later rows), around the detector's
# columns' direction, around its rows'
TURNS = ("roll_deg", "pitch_deg", "yaw_deg")
POSES = (*SHIFTS, *TURNS)


def run_geometry(
    options: GeometryOptions, beam: ParallelBeam, whole_rows: int
) -> tuple[VolumeGeometry, ProjectionGeometry]:
    """The volume to make and the views of it.

    Parameters
    ----------
    beam : angles, rows and columns that are used, with the centre of rotation.
    whole_rows : rows of the whole detector; its middle one looks straight at the source.

    Raises
    ------
    GeometryError : a cone beam whose pixel size is unknown, or a source within the object.
    InputError : the table of poses does not fit the views.
    """
    length, num_angles = beam.pixel_length, beam.num_angles
    if options.source_distance_mm is not None and beam.pixel_size_um is None:
        raise GeometryError(
            f"a source {options.source_distance_mm:g} mm from the axis, but the pixel size is not "
            "known: give it with --pixel-size, at the object"
        )
    poses = read_poses(options.poses, num_angles)
    middle = beam.row_start + (beam.det_rows - 1) / 2 - (whole_rows - 1) / 2
    center = beam.centers()[0] + beam.center_slope * (beam.det_rows - 1) / 2
    columns = (beam.det_count - 1) / 2 - center - beam.shifts() - poses["column_shift"]
    roll = math.atan(beam.center_slope) + poses["roll_deg"]
    tilt = np.full(num_angles, math.radians(options.tilt_deg))
    ray = _vectors(np.sin(tilt), np.cos(tilt), np.zeros(num_angles))
    v = _vectors(np.cos(tilt), -np.sin(tilt), np.zeros(num_angles))
    u = np.broadcast_to((0.0, 0.0, 1.0), ray.shape)
    det_v, det_u = (
        _turn(_turn(_turn(vector, v, poses["yaw_deg"]), u, poses["pitch_deg"]), ray, -roll)
        for vector in (v, u)
    )
    pos = length * (columns[:, None] * det_u + (middle - poses["row_shift"])[:, None] * det_v)
    source = ray if options.source_distance_mm is None else -options.source_distance_mm * ray
    # the volume's middle is that of the rows used; in the frame of a rising object all else sinks
    height = options.pitch_mm * (beam.angles - _middle(beam.angles)) / (2 * np.pi)
    moved = _vectors(height + length * middle / np.cos(tilt), *np.zeros((2, num_angles)))
    if options.source_distance_mm is not None:
        source = source - moved
    views = ProjectionGeometry(
        "parallel" if options.source_distance_mm is None else "cone",
        (beam.det_rows, beam.det_count),
        _around_z(source, beam.angles),
        _around_z(pos - moved, beam.angles),
        *(_around_z(length * vector, beam.angles) for vector in (det_v, det_u)),
    )
    nz = options.volume_rows or beam.det_rows + math.ceil(np.ptp(height) / length)
    shape = (nz, beam.det_count, beam.det_count)
    _check_source(options, shape[2] * length / 2)
    return volume(shape=shape, size=(nz * length, *(2 * (shape[2] * length,)))), views


def read_poses(path: str | None, num_angles: int) -> dict[str, np.ndarray]:
    """Each of `POSES`, (num_angles,), in pixels and radians; 0 where the table has no such column.

    Raises
    ------
    MissingInputError, InputError : no such file; another number of lines, an unknown column or
        something that is not a number.
    """
    found = {name: np.zeros(num_angles) for name in POSES}
    if path is None:
        return found
    if not Path(path).is_file():
        raise MissingInputError(f"there is no table of poses {path}")
    try:
        table: np.ndarray = np.genfromtxt(
            path, delimiter=",", names=True, dtype=np.float64, ndmin=1
        )
    except ValueError as error:
        raise InputError(f"{path} is not a table of comma-separated columns: {error}") from error
    unknown = set(table.dtype.names or ()) - set(POSES)
    if unknown or table.shape != (num_angles,):
        raise InputError(
            f"{path} has {table.size} lines and the columns {', '.join(table.dtype.names or ())}: "
            f"one line for each of {num_angles} views and columns out of {', '.join(POSES)} "
            "are expected"
        )
    for name in table.dtype.names or ():
        values = table[name]
        if not np.isfinite(values).all():
            line = int(np.flatnonzero(~np.isfinite(values))[0])
            raise InputError(f"{path}: {name} of view {line} is {values[line]}, not a number")
        found[name] = np.deg2rad(values) if name in TURNS else values
    return found


def _check_source(options: GeometryOptions, radius: float) -> None:
    if options.source_distance_mm is not None and options.source_distance_mm <= radius:
        raise GeometryError(
            f"a source {options.source_distance_mm:g} mm from the axis lies within the volume, "
            f"whose slices reach {radius:g} mm: is the pixel size that at the object?"
        )


def _vectors(z: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.stack([z, y, x], axis=1)


def _turn(vectors: np.ndarray, axis: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Each vector turned around a unit axis (Rodrigues' formula), right-handed in x, y, z."""
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    along = np.einsum("va,va->v", vectors, axis)[:, None] * axis
    across = -np.cross(axis, vectors)  # (z, y, x) is a left-handed order of axes
    return np.asarray(along + cos * (vectors - along) + sin * across)


def _around_z(vectors: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Turned from x towards y."""
    cos, sin = np.cos(angles), np.sin(angles)
    z, y, x = vectors.T
    return _vectors(z, y * cos + x * sin, x * cos - y * sin)


def _middle(angles: np.ndarray) -> float:
    return float((angles.min() + angles.max()) / 2)
