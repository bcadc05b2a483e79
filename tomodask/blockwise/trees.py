"""Formulas over stored arrays as a task gets them: small, and worked out piece by piece."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tomodask.blockwise.scratch import Files, Region, Shape

FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "power": operator.pow,
    "negative": np.negative,
    "sqrt": np.sqrt,
    "abs": np.abs,
    "exp": np.exp,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "where": np.where,
    "less": np.less,
    "less_equal": np.less_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "equal": np.equal,
    "not_equal": np.not_equal,
}


@dataclass(frozen=True, eq=False)
class Read:
    """A stored array."""

    path: str
    shape: Shape


@dataclass(frozen=True, eq=False)
class Fill:
    """The same value everywhere."""

    value: float


@dataclass(frozen=True, eq=False)
class Held:
    """A small array that travels with the task, broadcast along its axes of length 1."""

    values: np.ndarray


@dataclass(frozen=True, eq=False)
class Computed:
    """What the task has computed for its region: the `number`th of its arrays."""

    number: int


@dataclass(frozen=True, eq=False)
class Call:
    """A function of `FUNCTIONS` of formulas and numbers."""

    function: str
    arguments: tuple[Tree | float, ...]


Tree = Read | Fill | Held | Computed | Call


@dataclass(frozen=True)
class Inputs:
    """What the formulas of a task are worked out from: files, and what it computed for `region`."""

    files: Files
    region: Region
    columns: int
    computed: Sequence[np.ndarray] = ()

    def value(self, tree: Tree, piece: Region, known: dict[int, Any] | None = None) -> np.ndarray:
        """The values of a formula in a part of the region, (rows, lines, columns).

        known : values of formulas in this piece, by identity: none is worked out twice.
        """
        known = {} if known is None else known
        if id(tree) not in known:
            known[id(tree)] = self._value(tree, piece, known)
        return np.asarray(known[id(tree)])

    def _value(self, tree: Tree, piece: Region, known: dict[int, Any]) -> Any:
        if isinstance(tree, Read):
            return self.files.read(tree.path, tree.shape, piece)
        if isinstance(tree, Fill):
            return np.full(piece.shape_in((0, 0, self.columns)), tree.value, np.float32)
        if isinstance(tree, Held):
            return _part(tree.values, piece)
        if isinstance(tree, Computed):
            return self.computed[tree.number][piece.within(self.region)]
        arguments = [
            argument if isinstance(argument, float) else self.value(argument, piece, known)
            for argument in tree.arguments
        ]
        with np.errstate(all="ignore"):  # as for arrays in memory: the norms tell
            return FUNCTIONS[tree.function](*arguments)


def _part(values: np.ndarray, piece: Region) -> np.ndarray:
    runs = (slice(*piece.rows), slice(*piece.lines))
    return values[
        tuple(run if n > 1 else slice(None) for run, n in zip(runs, values.shape, strict=False))
    ]
