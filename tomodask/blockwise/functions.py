"""The functions of the array API standard that algorithms use, for stored arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from tomodask.blockwise.stored import StoredArray, apply, full_like

float32 = np.float32
reshape = np.reshape  # of masks in memory


def abs(x: StoredArray, /) -> StoredArray:
    return apply("abs", (x,))


def sqrt(x: StoredArray, /) -> StoredArray:
    return apply("sqrt", (x,))


def exp(x: StoredArray, /) -> StoredArray:
    return apply("exp", (x,))


def log(x: StoredArray, /) -> StoredArray:
    return apply("log", (x,))


def maximum(x: Any, y: Any, /) -> StoredArray:
    return apply("maximum", (x, y))


def minimum(x: Any, y: Any, /) -> StoredArray:
    return apply("minimum", (x, y))


def where(condition: Any, x: Any, y: Any, /) -> StoredArray:
    return apply("where", (condition, x, y))


def zeros_like(x: StoredArray, /) -> StoredArray:
    return full_like(x, 0.0)


def ones_like(x: StoredArray, /) -> StoredArray:
    return full_like(x, 1.0)
