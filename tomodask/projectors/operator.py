"""A = operator(volume, projections): any geometry as the linear map that algorithms are written on.

    A = operator(volume, projections)
    y = A(x)  # line integrals: x (z, y, x) -> y (row, angle, column)
    b = A.T(y)  # their adjoint

Lengths are those of the world: x in 1/mm gives y without a unit where the geometry is in mm.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import ArrayLike

from tomodask.errors import GeometryError, InputError
from tomodask.geometry import (
    ParallelBeam,
    ProjectionGeometry,
    VolumeGeometry,
    check_visible,
    in_voxels,
)
from tomodask.geometry.slices import as_parallel_beam
from tomodask.projectors import Projector
from tomodask.projectors.choice import SlicePair, choose, gpu_backends
from tomodask.projectors.device_arrays import (
    check_out,
    check_shape,
    is_on_gpu,
    like,
    on_host,
    refuse_gpu,
    to_float32,
)

Views = int | slice | np.ndarray


def operator(
    volume: VolumeGeometry,
    projections: ProjectionGeometry,
    backend: str = "auto",
    *,
    threads: int | None = None,
    volume_mask: ArrayLike | None = None,
    projection_mask: ArrayLike | None = None,
) -> Operator:
    """The projector of a volume onto views, with its adjoint.

    Parameters
    ----------
    backend : a name in `BACKENDS` or `RAY_BACKENDS`; "auto" takes `fourier` where the views are
        parallel and the rows of the detector lie on the slices of the volume, otherwise
        `numba_cpu`, and says so in the log (INFO).
    threads : all cores that this process may use unless given; the result does not depend on it.
    volume_mask, projection_mask : factors of the voxels before they are projected, and of the
        projections after (in A.T the other way round), most often true and false. Anything that
        broadcasts to (z, y, x) and (row, angle, column).

    Raises
    ------
    GeometryError : the backend can't project this geometry (those that can are named), no view
        sees the volume, the volume has neither one step nor one a view, or a mask does not fit.
    DeviceError : the backend needs a GPU and there is none.
    InputError, MissingPackageError : there is no such backend, or its package is not installed.
    """
    check_visible(volume, projections)
    return Operator(volume, projections, backend, threads, volume_mask, projection_mask)


class Operator:
    """A linear map between a volume and its projections; made by `operator`.

    A(x) and A.T(y) take real arrays of NumPy, torch, CuPy or whatever else speaks DLPack, and give
    back float32 of the same library, on the same device. Axes before the three of a volume are
    those of a batch and are kept.

    domain, range : the geometries between which A maps.
    domain_shape : (z, y, x). range_shape : (row, angle, column).
    backend : name of the backend that projects.
    independent_rows : row i of y and slice i of x belong together, and to no others; true where
        the backend projects slice by slice, and there are as many rows as slices.
    """

    def __init__(
        self,
        volume: VolumeGeometry,
        projections: ProjectionGeometry,
        backend: str = "auto",
        threads: int | None = None,
        volume_mask: ArrayLike | None = None,
        projection_mask: ArrayLike | None = None,
    ) -> None:
        if threads is not None and threads < 1:
            raise InputError(f"threads={threads}: at least 1 is needed")
        self.domain, self.range = volume, projections
        self.threads = cores() if threads is None else threads
        self.domain_shape = volume.shape
        self.range_shape = in_voxels(volume, projections).range_shape
        self.volume_mask = _mask(volume_mask, self.domain_shape, "volume mask (z, y, x)")
        self.projection_mask = _mask(
            projection_mask, self.range_shape, "projection mask (row, angle, column)"
        )
        choice = choose(volume, projections, backend, self.threads)
        self.backend = choice.name
        self.independent_rows = choice.by_slices and _same_rows(volume, projections)
        x = _Space("volume (z, y, x)", self.domain_shape, self.volume_mask)
        y = _Space("projections (row, angle, column)", self.range_shape, self.projection_mask)
        self._pair = choice.pair
        self._forward = _Way(choice.pair.forward, x, y, choice.name, choice.on_gpu)
        self._adjoint = _Way(choice.pair.adjoint, y, x, choice.name, choice.on_gpu)

    def __call__(self, x: Any, out: Any = None) -> Any:
        """Line integrals, (..., row, angle, column); written to `out` if given."""
        return self._forward(x, out)

    @cached_property
    def T(self) -> Transpose:  # noqa: N802  (the transpose of A)
        """The adjoint, itself an operator: A.T(y), and A.T.T is A."""
        return Transpose(self)

    @property
    def volume(self) -> VolumeGeometry:
        return self.domain

    @property
    def projections(self) -> ProjectionGeometry:
        return self.range

    @property
    def num_angles(self) -> int:
        return self.range_shape[1]

    def views(self, selection: Views) -> Operator:
        """The operator of some of the views, by the same backend: a slice, indices or a mask."""
        if isinstance(selection, int | np.integer):
            selection = np.array([selection])
        volume = self.domain if self.domain.is_resting else self.domain[selection]
        repeated = self.range.num_angles == 1 and not self.domain.is_resting
        projections = self.range if repeated else self.range[selection]
        mask = self.projection_mask
        return Operator(
            volume,
            projections,
            self.backend,
            self.threads,
            self.volume_mask,
            None if mask is None else mask[:, selection],
        )

    def __getitem__(self, selection: Views) -> Operator:
        """`A[k::4]` is `A.views(np.s_[k::4])`."""
        return self.views(selection)

    def on_slices(self, method: Callable[[np.ndarray, Projector], np.ndarray], y: Any) -> Any:
        """method(y, projector) with the projector of slices that does this operator's work.

        For methods that need more than A and A.T, such as filtered back-projection. y and the
        result are arrays of one library on the host.

        Raises
        ------
        GeometryError : rows are not independent.
        InputError : there are masks, of which the projector knows nothing.
        """
        name = type(method).__name__
        if not isinstance(self._pair, SlicePair) or not self.independent_rows:
            beam = as_parallel_beam(self.domain, self.range)
            why = beam if isinstance(beam, str) else f"{self!r} does not project them one by one"
            raise GeometryError(
                f"{name} needs slices of a parallel beam, each on a row of its own, {why}: take an "
                "algorithm for any geometry, such as SIRT, or FDK for a cone beam"
            )
        if self.volume_mask is not None or self.projection_mask is not None:
            raise InputError(f"{name} takes no masks: give it an operator without")
        what = "projections (row, angle, column)"
        if is_on_gpu(y):
            raise refuse_gpu(what, self.backend, [])
        return like(y, method(on_host(y, what), self._pair.A))

    def autograd(self, x: Any) -> Any:
        """A(x) of a torch tensor, through which gradients of any order flow back by A.T."""
        return _differentiable(self, x)

    def __repr__(self) -> str:
        return f"Operator({self.backend}: {self.domain_shape} -> {self.range_shape})"


class Transpose:
    """The adjoint of an operator, with domain and range changed over."""

    def __init__(self, A: Operator) -> None:
        self.T = A
        self.domain, self.range = A.range, A.domain
        self.domain_shape, self.range_shape = A.range_shape, A.domain_shape

    def __call__(self, y: Any, out: Any = None) -> Any:
        """Back-projection, (..., z, y, x); written to `out` if given."""
        return self.T._adjoint(y, out)

    @property
    def backend(self) -> str:
        return self.T.backend

    @property
    def num_angles(self) -> int:
        return self.T.num_angles

    @property
    def independent_rows(self) -> bool:
        return self.T.independent_rows

    def views(self, selection: Views) -> Transpose:
        """The adjoint of `A.views(selection)`."""
        return self.T.views(selection).T

    def __getitem__(self, selection: Views) -> Transpose:
        return self.views(selection)

    def autograd(self, y: Any) -> Any:
        """A.T(y) of a torch tensor, through which gradients of any order flow back by A."""
        return _differentiable(self, y)

    def __repr__(self) -> str:
        return f"Transpose({self.backend}: {self.domain_shape} -> {self.range_shape})"


@dataclass(frozen=True, eq=False)
class _Space:
    """One side of an operator: what its arrays are called, their shape and their mask."""

    what: str
    shape: tuple[int, int, int]
    mask: np.ndarray | None


@dataclass(frozen=True, eq=False)
class _Way:
    """One direction of an operator: checks, masks, batches and devices around a backend."""

    run: Callable[[Any], Any]
    start: _Space
    end: _Space
    backend: str
    takes_gpu: bool

    def __call__(self, array: Any, out: Any = None) -> Any:
        if is_on_gpu(array):
            if not self.takes_gpu:
                raise refuse_gpu(self.start.what, self.backend, gpu_backends())
            batch = check_shape(tuple(array.shape), self.start.shape, self.start.what)
            result = self._on_gpu(array, batch)
        else:
            host = on_host(array, self.start.what)
            batch = check_shape(host.shape, self.start.shape, self.start.what)
            result = like(array, self._on_host(to_float32(host, self.start.what), batch))
        if out is None:
            return result
        check_out(out, array, (*batch, *self.end.shape))
        out[...] = result
        return out

    def _on_host(self, host: np.ndarray, batch: tuple[int, ...]) -> np.ndarray:
        if not batch:
            return np.asarray(self._one(host, self.start.mask, self.end.mask, np))
        results = np.empty((*batch, *self.end.shape), np.float32)
        for index in np.ndindex(batch):
            results[index] = self._one(host[index], self.start.mask, self.end.mask, np)
        return results

    def _on_gpu(self, array: Any, batch: tuple[int, ...]) -> Any:
        """The same where the array is: nothing but the masks is copied to the device."""
        xp = array_namespace(array)
        if not xp.isdtype(array.dtype, ("integral", "real floating")):
            raise InputError(f"{self.start.what} of dtype {array.dtype}: real numbers are expected")
        before, after = (
            None if space.mask is None else xp.asarray(np.array(space.mask), device=device(array))
            for space in (self.start, self.end)
        )
        flat = xp.reshape(xp.astype(array, xp.float32, copy=False), (-1, *self.start.shape))
        results = [self._one(flat[i], before, after, xp) for i in range(flat.shape[0])]
        return xp.reshape(xp.stack(results), (*batch, *self.end.shape))

    def _one(self, array: Any, before: Any, after: Any, xp: Any) -> Any:
        if before is not None:
            array = xp.where(before != 0, array * before, 0)  # what is masked may be NaN
        result = self.run(array)
        if after is not None:
            result = xp.where(after != 0, result * after, 0)
        return result


def _same_rows(volume: VolumeGeometry, projections: ProjectionGeometry) -> bool:
    beam = as_parallel_beam(volume, projections)
    aligned = isinstance(beam, ParallelBeam) and beam.row_start == 0
    return aligned and volume.shape[0] == projections.det_shape[0]


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _mask(mask: Any, shape: tuple[int, int, int], what: str) -> np.ndarray | None:
    if mask is None:
        return None
    factors = np.asarray(on_host(mask, what))
    if factors.dtype.kind not in "bfiu" or not np.isfinite(factors).all():
        raise InputError(f"{what} of dtype {factors.dtype}: truths or finite factors are expected")
    try:
        return np.broadcast_to(factors.astype(np.float32), shape)
    except ValueError:
        raise GeometryError(
            f"{what} of shape {factors.shape}: one that broadcasts to {shape} is expected"
        ) from None


def _differentiable(A: Operator | Transpose, array: Any) -> Any:
    # torch takes seconds to import, and may not be installed
    torch_gradients = import_module("tomodask.projectors.torch_gradients")
    return torch_gradients.differentiable(A, array)
