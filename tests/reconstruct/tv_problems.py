"""Small problems with total variation, and what is to be least."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.reconstruct.dense import dense, projector, smooth_volume
from tomodask.reconstruct.gradients import total_variation


def noisy_problem() -> tuple[Any, np.ndarray]:
    """(A, y) of three slices, y with noise of 2 %."""
    A = dense(3)
    y = A(smooth_volume(3))
    noise = np.random.default_rng(1).normal(size=y.shape)
    return A, (y + 0.02 * y.max() * noise).astype(np.float32)


def exact_views(size: int, views: int) -> tuple[Any, np.ndarray, np.ndarray]:
    """(A, y, x) of a slice of three values, without noise."""
    x = np.zeros((1, size, size), np.float32)
    grid = np.mgrid[:size, :size] - (size - 1) / 2
    x[0][np.hypot(*grid) < 0.42 * size] = 1.0
    x[0][np.hypot(grid[0] - 4, grid[1] + 5) < 0.12 * size] = 0.0
    x[0][size // 4 : size // 4 + 5, size // 2 : size // 2 + 8] = 0.5
    A = projector(1, "reference", views, size)
    return A, A(x), x


def gain(A: Any) -> float:
    """|A 1| / |1|, the same for all slices."""
    ones = np.ones(A.domain_shape, np.float32)
    return float(np.linalg.norm(A(ones)) / np.linalg.norm(ones))


def objective(
    x: np.ndarray, y: np.ndarray, A: Any, regularisation: float, dimensions: int
) -> float:
    """What is to be least."""
    residual = np.float64(y - A(x))
    return 0.5 * float(np.sum(residual**2)) + regularisation * gain(A) * total_variation(
        x, dimensions
    )
