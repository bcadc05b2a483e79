"""FDK of a scan larger than memory: rows are filtered as they come, slices made even as they go.

The filter works along the rows and the evenness voxel by voxel, so between them stand two
back-projections alone: of the filtered views, and of their cosines.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from distributed import Client

from tomodask.blockwise.arrays import StoredArray
from tomodask.blockwise.operator import StoredOperator, geometry_hash
from tomodask.blockwise.reconstruct import VERSION, stored
from tomodask.blockwise.tasks import bytes_read_by
from tomodask.blockwise.workspace import hash_of, open_workspace
from tomodask.cluster.run import Listener, silent
from tomodask.geometry import Box, ProjectionGeometry, VolumeGeometry
from tomodask.reconstruct.fdk import FDK, FDKParts, widened_views

Load = Callable[[int, int], np.ndarray]


@dataclass(frozen=True, eq=False)
class FDKBlocks:
    """The two back-projections, and what is needed to make slices of them.

    volume, constant : (z, y, x) stored arrays: A.T of the filtered views, and of their cosines.
    """

    volume: StoredArray
    constant: StoredArray
    evenness: Evenness


@dataclass(frozen=True, eq=False)
class Evenness:
    """Makes slices even; small enough to be sent to the workers."""

    geometry: VolumeGeometry
    parts: FDKParts
    threads: int

    def __call__(self, slices: np.ndarray, constant: np.ndarray, start: int) -> np.ndarray:
        """Slices from `start` on, divided in place by what constant views become."""
        _, ny, nx = self.geometry.shape
        part = self.geometry.part(Box((start, 0, 0), (start + len(slices), ny, nx)))
        self.parts.divide(slices, constant, part, self.threads)
        return slices


def fdk_blockwise(
    load: Load,
    fdk: FDK,
    volume: VolumeGeometry,
    projections: ProjectionGeometry,
    *,
    folder: Path | str,
    budget: int,
    input_id: str,
    client: Client | None = None,
    backend: str = "numba_cpu",
    threads: int = 1,
    listener: Listener = silent,
) -> FDKBlocks:
    """FDK out of core; killed at any moment, the same call goes on.

    Parameters
    ----------
    load : gives (row, angle, column) projections of the detector rows [start, stop); it is called
        by the workers.
    input_id : tells these projections from others. folder, budget, client : see
        `reconstruct_blockwise`.

    Raises
    ------
    GeometryError : see `FDK`.
    OutputExistsError, OutputInUseError, DiskFullError : see `open_workspace`.
    MemoryBudgetError : see `StoredOperator`.
    """
    parts = fdk.parts(volume, projections)
    wide = widened_views(projections, *parts.beyond)
    run_hash = hash_of(
        VERSION, fdk, geometry_hash(volume, projections), input_id, budget, backend, threads
    )
    with open_workspace(folder, run_hash, budget, client=client, listener=listener) as place:
        A = StoredOperator(place, volume, wide, backend, threads)
        found, constant = fdk_operations(load, parts, A)
        return FDKBlocks(found, constant, Evenness(volume, parts, threads))


def fdk_operations(
    load: Load, parts: FDKParts, A: StoredOperator
) -> tuple[StoredArray, StoredArray]:
    """What `fdk_blockwise` does in the workspace of an operator of the widened views."""
    place, shape, threads = A.place, A.range_shape, A.threads
    filtered = stored(place, FilteredRows(load, parts, threads), shape, "filtered")
    found = A.T(filtered).evaluate()
    del filtered
    cosines = stored(place, CosineRows(parts, shape, threads), shape, "cosines")
    constant = A.T(cosines).evaluate()
    del cosines
    place.sweep()
    return found, constant


@dataclass(frozen=True, eq=False)
class FilteredRows:
    """Rows that are loaded and filtered."""

    load: Load
    parts: FDKParts
    threads: int

    def __call__(self, start: int, stop: int) -> np.ndarray:
        return self.parts.filtered(self.load(start, stop), start, self.threads)

    def bytes_read(self, start: int, stop: int) -> int:
        """Of what is loaded, as far as that tells."""
        return bytes_read_by(self.load, start, stop)


@dataclass(frozen=True, eq=False)
class CosineRows:
    """What constant views are after filtering."""

    parts: FDKParts
    shape: tuple[int, int, int]
    threads: int

    def __call__(self, start: int, stop: int) -> np.ndarray:
        out = np.empty((stop - start, *self.shape[1:]), np.float32)
        return self.parts.cosines(start, self.threads, out)
