"""Splits of a tiny foam, as a training finds them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tomodask.phantom import foam
from tomodask.splitstore import SplitStore, create_splits
from tomodask.volumestore import VolumeSpec

SIDE, ROWS, NUM_SPLITS = 64, 24, 4


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def truth() -> np.ndarray:
    """(z, y, x) of a foam with voids."""
    return foam(0.43 * SIDE, ROWS, 60, 5, attenuation=1.0).volume(ROWS, SIDE, SIDE)


@pytest.fixture(scope="session")
def splits(truth, tmp_path_factory) -> SplitStore:
    """The truth with independent white noise on each split; one slab is held out."""
    rng = np.random.default_rng(1)
    noisy = truth + rng.normal(0, 0.8, (NUM_SPLITS, *truth.shape))
    return make_store(tmp_path_factory.mktemp("splits") / "s", noisy.astype(np.float32))


def make_store(path: Path, noisy: np.ndarray, held_out=((8, 16),)) -> SplitStore:
    """A store of splits (K, z, y, x), in slabs of 8 rows."""
    _, rows, *shape = noisy.shape
    slabs = [(z, min(rows, z + 8)) for z in range(0, rows, 8)]
    store = create_splits(
        path,
        VolumeSpec((rows, *shape), chunk_rows=8, levels=1),
        digest="tiny",
        weights=[1 / len(noisy)] * len(noisy),
        training=[slab for slab in slabs if slab not in held_out],
        held_out=held_out,
        attributes={},
    )
    full = noisy.mean(axis=0)
    for start, stop in slabs:
        store.write(start, noisy[:, start:stop], full[start:stop])
    return store.note(
        shift=float(full.mean()), scale=float(full.std()), radius=shape[0] / 2, signal=0.1
    )
