"""What all iterative algorithms have in common: masks, a start, a box, callbacks, divergence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np

from tomodask.errors import DivergedError, GeometryError, InputError
from tomodask.geometry import ParallelBeam
from tomodask.reconstruct.fbp import clear_outside, view_radius
from tomodask.reconstruct.half_acquisition import far_radius, is_half_acquisition
from tomodask.reconstruct.spaces import (
    Scalar,
    domain_zeros,
    dot,
    fused,
    fused_norm,
    is_stored,
    namespace,
    norm,
)

GROWTH = 100.0  # times the residual of the start: beyond, the iterations diverge
# of the root mean square: a sum of weights below is taken for 0. Beside the volume `fourier` swings
# by up to 8e-3, and rays that count by 1 over that would drive it apart.
VANISHING = 1e-2

Callback = Callable[[int, Any, float], object]


class LinearMap(Protocol):
    """What an algorithm sees of A: a `Projector` of slices, or the operator of any geometry."""

    @property
    def domain_shape(self) -> tuple[int, ...]: ...

    @property
    def range_shape(self) -> tuple[int, ...]: ...

    @property
    def num_angles(self) -> int: ...

    @property
    def independent_rows(self) -> bool:
        """Whether row i of y and slice i of x belong together and to no other."""

    @property
    def T(self) -> Callable[[Any], Any]: ...  # noqa: N802  (the transpose of A)

    def __call__(self, x: Any) -> Any: ...

    def views(self, selection: Any) -> LinearMap:
        """A of some of the views: a slice, or an array of their indices."""


@dataclass(frozen=True)
class Options:
    """The arrays and functions that a call may bring, beside y and A; arrays are of y's kind.

    x_init : x to begin with instead of 0, as large as x.
    volume_mask : 0 where voxels stay what they are in x_init; its shape may be broadcast to x's.
    projection_mask : 0 where pixels of y do not count, whatever they hold, NaN included.
    callbacks : each is called after every iteration as callback(iteration, x, residual_norm):
        iterations count from 1; x must be copied by who keeps it, and not be written to; the norm
        is that of y - A(x) as the iteration began (of subsets, each as its turn came). Any that
        returns True stops the algorithm.
    """

    x_init: Any = None
    volume_mask: Any = None
    projection_mask: Any = None
    callbacks: Sequence[Callback] = ()


@dataclass
class History:
    """A callback that keeps the residuals: `history = History()`, then `callbacks=[history]`."""

    residual_norms: list[float] = field(default_factory=list)

    def __call__(self, iteration: int, x: Any, residual_norm: float) -> None:
        self.residual_norms.append(residual_norm)


class Problem:
    """y = A x to be solved with the options of a call: what the iterations are written with.

    Where rows are independent, each is solved as if it were alone, and a row of y with NaN gives a
    slice of NaN.

    Raises
    ------
    GeometryError : y, x_init or a mask has another shape than A says.
    InputError : y is not real, or has values that are not finite and would spoil all of x.
    """

    def __init__(
        self,
        y: Any,
        A: LinearMap,
        options: Options,
        *,
        min_constraint: float | None = None,
        max_constraint: float | None = None,
        circle: bool = False,
    ) -> None:
        self.A, self.options = A, options
        self.box = min_constraint, max_constraint
        self.xp = namespace(y)
        self._radius = _view_radius(A) if circle else None
        self.volume_mask = self._mask(options.volume_mask, A.domain_shape, "volume_mask")
        self.projection_mask = self._mask(options.projection_mask, A.range_shape, "projection_mask")
        self.y = self.masked(self._float32(y, A.range_shape, "y"), self.projection_mask)
        given = options.x_init
        self.x_init = None if given is None else self._float32(given, A.domain_shape, "x_init")
        self._norm_y = norm(self.y, A)
        self._check_finite()
        self._limit: Scalar | None = None
        self._residuals: list[Scalar] = []

    def start(self) -> Any:
        """The first x, which may be written to."""
        if self.x_init is None:
            return domain_zeros(self.A, self.y)
        return fused(lambda x: x + 0.0, self.x_init, A=self.A)  # a copy, of stored arrays too

    def masked(self, values: Any, mask: Any) -> Any:
        """0 where a mask is; without a mask the very same array."""
        if mask is None:
            return values
        where = self.xp.where
        return fused(lambda v, m: where(m != 0, v, 0.0), values, mask, A=self.A)

    def forward(self, x: Any) -> Any:
        """A(x), 0 in pixels that do not count."""
        return self.masked(self.A(x), self.projection_mask)

    def adjoint(self, y: Any) -> Any:
        """A.T(y), 0 in voxels that stay what they are."""
        return self.masked(self.A.T(y), self.volume_mask)

    def residual(self, x: Any, weights: Any = None) -> tuple[Any, Scalar]:
        """(weights * (y - A(x)), the norm of y - A(x)) of the pixels that count."""
        where = self.xp.where

        def difference(projected: Any, y: Any, mask: Any, weights: Any) -> tuple[Any, Any]:
            found = y - projected
            found = found if mask is None else where(mask != 0, found, 0.0)
            return found if weights is None else weights * found, found

        projected = self.A(x)
        return fused_norm(
            difference, projected, self.y, self.projection_mask, weights, A=self.A, out=projected
        )

    def row_sums(self) -> Any:
        """A of the voxels that change, all 1: (row, angle, column)."""
        ones = self.xp.ones_like(domain_zeros(self.A, self.y))
        return self.forward(self.masked(ones, self.volume_mask))

    def column_sums(self) -> Any:
        """A.T of the pixels that count, all 1: (z, y, x)."""
        return self.adjoint(self.masked(self.xp.ones_like(self.y), self.projection_mask))

    def subset(self, selection: slice) -> Self:
        """The same problem with some of the views alone."""
        part = copy(self)
        part.A, part.y = self.A.views(selection), self.y[:, selection]
        mask = self.projection_mask
        if mask is not None and mask.shape[1] > 1:
            part.projection_mask = mask[:, selection]
        return part

    def step(self, function: Callable[..., Any], x: Any, *arrays: Any) -> Any:
        """x <- function(x, *arrays) within the box, but for the voxels that stay."""
        (low, high), xp, mask = self.box, self.xp, self.volume_mask

        def step(x: Any, mask: Any, *arrays: Any) -> Any:
            new = function(x, *arrays)
            new = new if low is None else xp.maximum(new, low)
            new = new if high is None else xp.minimum(new, high)
            return new if mask is None else xp.where(mask != 0, new, x)

        return fused(step, x, mask, *arrays, A=self.A, out=x)

    def is_stopped(self, iteration: int, x: Any, residual_norm: Scalar) -> bool:
        """Tell the callbacks of an iteration that ends, and whether one of them stops it.

        residual_norm : that of the x which the iteration began with.

        Raises
        ------
        DivergedError : a residual is not finite or 100 times as large as the first.
        """
        self._residuals.append(residual_norm)
        if self._limit is None:
            self._limit = GROWTH * np.maximum(residual_norm, self._norm_y)
        self._check_divergence(np.less_equal(residual_norm, self._limit))
        total = float(np.sqrt(np.nansum(np.square(residual_norm))))
        told = [callback(iteration, x, total) for callback in self.options.callbacks]
        return any(bool(answer) for answer in told)  # all are called before one can stop it

    def finish(self, x: Any) -> Any:
        """x, once it is known to be finite; outside of what all views have seen it is 0."""
        self._check_divergence(np.isfinite(norm(x, self.A)))
        if self._radius is not None:
            clear_outside(x, self._radius)
        return x

    def _check_divergence(self, is_fine: Any) -> None:
        bad = np.ravel(~np.asarray(is_fine) & np.isfinite(self._norm_y))
        if not bad.any():
            return
        row = int(np.flatnonzero(bad)[0])
        residuals = [float(np.ravel(values)[row]) for values in self._residuals]
        which = f" of row {row}" if bad.size > 1 else ""
        told = ", ".join(f"{value:.3g}" for value in residuals[-5:])
        raise DivergedError(
            f"iteration {len(residuals)} diverges: residual norms{which}, the last ones: {told}, "
            f"|y| = {float(np.ravel(self._norm_y)[row]):.3g}; take a smaller step (relaxation), "
            "or look whether A.T is the adjoint of A",
            residuals,
        )

    def _check_finite(self) -> None:
        if self.A.independent_rows or np.isfinite(self._norm_y):
            return
        xp = self.xp
        bad = xp.where(xp.abs(self.y) < np.inf, xp.zeros_like(self.y), 1.0)
        count = dot(bad, bad, self.A)
        raise InputError(
            f"y has {count:.0f} values that are NaN or infinite: mend them, or leave these pixels "
            "out with projection_mask"
        )

    def _float32(self, values: Any, shape: tuple[int, ...], what: str) -> Any:
        if tuple(values.shape) != tuple(shape):
            raise GeometryError(f"{what} of shape {tuple(values.shape)}: A says {tuple(shape)}")
        if is_stored(values):
            return values
        xp = namespace(values)
        if not xp.isdtype(values.dtype, ("real floating", "integral")):
            raise InputError(f"{what} of dtype {values.dtype}: real numbers are needed")
        return xp.astype(values, xp.float32, copy=False)

    def _mask(self, mask: Any, shape: tuple[int, ...], what: str) -> Any:
        """With as many axes as the array it is for."""
        if mask is None or is_stored(mask):
            return mask
        found = tuple(mask.shape)
        missing = len(shape) - len(found)
        full = (1,) * missing + found
        if missing < 0 or any(n not in (1, m) for n, m in zip(full, shape, strict=True)):
            raise GeometryError(f"{what} of shape {found}: {tuple(shape)} or what extends to it")
        return self.xp.reshape(mask, full)


def check_iterations(num_iterations: int) -> None:
    """Refuse numbers of iterations that do nothing."""
    if num_iterations < 1:
        raise InputError(f"num_iterations={num_iterations}: at least 1 is needed")


def check_box(low: float | None, high: float | None) -> None:
    """Refuse a box that holds no value."""
    if low is not None and high is not None and not low <= high:
        raise InputError(f"min_constraint={low:g} lies above max_constraint={high:g}")


def check_damp(damp: float) -> None:
    """Refuse what is no weight."""
    if not 0 <= damp < np.inf:
        raise InputError(f"damp={damp:g}: 0 or more is expected")


def check_relaxation(relaxation: float) -> None:
    """Refuse steps that go nowhere or back."""
    if not 0 < relaxation < np.inf:
        raise InputError(f"relaxation={relaxation:g}: more than 0 is expected, 1 is usual")


def inverse(sums: Any, A: LinearMap) -> Any:
    """1 / sums, and 0 where they vanish, for the weights of rays and voxels.

    sums : A or A.T of ones; may be written to. Less than `VANISHING` of their root mean square is
        none: what is seen by so little is left alone.
    """
    xp = namespace(sums)
    count = sums.size if isinstance(sums, np.ndarray) else float(np.prod(sums.shape))
    rows = sums.shape[0] if A.independent_rows else 1
    least = VANISHING * norm(sums, A) / (count / rows) ** 0.5

    def invert(sums: Any, least: Any) -> Any:
        is_seen = sums > least
        return xp.where(is_seen, 1.0 / xp.where(is_seen, sums, 1.0), 0.0)

    return fused(invert, sums, least, A=A, out=sums)


def _view_radius(A: Any) -> np.ndarray | None:
    """(rows,) pixels around the axis that views see whole, where slices are what A projects."""
    geometry = getattr(A, "geometry", None)
    if not isinstance(geometry, ParallelBeam):
        return None
    if is_half_acquisition(geometry):
        return far_radius(geometry)
    try:
        return view_radius(geometry)
    except GeometryError as error:
        raise GeometryError(f"{error}; iterative methods go on with circle=False") from error
