"""Which backend projects a volume onto views: slice by slice where they allow, else ray by ray."""

from __future__ import annotations

import logging
from dataclasses import dataclass
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
    BACKENDS,
    RAY_BACKENDS,
    RayBackend,
    load_backend,
    load_ray_backend,
    make_projector,
)

log = logging.getLogger(__name__)

ANY_RAYS = "numba_cpu"  # what "auto" takes where there are no slices


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
    """A backend for slices on the slices that the detector sees; the others see and get zeros."""

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
        self.length = np.float32(volume.voxel_size[0, 2])
        box = Box((start, 0, 0), (stop, ny, nx))
        self.A = make_projector(box, beam.take_rows(start, stop), backend, threads)

    def forward(self, volume: np.ndarray) -> np.ndarray:
        """(z, y, x) -> (row, angle, column)."""
        return self._placed(self.A(volume[self.slices]), self.rows, self.range_shape)

    def adjoint(self, projections: np.ndarray) -> np.ndarray:
        """(row, angle, column) -> (z, y, x)."""
        return self._placed(self.A.T(projections[self.rows]), self.slices, self.shape)

    def _placed(self, part: np.ndarray, where: slice, shape: tuple[int, ...]) -> np.ndarray:
        if self.length != 1:
            part *= self.length
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
        backend = ANY_RAYS if isinstance(beam, str) else "fourier"
        why = beam if isinstance(beam, str) else "the views are parallel slices"
        log.info("the backend %s projects: %s", backend, why)
    try:
        way = _way(backend, views, beam)
    except (GeometryError, DeviceError) as error:
        able = ", ".join(backends_for(volume, projections))
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


def check_seen(volume: VolumeGeometry, projections: ProjectionGeometry) -> None:
    """Refuse a volume that lies outside the beam of every view.

    Raises
    ------
    GeometryError : in each view all corners of the volume are beyond the same edge of the detector,
        or behind the source; or its steps are not those of the views.
    """
    in_voxels(volume, projections)  # refuses steps that differ
    start = projections.source if projections.is_cone else projections.det_pos
    frame = np.stack([projections.det_v, projections.det_u, projections.central_rays()], axis=1)
    # corners = start + v det_v + u det_u + depth ray, in one view or step broadcast to all
    v, u, depth = np.moveaxis((volume.corners() - start[:, None]) @ np.linalg.inv(frame), -1, 0)
    width = depth if projections.is_cone else np.ones_like(depth)
    rows, columns = projections.det_shape
    v, u = v / (rows / 2), u / (columns / 2)
    width = width * (1 - 1e-9)  # what touches the edge is not seen
    beyond = [v >= width, v <= -width, u >= width, u <= -width, width <= 0]
    if np.any([side.all(axis=1) for side in beyond], axis=0).all():
        raise GeometryError(
            f"no view sees the volume: its middle is at {volume.pos[0]}, its size "
            f"{volume.size[0]}; the first view's source or ray is {projections.source[0]} and its "
            f"detector at {projections.det_pos[0]}, {projections.det_size[0]} high and wide"
        )


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
