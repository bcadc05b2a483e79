"""Element-by-element arithmetic as a tree, computed chunk by chunk in one pass.

A tree is made of chunk files, constants and small arrays; it is pickled to a worker, which reads
the chunks that it needs and computes them together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tomodask.blockwise.chunkfiles import ChunkFiles

FUNCTIONS: dict[str, Any] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "power": np.power,
    "negative": np.negative,
    "abs": np.abs,
    "sqrt": np.sqrt,
    "exp": np.exp,
    "log": np.log,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "where": np.where,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "equal": np.equal,
    "not_equal": np.not_equal,
}


@dataclass(frozen=True)
class Full:
    """One value everywhere."""

    value: float


@dataclass(frozen=True, eq=False)
class Small:
    """An array in memory that extends to the shape: 1 or all along each axis."""

    values: np.ndarray


@dataclass(frozen=True)
class Apply:
    """A function of `FUNCTIONS` of other trees."""

    name: str
    arguments: tuple[Tree, ...]


Tree = ChunkFiles | Full | Small | Apply


def leaves(tree: Tree) -> Iterator[ChunkFiles]:
    """The chunk files that a tree reads, as often as it does."""
    if isinstance(tree, ChunkFiles):
        yield tree
    elif isinstance(tree, Apply):
        for argument in tree.arguments:
            yield from leaves(argument)


def compute(tree: Tree, cut: ChunkFiles, chunk: int) -> np.ndarray:
    """The values of a chunk, float32; `cut` tells how the arrays are cut."""
    shape, read = cut.chunk_shape(chunk), {}
    for leaf in leaves(tree):
        if leaf.folder not in read:
            read[leaf.folder] = leaf.read(chunk)
    values = _value(tree, cut, chunk, read)
    return np.ascontiguousarray(np.broadcast_to(np.asarray(values, np.float32), shape))


def _value(tree: Tree, cut: ChunkFiles, chunk: int, read: dict[Any, np.ndarray]) -> Any:
    if isinstance(tree, ChunkFiles):
        return read[tree.folder]
    if isinstance(tree, Full):
        return tree.value
    if isinstance(tree, Small):
        if tree.values.shape[cut.axis] == 1:
            return tree.values
        index = [slice(None)] * 3
        index[cut.axis] = slice(*cut.span(chunk))
        return tree.values[tuple(index)]
    arguments = [_value(argument, cut, chunk, read) for argument in tree.arguments]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return FUNCTIONS[tree.name](*arguments)
