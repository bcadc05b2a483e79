"""CGLS: conjugate gradients on least squares (Hestenes and Stiefel 1952)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tomodask.geometry import ParallelBeam
from tomodask.reconstruct.options import (
    Callback,
    LinearMap,
    Options,
    Problem,
    check_damp,
    check_iterations,
)
from tomodask.reconstruct.spaces import divided, dot, fused, fused_norm, norm, zero_up_to

ROUNDING = 1e-6  # of |A| |residual|: gradients below it have no direction in float32


@dataclass(frozen=True)
class CGLS:
    """The least |y - A x|^2 + damp^2 |x - x_init|^2 that k uses of A and A.T can reach.

    Hestenes and Stiefel 1952, doi:10.6028/jres.049.044, in the form of Björck 1996, section 7.4,
    doi:10.1137/1.9781611971484. Noise comes in last: fewer iterations, or more damp, smooth. It has
    no box: a bound would break the directions' conjugacy. Where the gradient is rounding alone, x
    stays.

    num_iterations : how often A and A.T are used.
    damp : weight of the distance from x_init, in units of A.
    circle : of slices, set to 0 what not every view has seen, as `FBP` does.
    """

    num_iterations: int = 20
    damp: float = 0.0
    circle: bool = True

    def __post_init__(self) -> None:
        check_iterations(self.num_iterations)
        check_damp(self.damp)

    def __call__(
        self,
        y: Any,
        A: LinearMap,
        *,
        x_init: Any = None,
        volume_mask: Any = None,
        projection_mask: Any = None,
        callbacks: Sequence[Callback] = (),
    ) -> Any:
        """Projections (row, angle, column) -> volume (z, y, x) float32; see `Options`.

        Raises
        ------
        DivergedError : the residual grows: A.T is not the adjoint of A.
        GeometryError, InputError : see `Problem`.
        """
        options = Options(x_init, volume_mask, projection_mask, callbacks)
        problem = Problem(y, A, options, circle=self.circle)
        x = problem.start()
        residual, residual_norm = problem.residual(x)
        direction = problem.adjoint(residual)
        square, least = dot(direction, direction, A), None
        for iteration in range(1, self.num_iterations + 1):
            projected = problem.forward(direction)
            curvature = dot(projected, projected, A)
            if self.damp:
                curvature = curvature + self.damp**2 * dot(direction, direction, A)
            if least is None:  # what rounding leaves of A.T(residual), by |A| along the first step
                least = ROUNDING**2 * divided(curvature, square)
            square = zero_up_to(square, least * residual_norm**2)
            step = divided(square, curvature)
            x = fused(lambda x, p, step: x + step * p, x, direction, step, A=A, out=x)
            began_with = residual_norm
            residual, residual_norm = fused_norm(
                lambda r, q, step: (r - step * q,) * 2, residual, projected, step, A=A, out=residual
            )
            del projected
            if problem.is_stopped(iteration, x, began_with) or iteration == self.num_iterations:
                break
            gradient, gradient_norm = self._gradient(problem, x, residual)
            turn = divided(gradient_norm**2, square)
            square = gradient_norm**2
            direction = fused(
                lambda p, s, turn: s + turn * p, direction, gradient, turn, A=A, out=direction
            )
            del gradient
        return problem.finish(x)

    def _gradient(self, problem: Problem, x: Any, residual: Any) -> Any:
        """(A.T(residual) - damp^2 (x - x_init), its norm): steepest descent."""
        gradient, A = problem.adjoint(residual), problem.A
        if not self.damp:
            return gradient, norm(gradient, A)

        def damped(gradient: Any, x: Any, x_init: Any) -> tuple[Any, Any]:
            return (gradient - self.damp**2 * (x if x_init is None else x - x_init),) * 2

        return fused_norm(damped, gradient, x, problem.x_init, A=A, out=gradient)

    def projector_columns(self, geometry: ParallelBeam) -> int:
        """A as it is given."""
        return geometry.det_count

    def row_bytes(self, geometry: ParallelBeam) -> int:
        """Residual, and what changes it; direction, and gradient."""
        return 4 * (2 * geometry.num_angles * geometry.det_count + 2 * geometry.det_count**2)
