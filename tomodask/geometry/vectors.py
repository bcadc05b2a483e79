"""Lists of vectors (z, y, x), one a view, as the geometries keep them."""

from __future__ import annotations

from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike

from tomodask.errors import GeometryError


def to_vectors(values: ArrayLike, name: str) -> np.ndarray:
    """(num_steps, 3) float64 from one vector (z, y, x) or a list of them.

    Raises
    ------
    GeometryError : another shape, nothing at all, or a number that is not finite.
    """
    vectors = np.array(values, dtype=np.float64, ndmin=2)
    if vectors.ndim != 2 or vectors.shape[1] != 3 or len(vectors) == 0:
        raise GeometryError(
            f"{name} of shape {np.shape(values)}: one (z, y, x) or a list (num_angles, 3) expected"
        )
    if not np.isfinite(vectors).all():
        row = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
        raise GeometryError(f"{name} {vectors[row]} of view {row}: finite numbers are needed")
    vectors.flags.writeable = False
    return vectors


def to_positions(values: ArrayLike, name: str) -> np.ndarray:
    """(num_steps, 3) from one number for all three axes, one (z, y, x), or a list of them."""
    return to_vectors(np.full(3, values) if np.ndim(values) == 0 else values, name)


def to_counts(shape: int | tuple[int, ...], length: int, name: str) -> tuple[int, ...]:
    """`length` whole numbers of at least 1 from one number or as many.

    Raises
    ------
    GeometryError : anything else, zero among them.
    """
    counts = (shape,) * length if isinstance(shape, Integral) else tuple(shape)  # type: ignore[arg-type]
    if len(counts) != length or any(not isinstance(n, Integral) or n < 1 for n in counts):
        raise GeometryError(
            f"{name} {shape!r}: {length} whole numbers of at least 1 (or one for all) expected"
        )
    return tuple(int(n) for n in counts)


def to_lengths(size: float | tuple[float, ...], length: int, name: str) -> np.ndarray:
    """(length,) float64 above 0 from one number or as many.

    Raises
    ------
    GeometryError : anything else, zero among them.
    """
    lengths = np.array(size, dtype=np.float64)
    if lengths.ndim == 0:
        lengths = np.full(length, float(lengths))
    if lengths.shape != (length,) or not (np.isfinite(lengths) & (lengths > 0)).all():
        raise GeometryError(
            f"{name} {size!r}: {length} lengths above 0 (or one for all) are expected"
        )
    return lengths


def common_steps(**vectors: np.ndarray) -> dict[str, np.ndarray]:
    """Lists of one step repeated, so that all have as many steps as the longest.

    Raises
    ------
    GeometryError : two of them differ in their steps and neither has one alone.
    """
    steps = {name: len(values) for name, values in vectors.items()}
    most = max(steps.values())
    if any(number not in (1, most) for number in steps.values()):
        raise GeometryError(f"steps differ: {steps}; each must have 1 or {most}")
    return {name: np.broadcast_to(values, (most, 3)) for name, values in vectors.items()}


def to_scalars(values: ArrayLike, name: str) -> np.ndarray:
    """(num_steps,) finite float64 from one number or a list of them.

    Raises
    ------
    GeometryError : another shape, nothing at all, or a number that is not finite.
    """
    scalars = np.array(values, dtype=np.float64, ndmin=1)
    if scalars.ndim != 1 or scalars.size == 0:
        raise GeometryError(
            f"{name} of shape {np.shape(values)}: one number or a list of numbers is expected"
        )
    if not np.isfinite(scalars).all():
        at = int(np.flatnonzero(~np.isfinite(scalars))[0])
        raise GeometryError(f"{name}[{at}] is {scalars[at]}: finite numbers are needed")
    return scalars


def to_angles(values: ArrayLike) -> np.ndarray:
    """(num_steps,) radians; see `to_scalars`."""
    return to_scalars(values, "angles")
