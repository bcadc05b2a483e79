"""Views as the voxels see them: what a projector of any geometry is given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tomodask.errors import GeometryError
from tomodask.geometry.views import Beam, ProjectionGeometry
from tomodask.geometry.volumes import VolumeGeometry


@dataclass(frozen=True, eq=False)
class VoxelViews:
    """Source and detector in voxel indices (z, y, x), where (0, 0, 0) is the first voxel's middle.

    The volume rests at the origin with voxels of size 1 whatever it was in the world: a volume
    that is turned, stretched or moving turns into a detector and a source that are.

    shape : (nz, ny, nx) voxels.
    det_shape : (rows, columns).
    source : (num_angles, 3) where the source is (cone), or which way the rays run (parallel).
    first : (num_angles, 3) middle of pixel (0, 0).
    step_v, step_u : (num_angles, 3) from one row to the next, from one column to the next.
    metric : (num_angles, 3, 3) with which a step d of voxels is sqrt(d @ metric @ d) long in the
        world.
    """

    beam: Beam
    shape: tuple[int, int, int]
    det_shape: tuple[int, int]
    source: np.ndarray
    first: np.ndarray
    step_v: np.ndarray
    step_u: np.ndarray
    metric: np.ndarray

    @property
    def num_angles(self) -> int:
        return len(self.source)

    @property
    def range_shape(self) -> tuple[int, int, int]:
        """(row, angle, column) of the projections."""
        return self.det_shape[0], self.num_angles, self.det_shape[1]

    def pixels(self, view: int) -> np.ndarray:
        """(rows, columns, 3) middles of the pixels of one view."""
        v, u = (np.arange(count)[:, None] for count in self.det_shape)
        step_v, step_u = self.step_v[view], self.step_u[view]
        return np.asarray(self.first[view] + (v * step_v)[:, None] + (u * step_u)[None])

    def rays(self, view: int) -> np.ndarray:
        """(rows, columns, 3) directions from the source to each pixel, of any length."""
        pixels = self.pixels(view)
        if self.beam == "cone":
            return np.asarray(pixels - self.source[view])
        return np.broadcast_to(self.source[view], pixels.shape)


def in_voxels(volume: VolumeGeometry, projections: ProjectionGeometry) -> VoxelViews:
    """The projections in the frame of the volume, view by view.

    Raises
    ------
    GeometryError : the volume has neither one step nor as many as there are views (a single view
        may be repeated).
    """
    steps = {volume.num_steps, projections.num_angles} - {1}
    if len(steps) > 1:
        raise GeometryError(
            f"a volume of {volume.num_steps} steps and {projections.num_angles} views: give the "
            "volume 1 step or as many as there are views"
        )
    count = max(steps, default=1)
    to_world = np.broadcast_to(volume.axes, (count, 3, 3))  # index @ to_world: world step
    to_index = np.linalg.inv(to_world)

    def steps_of(vectors: np.ndarray) -> np.ndarray:
        return np.asarray(np.einsum("va,vab->vb", np.broadcast_to(vectors, (count, 3)), to_index))

    source = projections.source - volume.first if projections.is_cone else projections.source
    return VoxelViews(
        projections.beam,
        volume.shape,
        projections.det_shape,
        source=steps_of(source),
        first=steps_of(projections.first - volume.first),
        step_v=steps_of(projections.det_v),
        step_u=steps_of(projections.det_u),
        metric=to_world @ np.swapaxes(to_world, 1, 2),
    )
