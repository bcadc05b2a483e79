"""The circle that the source of a cone beam runs on around the object, read off its views."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tomodask.errors import GeometryError
from tomodask.geometry import ProjectionGeometry, VolumeGeometry, in_voxels

OFF_ORBIT = 0.05  # of the radius, and radians: what an approximate reconstruction can bear


@dataclass(frozen=True, eq=False)
class Orbit:
    """A source on a circle, before a detector whose columns are parallel to the axis.

    source, normal : (num_angles, 3) where it is, and which way the detector looks from there.
    angles : (num_angles,) of the source around the axis, radians.
    fan_angles : (columns,) of the rays around the axis's direction, 0 through the axis and positive
        the way that the angles grow, radians; the average of all views.
    axis_distance, det_distance : (num_angles,) from the source along the detector's normal, to the
        axis and to the detector.
    row_pitch, column_pitch : (num_angles,) of the pixels.
    squares : (1 or num_angles, 6) squared lengths of rays to row v and column u as factors of
        1, v, u, v^2, u^2 and u v; once where all views have the same.
    """

    source: np.ndarray
    normal: np.ndarray
    angles: np.ndarray
    fan_angles: np.ndarray
    axis_distance: np.ndarray
    det_distance: np.ndarray
    row_pitch: np.ndarray
    column_pitch: np.ndarray
    squares: np.ndarray

    def obliquity(self, row: int, before: int = 0, after: int = 0) -> np.ndarray:
        """Cosines of the rays to a row with the detector's normal.

        (1 or num_angles, columns) float32, with as many columns more before and after.
        """
        one, v, u, vv, uu, uv = self.squares.T[:, :, None]
        column = np.arange(-before, self.fan_angles.size + after)
        square = one + row * (v + row * vv) + column * (u + row * uv + column * uu)
        distance = self.det_distance[: len(self.squares), None]
        return np.asarray((distance / np.sqrt(square)).astype(np.float32))


def orbit_of(volume: VolumeGeometry, projections: ProjectionGeometry) -> Orbit:
    """The orbit of the source as seen from the volume, which may turn instead.

    Raises
    ------
    GeometryError : a parallel beam, fewer than three views, a volume that is deformed between
        views, a source that leaves a circle by more than `OFF_ORBIT` of its radius, or a detector
        that leans on its axis by more than that.
    """
    if projections.is_parallel:
        raise GeometryError(
            "a parallel beam has no source on an orbit: a cone beam is expected (FBP is for "
            "parallel beams)"
        )
    source, first, det_v, det_u = _at_rest(volume, projections)
    axis, center = _circle(source, det_v)
    height, width = np.linalg.norm(det_v, axis=1), np.linalg.norm(det_u, axis=1)
    off_axis = np.linalg.norm(np.cross(det_v, axis), axis=1) / height, np.abs(det_u @ axis) / width
    lean = np.arcsin(np.minimum(np.maximum(*off_axis), 1))
    if lean.max() > OFF_ORBIT:
        raise GeometryError(
            f"the detector of view {lean.argmax()} leans on the axis of the orbit by "
            f"{np.rad2deg(lean.max()):.2f} degrees: columns parallel to it are expected, to "
            f"{np.rad2deg(OFF_ORBIT):.2f} degrees (iterative algorithms take any geometry)"
        )
    outward = source - center
    outward -= np.outer(outward @ axis, axis)
    east = outward[0] / np.linalg.norm(outward[0])
    north = np.cross(axis, east)
    angles = np.arctan2(outward @ north, outward @ east)
    forth = np.outer(np.cos(angles), north) - np.outer(np.sin(angles), east)
    normal = np.cross(det_u, det_v)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    to_first = first - source
    det_distance = np.einsum("va,va->v", to_first, normal)
    normal *= np.sign(det_distance)[:, None]
    return Orbit(
        source=source,
        normal=normal,
        angles=angles,
        fan_angles=_fan_angles(to_first, det_u, projections.det_shape[1], outward, forth),
        axis_distance=-np.einsum("va,va->v", outward, normal),
        det_distance=np.abs(det_distance),
        row_pitch=height,
        column_pitch=width,
        squares=_squares(to_first, det_v, det_u),
    )


def _at_rest(
    volume: VolumeGeometry, projections: ProjectionGeometry
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Source, first pixel, det_v and det_u of each view, as from the volume's first step."""
    views = in_voxels(volume, projections)
    change = np.abs(views.metric - views.metric[:1]).max()
    if change > 1e-9 * np.abs(views.metric).max():
        raise GeometryError(
            "the volume is deformed from view to view: one that rests, turns or moves is expected"
        )
    axes, origin = volume.axes[0], volume.first[0]
    return (
        views.source @ axes + origin, views.first @ axes + origin,
        views.step_v @ axes, views.step_u @ axes,
    )  # fmt: skip


def _circle(source: np.ndarray, det_v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Axis and middle of the circle nearest to the sources, around the mean of det_v."""
    if len(source) < 3:
        raise GeometryError(f"{len(source)} views: an orbit needs 3 at least")
    axis = det_v.sum(axis=0) / max(float(np.linalg.norm(det_v.sum(axis=0))), 1e-300)
    flat = source - np.outer(source @ axis, axis)
    # |s|^2 = 2 s.c + (r^2 - |c|^2) is linear in the middle c; the least of all c has no part along
    # the axis, where s has none
    middle = flat.mean(axis=0)
    moved = flat - middle
    system = np.column_stack([2 * moved, np.ones(len(flat))])
    found = np.linalg.lstsq(system, np.einsum("va,va->v", moved, moved), rcond=1e-9)[0]
    center = middle + found[:3] - (found[:3] @ axis) * axis
    distance = np.linalg.norm(flat - center, axis=1)
    radius = float(distance.mean())
    height = source @ axis
    off = max(float(np.abs(distance - radius).max()), float(np.ptp(height)) / 2)
    if not off <= OFF_ORBIT * radius:
        raise GeometryError(
            f"the source leaves a circle of radius {radius:.4g} by {off:.3g}: at most "
            f"{OFF_ORBIT:g} of the radius is expected (iterative algorithms take any geometry)"
        )
    return axis, center


def _fan_angles(
    to_first: np.ndarray, det_u: np.ndarray, columns: int, outward: np.ndarray, forth: np.ndarray
) -> np.ndarray:
    """(columns,) angles of the rays around the axis, of the average view."""
    inward = -outward / np.linalg.norm(outward, axis=1, keepdims=True)
    u = np.arange(columns)

    def part(along: np.ndarray) -> np.ndarray:
        start, step = (np.einsum("va,va->v", each, along) for each in (to_first, det_u))
        return np.asarray(start[:, None] + u * step[:, None])

    return np.asarray(np.arctan2(part(forth), part(inward)).mean(axis=0))


def _squares(to_first: np.ndarray, det_v: np.ndarray, det_u: np.ndarray) -> np.ndarray:
    pairs = [
        (to_first, to_first, 1), (to_first, det_v, 2), (to_first, det_u, 2),
        (det_v, det_v, 1), (det_u, det_u, 1), (det_v, det_u, 2),
    ]  # fmt: skip
    squares = np.stack([n * np.einsum("va,va->v", a, b) for a, b, n in pairs], axis=1)
    change = np.ptp(squares, axis=0)
    same = change <= 1e-9 * np.abs(squares[:, [0, 3, 4]]).max(axis=0).sum()
    return squares[:1] if same.all() else squares
