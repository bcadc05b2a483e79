"""Passes over the disk: formulas worked out block by block, with what they add up.

A pass reads each array once, however long the formula; A(x) or A.T(y) within it is worked out and
used block by block, and never written itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tomodask.blockwise import arrays
from tomodask.blockwise.scratch import ITEM, Region, Shape
from tomodask.blockwise.tasks import Load, Selected, Stencil
from tomodask.blockwise.trees import Computed, Tree
from tomodask.blockwise.workspace import Workspace, hash_of
from tomodask.errors import GeometryError, MemoryBudgetError

if TYPE_CHECKING:
    from tomodask.blockwise.arrays import BlockArray, StoredArray

BLOCK_BYTES = 2**28  # of an array in one block of a formula: all that a kill costs
# copies of its arguments and of its results that a stencil may hold at once
STENCIL_COPIES = 4


def store(place: Workspace, wanted: Sequence[BlockArray]) -> list[StoredArray]:
    """Write formulas, in one pass."""
    return _pass(place, wanted, [])[0]


def dot(a: BlockArray, b: BlockArray) -> float:
    """The inner product; what A or A.T stands in is written in the same pass, for later use."""
    _check_shapes("dot", a, b)
    costly = [array for array in {id(a): a, id(b): b}.values() if projections_in([array])]
    return _pass(a.place, costly, [(a, b)])[1][0]


def with_norm(found: BlockArray, counted: BlockArray) -> tuple[BlockArray, float]:
    """Write `found`, and the norm of `counted`, in one pass."""
    _check_shapes("fused_norm", found, counted)
    is_written = isinstance(found, arrays.StoredArray | arrays.Constant)
    stored, sums = _pass(found.place, [] if is_written else [found], [(counted, counted)])
    return (found if is_written else stored[0]), float(np.sqrt(sums[0]))


def stencil(function: Callable[..., Any], halo: int, volumes: Sequence[BlockArray]) -> Any:
    """See `spaces.stencil`; the results are written at once."""
    _check_shapes("stencil", *volumes)
    place, shape = volumes[0].place, volumes[0].shape
    for projection in projections_in(volumes):
        projection.evaluate()
    made: dict[int, Tree] = {}
    trees = tuple(volume.tree({}, made) for volume in volumes)
    probe = [np.zeros((2 * halo + 1, 3, 3), np.float32)] * len(volumes)
    results = function(*probe)
    count = len(results) if isinstance(results, tuple) else 1
    files, _ = place.operate(
        f"stencil {_name(function)} {halo} {hash_of(*(v.text() for v in volumes))}",
        shape,
        stencil_regions(shape, halo, len(volumes) + count, place.budget),
        targets=[Computed(k) for k in range(count)],
        source=lambda _: Stencil(function, halo, trees, shape),
    )
    stored = tuple(arrays.StoredArray(place, file) for file in files)
    return stored if isinstance(results, tuple) else stored[0]


def select(array: BlockArray, indices: tuple[int, ...]) -> BlockArray:
    """Some indices along the second axis, as a new array."""
    shape = (array.shape[0], len(indices), array.shape[2])
    if isinstance(array, arrays.Constant):
        return arrays.Constant(array.place, shape, array.value)
    for projection in projections_in([array]):
        projection.evaluate()
    tree = array.tree({}, {})
    files, _ = array.place.operate(
        f"select {array.text()} {hash_of(indices)}",
        shape,
        row_regions(shape, array.place.budget),
        targets=[Computed(0)],
        source=lambda _: Selected(tree, shape, indices),
    )
    return arrays.StoredArray(array.place, files[0])


def load(
    place: Workspace, source: Callable[[int, int], Any], shape: Shape, what: str, inline: bool
) -> StoredArray:
    """Write what `source(start, stop)` gives for rows, block by block."""
    files, _ = place.operate(
        f"load {what}",
        shape,
        row_regions(shape, place.budget),
        targets=[Computed(0)],
        source=lambda _: Load(source, what, shape),
        inline=inline,
    )
    return arrays.StoredArray(place, files[0])


def row_regions(shape: Shape, budget: int) -> list[Region]:
    """Runs of rows, for formulas: large, as a task works through them piece by piece."""
    row = ITEM * shape[1] * shape[2]
    rows = max(1, min(BLOCK_BYTES, budget // 4) // row)
    return [
        Region((start, min(start + rows, shape[0])), (0, shape[1]))
        for start in range(0, shape[0], rows)
    ]


def stencil_regions(shape: Shape, halo: int, num_arrays: int, budget: int) -> list[Region]:
    """Runs of rows that fit into memory with their halo.

    Raises
    ------
    MemoryBudgetError : not even one row does.
    """
    row = ITEM * shape[1] * shape[2] * num_arrays * STENCIL_COPIES
    rows = budget // row - 2 * halo
    if rows < 1:
        raise MemoryBudgetError(
            f"a stencil of {num_arrays} arrays needs {row * (2 * halo + 1) / 2**20:.0f} MiB for "
            f"one row, the budget is {budget / 2**20:.0f} MiB: give each worker more memory"
        )
    return [
        Region((start, min(start + rows, shape[0])), (0, shape[1]))
        for start in range(0, shape[0], rows)
    ]


def digest(values: np.ndarray) -> str:
    """A short name for a small array in memory."""
    return hash_of(values.shape, values.tobytes())


def _pass(
    place: Workspace,
    wanted: Sequence[BlockArray],
    pairs: Sequence[tuple[BlockArray, BlockArray]],
) -> tuple[list[StoredArray], list[float]]:
    """Write the arrays `wanted` and add up the products of `pairs`."""
    everything = [*wanted, *(array for pair in pairs for array in pair)]
    for projection in projections_in(everything)[:-1]:  # one can be worked out within the pass
        projection.evaluate()
    projections = projections_in(everything)
    wanted = list(wanted)
    computed: dict[int, Computed] = {}
    kind = "formula"
    if projections:
        projection = projections[0]
        computation = projection.computation
        assert computation is not None
        computation.prepare()
        computed[id(projection)] = Computed(0)
        regions, source, kind = computation.regions(), computation.source, computation.kind
        if projection.is_used and not any(array is projection for array in wanted):
            wanted.append(projection)  # asked for again: it would be worked out each time
        projection.is_used = True
    else:
        regions, source = row_regions(everything[0].shape, place.budget), None
    texts = [array.text() for array in everything]
    made: dict[int, Tree] = {}
    files, sums = place.operate(
        f"{kind} {hash_of(len(wanted), *texts)}",
        everything[0].shape,
        regions,
        targets=[array.tree(computed, made) for array in wanted],
        sums=[(a.tree(computed, made), b.tree(computed, made)) for a, b in pairs],
        source=source,
    )
    stored = [arrays.StoredArray(place, file) for file in files]
    for array, result in zip(wanted, stored, strict=True):
        if isinstance(array, arrays.Expression | arrays.Projection):
            array.became(result)
    return stored, sums


def projections_in(wanted: Sequence[BlockArray]) -> list[arrays.Projection]:
    """Those that are still to be worked out, each once."""
    found = {
        id(leaf): leaf
        for array in wanted
        for leaf in array.leaves()
        if isinstance(leaf, arrays.Projection) and leaf.result is None
    }
    return list(found.values())


def _check_shapes(what: str, *of: BlockArray) -> None:
    for array in of[1:]:
        if array.shape != of[0].shape:
            raise GeometryError(f"{what} of arrays of shapes {of[0].shape} and {array.shape}")


def _name(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__qualname__", type(function).__qualname__))
