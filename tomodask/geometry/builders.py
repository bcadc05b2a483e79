"""The geometries of real scans in tomosipo's names, with laminography, helices and scattered rays.

All coordinates are (z, y, x). The object rests and the views turn around z, x towards y: at angle 0
the rays run along y, detector rows along z, detector columns along x. So column u of a parallel
beam sees x cos(angle) + y sin(angle) = u. Hendriksen et al. 2021, doi:10.1364/OE.439909.
"""

from __future__ import annotations

import math
from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike

from tomodask.errors import GeometryError
from tomodask.geometry.transforms import rotate, translate
from tomodask.geometry.vectors import (
    to_angles,
    to_counts,
    to_lengths,
    to_positions,
    to_scalars,
    to_vectors,
)
from tomodask.geometry.views import ProjectionGeometry
from tomodask.geometry.volumes import VolumeGeometry

Shape2D = int | tuple[int, int]
Size2D = float | tuple[float, float]
Z, X = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)


def parallel(
    *, angles: int | ArrayLike, shape: Shape2D, size: Size2D | None = None
) -> ProjectionGeometry:
    """A parallel beam around z.

    Parameters
    ----------
    angles : radians, or the number of views spread over half a turn.
    shape : (rows, columns) of the detector, or one number for both.
    size : its height and width, or one number for both; `shape` unless given.

    Raises
    ------
    GeometryError : no angles, angles that are not finite, a detector of no pixels or no size.
    """
    return laminography(angles=_spread(angles, math.pi), shape=shape, size=size, tilt=0.0)


def cone(
    *,
    angles: int | ArrayLike,
    shape: Shape2D,
    size: Size2D | None = None,
    cone_angle: float | None = None,
    src_orig_dist: float | None = None,
    src_det_dist: float | None = None,
) -> ProjectionGeometry:
    """A cone beam whose source and detector go around z on circles.

    Parameters
    ----------
    angles : radians, or the number of views spread over a full turn.
    shape, size : see `parallel`.
    cone_angle : height of the detector over its distance from the source. It stands for both
        distances: the detector's middle is then at the origin.
    src_orig_dist, src_det_dist : from the source to the axis and to the detector; where one is
        not given it equals the other.

    Raises
    ------
    GeometryError : see `parallel`; no distance, a cone angle beside a distance, or one not above 0.
    """
    det_shape, det_size = _detector(shape, size)
    if (cone_angle is None) == (src_orig_dist is None and src_det_dist is None):
        raise GeometryError(
            f"a cone beam needs either cone_angle or src_orig_dist and src_det_dist (or one of "
            f"them), got cone_angle={cone_angle}, src_orig_dist={src_orig_dist}, "
            f"src_det_dist={src_det_dist}"
        )
    if cone_angle is not None:
        src_orig_dist = det_size[0] / to_lengths(cone_angle, 1, "cone_angle")[0]
    return laminography(
        angles=_spread(angles, 2 * math.pi),
        shape=det_shape,
        size=det_size,
        tilt=0.0,
        src_orig_dist=src_det_dist if src_orig_dist is None else src_orig_dist,
        src_det_dist=src_orig_dist if src_det_dist is None else src_det_dist,
    )


def laminography(
    *,
    angles: int | ArrayLike,
    shape: Shape2D,
    size: Size2D | None = None,
    tilt: float,
    src_orig_dist: float | None = None,
    src_det_dist: float | None = None,
) -> ProjectionGeometry:
    """A scan around an axis that leans out of the detector's plane, for flat objects.

    The upper end of the axis leans away from the source by `tilt`, so the rays rise through the
    object, at the angle `tilt` to its x-y plane: (sin tilt, cos tilt, 0) at angle 0. A parallel
    beam, or a cone beam where its distances are given.

    Parameters
    ----------
    angles : radians, or the number of views spread over a full turn.
    shape, size : see `parallel`.
    tilt : radians between the axis and the detector; 0 is the ordinary scan.
    src_orig_dist, src_det_dist : see `cone`; both or none.

    Raises
    ------
    GeometryError : see `parallel` and `cone`; a tilt that is not finite.
    """
    det_shape, det_size = _detector(shape, size)
    height, width = np.array(det_size) / det_shape
    theta = _spread(angles, 2 * math.pi)
    if not (isinstance(tilt, Real) and math.isfinite(tilt)):
        raise GeometryError(f"tilt {tilt!r}: a finite number of radians is needed")
    still = {"shape": det_shape, "det_v": (height, 0, 0), "det_u": (0, 0, width)}
    if src_orig_dist is None and src_det_dist is None:
        view = parallel_vec(ray_dir=(0, 1, 0), det_pos=(0, 0, 0), **still)
    elif src_orig_dist is None or src_det_dist is None:
        raise GeometryError(
            f"src_orig_dist={src_orig_dist}, src_det_dist={src_det_dist}: give both or none"
        )
    else:
        near, far = to_lengths((src_orig_dist, src_det_dist), 2, "src_orig_dist, src_det_dist")
        view = cone_vec(src_pos=(0, -near, 0), det_pos=(0, far - near, 0), **still)
    leaning = rotate(pos=0, axis=X, angles=tilt)
    return rotate(pos=0, axis=Z, angles=theta) * (leaning * view)


