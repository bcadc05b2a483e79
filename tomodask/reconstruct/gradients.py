"""Forward differences of a volume and their negative adjoint, in a plane or in all directions.

The last difference along an axis is 0 (Neumann). Each is a `spaces.stencil` with one row of
neighbours, or none where slices stay by themselves.
"""

from __future__ import annotations

from typing import Any

from tomodask.reconstruct.spaces import namespace, stencil

AXES = {2: (1, 2), 3: (0, 1, 2)}  # by the number of dimensions, of (z, y, x)


def gradient(x: Any, dimensions: int) -> tuple[Any, ...]:
    """Differences to the next voxel along each axis, z (of three) before y before x."""
    found: tuple[Any, ...] = stencil(GRADIENTS[dimensions], dimensions - 2, x)
    return found


def divergence(parts: tuple[Any, ...], dimensions: int) -> Any:
    """Minus the transpose of `gradient`."""
    return stencil(DIVERGENCES[dimensions], dimensions - 2, *parts)


def squared_norm_bound(dimensions: int) -> float:
    """No gradient is longer than the root of this times its volume: 4 for each axis."""
    return 4.0 * dimensions


def _differences(x: Any, axes: tuple[int, ...]) -> tuple[Any, ...]:
    xp, found = namespace(x), []
    for axis in axes:
        ahead, here = _ends(axis)
        part = xp.zeros_like(x)
        part[here] = x[ahead] - x[here]
        found.append(part)
    return tuple(found)


def _sum_of_differences(parts: tuple[Any, ...], axes: tuple[int, ...]) -> Any:
    total = namespace(parts[0]).zeros_like(parts[0])
    for part, axis in zip(parts, axes, strict=True):
        ahead, here = _ends(axis)
        total[here] += part[here]
        total[ahead] -= part[here]
    return total


def _ends(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """All but the first, and all but the last index of an axis."""
    before = (slice(None),) * axis
    return (*before, slice(1, None)), (*before, slice(None, -1))


# functions of a module, as the workers of stored arrays must find them
def _gradient_2d(x: Any) -> tuple[Any, ...]:
    return _differences(x, AXES[2])


def _gradient_3d(x: Any) -> tuple[Any, ...]:
    return _differences(x, AXES[3])


def _divergence_2d(*parts: Any) -> Any:
    return _sum_of_differences(parts, AXES[2])


def _divergence_3d(*parts: Any) -> Any:
    return _sum_of_differences(parts, AXES[3])


GRADIENTS = {2: _gradient_2d, 3: _gradient_3d}
DIVERGENCES = {2: _divergence_2d, 3: _divergence_3d}
