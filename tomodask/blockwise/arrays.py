"""Arrays on the disk that algorithms calculate with as with NumPy's.

Arithmetic is lazy: `x + 2 * e` is a formula, `Expression`. It is worked out, block by block and
fused into one pass over the disk, when A, A.T, a stencil or `evaluate` needs it. A(x) and A.T(y)
are lazy too: the formula they stand in is applied to each block of theirs before it is written.
Every array is written once and never changed; `x += e` makes a new one.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np

from tomodask.blockwise import passes
from tomodask.blockwise.scratch import Region, Shape, read_rows
from tomodask.blockwise.trees import FUNCTIONS, Call, Computed, Fill, Held, Read, Tree
from tomodask.blockwise.workspace import File, Workspace
from tomodask.errors import GeometryError, InputError

MOST_NODES = 64  # of a formula: longer ones are worked out, as they keep files alive
HELD_BYTES = 2**22  # of an array in memory within a formula, as it travels with every task


class Computation(Protocol):
    """A(x) or A.T(y), to be done region by region."""

    kind: str

    @property
    def name(self) -> str: ...

    def prepare(self) -> None: ...

    def regions(self) -> list[Region]: ...

    def source(self, region: Region) -> Any: ...


class BlockArray:
    """A float32 array of three axes, (z, y, x) or (row, angle, column), larger than memory."""

    __array_ufunc__ = None  # NumPy's operators leave mixed arithmetic to ours
    ndim = 3
    dtype = np.dtype(np.float32)

    def __init__(self, place: Workspace, shape: Shape) -> None:
        self.place = place
        self.shape = shape

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    # what a formula is made of; overridden
    def tree(self, computed: dict[int, Computed], made: dict[int, Tree]) -> Tree:
        raise NotImplementedError

    def text(self) -> str:
        """The formula, the same at every replay."""
        raise NotImplementedError

    def leaves(self) -> list[BlockArray]:
        """What it is worked out from."""
        return [self]

    def evaluate(self) -> StoredArray:
        """The values on the disk; worked out once."""
        raise NotImplementedError

    # ---- what spaces.py asks of stored arrays

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        return NAMESPACE

    def __tomodask_dot__(self, other: BlockArray) -> float:
        """Inner product in float64, in an order that depends on the plan alone."""
        return passes.dot(self, other)

    def __tomodask_norm__(self, counted: BlockArray) -> tuple[BlockArray, float]:
        """This array, and the norm of another, both in one pass."""
        return passes.with_norm(self, counted)

    def __tomodask_stencil__(
        self, function: Callable[..., Any], halo: int, *others: BlockArray
    ) -> Any:
        """`function` of blocks with `halo` neighbours along axis 0: see `spaces.stencil`."""
        return passes.stencil(function, halo, (self, *others))

    # ---- arithmetic

    def _with(self, name: str, other: Any, swapped: bool = False) -> Any:
        pair = (other, self) if swapped else (self, other)
        return call(name, *pair)

    def __add__(self, other: Any) -> Any:
        return self._with("add", other)

    def __radd__(self, other: Any) -> Any:
        return self._with("add", other, swapped=True)

    def __sub__(self, other: Any) -> Any:
        return self._with("subtract", other)

    def __rsub__(self, other: Any) -> Any:
        return self._with("subtract", other, swapped=True)

    def __mul__(self, other: Any) -> Any:
        return self._with("multiply", other)

    def __rmul__(self, other: Any) -> Any:
        return self._with("multiply", other, swapped=True)

    def __truediv__(self, other: Any) -> Any:
        return self._with("divide", other)

    def __rtruediv__(self, other: Any) -> Any:
        return self._with("divide", other, swapped=True)

    def __pow__(self, other: Any) -> Any:
        return self._with("power", other)

    def __neg__(self) -> Any:
        return call("negative", self)

    def __abs__(self) -> Any:
        return call("abs", self)

    def __lt__(self, other: Any) -> Any:
        return self._with("less", other)

    def __le__(self, other: Any) -> Any:
        return self._with("less_equal", other)

    def __gt__(self, other: Any) -> Any:
        return self._with("greater", other)

    def __ge__(self, other: Any) -> Any:
        return self._with("greater_equal", other)

    def __eq__(self, other: Any) -> Any:
        return self._with("equal", other)

    def __ne__(self, other: Any) -> Any:
        return self._with("not_equal", other)

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        raise InputError("the truth of an array on the disk: compare its `dot` or norm instead")

    def __getitem__(self, index: Any) -> Any:
        """`y[:, views]`: some indices along the second axis, as a new array; no other index."""
        match index:
            case (slice(start=None, stop=None, step=None), slice() | np.ndarray() | list() as some):
                indices = np.arange(self.shape[1])[some]
                return passes.select(self, tuple(int(i) for i in indices))
        raise InputError(f"index {index!r} of an array on the disk: only y[:, views] is there")

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Rows [start, stop) of axis 0, in memory."""
        return self.evaluate().rows(start, stop)