def helical(
    *,
    angles: int | ArrayLike,
    shape: Shape2D,
    size: Size2D | None = None,
    src_orig_dist: float,
    src_det_dist: float,
    pitch: float,
) -> ProjectionGeometry:
    """A cone beam on a helix: source and detector rise (or the object sinks) while they go round.

    Parameters
    ----------
    angles : radians, as many turns as you like, or the number of views spread over one.
    shape, size, src_orig_dist, src_det_dist : see `cone`.
    pitch : rise in a full turn; z is 0 halfway between the least and the greatest angle.

    Raises
    ------
    GeometryError : see `cone`; a pitch that is not finite.
    """
    theta = _spread(angles, 2 * math.pi)
    circle = cone(
        angles=theta,
        shape=shape,
        size=size,
        src_orig_dist=src_orig_dist,
        src_det_dist=src_det_dist,
    )
    turns = (theta - (theta.min() + theta.max()) / 2) / (2 * math.pi)
    return translate((1, 0, 0), alpha=to_scalars(pitch, "pitch")[0] * turns) * circle


def scatter(
    *,
    angles: int | ArrayLike,
    shape: Shape2D,
    size: Size2D | None = None,
    two_theta: float,
    azimuth: float = 0.0,
    distance: float,
) -> ProjectionGeometry:
    """Rays that the object scatters out of the beam, on a detector that still faces the beam.

    A grain that diffracts a wide beam is projected along the diffracted rays, not along the beam
    (Ludwig et al. 2008, doi:10.1107/S0021889808001684): parallel rays at the angle `two_theta` to
    the beam, which meet the detector aslant. The detector's middle is where the ray through the
    origin arrives. The path of the beam up to the grain is `parallel` with the same angles.

    Parameters
    ----------
    angles : radians, or the number of views spread over a full turn.
    shape, size : see `parallel`.
    two_theta : radians between the beam and the scattered rays, below a quarter turn; one number
        or one a view.
    azimuth : radians around the beam: 0 scatters towards later columns (+x at angle 0), a quarter
        turn towards later rows (+z); one number or one a view.
    distance : from the rotation axis to the detector, along the beam.

    Raises
    ------
    GeometryError : see `parallel`; an angle of a quarter turn or more; lists of other lengths.
    """
    theta = _spread(angles, 2 * math.pi)
    bragg, around = to_scalars(two_theta, "two_theta"), to_scalars(azimuth, "azimuth")
    if not (np.abs(bragg) < math.pi / 2).all():
        raise GeometryError(
            f"two_theta {two_theta!r}: below a quarter turn, or the rays miss the detector"
        )
    straight = parallel(angles=0.0, shape=shape, size=size)
    side = np.tan(bragg)
    ray = np.stack(np.broadcast_arrays(side * np.sin(around), 1.0, side * np.cos(around)), axis=1)
    view = parallel_vec(
        shape=straight.det_shape,
        ray_dir=ray / np.linalg.norm(ray, axis=1, keepdims=True),
        det_pos=to_lengths(distance, 1, "distance") * ray,
        det_v=straight.det_v,
        det_u=straight.det_u,
    )
    return rotate(pos=0, axis=Z, angles=theta) * view


