"""Blocks as the compiled loops see them: detector lines, of a few views at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided

from tomodask import arrays

RUN_PIXELS = 1 << 17  # views that are corrected together: half a megabyte, half of a core's cache
OBJECT_BYTES = 1 << 18  # of a thread: its stack, its part of the allocator, slices and functions
KNOWN_TYPES = tuple(np.dtype(name) for name in ("uint8", "uint16", "float32", "float64"))


@dataclass(frozen=True, eq=False)
class Lines:
    """Detector lines of a (views, rows, columns) array in one stretch of memory.

    Line (view, row) begins at `stretch[view * view_step + row * row_step]`. So a loop that is
    compiled once for a type serves every layout whose lines are contiguous, a cut out of a larger
    array too. Other layouts and rarer types are copied, whole numbers as float64.
    """

    stretch: np.ndarray
    view_step: int
    row_step: int

    @classmethod
    def of(cls, data: np.ndarray) -> Lines:
        itemsize = data.dtype.itemsize
        view_bytes, row_bytes, column_bytes = data.strides
        if (
            data.dtype not in KNOWN_TYPES
            or not data.flags.aligned
            or column_bytes != itemsize
            or min(view_bytes, row_bytes) < 0
            or view_bytes % itemsize
            or row_bytes % itemsize
        ):
            kept = data.dtype.newbyteorder("=")
            data = np.ascontiguousarray(data, kept if kept in KNOWN_TYPES else np.float64)
        view_step, row_step = (step // data.itemsize for step in data.strides[:2])
        views, rows, columns = data.shape
        size = (views - 1) * view_step + (rows - 1) * row_step + columns
        stretch = as_strided(data, (size,), (data.itemsize,), writeable=False)
        return cls(stretch, view_step, row_step)


def view_runs(shape: tuple[int, ...]) -> list[slice]:
    """The views of a (views, rows, columns) block in runs of about `RUN_PIXELS` pixels."""
    views, rows, columns = shape
    step = max(1, RUN_PIXELS // (rows * columns))
    return [slice(start, min(start + step, views)) for start in range(0, views, step)]


def result_bytes(shape: tuple[int, ...], threads: int) -> int:
    """Of a float32 result and of Python's own objects."""
    return 4 * math.prod(shape) + (1 + threads) * OBJECT_BYTES


def result_of(data: np.ndarray, out: np.ndarray | None) -> np.ndarray:
    """Where a correction's result goes: `out`, or a new float32 array of the data's shape."""
    if out is None:
        return arrays.empty(data.shape)
    assert out.shape == data.shape, f"out of shape {out.shape} for data of {data.shape}"
    assert out.dtype == np.float32, f"out of {out.dtype}"
    assert out.flags.c_contiguous, "out is not contiguous"
    return out
