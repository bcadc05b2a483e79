"""Fixtures that every test may use."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from distributed import Client

from tomodask.cluster.local import Workers, local_cluster
from tomodask.demo import write_dxchange
from tomodask.phantom import SimulatedScan, simulate_scan


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of measured scans; tests that need it say why they were skipped without it."""
    named = os.environ.get("TOMODASK_DATA")
    if not named:
        pytest.skip("TOMODASK_DATA does not name the folder of measured scans")
    folder = Path(named)
    if not folder.is_dir():
        pytest.fail(f"TOMODASK_DATA={named} is not a folder")
    return folder


@pytest.fixture(scope="module")
def one_worker() -> Iterator[Client]:
    """For tests whose workers matter little: a module starts them once, in two seconds."""
    with local_cluster(Workers(1, 1, 2**30)) as client:
        yield client


@dataclass(frozen=True)
class RawFile:
    """A small simulated scan and the DXchange file it lies in."""

    path: Path
    truth: SimulatedScan


@pytest.fixture(scope="session")
def raw_file(tmp_path_factory) -> RawFile:
    """60 views of 40 x 48 pixels: 10 chunk rows of 4."""
    truth = simulate_scan(40, 48, 60, seed=3, num_spheres=300, photons=1e4)
    path = tmp_path_factory.mktemp("raw") / "scan.h5"
    write_dxchange(path, truth)
    return RawFile(path, truth)


def store_bytes(path: Path) -> dict[str, str]:
    """Digest of every chunk and shard of a store; not of its metadata, which holds a fresh uuid.

    Not the bytes themselves: under CI pytest would write out how megabytes differ, for minutes.
    """
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name != "zarr.json"
    }


@pytest.fixture(scope="session")
def bytes_of():
    """The function that reads a store's chunks, to compare runs."""
    return store_bytes
