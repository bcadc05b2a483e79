"""The projector A and its adjoint A.T: one backend a file, all held to the same contracts.

`make_projector` loads the backend asked for and nothing else. `tomodask.testing` has the laws that
every backend keeps; `reference` is the one to read first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from typing import Protocol, cast, runtime_checkable

import numpy as np

from tomodask.blocks import MemoryNeed
from tomodask.errors import GeometryError, InputError, MissingPackageError
from tomodask.geometry import Box, ParallelBeam, VoxelViews
from tomodask.projectors.parts import Part
from tomodask.projectors.rowfilter import PadMode, RowFilter

BACKENDS = {
    "reference": "tomodask.projectors.reference:ReferenceBackend",
    "fourier": "tomodask.projectors.fourier:FourierBackend",
    "finufft": "tomodask.projectors.finufft:FinufftBackend",
    "astra": "tomodask.projectors.astra:AstraBackend",
    "numba_cpu": "tomodask.projectors.joseph_slices:JosephSlices",
}

# those that take any source, detector and volume, a pose a view (`VoxelViews`)
RAY_BACKENDS = {
    "reference": "tomodask.projectors.reference_rays:ReferenceRays",
    "numba_cpu": "tomodask.projectors.numba_cpu:NumbaRays",
    "astra": "tomodask.projectors.astra_rays:AstraRays",
}

# what a backend needs beside NumPy and SciPy: the package it imports, and what installs it
PACKAGES = {
    "fourier": ("numba", "tomodask"),
    "numba_cpu": ("numba", "tomodask"),
    "finufft": ("finufft", "tomodask"),
    "astra": ("astra", "tomodask[astra]"),
}

SLICE_BACKEND, ANY_RAYS = "fourier", "numba_cpu"  # what "auto" takes for slices, and for all else

CENTER_STEP = 2.0**-16  # columns


class Backend(Protocol):
    """What a projector file must have, no more.

    Lengths are in pixels, and shapes and dtypes have been checked: volume (z, y, x) and sinograms
    (row, angle, column), float32, perhaps strided. The bytes of a row may depend on that row alone,
    never on the rows beside it or on the number of threads.
    """

    def __init__(self, shape_yx: tuple[int, int], geometry: ParallelBeam, threads: int) -> None: ...

    def forward(self, volume: np.ndarray) -> np.ndarray: ...

    def adjoint(self, sinograms: np.ndarray) -> np.ndarray: ...

    @staticmethod
    def memory_bytes(
        num_angles: int, det_count: int, shape_yx: tuple[int, int], threads: int
    ) -> int:
        """Working memory that does not grow with the rows."""

    @staticmethod
    def row_bytes(num_angles: int, det_count: int, shape_yx: tuple[int, int]) -> int:
        """Working memory of each row, beside one sinogram and one slice."""


class RayBackend(Protocol):
    """What a projector of any geometry must have, no more.

    Lengths are those of the world (`VoxelViews.metric`). Shapes and dtypes have been checked:
    volume (z, y, x) and projections (row, angle, column), float32, perhaps strided. The bytes do
    not depend on the number of threads.
    """

    def __init__(self, views: VoxelViews, threads: int) -> None: ...

    def forward(self, volume: np.ndarray) -> np.ndarray: ...

    def adjoint(self, projections: np.ndarray) -> np.ndarray: ...

    @staticmethod
    def refusal(views: VoxelViews) -> str | None:
        """Why these views can't be projected, None where they can; nothing is computed."""

    @staticmethod
    def memory_bytes(views: VoxelViews, threads: int) -> int:
        """Working memory beside volume and projections."""


@runtime_checkable
class FilteringBackend(Protocol):
    """A backend that filters while it back-projects, without a second copy of the sinograms."""

    def filtered_adjoint(self, sinograms: np.ndarray, row_filter: RowFilter) -> np.ndarray: ...


@runtime_checkable
class SplittingBackend(Protocol):
    """A backend that filters all views once and back-projects parts of them."""

    def filtered_adjoint_parts(
        self, sinograms: np.ndarray, row_filter: RowFilter, parts: Sequence[Part]
    ) -> np.ndarray: ...


@runtime_checkable
class CompiledBackend(Protocol):
    """A backend whose inner loops are compiled when they are used first on a machine."""

    @staticmethod
    def prepare() -> float:
        """Compile what is not there yet, once a process; the seconds it took."""


