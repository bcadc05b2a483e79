"""Arrays larger than memory that algorithms take for arrays in memory.

Arithmetic makes trees (`expressions`), which are computed chunk by chunk when A, A.T, a stencil or
a sum needs them: `x += C * A.T(r)` passes over the disk once. No array changes: each operation
makes a new one, and the files of one that no variable refers to are removed.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from tomodask.blockwise.chunkfiles import ChunkFiles
from tomodask.blockwise.expressions import Apply, Full, Small, Tree, leaves
from tomodask.blockwise.tasks import Dot, Evaluate, Stencil, TakeViews
from tomodask.blockwise.workspace import Workspace
from tomodask.errors import GeometryError, InputError

SMALL_BYTES = 2**24  # of an array in memory that goes along with each task
MOST_LEAVES = 12  # of a tree: more are computed first, so that a task's memory stays bounded

Shape = tuple[int, int, int]


class StoredArray:
    """A float32 array of three axes on the disk, or the tree that it is to be computed from."""

    __array_ufunc__ = None  # NumPy's scalars leave the arithmetic to this class
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, space: Workspace, cut: ChunkFiles, tree: Tree, holds: tuple[Any, ...] = ()):
        """`cut` says how it is cut; `holds` are the arrays whose files the tree reads."""
        self.space, self.cut, self._tree, self._holds = space, cut, tree, holds

    @property
    def shape(self) -> Shape:
        return self.cut.shape

    @property
    def ndim(self) -> int:
        return 3

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float32)

    @property
    def files(self) -> ChunkFiles:
        """Where it is on the disk, computed first if need be."""
        self.evaluate()
        if not isinstance(self._tree, ChunkFiles):
            raise InputError("this array has no files")  # evaluate() has made it so
        return self._tree

    def evaluate(self) -> StoredArray:
        """Compute the tree and keep what comes out; returns itself."""
        if isinstance(self._tree, ChunkFiles):
            return self
        space, number = self.space, self.space.next_operation()
        out = self.cut.at(space.folder_of(number))
        if space.journal.done(number, "evaluate") is None:
            tasks = [Evaluate(self._tree, out, chunk) for chunk in range(out.count)]
            space.carry_out(number, "evaluate", tasks, [out])
            kept = _Kept(space, out)
            self._tree, self._holds = out, (kept,)
            space.complete(number, "evaluate")
            return self
        self._tree, self._holds = out, (_Kept(space, out),)
        return self

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Indices [start, stop) of the first axis, read into memory."""
        return self.files.read_rows(start, stop)

    def __getitem__(self, index: Any) -> StoredArray:
        """`y[:, views]`: some of the views, a slice or their indices."""
        if not isinstance(index, tuple) or len(index) != 2 or index[0] != slice(None):
            raise InputError(f"index {index!r}: stored arrays know y[:, views] and .rows() alone")
        views = np.arange(self.shape[1])[index[1]]
        source = self.files
        space, number = self.space, self.space.next_operation()
        shape = (self.shape[0], len(views), self.shape[2])
        cut = space.cut(shape, 1) if self.cut.axis else ChunkFiles(
            space.folder, shape, 0, self.cut.length
        )  # fmt: skip
        out = cut.at(space.folder_of(number))
        kept = _Kept(space, out)
        if space.journal.done(number, "views") is None:
            tasks = [TakeViews(source, views, out, chunk) for chunk in range(out.count)]
            space.carry_out(number, "views", tasks, [out])
            space.complete(number, "views")
        return StoredArray(space, out, out, (kept,))

    # ---- what `reconstruct.spaces` asks for

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return import_module("tomodask.blockwise.functions")

    def __tomodask_dot__(self, other: StoredArray) -> np.ndarray:
        """(rows,) sums of the products along the other axes, float64."""
        space, number = self.space, self.space.next_operation()
        line = space.journal.done(number, "dot")
        if line is None:
            left = self._bounded()
            right = left if other is self else other._bounded()
            name = f"dot{number}"
            tasks = [Dot(name, left, right, self.cut, chunk) for chunk in range(self.cut.count)]
            reports = space.carry_out(number, "dot", tasks, [])
            parts = [r["sums"] for r in sorted(reports, key=lambda report: report["chunk"])]
            sums = np.concatenate(parts) if self.cut.axis == 0 else np.sum(parts, axis=0)
            line = space.complete(number, "dot", sums=np.asarray(sums).tolist())
        return np.asarray(line["sums"], np.float64)

    def __tomodask_stencil__(
        self, function: Callable[..., Any], halo: int, *others: StoredArray
    ) -> Any:
        """`function` of slabs that have `halo` rows of their neighbours."""
        sources = tuple(array.files for array in (self, *others))
        space, number = self.space, self.space.next_operation()
        count = _count_results(function, [source.shape for source in sources], halo)
        outs = tuple(self.cut.at(space.folder_of(number, index)) for index in range(count))
        kept = [_Kept(space, out) for out in outs]
        if space.journal.done(number, "stencil") is None:
            tasks = [
                Stencil(function, halo, sources, outs, chunk) for chunk in range(self.cut.count)
            ]
            space.carry_out(number, "stencil", tasks, outs)
            space.complete(number, "stencil")
        found = tuple(
            StoredArray(space, out, out, (hold,)) for out, hold in zip(outs, kept, strict=True)
        )
        return found if count > 1 else found[0]

    def _bounded(self) -> Tree:
        """The tree, computed first where a task would have to read much for it."""
        if sum(1 for _ in leaves(self._tree)) > MOST_LEAVES:
            self.evaluate()
        return self._tree

    # ---- arithmetic

    def _apply(self, name: str, *operands: Any) -> StoredArray:
        return apply(name, operands)

    def __add__(self, other: Any) -> StoredArray:
        return self._apply("add", self, other)

    def __radd__(self, other: Any) -> StoredArray:
        return self._apply("add", other, self)

    def __sub__(self, other: Any) -> StoredArray:
        return self._apply("subtract", self, other)

    def __rsub__(self, other: Any) -> StoredArray:
        return self._apply("subtract", other, self)

    def __mul__(self, other: Any) -> StoredArray:
        return self._apply("multiply", self, other)

    def __rmul__(self, other: Any) -> StoredArray:
        return self._apply("multiply", other, self)

    def __truediv__(self, other: Any) -> StoredArray:
        return self._apply("divide", self, other)

    def __rtruediv__(self, other: Any) -> StoredArray:
        return self._apply("divide", other, self)

    def __pow__(self, other: Any) -> StoredArray:
        return self._apply("power", self, other)

    def __neg__(self) -> StoredArray:
        return self._apply("negative", self)

    def __abs__(self) -> StoredArray:
        return self._apply("abs", self)

    def __lt__(self, other: Any) -> StoredArray:
        return self._apply("less", self, other)

    def __le__(self, other: Any) -> StoredArray:
        return self._apply("less_equal", self, other)

    def __gt__(self, other: Any) -> StoredArray:
        return self._apply("greater", self, other)

    def __ge__(self, other: Any) -> StoredArray:
        return self._apply("greater_equal", self, other)

    def __eq__(self, other: object) -> StoredArray:  # type: ignore[override]
        return self._apply("equal", self, other)

    def __ne__(self, other: object) -> StoredArray:  # type: ignore[override]
        return self._apply("not_equal", self, other)

    def __bool__(self) -> bool:
        raise InputError("a stored array is neither true nor false: sum it up with spaces.dot")


