"""Which views are those of an aligned parallel beam: slices that are independent of each other."""

from __future__ import annotations

import numpy as np

from tomodask.errors import GeometryError
from tomodask.geometry.beam import ParallelBeam
from tomodask.geometry.views import ProjectionGeometry
from tomodask.geometry.volumes import VolumeGeometry
from tomodask.geometry.voxelviews import in_voxels

TOLERANCE = 1e-9  # of a voxel a pixel: what rounding leaves of vectors that were turned


def as_parallel_beam(volume: VolumeGeometry, projections: ProjectionGeometry) -> ParallelBeam | str:
    """The views as a parallel beam over the slices of the volume, or why they are none.

    The beam is in voxels: its pixels have length 1, and one voxel is `volume.voxel_size[0, 2]` of
    the world. It spans a detector row for each slice of the volume, from `row_start` on, which may
    be negative: those rows that the detector does not have see nothing.

    Columns that the axis is off in some views, by a moved detector, source or volume, turn into a
    centre of rotation and column shifts.
    """
    if projections.is_cone:
        return "it is a cone beam"
    if projections.det_shape[1] < 2:
        return "the detector has one column"
    try:
        views = in_voxels(volume, projections)
    except GeometryError as error:
        return str(error)
    in_plane = views.metric[:, 1:, 1:]
    if np.abs(in_plane - in_plane[0, 1, 1] * np.eye(2)).max() > TOLERANCE * in_plane.max():
        return f"the voxels are not square in y and x, or change: {volume.voxel_size[0]} (z, y, x)"
    rays = views.source / np.linalg.norm(views.source, axis=1)[:, None]
    if (worst := np.abs(rays[:, 0]).max()) > TOLERANCE:
        return f"rays leave their slice, {worst:.3g} along z for each length 1"
    if (worst := np.abs(views.step_v - (1, 0, 0)).max()) > TOLERANCE:
        return f"detector rows are not spaced as the slices are: off by {worst:.3g} voxels a row"
    if (worst := np.abs(views.step_u[:, 0]).max()) > TOLERANCE:
        return f"detector rows lean, {worst:.3g} voxels along z for each column"
    pitch = np.linalg.norm(views.step_u, axis=1)
    if (worst := np.abs(pitch - 1).max()) > TOLERANCE:
        return f"detector columns are {pitch[np.abs(pitch - 1).argmax()]:.6g} voxels apart, not 1"
    if (worst := np.abs(np.einsum("va,va->v", rays, views.step_u)).max()) > TOLERANCE:
        return f"rays hit the detector at an angle, {worst:.3g} along its columns"
    offsets = -views.first[:, 0]
    row_start = round(float(offsets[0]))
    if (worst := np.abs(offsets - row_start).max()) > 1e-6:
        return f"detector rows lie {worst:.3g} voxels beside the slices, or shift between views"
    if not -volume.shape[0] < row_start < projections.det_shape[0]:
        return f"no detector row lies on a slice: the first one on slice {-row_start}"
    return _beam(views.first, views.step_u, views.shape, views.det_shape[1], row_start)


def _beam(
    first: np.ndarray,
    step_u: np.ndarray,
    shape: tuple[int, int, int],
    det_count: int,
    row_start: int,
) -> ParallelBeam:
    """u = (p - first) . step_u, where p is measured from the first voxel, not the middle."""
    nz, ny, nx = shape
    middle = np.array([(ny - 1) / 2, (nx - 1) / 2])
    centers = np.einsum("va,va->v", middle - first[:, 1:], step_u[:, 1:])
    center = float(centers.mean())
    shifts = centers - center
    return ParallelBeam(
        angles=np.arctan2(step_u[:, 1], step_u[:, 2]),
        det_rows=nz,
        det_count=det_count,
        center_of_rotation=center,
        row_start=row_start,
        column_shifts=shifts if np.abs(shifts).max() > 1e-6 else None,
    )
