"""Which backend projects a volume onto views: slice by slice where they allow, else ray by ray."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from tomodask.errors import DeviceError, GeometryError, InputError, TomodaskError
from tomodask.geometry import (
    Box,
    ParallelBeam,
    ProjectionGeometry,
    VolumeGeometry,
    VoxelViews,
    in_voxels,
)
from tomodask.geometry.slices import as_parallel_beam
from tomodask.projectors import (
    ANY_RAYS,
    BACKENDS,
    RAY_BACKENDS,
    SLICE_BACKEND,
    RayBackend,
    load_backend,
    load_ray_backend,
    make_projector,
    prepare_backend,
)

log = logging.getLogger(__name__)


class Pair(Protocol):
    """Projection of one volume and its adjoint, in lengths of the world."""

    def forward(self, volume: np.ndarray) -> np.ndarray: ...

    def adjoint(self, projections: np.ndarray) -> np.ndarray: ...


@runtime_checkable
class GpuBackend(Protocol):
    """A backend for rays that runs on a GPU: it takes arrays there as well as on the host."""

    @staticmethod
    def has_gpu() -> bool:
        """Whether this machine has a GPU that the backend can use."""


@dataclass(frozen=True)
class Choice:
    """The pair that was chosen and the backend's name.

    by_slices : a row of the detector sees one slice and nothing of others, not even by rounding.
    on_gpu : it takes arrays on a GPU.
    """

    pair: Pair
    name: str
    by_slices: bool = False
    on_gpu: bool = False


class SlicePair:
    """A backend for slices on the slices that the detector sees; the others see and get zeros.

    A : the projector of these slices; its pixels are as long as voxels are in the world.
    """

    def __init__(
        self,
        volume: VolumeGeometry,
        projections: ProjectionGeometry,
        beam: ParallelBeam,
        backend: str,
        threads: int,
    ) -> None:
        (nz, ny, nx), det_rows = volume.shape, projections.det_shape[0]
        start, stop = max(0, -beam.row_start), min(nz, det_rows - beam.row_start)
        self.slices = slice(start, stop)
        self.rows = slice(start + beam.row_start, stop + beam.row_start)
        self.shape = volume.shape
        self.range_shape = (det_rows, beam.num_angles, beam.det_count)
        box = Box((start, 0, 0), (stop, ny, nx))
        sized = replace(beam.take_rows(start, stop), pixel_size_um=1000 * volume.voxel_size[0, 2])
        self.A = make_projector(box, sized, backend, threads)

    def forward(self, volume: np.ndarray) -> np.ndarray:
        """(z, y, x) -> (row, angle, column)."""
        return self._placed(self.A(volume[self.slices]), self.rows, self.range_shape)

    def adjoint(self, projections: np.ndarray) -> np.ndarray:
        """(row, angle, column) -> (z, y, x)."""
        return self._placed(self.A.T(projections[self.rows]), self.slices, self.shape)

    def _placed(self, part: np.ndarray, where: slice, shape: tuple[int, ...]) -> np.ndarray:
        if part.shape == shape:
            return part
        whole = np.zeros(shape, np.float32)
        whole[where] = part
        return whole


def choose(
    volume: VolumeGeometry, projections: ProjectionGeometry, backend: str, threads: int
) -> Choice:
    """The backend of that name made ready; the log says what "auto" took.

    Raises
    ------
    GeometryError : the backend can't project this, or the volume's steps are not those of the
        views.
    DeviceError : the backend needs a GPU and there is none.
    InputError, MissingPackageError : see `load_backend`.
    """
    views = in_voxels(volume, projections)
    beam = as_parallel_beam(volume, projections)
    if backend == "auto":
        backend = ANY_RAYS if isinstance(beam, str) else SLICE_BACKEND
        why = beam if isinstance(beam, str) else "the views are parallel slices"
        log.info("the backend %s projects: %s", backend, why)
    try:
        way = _way(backend, views, beam)
    except (GeometryError, DeviceError) as error:
        able = " or ".join(backends_for(volume, projections))
        raise type(error)(f"{error}: take {able}") from None
    if way == "slices" and isinstance(beam, ParallelBeam):
        pair = SlicePair(volume, projections, beam, backend, threads)
        return Choice(pair, backend, by_slices=True)
    return Choice(load_ray_backend(backend)(views, threads), backend, on_gpu=way == "gpu rays")


def backends_for(volume: VolumeGeometry, projections: ProjectionGeometry) -> list[str]:
    """The backends that can project this volume onto these views, on this machine."""
    views, beam = in_voxels(volume, projections), as_parallel_beam(volume, projections)
    able = []
    for backend in {**BACKENDS, **RAY_BACKENDS}:
        try:
            _way(backend, views, beam)
        except TomodaskError:
            continue
        able.append(backend)
    return able


def _way(
    backend: str, views: VoxelViews, beam: ParallelBeam | str
) -> Literal["slices", "rays", "gpu rays"]:
    """How a backend projects this: on a GPU if it can, else by slices where there are some.

    Raises
    ------
    GeometryError, DeviceError : it can't, and why.
    InputError, MissingPackageError : see `load_backend`.
    """
    takes_slices, rays = _kinds(backend)
    needs_gpu = isinstance(rays, GpuBackend)
    if isinstance(rays, GpuBackend) and rays.has_gpu() and rays.refusal(views) is None:
        return "gpu rays"
    if takes_slices and isinstance(beam, ParallelBeam):
        return "slices"
    refusal = beam if rays is None else rays.refusal(views)
    if refusal is not None:
        raise GeometryError(f"{backend} can't project this, {refusal}")
    if needs_gpu:
        raise DeviceError(
            f"{backend} needs a GPU for this and finds none here; on the CPU it takes parallel "
            "slices alone"
        )
    return "rays"


def gpu_backends() -> list[str]:
    """The backends for rays that can use the GPU of this machine."""
    names: list[str] = []
    for name in RAY_BACKENDS:
        try:
            kind = load_ray_backend(name)
        except TomodaskError:
            continue
        if isinstance(kind, GpuBackend) and kind.has_gpu():
            names.append(name)
    return names


def _kinds(backend: str) -> tuple[bool, type[RayBackend] | None]:
    """Whether a backend projects slices, and its class for rays if it has one."""
    if ":" in backend:
        kind: Any = load_backend(backend)
        return (False, kind) if hasattr(kind, "refusal") else (True, None)
    if backend not in BACKENDS and backend not in RAY_BACKENDS:
        names = ", ".join({**BACKENDS, **RAY_BACKENDS})
        raise InputError(f"no projector backend {backend!r}: there are auto, {names}")
    if backend in BACKENDS:
        load_backend(backend)  # its package may be missing
    by_rays = load_ray_backend(backend) if backend in RAY_BACKENDS else None
    return backend in BACKENDS, by_rays


def prepare_for(volume: VolumeGeometry, projections: ProjectionGeometry, backend: str) -> None:
    """Have the backend that will project this compile what it needs, once for all workers."""
    is_slices = isinstance(as_parallel_beam(volume, projections), ParallelBeam)
    if backend == "auto":
        backend = SLICE_BACKEND if is_slices else ANY_RAYS
    prepare_backend(backend, for_rays=not (is_slices and backend in BACKENDS))
