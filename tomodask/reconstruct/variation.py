"""What methods of total variation share: their parameters, and lengths of gradients."""

from __future__ import annotations

import math
from typing import Any

from tomodask.errors import InputError
from tomodask.reconstruct.gradients import AXES, gradient
from tomodask.reconstruct.options import LinearMap
from tomodask.reconstruct.spaces import Scalar, dot, fused, namespace


def check_variation(regularisation: float, dimensions: int) -> None:
    """Refuse weights below 0 and dimensions but 2 and 3."""
    if not (regularisation >= 0 and math.isfinite(regularisation)):
        raise InputError(f"regularisation={regularisation}: 0 or more is expected")
    if dimensions not in AXES:
        raise InputError(f"dimensions={dimensions}: 2 (slices by themselves) or 3 are expected")


def shortened(parts: tuple[Any, ...], limit: Scalar, A: LinearMap) -> tuple[Any, ...]:
    """Vectors, given by their components, cut to a length of at most `limit`."""
    xp = namespace(parts[0])

    def factor(limit: Any, *parts: Any) -> Any:
        square = parts[0] ** 2
        for part in parts[1:]:
            square = square + part**2
        return limit / xp.maximum(xp.sqrt(square), limit + TINY)

    factors = fused(
        lambda first, limit, *others: factor(limit, first, *others), parts[0], limit, *parts[1:],
        A=A,
    )  # fmt: skip
    return tuple(fused(lambda q, f: q * f, part, factors, A=A, out=part) for part in parts)


def total_variation(x: Any, A: LinearMap, dimensions: int) -> Scalar:
    """Sum of the lengths of the gradients, a float or (rows, 1, 1)."""
    xp = namespace(x)

    def length(*parts: Any) -> Any:
        square = parts[0] ** 2
        for part in parts[1:]:
            square = square + part**2
        return xp.sqrt(square)

    lengths = fused(length, *gradient(x, dimensions), A=A)
    return dot(lengths, xp.ones_like(lengths), A)


TINY = 1e-30  # a limit of 0 leaves nothing
