"""Comparing projectors of rays, and a ball whose chords are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tomodask.geometry import VoxelViews


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    """L2 norm of the difference, of that of what was expected."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Float32 of which no element is like another."""
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def ball(
    shape: tuple[int, int, int], center: Sequence[float], radius: float, fine: int = 4
) -> np.ndarray:
    """(z, y, x) float32: 1 within a ball, at its surface the part of the voxel within."""
    steps = (np.arange(fine) + 0.5) / fine - 0.5
    squares = [
        ((np.arange(count)[:, None] + steps).ravel() - middle) ** 2
        for count, middle in zip(shape, center, strict=True)
    ]
    z, y, x = np.meshgrid(*squares, indexing="ij", sparse=True)
    nz, ny, nx = shape
    inside = (z + y + x <= radius**2).reshape(nz, fine, ny, fine, nx, fine)
    return np.asarray(inside.mean(axis=(1, 3, 5), dtype=np.float32))


def chords(views: VoxelViews, center: Sequence[float], radius: float) -> np.ndarray:
    """(row, angle, column) lengths of the rays within a ball, for voxels that are unit cubes."""
    lengths = np.empty(views.range_shape)
    for view in range(views.num_angles):
        ray = views.rays(view)
        ray = ray / np.linalg.norm(ray, axis=-1, keepdims=True)
        start = views.source[view] if views.beam == "cone" else views.pixels(view)
        across = np.linalg.norm(np.cross(np.asarray(center) - start, ray), axis=-1)
        lengths[:, view] = 2 * np.sqrt(np.maximum(radius**2 - across**2, 0))
    return lengths