class StoredArray(BlockArray):
    """An array whose values are on the disk."""

    def __init__(self, place: Workspace, file: File) -> None:
        super().__init__(place, file.shape)
        self.file = file

    def tree(self, computed: dict[int, Computed], made: dict[int, Tree]) -> Tree:
        if id(self.file) not in made:  # one node for each file, so that it is read once
            made[id(self.file)] = Read(self.file.path, self.shape)
        return made[id(self.file)]

    def text(self) -> str:
        return self.file.name

    def evaluate(self) -> StoredArray:
        return self

    def rows(self, start: int, stop: int) -> np.ndarray:
        if not 0 <= start < stop <= self.shape[0]:
            raise InputError(f"rows {start} to {stop} of an array of {self.shape[0]}")
        return read_rows(self.file.path, self.shape, start, stop)

    def __repr__(self) -> str:
        return f"StoredArray({self.shape}, {self.file.path})"


class Constant(BlockArray):
    """The same value everywhere, without a file."""

    def __init__(self, place: Workspace, shape: Shape, value: float) -> None:
        super().__init__(place, shape)
        self.value = value
        self._result: StoredArray | None = None

    def tree(self, computed: dict[int, Computed], made: dict[int, Tree]) -> Tree:
        return Fill(self.value)

    def text(self) -> str:
        return f"fill({self.value!r})"

    def evaluate(self) -> StoredArray:
        if self._result is None:
            self._result = passes.store(self.place, [self])[0]
        return self._result


class Expression(BlockArray):
    """A function of arrays that is not worked out yet; once it is, it refers to its values alone.

    arguments : arrays, numbers, and small arrays in memory that are broadcast.
    """

    def __init__(self, place: Workspace, shape: Shape, function: str, arguments: Any) -> None:
        super().__init__(place, shape)
        self.function = function
        self.arguments: tuple[BlockArray | float | np.ndarray, ...] = arguments
        self.result: StoredArray | None = None
        self.nodes: int = 1 + sum(
            a.nodes for a in arguments if isinstance(a, Expression) and a.result is None
        )

    def tree(self, computed: dict[int, Computed], made: dict[int, Tree]) -> Tree:
        if self.result is not None:
            return self.result.tree(computed, made)
        if id(self) not in made:
            made[id(self)] = Call(
                self.function, tuple(_branch(a, computed, made) for a in self.arguments)
            )
        return made[id(self)]

    def text(self) -> str:
        if self.result is not None:
            return self.result.text()
        return f"{self.function}({', '.join(_text(a) for a in self.arguments)})"

    def leaves(self) -> list[BlockArray]:
        if self.result is not None:
            return [self.result]
        found: dict[int, BlockArray] = {}
        for argument in self.arguments:
            if isinstance(argument, BlockArray):
                found |= {id(leaf): leaf for leaf in argument.leaves()}
        return list(found.values())

    def became(self, result: StoredArray) -> None:
        """It has been worked out: what it was worked out from may go."""
        self.result, self.arguments, self.nodes = result, (), 1

    def evaluate(self) -> StoredArray:
        if self.result is None:
            self.became(passes.store(self.place, [self])[0])
        assert self.result is not None
        return self.result


