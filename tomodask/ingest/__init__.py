"""READ: scans as instruments write them, one format a file; `convert` makes the scan store.

The readers, with HDF5, TIFF and Zarr behind them, load when the first source is opened: a recipe
needs `SourceOptions` alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tomodask.ingest.source import Source, SourceOptions, describe

if TYPE_CHECKING:
    from tomodask.ingest.formats import FORMATS, open_source

__all__ = ["FORMATS", "Source", "SourceOptions", "describe", "open_source"]


def __getattr__(name: str) -> Any:
    if name in ("FORMATS", "open_source"):
        return getattr(import_module("tomodask.ingest.formats"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