def posed(
    projections: ProjectionGeometry,
    *,
    row_shifts: ArrayLike = 0,
    column_shifts: ArrayLike = 0,
    along: ArrayLike = 0,
    roll: ArrayLike = 0,
    pitch: ArrayLike = 0,
    yaw: ArrayLike = 0,
) -> ProjectionGeometry:
    """The same source with a detector that is off, six degrees of freedom a view.

    The detector is turned around its middle, then shifted along the axes it had before; each is
    one number or one a view. For the object see `rigid`; for a source that jitters
    `dataclasses.replace(projections, source=...)`.

    Parameters
    ----------
    row_shifts, column_shifts : detector rows and columns.
    along : length along the normal, away from the source.
    roll : radians around the normal that points away from the source, right-handed.
    pitch, yaw : radians around the direction of the columns' step (det_u) and the rows' (det_v),
        right-handed; first yaw, then pitch, then roll, all around the axes it had before.

    Raises
    ------
    GeometryError : lists of other lengths than the views, numbers that are not finite.
    """
    normal = projections.det_normal / np.linalg.norm(projections.det_normal, axis=1)[:, None]
    downstream = np.sign(np.einsum("va,va->v", normal, projections.central_rays()))
    normal = downstream[:, None] * normal
    given = {
        "row_shifts": row_shifts,
        "column_shifts": column_shifts,
        "along": along,
        "roll": roll,
        "pitch": pitch,
        "yaw": yaw,
    }
    views = projections.num_angles
    per_view = {}
    for name, values in given.items():
        scalars = to_scalars(values, name)
        if len(scalars) not in (1, views):
            raise GeometryError(f"{len(scalars)} {name} for {views} views: give 1 or {views}")
        per_view[name] = np.broadcast_to(scalars, views)
    turn = (
        rotate(axis=normal, angles=per_view["roll"])
        * rotate(axis=projections.det_u, angles=per_view["pitch"])
        * rotate(axis=projections.det_v, angles=per_view["yaw"])
    )
    moved = (
        per_view["row_shifts"][:, None] * projections.det_v
        + per_view["column_shifts"][:, None] * projections.det_u
        + per_view["along"][:, None] * normal
    )
    return ProjectionGeometry(
        projections.beam,
        projections.det_shape,
        projections.source,
        projections.det_pos + moved,
        turn.transform_vec(projections.det_v),
        turn.transform_vec(projections.det_u),
    )


def parallel_vec(
    *,
    shape: Shape2D,
    ray_dir: ArrayLike,
    det_pos: ArrayLike,
    det_v: ArrayLike,
    det_u: ArrayLike,
) -> ProjectionGeometry:
    """Any parallel beam, from vectors (z, y, x), one for all views or one a view.

    shape : (rows, columns); ray_dir : which way the rays run; det_pos : middle of the detector;
    det_v, det_u : steps from one row, and from one column, to the next.
    """
    rows, columns = to_counts(shape, 2, "detector shape")
    vectors = [to_vectors(v, n) for n, v in (("det_pos", det_pos), ("v", det_v), ("u", det_u))]
    return ProjectionGeometry("parallel", (rows, columns), to_vectors(ray_dir, "ray_dir"), *vectors)


def cone_vec(
    *,
    shape: Shape2D,
    src_pos: ArrayLike,
    det_pos: ArrayLike,
    det_v: ArrayLike,
    det_u: ArrayLike,
) -> ProjectionGeometry:
    """Any cone beam, from vectors as in `parallel_vec`; src_pos : where the source is."""
    rows, columns = to_counts(shape, 2, "detector shape")
    vectors = [to_vectors(v, n) for n, v in (("det_pos", det_pos), ("v", det_v), ("u", det_u))]
    return ProjectionGeometry("cone", (rows, columns), to_vectors(src_pos, "src_pos"), *vectors)


def volume_vec(
    *,
    shape: int | tuple[int, int, int],
    pos: ArrayLike = 0,
    w: ArrayLike = (1.0, 0.0, 0.0),
    v: ArrayLike = (0.0, 1.0, 0.0),
    u: ArrayLike = (0.0, 0.0, 1.0),
) -> VolumeGeometry:
    """Any volume, from its middle and the steps between voxels along its z, y and x."""
    nz, ny, nx = to_counts(shape, 3, "volume shape")
    axes = [to_vectors(vector, name) for name, vector in (("w", w), ("v", v), ("u", u))]
    return VolumeGeometry((nz, ny, nx), to_positions(pos, "pos"), *axes)


def _detector(shape: Shape2D, size: Size2D | None) -> tuple[tuple[int, int], tuple[float, float]]:
    rows, columns = to_counts(shape, 2, "detector shape")
    height, width = to_lengths((rows, columns) if size is None else size, 2, "detector size")
    return (rows, columns), (float(height), float(width))


def _spread(angles: int | ArrayLike, arc: float) -> np.ndarray:
    """Radians; a whole number is that of the views, spread evenly over the arc without its end."""
    if isinstance(angles, Integral) and not isinstance(angles, bool):
        if angles < 1:
            raise GeometryError(f"{angles} angles: at least 1 view is needed")
        return np.linspace(0, arc, int(angles), endpoint=False)
    return to_angles(angles)
