"""Algorithms on volumes larger than memory, to be killed and gone on with at any moment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client

from tomodask.blockwise import passes
from tomodask.blockwise.arrays import StoredArray
from tomodask.blockwise.operator import StoredOperator, geometry_hash
from tomodask.blockwise.scratch import Shape
from tomodask.blockwise.workspace import Workspace, hash_of, open_workspace
from tomodask.cluster.run import Listener, silent
from tomodask.errors import GeometryError
from tomodask.geometry import ProjectionGeometry, VolumeGeometry, in_voxels

VERSION = 1  # of what the operations compute: another one does not go on with an older run


def reconstruct_blockwise(
    y: Any,
    algorithm: Callable[[Any, Any], Any],
    volume: VolumeGeometry,
    projections: ProjectionGeometry,
    *,
    folder: Path | str,
    budget: int,
    client: Client | None = None,
    backend: str = "numba_cpu",
    threads: int = 1,
    listener: Listener = silent,
    input_id: str | None = None,
) -> StoredArray:
    """Reconstruct out of core: the volume (z, y, x), to be read by `rows(start, stop)`.

    Killed at any moment, the same call goes on, and the bytes are the same whatever the number of
    workers. The folder holds a copy of y and what the algorithm needs, in the end the volume alone,
    until `forget(folder)` removes it.

    Parameters
    ----------
    y : (row, angle, column) projections: an array that is cut by slices (NumPy, HDF5, Zarr), read
        in this process; or a function of (start, stop) that gives these rows, called by the workers
        and therefore picklable.
    algorithm : one of `reconstruct.ALGORITHMS`, or any function of (y, A) written as they are
        (it is known by its name: give it another one, or another folder, when it changes).
    folder : for scratch arrays, on a disk that all workers see.
    budget : bytes that a task may take beside its interpreter (`Workers.budget`); the plan, and
        with it the last bits of the result, depend on it.
    client : the cluster; None does everything in this process.
    input_id : tells these projections from others; unless given, all of an array is read for it,
        and a function must have one.

    Raises
    ------
    OutputExistsError, OutputInUseError, DiskFullError : see `open_workspace`.
    GeometryError, MemoryBudgetError : see `StoredOperator`.
    """
    shape = in_voxels(volume, projections).range_shape
    if input_id is None:
        input_id = _content_hash(y, shape)
    run_hash = hash_of(
        VERSION,
        _name_of(algorithm),
        geometry_hash(volume, projections),
        input_id,
        budget,
        backend,
        threads,
    )
    with open_workspace(folder, run_hash, budget, client=client, listener=listener) as place:
        A = StoredOperator(place, volume, projections, backend, threads)
        return operations(y, algorithm, A, input_id)


def operations(
    y: Any, algorithm: Callable[[Any, Any], Any], A: StoredOperator, input_id: str
) -> StoredArray:
    """What `reconstruct_blockwise` does in the workspace of an operator."""
    x = algorithm(stored(A.place, y, A.range_shape, input_id), A).evaluate()
    A.place.sweep()
    return x  # type: ignore[no-any-return]


def stored(place: Workspace, y: Any, shape: Shape, name: str = "y") -> StoredArray:
    """Bring an array, or a function of (start, stop), onto the disk of a workspace, by rows.

    Raises
    ------
    GeometryError : it has another shape.
    """
    if callable(y):
        return passes.load(place, y, shape, name, inline=False)
    _check_shape(y, shape)
    return passes.load(place, lambda start, stop: y[start:stop], shape, name, inline=True)


def _name_of(algorithm: Callable[[Any, Any], Any]) -> str:
    """What an algorithm is called with its parameters; of a function it is the name alone."""
    if is_dataclass(algorithm):
        return repr(algorithm)
    kind = algorithm if hasattr(algorithm, "__qualname__") else type(algorithm)
    return f"{kind.__module__}.{kind.__qualname__}"


def _content_hash(y: Any, shape: Shape) -> str:
    if callable(y):
        raise GeometryError("projections from a function need an input_id: it names what it reads")
    _check_shape(y, shape)
    return hash_of(*(np.ascontiguousarray(y[row]).tobytes() for row in range(shape[0])))


def _check_shape(y: Any, shape: Shape) -> None:
    if tuple(y.shape) != tuple(shape):
        raise GeometryError(f"y of shape {tuple(y.shape)}: the geometry says {tuple(shape)}")
