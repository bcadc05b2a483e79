"""The peers that tomodask is measured against: one a file, each fed as well as it can be.

A peer's `prepare(angles, columns, threads)` plans once and gives `reconstruct(sinograms)`, which
makes FBP slices of the same ramp, the same padding and the same disc as `tomodask.reconstruct.FBP`.

Those of the quality benchmark are in modules of their own, with a `methods.Method` for each name.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

Reconstruct = Callable[[np.ndarray], np.ndarray]  # sinograms (row, angle, column) -> (z, y, x)

# name: (package it needs, its module here)
PEERS = {
    "finufft": ("finufft", "peers.finufft_fbp"),
    "ducc0": ("ducc0", "peers.ducc0_fbp"),
    "astra": ("astra", "peers.astra_fbp"),
}
QUALITY_PEERS = {
    "astra_sirt": ("astra", "peers.astra_iterative"),
    "astra_cgls": ("astra", "peers.astra_iterative"),
    "skimage_sart": ("skimage", "peers.skimage_sart"),
    "algotom_fbp": ("algotom", "peers.algotom_fbp"),
    "svmbir": ("svmbir", "peers.svmbir_mbir"),
}


def installed_peers() -> list[str]:
    """Those whose package is here; nothing is imported to find out."""
    return [name for name, (package, _) in PEERS.items() if find_spec(package)]


def prepare_peer(name: str, angles: np.ndarray, columns: int, threads: int) -> Reconstruct:
    """A peer's FBP, planned for this geometry."""
    reconstruct: Reconstruct = import_module(PEERS[name][1]).prepare(angles, columns, threads)
    return reconstruct


def installed_quality_peers() -> list[str]:
    """Those of the quality benchmark whose package is here."""
    return [name for name, (package, _) in QUALITY_PEERS.items() if find_spec(package)]


def quality_peer(name: str) -> Any:
    """A peer's `methods.Method`."""
    return import_module(QUALITY_PEERS[name][1]).METHODS[name]