class Projection(BlockArray):
    """A(x) or A.T(y) that is not worked out yet.

    As part of a formula it is worked out within the formula's pass and not kept; where a second
    formula needs it, it is written.
    """

    def __init__(self, place: Workspace, shape: Shape, computation: Computation) -> None:
        super().__init__(place, shape)
        self.computation: Computation | None = computation
        self.result: StoredArray | None = None
        self.is_used = False  # a pass has worked it out already

    def tree(self, computed: dict[int, Computed], made: dict[int, Tree]) -> Tree:
        if self.result is not None:
            return self.result.tree(computed, made)
        return computed[id(self)]

    def text(self) -> str:
        if self.result is not None:
            return self.result.text()
        assert self.computation is not None
        return self.computation.name

    def leaves(self) -> list[BlockArray]:
        return [self if self.result is None else self.result]

    def became(self, result: StoredArray) -> None:
        """It has been worked out: its argument may go."""
        self.result, self.computation = result, None

    def evaluate(self) -> StoredArray:
        if self.result is None:
            self.became(passes.store(self.place, [self])[0])
        assert self.result is not None
        return self.result


def call(function: str, *arguments: Any) -> Expression:
    """The formula function(*arguments); at least one argument is a `BlockArray`."""
    arrays = [a for a in arguments if isinstance(a, BlockArray)]
    shape, place = arrays[0].shape, arrays[0].place
    for array in arrays[1:]:
        if array.shape != shape:
            raise GeometryError(f"{function} of arrays of shapes {shape} and {array.shape}")
    expression = Expression(
        place, shape, function, tuple(_argument(a, shape, function) for a in arguments)
    )
    if expression.nodes > MOST_NODES:
        for argument in expression.arguments:
            if isinstance(argument, Expression):
                argument.evaluate()
        expression.nodes = 1
    return expression


def _argument(value: Any, shape: Shape, function: str) -> BlockArray | float | np.ndarray:
    if isinstance(value, BlockArray):
        return value
    if np.ndim(value) == 0:
        return float(value)  # of any precision: a Python number leaves float32 as it is
    held = np.asarray(value)
    held = held.reshape((1,) * (3 - held.ndim) + held.shape)
    if any(n not in (1, m) for n, m in zip(held.shape, shape, strict=True)):
        raise GeometryError(f"{function} of arrays of shapes {shape} and {np.shape(value)}")
    if held.nbytes > HELD_BYTES:
        raise InputError(
            f"an array of {held.nbytes / 2**20:.0f} MiB in memory within a formula of arrays on "
            "the disk: store it first"
        )
    return held if held.dtype == bool else held.astype(np.float32)


def _branch(
    argument: BlockArray | float | np.ndarray, computed: dict[int, Computed], made: dict[int, Tree]
) -> Tree | float:
    if isinstance(argument, BlockArray):
        return argument.tree(computed, made)
    return Held(argument) if isinstance(argument, np.ndarray) else argument


def _text(argument: BlockArray | float | np.ndarray) -> str:
    if isinstance(argument, BlockArray):
        return argument.text()
    return passes.digest(argument) if isinstance(argument, np.ndarray) else repr(argument)


# ---- the functions of the array API that algorithms use -----------------------------------------


def _like(value: float) -> Callable[..., Constant]:
    def like(array: BlockArray, **_: Any) -> Constant:
        return Constant(array.place, array.shape, value)

    return like


def _function(name: str) -> Callable[..., Any]:
    def function(*arguments: Any) -> Any:
        if any(isinstance(a, BlockArray) for a in arguments):
            return call(name, *arguments)
        return FUNCTIONS[name](*arguments)  # of masks in memory

    return function


NAMESPACE = SimpleNamespace(
    __name__="tomodask.blockwise",
    float32=np.float32,
    zeros_like=_like(0.0),
    ones_like=_like(1.0),
    reshape=lambda array, shape: np.reshape(array, shape),  # masks that are in memory
    **{
        name: _function(name)
        for name in ("sqrt", "abs", "maximum", "minimum", "where", "exp", "isnan")
        if name in FUNCTIONS
    },
)
