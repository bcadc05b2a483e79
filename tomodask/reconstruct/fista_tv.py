"""Total variation by accelerated proximal gradients (Beck and Teboulle 2009)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tomodask.errors import InputError
from tomodask.geometry import ParallelBeam
from tomodask.reconstruct.gradients import divergence, gradient, squared_norm_bound
from tomodask.reconstruct.operator_norm import operator_norm, uniform_gain
from tomodask.reconstruct.options import (
    Callback,
    LinearMap,
    Options,
    Problem,
    check_box,
    check_iterations,
)
from tomodask.reconstruct.spaces import Scalar, divided, fused
from tomodask.reconstruct.variation import check_variation, shortened


@dataclass(frozen=True)
class FISTATV:
    """The x of least 1/2 |A x - y|^2 + weight TV(x) within a box, as `PDHGTV`.

    Beck and Teboulle 2009, doi:10.1137/080716542: a step down the data term, then the volume of
    least TV nearby, with momentum. The latter by the fast projection of gradients of the same
    authors, doi:10.1109/TIP.2009.2028250, which begins where it ended in the iteration before.

    regularisation, dimensions, min_constraint, max_constraint, circle : see `PDHGTV`.
    num_iterations : how often A and A.T are used.
    num_projections : iterations of the inner method.
    """

    regularisation: float = 0.02
    num_iterations: int = 100
    num_projections: int = 10
    dimensions: Literal[2, 3] = 2
    min_constraint: float | None = None
    max_constraint: float | None = None
    circle: bool = True

    def __post_init__(self) -> None:
        check_iterations(self.num_iterations)
        if self.num_projections < 1:
            raise InputError(f"num_projections={self.num_projections}: at least 1 is needed")
        check_variation(self.regularisation, self.dimensions)
        check_box(self.min_constraint, self.max_constraint)

    @property
    def couples_rows(self) -> bool:
        """Whether a slice depends on those above and below."""
        return self.dimensions == 3

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
        problem = Problem(
            y, A, Options(x_init, volume_mask, projection_mask, callbacks),
            min_constraint=self.min_constraint, max_constraint=self.max_constraint,
            circle=self.circle,
        )  # fmt: skip
        bound = operator_norm(problem) ** 2
        step = divided(bound * 0 + 1.0, bound)
        prox = _Variation(self, problem, step * (self.regularisation * uniform_gain(problem)))
        x = problem.start()
        ahead, momentum = fused(lambda x: x + 0.0, x, A=A), 1.0
        for iteration in range(1, self.num_iterations + 1):
            residual, norm = problem.residual(ahead)
            change = problem.adjoint(residual)
            del residual
            target = fused(lambda a, c, step: a + step * c, ahead, change, step, A=A, out=ahead)
            before, x = x, prox(target)
            later = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
            turn = (momentum - 1) / later
            ahead = fused(
                lambda x, before, turn=turn: x + turn * (x - before), x, before, A=A, out=before
            )
            momentum = later
            if problem.is_stopped(iteration, x, norm):
                break
        return problem.finish(x)

    def projector_columns(self, geometry: ParallelBeam) -> int:
        """A as it is given."""
        return geometry.det_count

    def row_bytes(self, geometry: ParallelBeam) -> int:
        """Residual; x, two before it and ahead, duals, their momentum and gradients."""
        rays, voxels = geometry.num_angles * geometry.det_count, geometry.det_count**2
        return 4 * (2 * rays + (5 + 4 * self.dimensions) * voxels)


class _Variation:
    """The volume nearest to a target that weighs its TV, with the duals it ended at."""

    def __init__(self, parameters: FISTATV, problem: Problem, weight: Scalar) -> None:
        self._problem, self._weight = problem, weight
        self._dimensions, self._rounds = parameters.dimensions, parameters.num_projections
        zeros = problem.xp.zeros_like(problem.start())
        self._duals = gradient(zeros, self._dimensions)
        by = squared_norm_bound(self._dimensions) * weight
        self._step = divided(by * 0 + 1.0, by)

    def __call__(self, target: Any) -> Any:
        A, momentum = self._problem.A, 1.0
        duals, ahead = self._duals, tuple(
            fused(lambda q: q + 0.0, dual, A=A) for dual in self._duals
        )  # fmt: skip
        for _ in range(self._rounds):
            slopes = gradient(self._volume(target, ahead), self._dimensions)
            raised = tuple(
                fused(lambda q, d, step: q + step * d, dual, slope, self._step, A=A, out=dual)
                for dual, slope in zip(ahead, slopes, strict=True)
            )
            raised = shortened(raised, 1.0, A)
            later = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
            turn = (momentum - 1) / later
            ahead = tuple(
                fused(lambda q, b, turn=turn: q + turn * (q - b), new, old, A=A, out=old)
                for new, old in zip(raised, duals, strict=True)
            )
            duals, momentum = raised, later
        self._duals = duals
        return self._volume(target, duals)

    def _volume(self, target: Any, duals: tuple[Any, ...]) -> Any:
        """The volume that some duals stand for."""
        problem = self._problem
        pull = divergence(duals, self._dimensions)
        start = fused(lambda t: t + 0.0, target, A=problem.A)
        return problem.step(lambda t, pull, weight: t + weight * pull, start, pull, self._weight)