class Projector:
    """A(x) projects a volume, A.T(y) back-projects sinograms: line integrals and their adjoint.

    x : (z, y, x) in `geometry.value_unit`; y : (row, angle, column), no unit. Any real dtype is
    taken and turned into float32; the results are float32.

    independent_rows : each row of y is the projection of the slice of the same index alone.
    """

    independent_rows = True

    def __init__(
        self,
        shape_yx: tuple[int, int],
        geometry: ParallelBeam,
        backend: type[Backend],
        threads: int = 1,
    ) -> None:
        self.geometry = geometry
        self.threads = threads
        self.domain_shape = (geometry.det_rows, *shape_yx)
        self.range_shape = (geometry.det_rows, geometry.num_angles, geometry.det_count)
        self._kind = backend
        self._backend = backend(shape_yx, geometry, threads)
        self._widened: dict[tuple[int, int], Projector] = {}

    def __call__(self, volume: np.ndarray) -> np.ndarray:
        """Line integrals of the volume, (row, angle, column)."""
        sinograms = self._backend.forward(_checked(volume, self.domain_shape, "volume (z, y, x)"))
        return self._in_lengths(sinograms)

    def T(self, sinograms: np.ndarray) -> np.ndarray:  # noqa: N802  (the transpose of A)
        """Back-projection, the adjoint of `__call__`, (z, y, x)."""
        return self._in_lengths(self._backend.adjoint(self._checked_sinograms(sinograms)))

    def filtered_adjoint(
        self,
        sinograms: np.ndarray,
        response: np.ndarray,
        weights: np.ndarray,
        pad_mode: PadMode = "zero",
    ) -> np.ndarray:
        """Filter each row of the sinograms, weight the views, back-project: (z, y, x).

        response : (n // 2 + 1,) real spectrum of an even kernel on n points, n even, at least twice
            the columns for a ramp (a shorter one wraps around).
        weights : (num_angles,) one factor a view.
        pad_mode : what lies beyond the detector's edges while filtering.
        """
        row_filter = RowFilter(response, weights, pad_mode)
        row_filter.check(self.geometry.num_angles, self.geometry.det_count)
        checked = self._checked_sinograms(sinograms)
        if isinstance(self._backend, FilteringBackend):
            return self._in_lengths(self._backend.filtered_adjoint(checked, row_filter))
        filtered = np.empty(self.range_shape, np.float32)
        for row, sinogram in enumerate(checked):
            row_filter.apply(sinogram, out=filtered[row])
        return self._in_lengths(self._backend.adjoint(filtered))

    def filtered_adjoint_parts(
        self,
        sinograms: np.ndarray,
        response: np.ndarray,
        weights: np.ndarray,
        parts: Sequence[Part],
        pad_mode: PadMode = "zero",
    ) -> np.ndarray:
        """`filtered_adjoint` of the views of each part alone, times its factor: (part, z, y, x).

        The rows are filtered once for all parts. Where the factors are 1 and each view is in one
        part, the parts add up to `filtered_adjoint`.
        """
        row_filter = RowFilter(response, weights, pad_mode)
        row_filter.check(self.geometry.num_angles, self.geometry.det_count)
        checked = self._checked_sinograms(sinograms)
        if isinstance(self._backend, SplittingBackend):
            parted = self._backend.filtered_adjoint_parts(checked, row_filter, parts)
            return self._in_lengths(parted)
        volumes = np.empty((len(parts), *self.domain_shape), np.float32)
        for volume, part in zip(volumes, parts, strict=True):
            some = np.ascontiguousarray(checked[:, part.views])
            one = self.views(part.views)
            made = one.filtered_adjoint(some, response, weights[part.views], pad_mode)
            np.multiply(made, np.float32(part.scale), out=volume)
        return volumes

    def widened(self, before: int, after: int) -> Projector:
        """The same volume on a detector with more columns at both ends."""
        if (before, after) not in self._widened:
            geometry = replace(
                self.geometry,
                det_count=before + self.geometry.det_count + after,
                center_of_rotation=self.geometry.centers()[0] + before,
            )
            _, ny, nx = self.domain_shape
            self._widened[before, after] = Projector((ny, nx), geometry, self._kind, self.threads)
        return self._widened[before, after]

    @property
    def num_angles(self) -> int:
        return self.geometry.num_angles

    def views(self, selection: slice | np.ndarray) -> Projector:
        """The same volume seen by some of the views: a slice, or an array of their indices."""
        _, ny, nx = self.domain_shape
        geometry = self.geometry.take_views(selection)
        return Projector((ny, nx), geometry, self._kind, self.threads)

    def _checked_sinograms(self, sinograms: np.ndarray) -> np.ndarray:
        return _checked(sinograms, self.range_shape, "sinograms (row, angle, column)")

    def _in_lengths(self, result: np.ndarray) -> np.ndarray:
        if self.geometry.pixel_length != 1:
            result *= np.float32(self.geometry.pixel_length)
        return result


