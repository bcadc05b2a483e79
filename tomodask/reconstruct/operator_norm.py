"""How much A can lengthen a volume: what the step of a gradient method is bounded by."""

from __future__ import annotations

from typing import Any

from tomodask.reconstruct.options import Problem
from tomodask.reconstruct.spaces import Scalar, divided, domain_zeros, dot, fused


def uniform_gain(problem: Problem) -> Scalar:
    """|A 1| / |1|: how strongly a uniform volume is seen, in lengths times the root of views.

    Of a whole field of view it is a few per cent below the largest singular value. It scales with
    pixel size and number of views as A does, so it makes weights free of both.
    """
    seen = problem.row_sums()
    count = domain_zeros(problem.A, problem.y)
    ones = problem.masked(problem.xp.ones_like(count), problem.volume_mask)
    return divided(dot(seen, seen, problem.A), dot(ones, ones, problem.A)) ** 0.5


def operator_norm(problem: Problem, num_iterations: int = 12, safety: float = 1.05) -> Scalar:
    """The largest singular value of A, from above, by the power method from a uniform volume.

    A float, or (rows, 1, 1) where rows are independent. The method comes from below; `safety`
    covers what is left of a gap after so few rounds, in which smooth volumes have long won.
    """
    A = problem.A
    x = problem.masked(problem.xp.ones_like(domain_zeros(A, problem.y)), problem.volume_mask)
    square: Any = 0.0
    for _ in range(num_iterations):
        length = dot(x, x, A) ** 0.5
        x = fused(lambda x, by: x * by, x, divided(_ones(length), length), A=A)
        y = problem.forward(x)
        square = dot(y, y, A)
        x = problem.adjoint(y)
    norm: Scalar = safety * square**0.5
    return norm


def _ones(like: Scalar) -> Scalar:
    return like * 0 + 1.0
