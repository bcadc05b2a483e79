"""Compiled inner loops of the corrections, loaded when the first of a module is used.

Numba takes half a second to import; what it compiles is kept on the disk. All loops let go of the
interpreter's lock and do one part of a block on one thread; `tomodask.threads.share` hands out the
parts. A value's arithmetic depends on its place in its row alone: threads, parts and blocks change
no byte.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

# A division by zero is infinite, as in NumPy: raising would keep loops from being vectorised. No
# product is fused with a sum, so every machine gives the same bytes.
OPTIONS: Any = {"nogil": True, "cache": True, "error_model": "numpy"}

__all__ = ["decay", "median", "ranks", "transmission"]


def __getattr__(name: str) -> ModuleType:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")