def row_centers(geometry: ParallelBeam) -> np.ndarray:
    """(det_rows,) columns of the axis; a row has the very same one in every block it is cut into.

    `center_of_rotation + center_slope * row` is summed in another order for each block, and differs
    in its last bits; rounding to `CENTER_STEP` makes the blocks agree.
    """
    return np.round(geometry.centers() / CENTER_STEP) * CENTER_STEP


def available_backends() -> list[str]:
    """The backends whose packages are installed; nothing is imported to find out."""
    return [name for name in BACKENDS if name not in PACKAGES or find_spec(PACKAGES[name][0])]


def available_ray_backends() -> list[str]:
    """The backends for rays whose packages are installed; nothing is imported to find out."""
    return [name for name in RAY_BACKENDS if name not in PACKAGES or find_spec(PACKAGES[name][0])]


def load_backend(name: str) -> type[Backend]:
    """The class of a backend, by its name in `BACKENDS` or as "module:Class" (a plug-in).

    "auto" is `SLICE_BACKEND`.

    Raises
    ------
    InputError : no backend has this name.
    MissingPackageError : its package is not installed.
    """
    name = SLICE_BACKEND if name == "auto" else name
    return cast("type[Backend]", _load(name, BACKENDS))


def load_ray_backend(name: str) -> type[RayBackend]:
    """The class of a backend for rays, by its name in `RAY_BACKENDS` or as "module:Class".

    Raises
    ------
    InputError, MissingPackageError : as `load_backend`.
    """
    return cast("type[RayBackend]", _load(name, RAY_BACKENDS))


def _load(name: str, table: dict[str, str]) -> object:
    path = name if ":" in name else table.get(name)
    if path is None:
        raise InputError(f"no projector backend {name!r}: there are {', '.join(table)}")
    module, _, class_name = path.partition(":")
    try:
        return getattr(import_module(module), class_name)
    except ModuleNotFoundError as error:
        package, source = PACKAGES.get(name, ("", ""))
        if error.name != package:
            raise
        raise MissingPackageError(
            f"the backend {name!r} needs the package {package}, which is not installed: "
            f"pip install {source}"
        ) from error


def prepare_backend(name: str, for_rays: bool = False) -> None:
    """Have a backend compile what it needs, before workers start that would each do so."""
    kind = load_ray_backend(name) if for_rays else load_backend(name)
    if isinstance(kind, CompiledBackend):
        kind.prepare()


def make_projector(
    box: Box, geometry: ParallelBeam, backend: str = "fourier", threads: int = 1
) -> Projector:
    """The projector between the voxels of `box` and the detector rows that `geometry` spans.

    box : whole slices (y and x start at 0) of any size, centred on the rotation axis; as many
        rows as `geometry`, which is cut to the rows that the box needs before.
    threads : number of threads that share the rows; the result does not depend on it.

    Raises
    ------
    GeometryError : the centre of rotation is unknown, the rows differ, or the box is not whole
        slices.
    InputError, MissingPackageError : see `load_backend`.
    """
    rows, *shape_yx = box.shape
    if rows != geometry.det_rows:
        raise GeometryError(
            f"a box of {rows} rows and a geometry of {geometry.det_rows}: cut the geometry to the "
            "rows of the box with take_rows"
        )
    if box.start[1:] != (0, 0) or min(shape_yx) < 1:
        raise GeometryError(
            f"a box from {box.start} to {box.stop} (z, y, x): a projector needs whole slices, "
            "y and x from 0 to at least 1"
        )
    if threads < 1:
        raise InputError(f"threads={threads}: at least 1 is needed")
    if not np.isfinite(geometry.centers()).all():  # centers() refuses an unknown centre
        raise GeometryError(f"centre of rotation {geometry.center_of_rotation}: not finite")
    return Projector(box.shape[1:], geometry, load_backend(backend), threads)


def memory_need(
    backend: str, geometry: ParallelBeam, shape_yx: tuple[int, int], threads: int
) -> MemoryNeed:
    """Working memory that a projector declares, beside the sinograms and the volume."""
    kind = load_backend(backend)
    size = geometry.num_angles, geometry.det_count, shape_yx
    return MemoryNeed(kind.memory_bytes(*size, threads), kind.row_bytes(*size))


def _checked(array: np.ndarray, shape: tuple[int, ...], what: str) -> np.ndarray:
    array = np.asarray(array)
    if array.shape != shape:
        raise GeometryError(f"{what} of shape {array.shape}: this projector takes {shape}")
    if array.dtype.kind not in "fiu":
        raise InputError(f"{what} of dtype {array.dtype}: real numbers are needed")
    return array.astype(np.float32, copy=False)
