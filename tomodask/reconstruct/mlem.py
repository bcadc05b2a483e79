"""MLEM: the likeliest emission, given counts of Poisson's law (Shepp and Vardi 1982)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tomodask.errors import InputError
from tomodask.geometry import ParallelBeam
from tomodask.reconstruct.options import (
    Callback,
    LinearMap,
    Options,
    Problem,
    check_box,
    check_iterations,
)
from tomodask.reconstruct.spaces import Scalar, dot, fused, fused_norm, namespace, norm
from tomodask.reconstruct.subsets import check_subsets, subsets, weights_bytes

# of y's root mean square: projections below do not divide. Where `fourier` swings below 0 beside an
# edge, and noise has left counts, quotients grow without end: at 1e-3 they still do, at 1e-1 errors
# grow by a tenth; other projectors keep their result up to 1e-2.
FLOOR = 1e-2


@dataclass(frozen=True)
class MLEM:
    """x <- x / A.T(1) * A.T(y / A(x)); Shepp and Vardi 1982, doi:10.1109/TMI.1982.4307558.

    It stays non-negative, keeps the counts (A(x) sums to what y sums to, but for rays that expect
    almost nothing) and never lessens the likelihood of y as Poisson counts. With subsets it is
    OSEM, Hudson and Larkin 1994, doi:10.1109/42.363108: faster at first, without these promises.
    Data must not be negative.

    num_iterations : passes over all the views.
    num_subsets : subset k has the views k, k + num_subsets, ...; 1 is MLEM.
    order : of the subsets: "golden" (each far from those before) or "sequential".
    max_constraint : the greatest value, held after each subset.
    clip : take negative values of y, as noise has them, for 0 instead of refusing them.
    circle : of slices, set to 0 what not every view has seen, as `FBP` does.
    """

    num_iterations: int = 50
    num_subsets: int = 1
    order: str = "golden"
    max_constraint: float | None = None
    clip: bool = False
    circle: bool = True

    def __post_init__(self) -> None:
        check_iterations(self.num_iterations)
        check_subsets(self.num_subsets, self.order)
        check_box(0.0, self.max_constraint)

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

        x_init : positive where x may change: what is 0 stays 0. Without it, x begins with 1.

        Raises
        ------
        InputError : values of y or x_init are negative; see also `Problem`.
        GeometryError, DivergedError : see `Problem`.
        """
        problem = Problem(
            y, A, Options(x_init, volume_mask, projection_mask, callbacks),
            min_constraint=0.0, max_constraint=self.max_constraint, circle=self.circle,
        )  # fmt: skip
        if self.clip:
            problem.y = fused(lambda y: namespace(y).maximum(y, 0.0), problem.y, A=A)
        refuse_negative(problem.y, A, "y", "clip=True takes them for 0")
        x = problem.start()
        if x_init is None:
            x = fused(lambda x: x + 1.0, x, A=A, out=x)
        refuse_negative(x, A, "x_init", "begin with positive values")
        parts = subsets(problem, self.num_subsets, self.order)
        floor = np.maximum(FLOOR * norm(problem.y, A) / np.prod(A.range_shape[1:]) ** 0.5, 1e-30)
        for iteration in range(1, self.num_iterations + 1):
            square: Any = 0.0
            for part in parts:
                quotient, residual_norm = self._quotient(part.problem, x, floor)
                square = square + residual_norm**2
                factor = part.A.T(quotient)
                del quotient
                x = part.problem.step(
                    lambda x, factor, weights: x * factor * weights,
                    x, factor, part.voxel_weights(),
                )  # fmt: skip
                del factor
            if problem.is_stopped(iteration, x, square**0.5):
                break
        return problem.finish(x)

    def _quotient(self, problem: Problem, x: Any, floor: Scalar) -> tuple[Any, Scalar]:
        """(y / A(x), the norm of y - A(x)), both 0 in pixels that do not count."""
        xp = problem.xp

        def quotient(projected: Any, y: Any, mask: Any, floor: Any) -> tuple[Any, Any]:
            found, difference = y / xp.maximum(projected, floor), y - projected
            if mask is not None:
                found, difference = (xp.where(mask != 0, v, 0.0) for v in (found, difference))
            return found, difference

        projected, mask = problem.A(x), problem.projection_mask
        return fused_norm(quotient, projected, problem.y, mask, floor, A=problem.A, out=projected)

    def projector_columns(self, geometry: ParallelBeam) -> int:
        """A as it is given."""
        return geometry.det_count

    def row_bytes(self, geometry: ParallelBeam) -> int:
        """The quotient of a subset, the factor, weights of voxels, and y without its negatives."""
        sinogram, slice_ = 4 * geometry.num_angles * geometry.det_count, 4 * geometry.det_count**2
        weights = weights_bytes(self.num_subsets, geometry.det_count)
        clipped = sinogram if self.clip else 0
        return sinogram // self.num_subsets + clipped + slice_ + weights


def refuse_negative(values: Any, A: LinearMap, what: str, remedy: str) -> None:
    """Raise InputError where values are negative; NaN is not."""
    where = namespace(values).where
    bad = fused(lambda v: where(v < 0, v * 0.0 + 1.0, v * 0.0), values, A=A)
    count = float(np.nansum(dot(bad, bad, A)))
    if count:
        raise InputError(f"{what} has {count:.0f} negative values, which MLEM can't use: {remedy}")
