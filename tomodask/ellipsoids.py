"""Ellipsoids: objects in the world whose projections are known exactly, in any geometry.

An ellipsoid is what a linear map makes of the unit ball: p = middle + q @ half_axes, |q| <= 1. The
inverse takes a ray p(t) = start + t direction to a ray a + t b through the ball, which it meets
where |a + t b| = 1. With the ray's point nearest to the ball's middle at t0 = -a.b / b.b, and its
distance from there h = |a + t0 b|, that is t0 -+ sqrt(1 - h^2) / |b|. The line integral is the
interval of t times the length of `direction` in the world (Kak and Slaney 1988, chapter 3,
doi:10.1137/1.9780898719277, for ellipses and the Shepp-Logan head).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tomodask.errors import GeometryError, InputError
from tomodask.geometry.vectors import to_vectors
from tomodask.geometry.views import ProjectionGeometry
from tomodask.geometry.volumes import VolumeGeometry


@dataclass(frozen=True, eq=False)
class Ellipsoids:
    """Ellipsoids in the world; where they overlap their values add up.

    middle : (number, 3), (z, y, x).
    half_axes : (number, 3, 3), a vector (z, y, x) from the middle to the surface in each row.
    value : (number,) what each adds, 1/length of the world.

    Raises
    ------
    GeometryError : shapes that differ, numbers that are not finite, an ellipsoid that is flat.
    """

    middle: np.ndarray
    half_axes: np.ndarray
    value: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "middle", to_vectors(self.middle, "middle of the ellipsoids"))
        half_axes = np.array(self.half_axes, dtype=np.float64)
        value = np.array(self.value, dtype=np.float64, ndmin=1)
        number = len(self.middle)
        if half_axes.shape != (number, 3, 3) or value.shape != (number,):
            raise GeometryError(
                f"half_axes of shape {half_axes.shape} and values of shape {value.shape} for "
                f"{number} ellipsoids: ({number}, 3, 3) and ({number},) are expected"
            )
        if not np.isfinite(value).all() or not (np.abs(np.linalg.det(half_axes)) > 0).all():
            raise GeometryError(
                f"values {value} and half axes of volumes {np.linalg.det(half_axes)}: finite "
                "values and axes in three directions are needed"
            )
        object.__setattr__(self, "half_axes", half_axes)
        object.__setattr__(self, "value", value)

    @property
    def mass(self) -> float:
        """The sum of value times volume: what the voxels of a volume around them all sum to."""
        volumes = 4 / 3 * np.pi * np.abs(np.linalg.det(self.half_axes))
        return float((self.value * volumes).sum())

    def line_integrals(
        self,
        projections: ProjectionGeometry,
        volume: VolumeGeometry | None = None,
        supersampling: int = 1,
    ) -> np.ndarray:
        """Integrals along the rays, exact; (row, angle, column) float32.

        volume : a volume that moves and carries the ellipsoids along; they are where they are said
            to be at its first step.
        supersampling : rays a pixel in both directions, whose average is taken; 1 is the ray to the
            pixel's middle.
        """
        _check_sampling(supersampling)
        num_angles = max(projections.num_angles, 1 if volume is None else volume.num_steps)
        rows, columns = projections.det_shape
        results = np.empty((rows, num_angles, columns), np.float32)
        for view in range(num_angles):
            start, direction = _rays(projections, view, supersampling)
            length = np.linalg.norm(direction, axis=-1)
            if volume is not None:
                start, direction = _in_first_step(volume, view, start, direction)
            first = 0.0 if projections.is_cone else -np.inf  # nothing behind the source counts
            seen = np.zeros(start.shape[:-1])
            for which, value in enumerate(self.value):
                enter, leave = self._meet(which, start, direction)
                seen += value * (np.maximum(leave, first) - np.maximum(enter, first)) * length
            fine = seen.reshape(rows, supersampling, columns, supersampling)
            results[:, view] = fine.mean(axis=(1, 3))
        return results

    def volume(self, volume: VolumeGeometry, supersampling: int = 4) -> np.ndarray:
        """Averages over each voxel of a volume at its first step, (z, y, x) float32.

        Exact along the voxels' x, from `supersampling` x `supersampling` lines in their z and y.
        """
        _check_sampling(supersampling)
        nz, ny, nx = volume.shape
        w, v, u = volume.axes[0]
        averages = np.empty(volume.shape, np.float32)
        y = _fine(ny, supersampling)[:, None] * v
        edges = np.arange(nx + 1) - 0.5
        for z in range(nz):
            start = volume.first[0] + (z + _fine(1, supersampling)[:, None, None]) * w + y
            row = np.zeros((ny, nx))
            for which, value in enumerate(self.value):
                enter, leave = self._meet(which, start, np.broadcast_to(u, start.shape))
                passed = np.clip(edges, enter[..., None], leave[..., None])
                covered = np.diff(passed, axis=-1).reshape(supersampling, ny, supersampling, nx)
                row += value * covered.mean(axis=(0, 2))
            averages[z] = row
        return averages

    def _meet(
        self, which: int, start: np.ndarray, direction: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """t where rays enter and leave an ellipsoid, the same where they miss it."""
        to_ball = np.linalg.inv(self.half_axes[which])
        a, b = (start - self.middle[which]) @ to_ball, direction @ to_ball
        squared = (b * b).sum(axis=-1)
        nearest = -(a * b).sum(axis=-1) / squared
        distance = np.linalg.norm(a + nearest[..., None] * b, axis=-1)
        half = np.sqrt(np.maximum(1 - distance**2, 0) / squared)
        return nearest - half, nearest + half


def aligned_ellipsoids(middle: ArrayLike, radius: ArrayLike, value: ArrayLike) -> Ellipsoids:
    """Ellipsoids whose axes are those of the world, balls among them.

    middle : (number, 3), (z, y, x). radius : (number, 3) along z, y and x, or (number,) for balls.
    value : (number,).
    """
    middles = to_vectors(middle, "middle of the ellipsoids")
    radii = np.array(radius, dtype=np.float64)
    radii = np.broadcast_to(radii[..., None] if radii.ndim < 2 else radii, middles.shape)
    return Ellipsoids(middles, radii[:, :, None] * np.eye(3), np.asarray(value))


def chiral_ellipsoids(radius: float = 40.0) -> Ellipsoids:
    """Unequal ellipsoids in a ball of `radius`: no rotation turns its mirror image into it."""
    middle = np.array([(0, 0, 0), (0.2, -0.3, -0.45), (-0.4, -0.35, 0.4), (0.45, 0.45, 0.25)])
    axes = np.array([np.eye(3), TURNED @ np.diag([0.2, 0.3, 0.15]), 0.2 * np.eye(3), 0.12 * TURNED])
    return Ellipsoids(radius * middle, radius * axes, np.array([0.01, 0.02, 0.01, 0.03]))


# rows are three directions at right angles, none along an axis
TURNED = np.array([(2.0, -2.0, 1.0), (1.0, 2.0, 2.0), (-2.0, -1.0, 2.0)]) / 3


def _rays(
    projections: ProjectionGeometry, view: int, supersampling: int
) -> tuple[np.ndarray, np.ndarray]:
    """Start and direction of the rays of a view, (fine rows, fine columns, 3)."""
    chosen = view if projections.num_angles > 1 else 0
    rows, columns = projections.det_shape
    v = _fine(rows, supersampling)[:, None, None] * projections.det_v[chosen]
    u = _fine(columns, supersampling)[:, None] * projections.det_u[chosen]
    pixels = projections.first[chosen] + v + u
    source = np.broadcast_to(projections.source[chosen], pixels.shape)
    return (source, pixels - source) if projections.is_cone else (pixels, source)


def _fine(count: int, supersampling: int) -> np.ndarray:
    """Middles of the parts of `count` pixels, in pixels, 0 the middle of the first pixel."""
    return (np.arange(count * supersampling) + 0.5) / supersampling - 0.5


def _in_first_step(
    volume: VolumeGeometry, view: int, start: np.ndarray, direction: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rays as they pass the volume at its first step; t of a point on them is the same."""
    step = view if volume.num_steps > 1 else 0
    turn = np.linalg.inv(volume.axes[step]) @ volume.axes[0]
    return (start - volume.first[step]) @ turn + volume.first[0], direction @ turn


def _check_sampling(supersampling: int) -> None:
    if supersampling < 1:
        raise InputError(f"supersampling={supersampling}: at least 1 is needed")
