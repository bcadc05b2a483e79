"""SART and its ordered subsets: SIRT that corrects x after each part of the views."""

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
from tomodask.reconstruct.subsets import check_subsets, subsets, weights_bytes


@dataclass(frozen=True)
class SART:
    """x <- x + relaxation C_s A_s.T(R_s (y_s - A_s(x))) for each subset s of the views in turn.

    Andersen and Kak 1984, doi:10.1016/0161-7346(84)90008-7, is `num_subsets` = all the views, one
    at a time; with 1 it is `SIRT`. A pass goes about as far as `num_subsets` iterations of SIRT,
    but noise lets the subsets disagree and x runs in a circle: end with few passes, or with a
    smaller relaxation. It pays with projectors whose time is in the views (not `fourier`).

    num_iterations : passes over all the views.
    num_subsets : subset k has the views k, k + num_subsets, ...
    order : of the subsets: "golden" (each far from those before) or "sequential".
    relaxation : length of the steps, above 0; 2 and more may diverge.
    min_constraint, max_constraint : the least and greatest value, held after each subset.
    circle : of slices, set to 0 what not every view has seen, as `FBP` does.
    """

    num_iterations: int = 10
    num_subsets: int = 10
    order: str = "golden"
    relaxation: float = 1.0
    min_constraint: float | None = None
    max_constraint: float | None = None
    circle: bool = True

    def __post_init__(self) -> None:
        check_iterations(self.num_iterations)
        check_subsets(self.num_subsets, self.order)
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
        GeometryError, InputError : see `Problem`; also fewer views than subsets.
        """
        problem = Problem(
            y, A, Options(x_init, volume_mask, projection_mask, callbacks),
            min_constraint=self.min_constraint, max_constraint=self.max_constraint,
            circle=self.circle,
        )  # fmt: skip
        x = problem.start()
        parts = subsets(problem, self.num_subsets, self.order)
        ray_weights = [inverse(part.problem.row_sums(), part.A) for part in parts]
        for iteration in range(1, self.num_iterations + 1):
            square: Any = 0.0
            for part, weights in zip(parts, ray_weights, strict=True):
                weighted, norm = part.problem.residual(x, weights)
                square = square + norm**2
                change = part.A.T(weighted)
                del weighted
                x = part.problem.step(
                    lambda x, change, weights: x + self.relaxation * weights * change,
                    x, change, part.voxel_weights(),
                )  # fmt: skip
                del change
            if problem.is_stopped(iteration, x, square**0.5):
                break
        return problem.finish(x)

    def projector_columns(self, geometry: ParallelBeam) -> int:
        """A as it is given."""
        return geometry.det_count

    def row_bytes(self, geometry: ParallelBeam) -> int:
        """Weights of rays, the residual of a subset, the change, and weights of voxels."""
        sinogram, slice_ = 4 * geometry.num_angles * geometry.det_count, 4 * geometry.det_count**2
        weights = weights_bytes(self.num_subsets, geometry.det_count)
        return sinogram + sinogram // self.num_subsets + slice_ + weights
