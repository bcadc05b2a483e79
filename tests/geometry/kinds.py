"""Geometries of every kind, and what it means that two pairs of volume and views project alike."""

import numpy as np

from tomodask.geometry import (
    ProjectionGeometry,
    cone,
    cone_vec,
    helical,
    in_voxels,
    laminography,
    parallel,
    posed,
    scatter,
)


def kinds() -> dict[str, ProjectionGeometry]:
    """Views of a volume of about 7 x 8 x 9 voxels of length 1, each kind as small as it shows."""
    jitter = np.random.default_rng(3).normal(size=(6, 8))
    flat = {"shape": (5, 6), "size": (10, 12)}
    far = {"src_orig_dist": 25.0, "src_det_dist": 40.0}
    return {
        "parallel": parallel(angles=8, **flat),
        "cone": cone(angles=8, **flat, **far),
        "laminography": laminography(angles=8, **flat, tilt=0.5),
        "laminography_cone": laminography(angles=8, **flat, tilt=0.5, **far),
        "helical": helical(angles=np.linspace(-6, 6, 8), **flat, **far, pitch=4),
        "scatter": scatter(angles=8, **flat, two_theta=0.3, azimuth=0.7, distance=20),
        "posed_parallel": posed(
            parallel(angles=8, **flat),
            row_shifts=jitter[0],
            column_shifts=jitter[1],
            along=jitter[2],
            roll=0.1 * jitter[3],
            pitch=0.1 * jitter[4],
            yaw=0.1 * jitter[5],
        ),
        "posed_cone": posed(
            cone(angles=8, **flat, **far),
            row_shifts=jitter[0],
            column_shifts=jitter[1],
            along=jitter[2],
            roll=0.1 * jitter[3],
            pitch=0.1 * jitter[4],
            yaw=0.1 * jitter[5],
        ),
        "cone_vec": cone_vec(
            shape=(4, 6),
            src_pos=np.stack([5 * jitter[0], -20 + jitter[1], jitter[2]], axis=1),
            det_pos=np.stack([jitter[3], 15 + jitter[4], jitter[5]], axis=1),
            det_v=(2, 0.3, 0.2),
            det_u=(-0.1, 0.2, 2.2),
        ),
    }


def same_lines(one, other) -> bool:
    """Whether two `VoxelViews` project alike: the pixels' rays are the same lines in the volume.

    Two detectors may stand at different places on the same rays.
    """
    for view in range(one.num_angles):
        near, far = one.pixels(view), other.pixels(view)
        ray = one.rays(view) / np.linalg.norm(one.rays(view), axis=-1, keepdims=True)
        ray_there = other.rays(view) / np.linalg.norm(other.rays(view), axis=-1, keepdims=True)
        along = np.abs(np.sum(ray * ray_there, axis=-1))
        off = (far - near) - np.sum((far - near) * ray, axis=-1, keepdims=True) * ray
        if not (np.allclose(along, 1, atol=1e-9) and np.allclose(off, 0, atol=1e-7)):
            return False
    return True


def alike(one: tuple, other: tuple) -> bool:
    """Whether two (volume, projections) give the same line integrals, lengths included."""
    first, second = in_voxels(*one), in_voxels(*other)
    return same_lines(first, second) and np.allclose(first.metric, second.metric)
