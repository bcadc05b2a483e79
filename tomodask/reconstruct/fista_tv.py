"""FISTA with total variation: accelerated descent, and denoising of each step (Beck, Teboulle)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

from tomodask.errors import InputError
from tomodask.geometry import ParallelBeam
from tomodask.reconstruct.gradients import Field, ascend, axes, divergence, squared_norm_bound
from tomodask.reconstruct.options import (
    Callback,
    LinearMap,
    Options,
    Problem,
    check_box,
    check_iterations,
)
from tomodask.reconstruct.spaces import Scalar, divided, fused
from tomodask.reconstruct.variation import Fidelity, check_variation, working_bytes


@dataclass(frozen=True)
class FISTATV:
    """Least squares with total variation by FISTA, doi:10.1137/080716542 (Beck, Teboulle 2009a).

    The formula, and what `regularisation` means, stand in `variation`. Each step is denoised
    by the fast gradient projection of the dual, doi:10.1109/TIP.2009.2028250 (2009b), which goes on
    from where it stopped the step before, so that few iterations do.

    num_iterations : how often A and A.T are used; a norm takes ten of both before.
    regularisation : weight of the variation in units of y. 64 views of 1000 photons behind an
        object that lets a seventh through want about 0.005; more is flatter.
    dimensions : 2: each slice alone; 3: along z too, where slices hang together (`couples_rows`).
    num_projections : iterations of the denoising in each step.
    min_constraint, max_constraint : the least and greatest value.
    circle : of slices, set to 0 what not every view has seen, as `FBP` does.
    """

    regularisation: float = 0.005
    num_iterations: int = 100
    num_projections: int = 5
    dimensions: int = 2
    min_constraint: float | None = None
    max_constraint: float | None = None
    circle: bool = True

    def __post_init__(self) -> None:
        check_iterations(self.num_iterations)
        check_variation(self.regularisation, self.dimensions)
        check_box(self.min_constraint, self.max_constraint)
        if self.num_projections < 1:
            raise InputError(f"num_projections={self.num_projections}: at least 1 is needed")

    @property
    def couples_rows(self) -> bool:
        """Whether slices can't be solved alone; an algorithm without this attribute does not."""
        return self.dimensions == 3

    def __call__(
        self,
        y: Any,
        A: LinearMap,
        *,
        x_init: Any = None,
        volume_mask: Any = None,
        projection_mask: Any = None,
        weights: Any = None,
        callbacks: Sequence[Callback] = (),
    ) -> Any:
        """Projections (row, angle, column) -> volume (z, y, x) float32; see `Options`.

        weights : what each pixel's squared residual counts, 0 or more; most often the counts
            divided by their mean. Its shape may be broadcast to y's.

        Raises
        ------
        DivergedError : the residual grows: A.T is not the adjoint of A.
        GeometryError, InputError : see `Problem`.
        """
        fidelity = Fidelity(
            y, A, self.dimensions, Options(x_init, volume_mask, projection_mask, callbacks),
            weights, (self.min_constraint, self.max_constraint), self.circle,
        )  # fmt: skip
        A, problem = fidelity.A, fidelity.problem
        step = divided(1.0, fidelity.squared_norm)
        radius = self.regularisation * fidelity.gain * step
        x = problem.start()
        dual = tuple(problem.xp.zeros_like(x) for _ in axes(self.dimensions))
        ahead, momentum = x, 1.0
        for iteration in range(1, self.num_iterations + 1):
            residual, norm = fidelity.residual(ahead)
            descended = fused(lambda v, g, step: v + step * g, ahead, fidelity.adjoint(residual),
                              step, A=A)  # fmt: skip
            del residual
            new, dual = self._denoise(descended, dual, radius, problem, fidelity.threads)
            longer, push = _next(momentum)
            ahead = fused(lambda n, o, push=push: n + push * (n - o), new, x, A=A)
            x, momentum = new, longer
            if problem.is_stopped(iteration, x, norm):
                break
        return problem.finish(x)

    def _denoise(
        self, noisy: Any, dual: Field, radius: Scalar, problem: Problem, threads: int
    ) -> tuple[Any, Field]:
        """(The x of least 1/2 |x - noisy|^2 + radius TV(x) within the box, its dual)."""
        step = 1 / squared_norm_bound(self.dimensions)
        ahead, momentum = dual, 1.0
        for _ in range(self.num_projections):
            x = self._primal(noisy, ahead, problem, threads)
            new = ascend(ahead, x, step, radius, self.dimensions, threads)
            momentum, push = _next(momentum)
            ahead = tuple(
                fused(lambda n, o, push=push: n + push * (n - o), n, o, A=problem.A)
                for n, o in zip(new, dual, strict=True)
            )
            dual = new
        return self._primal(noisy, dual, problem, threads), dual

    def _primal(self, noisy: Any, dual: Field, problem: Problem, threads: int) -> Any:
        """noisy + divergence(dual) in the box; voxels that stay are what `noisy` has there."""
        change = divergence(dual, self.dimensions, threads)
        start = fused(lambda v: v + 0.0, noisy, A=problem.A)  # a step may write to it
        return problem.step(lambda x, change: x + change, start, change)

    def projector_columns(self, geometry: ParallelBeam) -> int:
        """A as it is given."""
        return geometry.det_count

    def row_bytes(self, geometry: ParallelBeam) -> int:
        """Two projections; x, what is ahead of it, descent, three fields of two, and a change."""
        return working_bytes(geometry, 2, 12)


def _next(momentum: float) -> tuple[float, float]:
    """The next t of the sequence, and (t - 1) / t_next."""
    longer = (1 + sqrt(1 + 4 * momentum**2)) / 2
    return longer, (momentum - 1) / longer
