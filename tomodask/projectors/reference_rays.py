"""The reference for rays of any direction: Joseph's method in three dimensions, in plain NumPy.

A ray is followed along the axis of the volume that it runs closest to. At each plane of voxel
middles that it crosses, the four voxels around the crossing are interpolated, and the plane counts
for the length of ray from one plane to the next (Joseph 1982, doi:10.1109/TMI.1982.4307572, there
in two dimensions). The back-projection is the exact transpose: the same weights, added up the
other way. Slow; read it to know what A is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np

from tomodask.geometry import VoxelViews


class Weights(NamedTuple):
    """Entries of A for one view: `ray` of the detector sees `voxel` with `weight`, all (n,)."""

    ray: np.ndarray
    voxel: np.ndarray
    weight: np.ndarray


class ReferenceRays:
    """Joseph's projector and its transpose, in float64 within; `threads` are not used."""

    def __init__(self, views: VoxelViews, threads: int = 1) -> None:
        self.views = views

    def forward(self, volume: np.ndarray) -> np.ndarray:
        """(z, y, x) -> (row, angle, column), lengths of the world."""
        values = volume.astype(np.float64).ravel()
        projections = np.empty(self.views.range_shape, np.float32)
        for view in range(self.views.num_angles):
            projection = np.zeros(math.prod(self.views.det_shape))
            for ray, voxel, weight in self.weights(view):
                np.add.at(projection, ray, weight * values[voxel])
            projections[:, view] = projection.reshape(self.views.det_shape)
        return projections

    def adjoint(self, projections: np.ndarray) -> np.ndarray:
        """(row, angle, column) -> (z, y, x), lengths of the world."""
        volume = np.zeros(math.prod(self.views.shape))
        for view in range(self.views.num_angles):
            values = projections[:, view].astype(np.float64).ravel()
            for ray, voxel, weight in self.weights(view):
                np.add.at(volume, voxel, weight * values[ray])
        return volume.reshape(self.views.shape).astype(np.float32)

    def weights(self, view: int) -> Iterator[Weights]:
        """All entries of A for one view that are not 0, in several lists."""
        direction = self.views.rays(view).reshape(-1, 3)
        # the axis nearest to the ray; of equals the last one, so the axes are compared backwards
        dominant = 2 - np.argmax(np.abs(direction[:, ::-1]), axis=1)
        for axis in range(3):
            yield from self._weights_along(axis, np.flatnonzero(dominant == axis), view)

    def _weights_along(self, axis: int, ray: np.ndarray, view: int) -> Iterator[Weights]:
        """The entries of the rays that cross the planes of one axis, corner by corner."""
        direction = self.views.rays(view).reshape(-1, 3)[ray]
        step = direction / np.abs(direction[:, axis, None])  # from one plane to the next
        length = np.sqrt(np.einsum("ra,ab,rb->r", step, self.views.metric[view], step))
        planes = np.arange(self.views.shape[axis])
        if self.views.beam == "cone":
            start = np.broadcast_to(self.views.source[view], direction.shape)
        else:
            start = self.views.pixels(view).reshape(-1, 3)[ray]
        along = (planes - start[:, axis, None]) / direction[:, axis, None]  # (ray, plane)
        point = start[:, None] + along[:, :, None] * direction[:, None]
        point[:, :, axis] = planes  # whole numbers, whatever the rounding
        is_ahead = along > 0 if self.views.beam == "cone" else np.ones(along.shape, bool)

        low = np.floor(point).astype(np.intp)
        fraction = point - low
        across = [other for other in range(3) if other != axis]
        for corner in product((0, 1), repeat=2):
            voxel, weight = low.copy(), np.broadcast_to(length[:, None], along.shape).copy()
            for other, upper in zip(across, corner, strict=True):
                voxel[:, :, other] += upper
                share = fraction[:, :, other]
                weight *= share if upper else 1 - share
            inside = (voxel >= 0).all(axis=2) & (voxel < self.views.shape).all(axis=2) & is_ahead
            which = np.broadcast_to(ray[:, None], along.shape)[inside]
            flat = np.ravel_multi_index(tuple(voxel[inside].T), self.views.shape)
            yield Weights(which, flat, weight[inside])

    @staticmethod
    def refusal(views: VoxelViews) -> str | None:
        """None: every geometry can be projected."""
        return None

    @staticmethod
    def memory_bytes(views: VoxelViews, threads: int) -> int:
        """Float64 temporaries of one view, about 24 a ray and plane, and the volume as float64."""
        rows, columns = views.det_shape
        nz, ny, nx = views.shape
        return 8 * (24 * rows * columns * max(views.shape) + nz * ny * nx)
