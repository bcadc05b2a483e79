"""SIRT: all rays at once correct every voxel (Gregor and Benson 2008)."""

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
    check_box,
    check_iterations,
    check_relaxation,
    inverse,
)


@dataclass(frozen=True)
class SIRT:
    """x <- x + relaxation C A.T(R (y - A(x))); Gregor and Benson 2008, 10.1109/TMI.2008.923696.

    R and C hold 1 / A(1) and 1 / A.T(1): residuals count by the length of their ray, corrections
    by what a voxel was seen with. It goes to the x of least |y - A x|^2 weighted with R; noise
    comes in last, so that few iterations smooth.

    num_iterations : how often A and A.T are used.
    relaxation : length of the steps, above 0; 2 and more may diverge.
    min_constraint, max_constraint : the least and greatest value, held after each iteration.
    circle : of slices, set to 0 what not every view has seen, as `FBP` does.
    """

    num_iterations: int = 100
    relaxation: float = 1.0
    min_constraint: float | None = None
    max_constraint: float | None = None
    circle: bool = True

    def __post_init__(self) -> None:
        check_iterations(self.num_iterations)
        check_relaxation(self.relaxation)
        check_box(self.min_constraint, self.max_constraint)

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
        DivergedError : the residual grows, as with a relaxation that is too large.
        GeometryError, InputError : see `Problem`.
        """
        problem = Problem(
            y, A, Options(x_init, volume_mask, projection_mask, callbacks),
            min_constraint=self.min_constraint, max_constraint=self.max_constraint,
            circle=self.circle,
        )  # fmt: skip
        x = problem.start()
        ray_weights = inverse(problem.row_sums(), A)
        voxel_weights = inverse(problem.column_sums(), A)
        for iteration in range(1, self.num_iterations + 1):
            weighted, norm = problem.residual(x, ray_weights)
            x = problem.step(
                lambda x, change, weights: x + self.relaxation * weights * change,
                x, A.T(weighted), voxel_weights,
            )  # fmt: skip
            del weighted
            if problem.is_stopped(iteration, x, norm):
                break
        return problem.finish(x)

    def projector_columns(self, geometry: ParallelBeam) -> int:
        """A as it is given."""
        return geometry.det_count

    def row_bytes(self, geometry: ParallelBeam) -> int:
        """Weights of rays and voxels, residual, and change."""
        return 4 * (2 * geometry.num_angles * geometry.det_count + 2 * geometry.det_count**2)
