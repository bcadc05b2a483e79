"""A reconstruction on stored arrays, from where its projections come from to its volume."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client

from tomodask.blockwise.chunkfiles import ChunkFiles
from tomodask.blockwise.operator import StoredOperator
from tomodask.blockwise.stored import StoredArray, new_array
from tomodask.blockwise.tasks import Bring, Projection, Recut
from tomodask.blockwise.workspace import Workspace
from tomodask.cluster.run import Listener, silent
from tomodask.geometry import ProjectionGeometry, VolumeGeometry

Load = Callable[[int, int], np.ndarray]


def reconstruct_blockwise(
    load: Load,
    algorithm: Any,
    volume: VolumeGeometry,
    projections: ProjectionGeometry,
    *,
    folder: Path,
    budget: int,
    backend: str = "auto",
    threads: int = 1,
    client: Client | None = None,
    listener: Listener = silent,
    identity: Mapping[str, Any] | None = None,
    load_rows: int | None = None,
    **options: Any,
) -> StoredArray:
    """`algorithm(y, A)` with y and x on the disk; called again after a kill, it goes on.

    Parameters
    ----------
    load : gives (row, angle, column) float32 projections of detector rows [start, stop), all
        views. It is sent to the workers.
    load_rows : rows that are loaded at once; as many as the budget allows unless given.
    algorithm : an entry of `ALGORITHMS`.
    folder : of the scratch arrays; it stays, so that the volume can be read, until it is removed.
    budget : bytes of memory that a task may use, beside what the process takes.
    client : of the cluster that does the work; None: this process, block by block.
    identity : what else decides the bytes (the digest of the input): another run in the same
        folder is refused.
    options : keyword arguments of the algorithm's call.

    Raises
    ------
    MemoryBudgetError : not even one row of the volume, or one view, fits into a task.
    OutputExistsError : the folder holds another run.
    BlocksFailedError : blocks failed; the same call tries these again.
    """
    known = {
        **(identity or {}),
        "algorithm": type(algorithm).__name__,
        "parameters": dataclasses.asdict(algorithm),
        "geometry": geometry_digest(volume, projections),
        "backend": backend,
    }
    space = Workspace(folder, known, budget=budget, client=client, listener=listener)
    A = StoredOperator(space, Projection(volume, projections, backend, threads))
    y = _projections(space, A, load, load_rows)
    found: StoredArray = algorithm(y, A, **options)
    return found.evaluate()


def _projections(
    space: Workspace, A: StoredOperator, load: Load, load_rows: int | None
) -> StoredArray:
    """Loaded by rows, as corrections need them, and cut as A does."""
    by_rows = A.range_cut if A.range_cut.axis == 0 else space.cut(A.range_shape, 0)
    if A.range_cut.axis != 0 and load_rows is not None:
        by_rows = dataclasses.replace(by_rows, length=min(load_rows, by_rows.length))

    def loading(out: ChunkFiles) -> list[Any]:
        return [Bring(load, load_rows, out, chunk) for chunk in range(out.count)]

    rows = new_array(space, by_rows, "load", loading)
    if A.range_cut.axis == 0:
        return rows

    def cutting(out: ChunkFiles) -> list[Any]:
        return [Recut(rows.files, out, chunk) for chunk in range(out.count)]

    return new_array(space, A.range_cut, "cut", cutting)


def geometry_digest(volume: VolumeGeometry, projections: ProjectionGeometry) -> str:
    """Of all numbers of both geometries."""
    digest = hashlib.sha256(repr((volume.shape, projections.beam, projections.det_shape)).encode())
    for geometry in (volume, projections):
        for field in dataclasses.fields(geometry):
            value = getattr(geometry, field.name)
            if isinstance(value, np.ndarray):
                digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()[:16]
