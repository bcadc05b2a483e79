"""Which views are those of an aligned parallel beam: slices that are independent of each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tomodask.errors import GeometryError
from tomodask.geometry.beam import ParallelBeam
from tomodask.geometry.views import ProjectionGeometry
from tomodask.geometry.volumes import VolumeGeometry
from tomodask.geometry.voxelviews import VoxelViews, in_voxels

TOLERANCE = 1e-9  # of a voxel a pixel: what rounding leaves of vectors that were turned
MARGIN = 3  # columns beyond those needed, which interpolation reads


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


@dataclass(frozen=True, eq=False)
class AlignedBeam:
    """An aligned beam, and where on it the pixels of the real detector lie.

    beam : a row for each slice, columns one voxel apart; in lengths of the world.
    maps : (num_angles, 2, 3); maps[view] @ (row, column, 1) of the real detector is the (row,
        column) of the aligned one.
    """

    beam: ParallelBeam
    maps: np.ndarray


def as_aligned_beam(volume: VolumeGeometry, projections: ProjectionGeometry) -> AlignedBeam | str:
    """The views as an aligned beam seen by a detector that is not, or why they are not such.

    The rays of each view must stay within slices. The detector may be rolled, shifted in both
    directions, stretched or slanted, differently in every view. The aligned detector is as wide as
    the slices or as what the real one sees of them, whichever is less.
    """
    if projections.is_cone:
        return "it is a cone beam"
    try:
        views = in_voxels(volume, projections)
    except GeometryError as error:
        return str(error)
    in_plane = views.metric[:, 1:, 1:]
    if np.abs(in_plane - in_plane[0, 1, 1] * np.eye(2)).max() > TOLERANCE * in_plane.max():
        return f"the voxels are not square in y and x, or change: {volume.voxel_size[0]} (z, y, x)"
    _, ny, nx = views.shape
    across = np.linalg.norm(views.source[:, 1:], axis=1)
    leaves = np.abs(views.source[:, 0]) / np.maximum(across, 1e-300)
    if (worst := leaves.max()) > TOLERANCE:
        height, width = volume.voxel_size[0, 0], volume.voxel_size[0, 2]
        return (
            f"rays are tilted out of the slices by up to "
            f"{np.rad2deg(np.arctan(worst * height / width)):.3g} degrees and cross "
            f"{worst * np.hypot(ny, nx):.3g} slices on their way through the volume"
        )
    return _aligned(views, float(np.sqrt(in_plane[0, 1, 1])), across)


def _aligned(views: VoxelViews, length: float, across: np.ndarray) -> AlignedBeam:
    """The aligned columns along e, perpendicular to the rays within the slice."""
    nz, ny, nx = views.shape
    _, ray_y, ray_x = views.source.T
    e = np.stack([-ray_x, ray_y], axis=1) / across[:, None]
    e *= np.where(np.einsum("va,va->v", e, views.step_u[:, 1:]) < 0, -1, 1)[:, None]
    offset = views.first[:, 1:] - (np.array([ny, nx]) - 1) / 2
    columns = [np.einsum("va,va->v", e, v[:, 1:]) for v in (views.step_v, views.step_u)]
    columns.append(np.einsum("va,va->v", e, offset))
    maps = np.stack(
        [
            np.stack([views.step_v[:, 0], views.step_u[:, 0], views.first[:, 0]], axis=1),
            np.stack(columns, axis=1),
        ],
        axis=1,
    )
    last_row, last_column = (count - 1 for count in views.det_shape)
    ends = np.array([(i, j, 1) for i in (0, last_row) for j in (0, last_column)])
    seen = maps[:, 1] @ ends.T  # columns from the axis, of the detector's corners
    radius = np.hypot(ny, nx) / 2
    low = np.floor(max(seen.min(), -radius)) - MARGIN
    high = np.ceil(min(seen.max(), radius)) + MARGIN
    maps[:, 1, 2] -= low
    beam = ParallelBeam(
        angles=np.arctan2(e[:, 0], e[:, 1]),
        det_rows=nz,
        det_count=max(2, int(high - low) + 1),
        center_of_rotation=float(-low),
        pixel_size_um=None if length == 1 else 1000 * length,
    )
    return AlignedBeam(beam, maps)
