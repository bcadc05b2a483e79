"""The primal-dual hybrid gradient method with total variation (Chambolle and Pock 2011)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tomodask.geometry import ParallelBeam
from tomodask.reconstruct.gradients import (
    Field,
    ascend,
    axes,
    extrapolated_divergence,
    squared_norm_bound,
)
from tomodask.reconstruct.options import Callback, LinearMap, Options, check_box, check_iterations
from tomodask.reconstruct.spaces import Scalar, divided, fused
from tomodask.reconstruct.variation import Fidelity, check_variation, working_bytes

# of dual steps to primal ones where A has norm 1: so many times the greatest dual of an edge
# divided by the size of x, which was fastest for foams from strong to weak regularisation
BALANCE, LEAST_BALANCE, GREATEST_BALANCE = 30.0, 3e-3, 3.0


@dataclass(frozen=True)
class PDHGTV:
    """Least squares with total variation by Chambolle and Pock, doi:10.1007/s10851-010-0251-1.

    The formula, and what `regularisation` means, stand in `variation`. Each iteration is the
    exact proximal step of data, total variation and box in turn: nothing is solved inside it. We
    extrapolate the duals instead of x, so that the residual told is x's own.

    num_iterations : how often A and A.T are used; a norm takes ten of both before.
    regularisation : weight of the variation in units of y. 64 views of 1000 photons behind an
        object that lets a seventh through want about 0.005; more is flatter.
    dimensions : 2: each slice alone; 3: along z too, where slices hang together (`couples_rows`).
    min_constraint, max_constraint : the least and greatest value.
    circle : of slices, set to 0 what not every view has seen, as `FBP` does.
    """

    regularisation: float = 0.005
    num_iterations: int = 150
    dimensions: int = 2
    min_constraint: float | None = None
    max_constraint: float | None = None
    circle: bool = True

    def __post_init__(self) -> None:
        check_iterations(self.num_iterations)
        check_variation(self.regularisation, self.dimensions)
        check_box(self.min_constraint, self.max_constraint)

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
        x, _, _ = self._solve(fidelity)
        return fidelity.problem.finish(x)

    def _solve(self, fidelity: Fidelity) -> tuple[Any, Any, Field]:
        """(x, the dual of the data, that of the total variation divided by |A|^2).

        All is divided by |A|^2. The steps fulfil primal (data |A|^2 + edges |gradient|^2) <= 1.
        """
        A, problem, dimensions = fidelity.A, fidelity.problem, self.dimensions
        by_norm = divided(1.0, fidelity.squared_norm)
        radius = self.regularisation * fidelity.gain * by_norm
        data_step: Scalar = np.clip(
            BALANCE * divided(radius, fidelity.magnitude()), LEAST_BALANCE, GREATEST_BALANCE
        )
        if not A.independent_rows:
            data_step = float(data_step)  # NumPy's scalars would take tensors for arrays
        primal_step, edge_step = 0.5 / data_step, data_step / squared_norm_bound(dimensions)
        x = problem.start()
        edges = tuple(problem.xp.zeros_like(x) for _ in axes(dimensions))
        data = problem.xp.zeros_like(problem.y)
        for iteration in range(1, self.num_iterations + 1):
            residual, norm = fidelity.residual(x)
            new = fused(
                lambda q, r, step: (q - step * r) / (1 + step),
                data, residual, data_step, A=A, out=residual,
            )  # fmt: skip
            pushed = fused(lambda n, q: 2 * n - q, new, data, A=A, out=data)
            data, back = new, fidelity.adjoint(pushed)
            del pushed, residual, new
            old, edges = edges, ascend(edges, x, edge_step, radius, dimensions, fidelity.threads)
            change = extrapolated_divergence(edges, old, dimensions, fidelity.threads)
            x = problem.step(
                lambda x, change, back, step, by_norm: x + step * (change - by_norm * back),
                x, change, back, primal_step, by_norm,
            )  # fmt: skip
            del back, change, old
            if problem.is_stopped(iteration, x, norm):
                break
        return x, data, edges

    def projector_columns(self, geometry: ParallelBeam) -> int:
        """A as it is given."""
        return geometry.det_count

    def row_bytes(self, geometry: ParallelBeam) -> int:
        """Dual of the data, residual; two fields of two, back-projection, change."""
        return working_bytes(geometry, 2, 7)