class _Kept:
    """Holds the files of an array; when nothing refers to it they may be removed."""

    def __init__(self, space: Workspace, files: ChunkFiles) -> None:
        self._finalizer = weakref.finalize(self, space.forget, files)
        self._finalizer.atexit = False  # what is there when a process ends is what the next needs


def apply(name: str, operands: tuple[Any, ...]) -> StoredArray:
    """A function of stored arrays, numbers and small arrays, as a tree."""
    stored = [operand for operand in operands if isinstance(operand, StoredArray)]
    like = stored[0]
    trees: list[Tree] = []
    holds: list[Any] = []
    for operand in operands:
        if isinstance(operand, StoredArray):
            if operand.shape != like.shape or operand.cut.axis != like.cut.axis:
                raise GeometryError(f"{name}: arrays of shape {like.shape} and {operand.shape}")
            trees.append(operand._bounded())
            holds += operand._holds
        else:
            trees.append(_leaf(operand, like.shape))
    return StoredArray(like.space, like.cut, Apply(name, tuple(trees)), tuple(holds))


def full_like(array: StoredArray, value: float) -> StoredArray:
    """The same value everywhere."""
    return StoredArray(array.space, array.cut, Full(float(value)))


def new_array(
    space: Workspace, cut: ChunkFiles, kind: str, tasks_of: Callable[[ChunkFiles], list[Any]]
) -> StoredArray:
    """An array that the tasks of one operation write, chunk by chunk."""
    number = space.next_operation()
    out = cut.at(space.folder_of(number))
    kept = _Kept(space, out)
    if space.journal.done(number, kind) is None:
        space.carry_out(number, kind, tasks_of(out), [out])
        space.complete(number, kind)
    return StoredArray(space, out, out, (kept,))


def _leaf(value: Any, shape: Shape) -> Tree:
    """A number, or an array in memory that extends to a shape."""
    if np.ndim(value) == 0:
        return Full(float(value))
    values = np.asarray(value)
    fits = values.ndim == 3 and all(n in (1, m) for n, m in zip(values.shape, shape, strict=True))
    if not fits or values.nbytes > SMALL_BYTES:
        raise GeometryError(
            f"an array of shape {values.shape} and {values.nbytes} bytes beside a stored one of "
            f"shape {shape}: it must extend to that shape and have {SMALL_BYTES} bytes at most; "
            "store it first"
        )
    return Small(values if values.dtype == bool else values.astype(np.float32))


def _count_results(function: Callable[..., Any], shapes: list[Shape], halo: int) -> int:
    """How many arrays a stencil returns, tried on a little of nothing."""
    little = [
        np.zeros((min(rows, 2 * halo + 2), min(lines, 2 * halo + 2), columns), np.float32)
        for rows, lines, columns in shapes
    ]
    found = function(*little)
    return len(found) if isinstance(found, tuple) else 1


def scratch_bytes(folder: Path) -> int:
    """Bytes of all scratch arrays in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*.f32"))
