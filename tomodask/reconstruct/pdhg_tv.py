"""Total variation by the primal-dual hybrid gradient method (Chambolle and Pock 2011)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tomodask.geometry import ParallelBeam
from tomodask.reconstruct.gradients import divergence, gradient
from tomodask.reconstruct.operator_norm import uniform_gain
from tomodask.reconstruct.options import (
    Callback,
    LinearMap,
    Options,
    Problem,
    check_box,
    check_iterations,
    inverse,
)
from tomodask.reconstruct.spaces import divided, dot, fused
from tomodask.reconstruct.variation import TINY, check_variation, shortened

BALANCE = 0.1  # of A's columns' sums that the gradient's are scaled to: found by trying, see tests


@dataclass(frozen=True)
class PDHGTV:
    """The x of least 1/2 |A x - y|^2 + weight TV(x) within a box.

    Chambolle and Pock 2011, doi:10.1007/s10851-010-0251-1, with a step for each ray and voxel from
    the sums of A's rows and columns (Pock and Chambolle 2011, doi:10.1109/ICCV.2011.6126441). TV is
    the sum of the lengths of the gradients (Rudin, Osher and Fatemi 1992,
    doi:10.1016/0167-2789(92)90242-F): edges stay, noise and the streaks of few views go.

    regularisation : the weight in units of y, free of pixel size and number of views: weight =
        regularisation * |A 1| / |1|. About the noise of y is usual: 0.02 for 1000 photons behind
        an object that lets a third through; twice as much makes it flatter.
    num_iterations : how often A and A.T are used; 200 bring most of what there is to gain.
    dimensions : 2 for each slice by itself, 3 for gradients along z as well, which couple slices.
    min_constraint, max_constraint : the least and greatest value.
    circle : of slices, set to 0 what not every view has seen, as `FBP` does.
    """

    regularisation: float = 0.02
    num_iterations: int = 200
    dimensions: Literal[2, 3] = 2
    min_constraint: float | None = None
    max_constraint: float | None = None
    circle: bool = True

    def __post_init__(self) -> None:
        check_iterations(self.num_iterations)
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
        steps = _Steps(problem, self.regularisation, self.dimensions)
        x = problem.start()
        ahead = fused(lambda x: x + 0.0, x, A=A)
        residual_dual = problem.xp.zeros_like(problem.y)
        duals = gradient(problem.xp.zeros_like(x), self.dimensions)
        for iteration in range(1, self.num_iterations + 1):
            residual, norm = problem.residual(ahead)
            residual_dual = fused(
                lambda p, r, sigma: (p - sigma * r) / (1.0 + sigma),
                residual_dual, residual, steps.of_rays, A=A, out=residual_dual,
            )  # fmt: skip
            del residual
            duals = steps.raised(duals, ahead, A)
            change = problem.adjoint(residual_dual)
            before = fused(lambda x: x + 0.0, x, A=A)
            x = problem.step(
                lambda x, change, pull, tau, scale: x - tau * (change - scale * pull),
                x, change, divergence(duals, self.dimensions), steps.of_voxels, steps.scale,
            )  # fmt: skip
            ahead = fused(lambda x, before: 2.0 * x - before, x, before, A=A, out=before)
            if problem.is_stopped(iteration, x, norm):
                break
        return problem.finish(x)

    def projector_columns(self, geometry: ParallelBeam) -> int:
        """A as it is given."""
        return geometry.det_count

    def row_bytes(self, geometry: ParallelBeam) -> int:
        """Steps of rays and voxels, duals of rays and gradients, x ahead, and temporaries."""
        rays, voxels = geometry.num_angles * geometry.det_count, geometry.det_count**2
        return 4 * (3 * rays + (4 + 3 * self.dimensions) * voxels)


class _Steps:
    """The steps of rays, voxels and gradients, and how much the gradient is scaled by.

    Sums of rows and columns leave open by how much duals move faster than the volume: x times the
    length of a ray makes y, so that length is the ratio.
    """

    def __init__(self, problem: Problem, regularisation: float, dimensions: int) -> None:
        A = problem.A
        gain, rows = uniform_gain(problem), problem.row_sums()
        length = divided(dot(rows, rows, A), dot(rows, problem.xp.ones_like(rows), A))
        self.scale = BALANCE * gain  # the gradient as strong as a part of A, in A's units
        self.limit = divided(regularisation * gain, self.scale)  # of the duals of the gradient
        self.dimensions = dimensions
        self.of_rays = fused(lambda r, length: length * r, inverse(rows, A), length, A=A)
        self.of_voxels = fused(
            lambda sums, scale, length: 1.0 / (length * (sums + 2.0 * dimensions * scale) + TINY),
            problem.column_sums(), self.scale, length, A=A,
        )  # fmt: skip
        self._slope = 0.5 * length  # rows of the scaled gradient sum up to 2 scale

    def raised(self, duals: tuple[Any, ...], ahead: Any, A: LinearMap) -> tuple[Any, ...]:
        """The duals of the gradient after a step up, none longer than its limit."""
        raised = tuple(
            fused(lambda q, d, step: q + step * d, dual, part, self._slope, A=A, out=dual)
            for dual, part in zip(duals, gradient(ahead, self.dimensions), strict=True)
        )
        return shortened(raised, self.limit, A)
