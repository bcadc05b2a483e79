"""The peers that tomodask is measured against: one a file, each fed as well as it can be.

A peer's `prepare(angles, columns, threads)` plans once and gives `reconstruct(sinograms)`, which
makes FBP slices of the same ramp, the same padding and the same disc as `tomodask.reconstruct.FBP`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

import numpy as np

Reconstruct = Callable[[np.ndarray], np.ndarray]  # sinograms (row, angle, column) -> (z, y, x)

# name: (package it needs, its module here)
PEERS = {
    "finufft": ("finufft", "peers.finufft_fbp"),
    "ducc0": ("ducc0", "peers.ducc0_fbp"),
    "astra": ("astra", "peers.astra_fbp"),
}


def installed_peers() -> list[str]:
    """Those whose package is here; nothing is imported to find out."""
    return [name for name, (package, _) in PEERS.items() if find_spec(package)]


def prepare_peer(name: str, angles: np.ndarray, columns: int, threads: int) -> Reconstruct:
    """A peer's FBP, planned for this geometry."""
    reconstruct: Reconstruct = import_module(PEERS[name][1]).prepare(angles, columns, threads)
    return reconstruct
