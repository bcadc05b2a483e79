"""What the rays of a detector column have in common, where columns are parallel to z."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tomodask.geometry import VoxelViews

STRAIGHT = 1e-7  # voxels that the detector's axes may stray over its whole width
LEAST_STEP = 0.1  # voxels from row to row along z; closer rows would reach beyond PAD

# what the rays of a detector column have in common: at plane t of the axis that they follow, they
# cross at C + C1 t of the other axis in the plane, and row r at height A + A1 t + (K + K1 t) r; a
# step from plane to plane is sqrt(M + M1 r + M2 r^2) long; they hit no plane but FIRST to STOP
AXIS, FIRST, STOP, C, C1, A, A1, K, K1, M, M1, M2 = range(12)


def columns_of(views: VoxelViews) -> tuple[np.ndarray, np.ndarray]:
    """The views whose columns' rays have these numbers in common, and the numbers.

    Returns
    -------
    fits : (num_angles,) whether a view's columns are parallel to z, its rows perpendicular to it,
        and none of its rays runs closest to z.
    table : (views that fit, columns, 12) float64.
    """
    rows, columns = views.det_shape
    stray = np.maximum(
        rows * np.abs(views.step_v[:, 1:]).max(axis=1), columns * np.abs(views.step_u[:, 0])
    )
    start, ray = _lowest_rays(views)
    z, y, x = np.moveaxis(np.abs(ray), 2, 0)
    top = np.abs(ray[:, :, 0] + (rows - 1) * _climb(views))
    is_steep = (np.maximum(z, top) > np.maximum(x, y)).any(axis=1)
    fits = (stray <= STRAIGHT) & ~is_steep
    table = _table(some_views(views, fits), start[fits], ray[fits])
    first, stop = table[..., FIRST], table[..., STOP]
    ends = [table[..., K] + table[..., K1] * plane for plane in (first, stop - 1)]
    far_apart = ((np.minimum(*ends) >= LEAST_STEP) | (first >= stop)).all(axis=1)
    fits[fits] = far_apart
    return fits, table[far_apart]


def some_views(views: VoxelViews, chosen: np.ndarray) -> VoxelViews:
    """The views that a mask chooses."""
    names = ("source", "first", "step_v", "step_u", "metric")
    return replace(views, **{name: getattr(views, name)[chosen] for name in names})


def _lowest_rays(views: VoxelViews) -> tuple[np.ndarray, np.ndarray]:
    """A point and the direction of the rays to the row of the least z, (angle, column, zyx)."""
    rows, columns = views.det_shape
    pixel = views.first[:, None] + np.arange(columns)[:, None] * views.step_u[:, None]
    pixel[:, :, 0] += (rows - 1) * np.minimum(views.step_v[:, :1], 0)
    source = np.broadcast_to(views.source[:, None], pixel.shape)
    return (source, pixel - source) if views.beam == "cone" else (pixel, source)


def _climb(views: VoxelViews) -> np.ndarray:
    """(num_angles, 1) how much more a ray as long as to the detector rises, from row to row."""
    return np.asarray(np.abs(views.step_v[:, :1]) * (views.beam == "cone"))


def _table(views: VoxelViews, start: np.ndarray, ray: np.ndarray) -> np.ndarray:
    """The numbers of all columns, from their lowest rays."""
    table, metric, is_cone = np.empty((*ray.shape[:2], 12)), views.metric, views.beam == "cone"
    z, y, x = np.moveaxis(ray, 2, 0)
    is_x = np.abs(x) >= np.abs(y)
    along = np.where(is_x, x, y)
    at = np.where(is_x, start[:, :, 2], start[:, :, 1])
    c = np.where(is_x, start[:, :, 1], start[:, :, 2])
    count = np.where(is_x, views.shape[2], views.shape[1])
    forth, back = is_cone & (along > 0), is_cone & (along < 0)
    table[..., AXIS] = np.where(is_x, 2, 1)
    table[..., FIRST] = np.where(forth, np.clip(np.floor(at) + 1, 0, count), 0)
    table[..., STOP] = np.where(back, np.clip(np.ceil(at), 0, count), count)
    table[..., C1], table[..., A1] = np.where(is_x, y, x) / along, z / along
    table[..., C], table[..., A] = c - at * table[..., C1], start[:, :, 0] - at * table[..., A1]
    table[..., K1] = _climb(views) / along
    table[..., K] = -at * table[..., K1] if is_cone else np.abs(views.step_v[:, :1])
    step = ray / along[:, :, None]
    table[..., M] = np.einsum("vua,vab,vub->vu", step, metric, step)
    table[..., M1] = 2 * np.einsum("va,vua->vu", metric[:, 0], step) * table[..., K1]
    table[..., M2] = metric[:, :1, 0] * table[..., K1] ** 2
    return table
