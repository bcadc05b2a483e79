"""How evenly A.T spreads constant views over the voxels, against the density of its rays.

Where rays lie about as dense as the voxels, the sum of Joseph's weights at a voxel beats between
the two grids. It averages out as the views go around, but not in the plane of the orbit, whose
rows lie on the slices from every side: there A.T leaves too much, by half the part by which rays at
the voxel's depth are closer or wider than on the axis (2 % halfway to the rim of a usual scan).
"""

from __future__ import annotations

import numpy as np

from tomodask.geometry import VolumeGeometry
from tomodask.reconstruct.orbit import Orbit
from tomodask.threads import share

POINTS = 33  # along each axis at most, between which the density is interpolated: good to 1e-4
GREATEST = 1.25  # a voxel that few views see stays as dark as it is


def divide_by_evenness(
    volume: np.ndarray,
    constant: np.ndarray,
    geometry: VolumeGeometry,
    orbit: Orbit,
    factors: np.ndarray,
    threads: int,
) -> None:
    """Divide a volume, in place, by what constant views become over what they should.

    volume, constant : (z, y, x) A.T of filtered views, and of the cosines of the rays times the
        factors. factors : (num_angles,) of the views.
    """
    coarse, weights = _expected(geometry, orbit, factors)
    in_z, in_y, in_x = weights

    def divide(z: int) -> None:
        slice_ = np.tensordot(in_z[z], coarse, 1)
        found = constant[z] / (in_y @ slice_ @ in_x.T)
        volume[z] /= np.clip(found, np.float32(1 / GREATEST), np.float32(GREATEST))

    share(divide, len(volume), threads)


def _expected(
    geometry: VolumeGeometry, orbit: Orbit, factors: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Sum over views of voxel over pixel at the voxel's depth, at few points; and how to get there.

    Returns
    -------
    (points, points, points) float32, and for z, y and x (voxels, points) weights.
    """
    places = [np.linspace(0, count - 1, min(count, POINTS)) for count in geometry.shape]
    grid = np.stack(np.meshgrid(*places, indexing="ij"), axis=-1)
    points = geometry.first[0] + grid @ geometry.axes[0]
    voxel = float(np.abs(np.linalg.det(geometry.axes[0])))
    pixel = orbit.row_pitch * orbit.column_pitch / orbit.det_distance**2
    expected = np.zeros(grid.shape[:3])
    for source, normal, factor in zip(
        orbit.source, orbit.normal, factors * voxel / pixel, strict=True
    ):
        depth = (points - source) @ normal
        expected += np.where(depth > 0, factor / np.maximum(depth, 1e-300) ** 2, 0)
    weights = [
        np.stack([np.interp(np.arange(count), at, one) for one in np.eye(len(at))], axis=1)
        for at, count in zip(places, geometry.shape, strict=True)
    ]
    return expected.astype(np.float32), [each.astype(np.float32) for each in weights]
