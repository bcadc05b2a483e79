"""The greatest singular value of A by power iteration, for step sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tomodask.reconstruct.options import LinearMap
from tomodask.reconstruct.spaces import Scalar, divided, domain_zeros, fused, namespace, norm

NUM_ITERATIONS = 10
SAFETY = 1.02  # of tomography's operators, ten iterations miss less than 1 %


def operator_norm(
    A: LinearMap, like: Any, *, num_iterations: int = NUM_ITERATIONS, safety: float = SAFETY
) -> Scalar:
    """The greatest of |A x| / |x|: a float, or (rows, 1, 1) where A's rows are independent.

    It begins with ones, as weights of rays are not negative, and then the vector sought has no
    negative values either; so the result is the same each time, whatever rows are beside it.

    like : an array of the kind of y.
    safety : factor of the result, which without it comes from below.
    """
    x = namespace(like).ones_like(domain_zeros(A, like))
    return safety * power_iteration(A, A.T, x, A, num_iterations)


def power_iteration(
    forward: Callable[[Any], Any],
    adjoint: Callable[[Any], Any],
    x: Any,
    A: LinearMap,
    num_iterations: int = NUM_ITERATIONS,
) -> Scalar:
    """|A.T A x| / |A x| after some steps from x, a lower bound; 0 where x or A vanishes."""
    found: Scalar = 0.0
    for _ in range(num_iterations):
        projected = forward(x)
        length = norm(projected, A)
        x = adjoint(projected)
        del projected
        grown = norm(x, A)
        found = divided(grown, length)
        by = divided(1.0, grown)
        x = fused(lambda x, by: x * by, x, by, A=A)
    return found
