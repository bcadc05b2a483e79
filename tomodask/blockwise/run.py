"""A reconstruction on stored arrays, from where its projections come from to its volume."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client

from tomodask.blockwise.operator import StoredOperator
from tomodask.blockwise.stored import StoredArray, new_array
from tomodask.blockwise.tasks import Bring, Projection
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
    **options: Any,
) -> StoredArray:
    """`algorithm(y, A)` with y and x on the disk; called again after a kill, it goes on.

    Parameters
    ----------
    load : gives (row, angle, column) float32 projections: detector rows [start, stop) of all views
        where rows and slices belong together, otherwise all rows of views [start, stop). It is
        sent to the workers.
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

    def tasks(out: Any) -> list[Any]:
        return [Bring(load, out, chunk) for chunk in range(out.count)]

    y = new_array(space, A.range_cut, "y", tasks)
    found: StoredArray = algorithm(y, A, **options)
    return found.evaluate()


def geometry_digest(volume: VolumeGeometry, projections: ProjectionGeometry) -> str:
    """Of all numbers of both geometries."""
    digest = hashlib.sha256(repr((volume.shape, projections.beam, projections.det_shape)).encode())
    for geometry in (volume, projections):
        for field in dataclasses.fields(geometry):
            value = getattr(geometry, field.name)
            if isinstance(value, np.ndarray):
                digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()[:16]
