"""auto-denoise (MIT): Noise2Noise between splits with its U-Net, on our splits, in our time.

Its loss is smoothed by no prior of its own unless asked, its batches are whole slices, turned and
mirrored. Of its settings those were kept that gave most in equal time on this task: 16 features, 3
levels, X:1, Adam with 1e-3 over one cosine, batches of 4 slices.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

FEATURES, LEVELS, BATCH, RATE = 16, 3, 4, 1e-3


def denoise(splits: np.ndarray, seconds: float) -> tuple[np.ndarray, dict[str, Any]]:
    """Splits (K, z, y, x) -> the mean over its K outputs (z, y, x), and how it was trained.

    The number of epochs is what fits into the seconds, by the time that one takes.
    """
    from autoden import N2N, NetworkParamsUNet  # noqa: PLC0415  (seconds, and seldom installed)

    def peer() -> Any:
        network = NetworkParamsUNet(n_features=FEATURES, n_levels=LEVELS)
        return N2N(network, batch_size=BATCH, augmentation="flip", verbose=False)

    trial = peer()
    inputs, targets, mask = trial.prepare_data(splits, num_tst_ratio=0.1, strategy="X:1")
    began = time.perf_counter()
    trial.train(inputs, targets, mask, epochs=1, learning_rate=RATE)
    epoch = time.perf_counter() - began
    epochs = max(1, round(seconds / epoch))
    model = peer()
    began = time.perf_counter()
    model.train(inputs, targets, mask, epochs=epochs, learning_rate=RATE, restarts=1)
    took = time.perf_counter() - began
    told = {
        "voxels_seen": int(epochs * inputs.size), "training_seconds": took, "epochs": epochs,
        "parameters": f"U-Net of {FEATURES} features, {epochs} epochs",
    }  # fmt: skip
    return np.asarray(model.infer(inputs)), told
