"""What methods of total variation share: the problem, its scales, and their parameters.

    least  1/2 |A x - y|^2 + weight TV(x)  within the box,  weight = regularisation |A 1| / |1|,

where TV is the sum over the voxels of |gradient(x)| (`gradients`: plain differences). The weight
has A's unit of length and grows with the root of the number of views, as what noise of y does to
A.T y; so one `regularisation`, in units of y, serves for pixels, 1/mm and 1/um, and for more views
of the same noise each.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tomodask.errors import GeometryError, InputError
from tomodask.geometry import ParallelBeam
from tomodask.reconstruct.gradients import axes
from tomodask.reconstruct.operator_norm import SAFETY, power_iteration
from tomodask.reconstruct.options import LinearMap, Options, Problem
from tomodask.reconstruct.spaces import (
    Scalar,
    divided,
    domain_zeros,
    dot,
    fused,
    is_stored,
    namespace,
)


class Coupled:
    """A with one scalar for all rows: where slices are coupled by what A knows nothing of."""

    independent_rows = False

    def __init__(self, A: LinearMap) -> None:
        self._A = A

    def __call__(self, x: Any) -> Any:
        return self._A(x)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._A, name)


class Fidelity:
    """1/2 |root (y - A(x))|^2 with the options of a call; `root` is the square root of weights.

    squared_norm : greatest eigenvalue of A.T weights A, of the pixels and voxels that count.
    gain : |A 1| / |1|, in lengths times the root of views.
    """

    def __init__(
        self,
        y: Any,
        A: LinearMap,
        dimensions: int,
        options: Options,
        weights: Any,
        box: tuple[float | None, float | None],
        circle: bool,
    ) -> None:
        if (dimensions == 3 and A.independent_rows) or is_stored(y):
            A = Coupled(A)
        self.problem = Problem(
            y, A, options, min_constraint=box[0], max_constraint=box[1], circle=circle
        )
        self.A = A
        self.threads = int(getattr(A, "threads", 1))
        self._root = None if weights is None else _root(weights, A.range_shape)
        ones = self.problem.xp.ones_like(domain_zeros(A, y))
        start = self.problem.masked(ones, self.problem.volume_mask)
        self.squared_norm: Scalar = (
            SAFETY * power_iteration(self._forward, self.adjoint, start, A)
        ) ** 2
        seen = self._forward(start)
        self.gain: Scalar = divided(_square(seen, A), _square(start, A)) ** 0.5

    def residual(self, x: Any) -> tuple[Any, Scalar]:
        """(root * (y - A(x)), |y - A(x)|)."""
        return self.problem.residual(x, self._root)

    def adjoint(self, residual: Any) -> Any:
        """A.T(root * residual), 0 in voxels that stay."""
        return self.problem.adjoint(self._weighted(residual))

    def magnitude(self) -> Scalar:
        """Root mean square of the best multiple of A.T y: about the size of what is sought."""
        back = self.adjoint(self._weighted(self.problem.y))
        step = divided(dot(back, back, self.A), _square(self._forward(back), self.A))
        count = float(np.prod(self.A.domain_shape))
        count /= self.A.domain_shape[0] if self.A.independent_rows else 1
        return step * np.sqrt(_square(back, self.A) / count)

    def _forward(self, x: Any) -> Any:
        return self._weighted(self.problem.forward(x))

    def _weighted(self, values: Any) -> Any:
        if self._root is None:
            return values
        return fused(lambda v, root: v * root, values, self._root, A=self.A)


def _square(values: Any, A: LinearMap) -> Scalar:
    return dot(values, values, A)


def check_variation(regularisation: float, dimensions: int) -> None:
    """Refuse weights below 0 and dimensions but 2 and 3."""
    if not 0 <= regularisation < np.inf:
        raise InputError(f"regularisation={regularisation:g}: 0 or more is expected")
    axes(dimensions)


def working_bytes(geometry: ParallelBeam, projections: int, slices: int) -> int:
    """Of a row: so many arrays like its sinogram and like its slice."""
    return 4 * (
        projections * geometry.num_angles * geometry.det_count + slices * geometry.det_count**2
    )


def _root(weights: Any, shape: tuple[int, ...]) -> Any:
    """Square roots of weights that have as many axes as y."""
    if is_stored(weights):
        return namespace(weights).sqrt(weights)
    xp = namespace(weights)
    full = (1,) * (len(shape) - weights.ndim) + tuple(weights.shape)
    if len(full) > len(shape) or any(n not in (1, m) for n, m in zip(full, shape, strict=True)):
        raise GeometryError(
            f"weights of shape {tuple(weights.shape)}: {shape} or what extends to it"
        )
    if bool(xp.any(weights < 0)):
        raise InputError(f"weights down to {float(xp.min(weights)):g}: 0 or more is expected")
    return xp.sqrt(xp.reshape(xp.astype(weights, xp.float32), full))
