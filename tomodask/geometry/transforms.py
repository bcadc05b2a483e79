"""Motions of volumes and views: affine maps of the world, one or a path of them, that compose.

    T = translate((0, 0, 5)) * rotate(pos=0, axis=(1, 0, 0), angles=path)
    T * volume, T * projections, T.inv, T[k]

`T1 * T2` moves by T2 first. To move the object by T is to move source and detector by T.inv.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike

from tomodask.errors import GeometryError
from tomodask.geometry.vectors import to_angles, to_positions, to_scalars, to_vectors
from tomodask.geometry.views import VECTORS, ProjectionGeometry
from tomodask.geometry.volumes import VolumeGeometry


@dataclass(frozen=True, eq=False)
class Transform:
    """An affine map a step: point (z, y, x, 1) -> matrix @ point.

    matrix : (num_steps, 4, 4), or one (4, 4); the last row is (0, 0, 0, 1).

    Raises
    ------
    GeometryError : another shape or last row, numbers that are not finite, or a map that flattens
        space.
    """

    matrix: np.ndarray

    def __post_init__(self) -> None:
        matrix = np.array(self.matrix, dtype=np.float64, ndmin=3)
        if matrix.ndim != 3 or matrix.shape[1:] != (4, 4) or len(matrix) == 0:
            raise GeometryError(
                f"a transform of shape {np.shape(self.matrix)}: (num_steps, 4, 4) is expected"
            )
        if not np.isfinite(matrix).all() or (matrix[:, 3] != (0, 0, 0, 1)).any():
            raise GeometryError(
                f"a transform needs finite numbers and the last row (0, 0, 0, 1), got {matrix}"
            )
        linear = matrix[:, :3, :3]
        flat = np.abs(np.linalg.det(linear)) <= 1e-12 * np.linalg.norm(linear, axis=2).prod(axis=1)
        if flat.any():
            step = int(np.flatnonzero(flat)[0])
            raise GeometryError(
                f"the transform of step {step} flattens space and has no inverse: {linear[step]}"
            )
        matrix.flags.writeable = False
        object.__setattr__(self, "matrix", matrix)

    @property
    def num_steps(self) -> int:
        return len(self.matrix)

    def __len__(self) -> int:
        return self.num_steps

    @property
    def inv(self) -> Transform:
        """The transform that takes everything back."""
        back = np.linalg.inv(self.matrix)
        back[:, 3] = (0, 0, 0, 1)
        return Transform(back)

    def __getitem__(self, steps: int | slice | np.ndarray) -> Transform:
        """Some of the steps: `T[k]`, `T[k::4]`."""
        chosen = self.matrix[[steps] if isinstance(steps, int | np.integer) else steps]
        if len(chosen) == 0:
            raise GeometryError(f"{steps!r} chooses none of {self.num_steps} steps")
        return Transform(chosen)

    def transform_point(self, points: ArrayLike) -> np.ndarray:
        """(num_steps, 3) where points (z, y, x) come to lie, one a step or the same for all."""
        return np.asarray(self.transform_vec(points) + self.matrix[:, :3, 3])

    def transform_vec(self, vectors: ArrayLike) -> np.ndarray:
        """(num_steps, 3) directions or distances after the map: shifts do not act on them."""
        given = to_vectors(vectors, "vectors")
        _common_length(self.num_steps, len(given), "the transform", "the vectors")
        return np.asarray((self.matrix[:, :3, :3] @ given[:, :, None])[:, :, 0])

    @overload
    def __mul__(self, other: Transform) -> Transform: ...
    @overload
    def __mul__(self, other: VolumeGeometry) -> VolumeGeometry: ...
    @overload
    def __mul__(self, other: ProjectionGeometry) -> ProjectionGeometry: ...
    def __mul__(
        self, other: Transform | VolumeGeometry | ProjectionGeometry
    ) -> Transform | VolumeGeometry | ProjectionGeometry:
        """After another transform, or applied to a volume or to views, step by step.

        One step serves any number; otherwise both must have as many.
        """
        if isinstance(other, Transform):
            _common_length(self.num_steps, other.num_steps, "one transform", "the other")
            return Transform(self.matrix @ other.matrix)
        if isinstance(other, VolumeGeometry):
            _common_length(self.num_steps, other.num_steps, "the transform", "the volume")
            axes: dict[str, Any] = {n: self.transform_vec(getattr(other, n)) for n in "wvu"}
            return replace(other, pos=self.transform_point(other.pos), **axes)
        if isinstance(other, ProjectionGeometry):
            _common_length(self.num_steps, other.num_angles, "the transform", "the views")
            # a source is a place, the rays of a parallel beam are a direction
            moved = self.transform_point if other.is_cone else self.transform_vec
            return replace(
                other,
                source=moved(other.source),
                det_pos=self.transform_point(other.det_pos),
                det_v=self.transform_vec(other.det_v),
                det_u=self.transform_vec(other.det_u),
            )
        return NotImplemented


def identity() -> Transform:
    """The transform that moves nothing."""
    return Transform(np.eye(4))


def translate(axis: ArrayLike, *, alpha: ArrayLike = 1) -> Transform:
    """Shift by alpha * axis.

    axis : (z, y, x) or a list of them; alpha : a number or a list of them. Either list makes a path
        of as many steps.
    """
    shifts = to_vectors(axis, "axis") * to_scalars(alpha, "alpha")[:, None]
    return _affine(np.eye(3), shifts)


def rotate(
    *,
    pos: ArrayLike = 0,
    axis: ArrayLike,
    angles: ArrayLike | None = None,
    rad: ArrayLike | None = None,
    deg: ArrayLike | None = None,
    right_handed: bool = True,
) -> Transform:
    """Turn around `axis` through `pos` by `angles` (or `rad`), in radians, or by `deg`.

    Right-handed in (x, y, z): around z it turns x towards y, around x it turns y towards z. A list
    of positions, axes or angles makes a path of as many steps.

    Raises
    ------
    GeometryError : none or more than one of angles, rad and deg; an axis of no length; lists of
        different lengths.
    """
    given = [values for values in (angles, rad, deg) if values is not None]
    if len(given) != 1:
        raise GeometryError(f"give one of angles, rad and deg to rotate by, got {len(given)}")
    theta = to_angles(given[0]) if deg is None else np.deg2rad(to_angles(given[0]))
    directions = _unit(axis, "axis")
    if not right_handed:
        theta = -theta
    # Rodrigues' formula; (z, y, x) is a left-handed order of axes: the cross product changes sign
    z, y, x = directions.T
    zero = np.zeros_like(z)
    cross = np.stack([zero, x, -y, -x, zero, z, y, -z, zero], axis=1).reshape(-1, 3, 3)
    _common_length(len(theta), len(cross), "angles", "axis")
    cos, sin = np.cos(theta)[:, None, None], np.sin(theta)[:, None, None]
    along = directions[:, :, None] * directions[:, None]
    return _around(pos, along + cos * (np.eye(3) - along) + sin * cross)


def scale(scale: ArrayLike, *, pos: ArrayLike = 0, alpha: ArrayLike = 1) -> Transform:
    """Stretch by alpha * scale around `pos`.

    scale : one factor, (z, y, x) factors, or a list of these; alpha : a number or a list of them.
    """
    factors = to_positions(scale, "scale")
    return _around(pos, (factors * to_scalars(alpha, "alpha")[:, None])[:, :, None] * np.eye(3))


def reflect(*, pos: ArrayLike = 0, axis: ArrayLike) -> Transform:
    """Mirror in the plane through `pos` that is perpendicular to `axis`."""
    normal = _unit(axis, "axis")
    return _around(pos, np.eye(3) - 2 * normal[:, :, None] * normal[:, None])


def rigid(*, shifts: ArrayLike = 0, rotations: ArrayLike = 0, pos: ArrayLike = 0) -> Transform:
    """The six degrees of freedom of a body, a step a view: turned around `pos`, then shifted.

    shifts : (num_angles, 3) lengths along z, y and x.
    rotations : (num_angles, 3) rotation vectors: radians times the unit axis (z, y, x) of the
        turn, right-handed; for small turns the angles around z, y and x.
    """
    turns = to_positions(rotations, "rotations")
    angles = np.linalg.norm(turns, axis=1)
    axes = np.where(angles[:, None] > 0, turns, (1.0, 0.0, 0.0))
    turn = rotate(pos=pos, axis=axes, angles=angles)
    return translate(to_positions(shifts, "shifts")) * turn


def to_perspective(
    *,
    pos: ArrayLike | None = None,
    w: ArrayLike | None = None,
    v: ArrayLike | None = None,
    u: ArrayLike | None = None,
    vol: VolumeGeometry | None = None,
    ignore_scale: bool = True,
) -> Transform:
    """From coordinates in a frame to those of the world.

    pos, w, v, u : the frame's origin and its axes, or `vol`, a volume that has them.
    ignore_scale : the axes' directions count, their lengths do not: turned and shifted, not
        stretched.
    """
    frame = {"pos": pos, "w": w, "v": v, "u": u}
    if vol is not None:
        frame = {name: getattr(vol, name) for name in frame}
    missing = [name for name, values in frame.items() if values is None]
    if missing:
        raise GeometryError(f"a perspective needs pos, w, v and u, or vol: {missing} not given")
    axes = [_unit(frame[n], n) if ignore_scale else to_vectors(frame[n], n) for n in "wvu"]  # type: ignore[arg-type]
    origin = to_positions(frame["pos"], "pos")  # type: ignore[arg-type]
    steps = max(map(len, (origin, *axes)))
    columns = np.stack([np.broadcast_to(axis, (steps, 3)) for axis in axes], axis=2)
    return _affine(columns, origin)


def from_perspective(
    *,
    pos: ArrayLike | None = None,
    w: ArrayLike | None = None,
    v: ArrayLike | None = None,
    u: ArrayLike | None = None,
    vol: VolumeGeometry | None = None,
    ignore_scale: bool = True,
) -> Transform:
    """From coordinates of the world to those in a frame: the inverse of `to_perspective`."""
    return to_perspective(pos=pos, w=w, v=v, u=u, vol=vol, ignore_scale=ignore_scale).inv


Item = TypeVar("Item", Transform, VolumeGeometry, ProjectionGeometry)


def concatenate(items: Sequence[Item]) -> Item:
    """The steps of transforms, volumes or views, one after the other.

    Raises
    ------
    GeometryError : nothing to join, kinds that differ, or volumes or detectors of different shapes.
    """
    kinds = {type(item) for item in items}
    if len(kinds) != 1 or not kinds <= {Transform, VolumeGeometry, ProjectionGeometry}:
        raise GeometryError(
            f"concatenate joins transforms, volumes or projections of one kind, got "
            f"{sorted(kind.__name__ for kind in kinds) or 'nothing'}"
        )
    first = items[0]
    if isinstance(first, Transform):
        return replace(first, matrix=np.concatenate([item.matrix for item in items]))
    likes = ("shape",) if isinstance(first, VolumeGeometry) else ("det_shape", "beam")
    for name in likes:
        found = [getattr(item, name) for item in items]
        if any(value != found[0] for value in found):
            raise GeometryError(f"only geometries of one {name} can be joined, got {found}")
    names = ("pos", "w", "v", "u") if isinstance(first, VolumeGeometry) else VECTORS
    joined: dict[str, Any] = {
        n: np.concatenate([getattr(item, n) for item in items]) for n in names
    }
    return replace(first, **joined)


def _affine(linear: np.ndarray, shifts: np.ndarray) -> Transform:
    """Transforms from (num_steps, 3, 3) or (3, 3), and (num_steps, 3)."""
    linear = np.broadcast_to(linear, (len(shifts) if linear.ndim == 2 else len(linear), 3, 3))
    steps = _common_length(len(linear), len(shifts), "the axes", "the shifts")
    matrix = np.tile(np.eye(4), (steps, 1, 1))
    matrix[:, :3, :3], matrix[:, :3, 3] = linear, shifts
    return Transform(matrix)


def _around(pos: ArrayLike, linear: np.ndarray) -> Transform:
    """A linear map that leaves `pos` where it is."""
    fixed = to_positions(pos, "pos")
    _common_length(len(fixed), len(linear), "pos", "the map around it")
    return _affine(linear, fixed - (linear @ fixed[:, :, None])[:, :, 0])


def _unit(values: ArrayLike, name: str) -> np.ndarray:
    vectors = to_vectors(values, name)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not lengths.all():
        raise GeometryError(f"{name} {values!r}: a direction of some length is needed")
    return np.asarray(vectors / lengths)


def _common_length(one: int, other: int, one_name: str, other_name: str) -> int:
    if one != other and 1 not in (one, other):
        raise GeometryError(
            f"{one_name} has {one} steps and {other_name} {other}: they must have as many, or one 1"
        )
    return max(one, other)
