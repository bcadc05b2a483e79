"""LSQR: least squares by bidiagonalisation (Paige and Saunders 1982)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tomodask.geometry import ParallelBeam
from tomodask.reconstruct.options import (
    Callback,
    LinearMap,
    Options,
    Problem,
    check_damp,
    check_iterations,
)
from tomodask.reconstruct.spaces import Scalar, divided, fused, fused_norm, norm


@dataclass(frozen=True)
class LSQR:
    """The x of `CGLS`, by steps that keep more digits where A is ill-conditioned.

    Paige and Saunders 1982, doi:10.1145/355984.355989. It goes towards the least
    |y - A x|^2 + damp^2 |x - x_init|^2. The residual norms come from its recurrences, as no
    residual is kept; it has no box.

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
        DivergedError : the volume is not finite.
        GeometryError, InputError : see `Problem`.
        """
        options = Options(x_init, volume_mask, projection_mask, callbacks)
        problem = Problem(y, A, options, circle=self.circle)
        x = problem.start()
        u, beta = problem.residual(x)
        u = _scaled(u, beta, A)
        v = problem.adjoint(u)
        alpha = norm(v, A)
        v = _scaled(v, alpha, A)
        direction = fused(lambda v: v + 0.0, v, A=A)
        rotation = Rotation(beta, alpha, self.damp)
        for iteration in range(1, self.num_iterations + 1):
            u, beta = _orthogonal(problem.forward(v), u, alpha, A)
            v, alpha = _orthogonal(problem.adjoint(u), v, beta, A)
            began_with = self._residual_norm(rotation, problem, x)
            step, turn = rotation.turn(alpha, beta)
            x = fused(lambda x, w, step: x + step * w, x, direction, step, A=A, out=x)
            direction = fused(
                lambda w, v, turn: v - turn * w, direction, v, turn, A=A, out=direction
            )
            if problem.is_stopped(iteration, x, began_with):
                break
        return problem.finish(x)

    def _residual_norm(self, rotation: Rotation, problem: Problem, x: Any) -> Scalar:
        """Of y - A(x), without the distance from x_init, which the rotations count as well."""
        if not self.damp:
            return rotation.residual_norm
        _, distance = fused_norm(
            lambda x, begun: (x, x if begun is None else x - begun),
            x, problem.x_init, A=problem.A, out=x,
        )  # fmt: skip
        square: Any = np.maximum(rotation.residual_norm**2 - (self.damp * distance) ** 2, 0)
        return square**0.5 if isinstance(square, np.ndarray) else float(square) ** 0.5

    def projector_columns(self, geometry: ParallelBeam) -> int:
        """A as it is given."""
        return geometry.det_count

    def row_bytes(self, geometry: ParallelBeam) -> int:
        """u, v and what follows each; the direction."""
        return 4 * (2 * geometry.num_angles * geometry.det_count + 3 * geometry.det_count**2)


class Rotation:
    """The plane rotations that turn the bidiagonal matrix into a triangular one, step by step.

    Names are the paper's; scalars are those of `dot`.
    """

    def __init__(self, beta: Scalar, alpha: Scalar, damp: float) -> None:
        self._damp = damp
        self._phi_bar, self._rho_bar = beta, alpha
        self._damped = 0.0 * beta  # squares of what the rotations of damp have taken out

    @property
    def residual_norm(self) -> Scalar:
        """Of the system with the rows of damp, which count the distance from x_init."""
        return (self._phi_bar**2 + self._damped) ** 0.5

    def turn(self, alpha: Scalar, beta: Scalar) -> tuple[Scalar, Scalar]:
        """Factors of the direction: in x, and in the next direction."""
        rho_bar = (self._rho_bar**2 + self._damp**2) ** 0.5
        phi_bar = divided(self._rho_bar, rho_bar) * self._phi_bar
        self._damped = self._damped + (divided(self._damp, rho_bar) * self._phi_bar) ** 2
        rho = (rho_bar**2 + beta**2) ** 0.5
        c, s = divided(rho_bar, rho), divided(beta, rho)
        self._rho_bar, self._phi_bar = -c * alpha, s * phi_bar
        return divided(c * phi_bar, rho), divided(s * alpha, rho)


def _orthogonal(new: Any, old: Any, factor: Scalar, A: LinearMap) -> tuple[Any, Scalar]:
    """(new - factor * old, scaled to length 1; its length before)."""
    found, length = fused_norm(
        lambda new, old, factor: (new - factor * old,) * 2, new, old, factor, A=A, out=new
    )
    return _scaled(found, length, A), length


def _scaled(array: Any, length: Scalar, A: LinearMap) -> Any:
    return fused(lambda a, factor: a * factor, array, divided(1.0, length), A=A, out=array)
