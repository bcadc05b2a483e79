"""ASTRA's projectors for rays of any direction, on a GPU by CUDA. GPL-3.0: only when asked for.

van Aarle et al. 2016, doi:10.1364/OE.24.025129. The projection is Joseph's; the back-projection is
driven by voxels and is *not* its transpose: the two differ by about a percent of noise at the scale
of a voxel, so that methods which need a matched pair (CGLS, LSQR, PDHG) may drift in the end.

ASTRA sees the views as the voxels do, whatever the volume was in the world; lengths follow after.
"""

from __future__ import annotations

from typing import Any

import astra
import astra.experimental
import numpy as np
from array_api_compat import array_namespace, device

from tomodask.errors import DeviceError
from tomodask.geometry import ProjectionGeometry, VoxelViews, to_astra, volume


class AstraRays:
    """Line integrals by ASTRA on its GPU, of arrays there or on the host; `threads` not used."""

    def __init__(self, views: VoxelViews, threads: int = 1) -> None:
        if not self.has_gpu():
            raise DeviceError(
                "ASTRA finds no GPU here, and projects rays of any direction only there: take the "
                "backend numba_cpu"
            )
        self.views = views
        self.lengths = voxel_lengths(views)
        self._projector = astra.create_projector(
            "cuda3d", to_astra(around_the_middle(views)), to_astra(volume(shape=views.shape))
        )

    def __del__(self) -> None:
        if hasattr(self, "_projector"):
            astra.projector3d.delete(self._projector)

    def forward(self, volume: Any) -> Any:
        """(z, y, x) -> (row, angle, column), lengths of the world."""
        projections = _empty(volume, self.views.range_shape)
        astra.experimental.direct_FP3D(self._projector, _contiguous(volume), projections)
        return projections * self._lengths_like(volume)

    def adjoint(self, projections: Any) -> Any:
        """(row, angle, column) -> (z, y, x), lengths of the world."""
        result = _empty(projections, self.views.shape)
        scaled = _contiguous(projections * self._lengths_like(projections))
        astra.experimental.direct_BP3D(self._projector, result, scaled)
        return result

    def _lengths_like(self, array: Any) -> Any:
        """(angle, 1) length of a voxel in each view, where the array is."""
        lengths = self.lengths.astype(np.float32)[:, None]
        return array_namespace(array).asarray(lengths, device=device(array))

    @staticmethod
    def has_gpu() -> bool:
        """Whether ASTRA finds a GPU that it can use."""
        return bool(astra.use_cuda())

    @staticmethod
    def refusal(views: VoxelViews) -> str | None:
        """Voxels that are not cubes: ASTRA's lengths are those of voxels."""
        if np.isnan(voxel_lengths(views)).any():
            sizes = np.sqrt(np.einsum("vaa->va", views.metric))
            return f"its voxels must be cubes, these are {sizes[0]} (z, y, x) in the first view"
        return None

    @staticmethod
    def memory_bytes(views: VoxelViews, threads: int) -> int:
        """The scaled copy of the projections; what ASTRA keeps on the GPU is not counted."""
        rows, num_angles, columns = views.range_shape
        return 4 * rows * num_angles * columns


def voxel_lengths(views: VoxelViews) -> np.ndarray:
    """(num_angles,) edge of a voxel in the world, NaN where it is not a cube."""
    edge = np.sqrt(views.metric[:, 0, 0])
    cube = edge[:, None, None] ** 2 * np.eye(3)
    is_cube = np.abs(views.metric - cube).max(axis=(1, 2)) <= 1e-9 * edge**2
    return np.where(is_cube, edge, np.nan)


def around_the_middle(views: VoxelViews) -> ProjectionGeometry:
    """The views in voxels from the volume's middle, where ASTRA has its origin."""
    middle = (np.array(views.shape) - 1) / 2
    rows, columns = views.det_shape
    detector = views.first + (rows - 1) / 2 * views.step_v + (columns - 1) / 2 * views.step_u
    source = views.source - middle if views.beam == "cone" else views.source
    return ProjectionGeometry(
        views.beam, views.det_shape, source, detector - middle, views.step_v, views.step_u
    )


def _empty(like: Any, shape: tuple[int, ...]) -> Any:
    xp = array_namespace(like)
    return xp.empty(shape, dtype=xp.float32, device=device(like))


def _contiguous(array: Any) -> Any:
    """The array without gaps: torch and the NumPy family name this differently."""
    if hasattr(array, "contiguous"):
        return array.contiguous()
    return array_namespace(array).ascontiguousarray(array)
