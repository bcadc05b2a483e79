"""Differences between neighbouring voxels, and their exact adjoint, on any kind of array.

Total variation is the sum of the lengths of these differences. They are forward differences without
a unit of length, 0 at the last voxel along each axis, so that the edge of a volume costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tomodask.arrays import empty
from tomodask.errors import InputError
from tomodask.reconstruct import spaces
from tomodask.reconstruct.spaces import CHUNK, namespace
from tomodask.threads import share

Field = tuple[Any, ...]  # one array for each axis of `axes`

LEAST = 1e-30  # a radius of 0 leaves nothing, instead of 0 / 0


def axes(dimensions: int) -> tuple[int, ...]:
    """2: y and x, within slices; 3: z as well.

    Raises
    ------
    InputError : it is neither.
    """
    if dimensions not in (2, 3):
        raise InputError(f"dimensions={dimensions!r}: 2 (each slice alone) or 3 is expected")
    return (1, 2) if dimensions == 2 else (0, 1, 2)


def squared_norm_bound(dimensions: int) -> float:
    """The gradient's norm squared is less than this, and comes close to it in large volumes."""
    return 4.0 * len(axes(dimensions))


def gradient(x: Any, dimensions: int, threads: int = 1) -> Field:
    """x[i + 1] - x[i] along each axis, 0 at its end: arrays of x's shape."""
    found: Field = by_blocks(_Gradient(axes(dimensions)), (x,), dimensions, threads)
    return found


def divergence(field: Field, dimensions: int, threads: int = 1) -> Any:
    """The negative adjoint of `gradient`: <gradient(x), p> = -<x, divergence(p)>."""
    return by_blocks(_Divergence(axes(dimensions)), field, dimensions, threads)


def extrapolated_divergence(new: Field, old: Field, dimensions: int, threads: int = 1) -> Any:
    """`divergence` of 2 new - old."""
    function = _Divergence(axes(dimensions), extrapolate=True)
    return by_blocks(function, (*new, *old), dimensions, threads)


def ascend(
    field: Field, x: Any, step: spaces.Scalar, radius: spaces.Scalar, dimensions: int, threads: int
) -> Field:
    """field + step * gradient(x), shortened at each voxel to the length `radius` at most.

    step, radius : floats, or (rows, 1, 1) where rows are independent.
    """
    function = _Ascent(axes(dimensions))
    found: Field = by_blocks(function, (x, *field), dimensions, threads, (step, radius))
    return found


def total_variation(x: np.ndarray, dimensions: int) -> float:
    """The sum of the lengths of the gradients; of arrays in memory."""
    squares = sum(part.astype(np.float64) ** 2 for part in gradient(np.asarray(x), dimensions))
    return float(np.sqrt(squares).sum())


def by_blocks(
    function: Callable[..., Any],
    arrays: tuple[Any, ...],
    dimensions: int,
    threads: int = 1,
    scalars: tuple[spaces.Scalar, ...] = (),
) -> Any:
    """`function(scalars, *arrays)`; NumPy's arrays by blocks of slices, on threads.

    Blocks fit into the cache. `function` must be one that `spaces.stencil` takes.
    """
    halo = 1 if dimensions == 3 else 0
    like = arrays[0]
    if not isinstance(like, np.ndarray):
        return spaces.stencil(_Bound(function, _of_kind(scalars, like)), halo, *arrays)
    total, size = like.shape[0], like.shape[1] * like.shape[2]
    length = max(1, CHUNK // size, 8 * halo)  # the halo's part of the work stays small
    if total <= length:
        return function(_of_kind(scalars, like), *arrays)
    results: list[np.ndarray] = []
    count = 1 if isinstance(function, _Divergence) else len(axes(dimensions))
    results = [empty(like.shape, like.dtype) for _ in range(count)]

    def block(number: int) -> None:
        start, stop = number * length, min((number + 1) * length, total)
        low, high = max(0, start - halo), min(total, stop + halo)
        some = tuple(
            scalar[low:high] if isinstance(scalar, np.ndarray) else scalar for scalar in scalars
        )
        found = function(_of_kind(some, like), *(array[low:high] for array in arrays))
        for result, part in zip(results, found if count > 1 else (found,), strict=True):
            result[start:stop] = part[start - low : stop - low]

    share(block, -(-total // length), threads)
    return tuple(results) if count > 1 else results[0]


def _of_kind(scalars: tuple[spaces.Scalar, ...], like: Any) -> tuple[Any, ...]:
    """Scalars of rows as float32 of the kind of an array."""
    return tuple(spaces._factor(scalar, like) for scalar in scalars)


class _Bound:
    """A function with its scalars; it can be sent to another process."""

    def __init__(self, function: Callable[..., Any], scalars: tuple[Any, ...]) -> None:
        self.function, self.scalars = function, scalars

    def __call__(self, *arrays: Any) -> Any:
        return self.function(self.scalars, *arrays)


class _Gradient:
    def __init__(self, along: tuple[int, ...]) -> None:
        self.along = along

    def __call__(self, _: tuple[Any, ...], x: Any) -> Field:
        return tuple(_difference(x, axis) for axis in self.along)


class _Divergence:
    def __init__(self, along: tuple[int, ...], extrapolate: bool = False) -> None:
        self.along, self.extrapolate = along, extrapolate

    def __call__(self, _: tuple[Any, ...], *field: Any) -> Any:
        if self.extrapolate:
            half = len(self.along)
            field = tuple(
                2 * new - old for new, old in zip(field[:half], field[half:], strict=True)
            )
        total = namespace(field[0]).zeros_like(field[0])
        for axis, part in zip(self.along, field, strict=True):
            inner = part[_cut(axis, None, -1)]  # the last one belongs to no difference
            total[_cut(axis, None, -1)] += inner
            total[_cut(axis, 1, None)] -= inner
        return total


class _Ascent:
    def __init__(self, along: tuple[int, ...]) -> None:
        self.along = along

    def __call__(self, scalars: tuple[Any, ...], x: Any, *field: Any) -> Field:
        step, radius = scalars
        xp = namespace(x)
        found, squares = [], None
        for axis, part in zip(self.along, field, strict=True):
            ascent = _difference(x, axis)
            ascent *= step
            ascent += part
            square = ascent * ascent
            squares = square if squares is None else squares + square
            found.append(ascent)
        length = xp.sqrt(squares)
        shorten = xp.where(length > radius, radius / (length + LEAST), 1.0)
        shorten = xp.astype(shorten, x.dtype, copy=False)
        for part in found:
            part *= shorten
        return tuple(found)


def _difference(x: Any, axis: int) -> Any:
    xp = namespace(x)
    found = xp.zeros_like(x)
    if x.shape[axis] > 1:
        found[_cut(axis, None, -1)] = x[_cut(axis, 1, None)] - x[_cut(axis, None, -1)]
    return found


def _cut(axis: int, start: int | None, stop: int | None) -> tuple[slice, ...]:
    index = [slice(None)] * 3
    index[axis] = slice(start, stop)
    return tuple(index)
