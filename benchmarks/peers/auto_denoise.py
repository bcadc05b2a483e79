"""auto-denoise (MIT): Noise2Noise of the same splits with its U-Net, for a time that is given.

It trains for whole epochs, all splits of all rows: how long one takes is tried before, and as many
are run as take no less than the time. Batches are one slice each, with which it comes farthest in a
short time.
"""

from __future__ import annotations

import contextlib
import io
import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from learned import Denoised
from noisy_foam import NoisyScan

FEATURES, LEVELS = 16, 3
STRATEGY = "X:1"
LEARNING_RATE = 3e-3  # better in a short time than its own 1e-3
HELD_OUT = 0.1  # of the pixels, on which it chooses the best epoch
TRIED = 1 / 8  # of the rows, for the time of an epoch


def denoise(scan: NoisyScan, seconds: float) -> Denoised:
    """Train for as many epochs as take the time, or a little more, then apply."""
    torch.set_num_threads(scan.threads)
    splits = scan.splits.splits
    with _silent():
        tried = math.ceil(TRIED * len(scan.full))
        _trained(splits[:, :tried], 1)  # the first calls choose their kernels
        _, some = _trained(splits[:, :tried], 1)
        epochs = math.ceil(seconds / (some * len(scan.full) / tried))
        denoiser, training = _trained(splits, epochs)
        begin = time.perf_counter()
        inputs, _, _ = denoiser.prepare_data(splits, strategy=STRATEGY)
        volume = np.asarray(denoiser.infer(inputs), np.float32)
        applying = time.perf_counter() - begin
    volume[scan.full == 0] = 0
    told = {"network": "U-Net", "features": FEATURES, "levels": LEVELS, "strategy": STRATEGY}
    told |= {"learning_rate": LEARNING_RATE, "epochs": epochs, "applying_s": applying}
    return Denoised(volume, training + applying, epochs * splits.size, told)


def _trained(splits: np.ndarray, epochs: int) -> tuple[Any, float]:
    """Its denoiser, trained on splits (K, z, y, x), and the seconds that took."""
    from autoden.algorithms.noise2noise import N2N  # noqa: PLC0415  where it is installed
    from autoden.models.config import NetworkParamsUNet  # noqa: PLC0415

    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  it draws its mask by it
    network = NetworkParamsUNet(n_features=FEATURES, n_levels=LEVELS)
    denoiser = N2N(network, batch_size=1, device="cpu", verbose=False)
    began = time.perf_counter()
    inputs, targets, mask = denoiser.prepare_data(splits, strategy=STRATEGY, num_tst_ratio=HELD_OUT)
    denoiser.train(inputs, targets, mask, epochs=epochs, learning_rate=LEARNING_RATE)
    return denoiser, time.perf_counter() - began


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Nothing of its bars and prints."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
