"""What the denoising benchmark compares that learns nothing: windows, total variation, patches.

Parameters are the best of a grid on the tested foam's own middle rows, against its truth: better
than whoever has no truth can choose them.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
from methods import Method, grid
from noisy_foam import NoisyScan

from tomodask.reconstruct import FBP, FISTATV
from tomodask.reconstruct.filters import FILTERS

TUNED_ROWS = 6  # in the middle


def fbp(scan: NoisyScan, **parameters: Any) -> np.ndarray:
    """Filtered back-projection of all views."""
    return np.asarray(FBP(**parameters)(scan.y, scan.fourier))


def total_variation(dimensions: int) -> Callable[..., np.ndarray]:
    """Held between 0 and the solid's attenuation, which total variation alone is told."""

    def solve(scan: NoisyScan, **parameters: Any) -> np.ndarray:
        box = {"min_constraint": 0.0, "max_constraint": scan.solid}
        algorithm = FISTATV(dimensions=dimensions, **box, **parameters)
        return np.asarray(algorithm(scan.y, scan.fourier))  # type: ignore[arg-type]

    return solve


def non_local_means(dimensions: int) -> Callable[..., np.ndarray]:
    """scikit-image's, on FBP with a window; strength in parts of the noise's deviation.

    Buades, Coll, Morel 2005, doi:10.1109/CVPR.2005.38, its fast form. One core a slab: slabs
    overlap by what a voxel sees, so that they give what the whole would.
    """

    def solve(
        scan: NoisyScan, cutoff: float, patch: int, distance: int, strength: float
    ) -> np.ndarray:
        from skimage.restoration import denoise_nl_means  # noqa: PLC0415  where it is installed

        noisy = fbp(scan, filter="hann", cutoff=cutoff) / scan.solid
        h = strength * _noise(scan, cutoff) / scan.solid
        halo = (distance + patch // 2) if dimensions == 3 else 0
        result = np.empty_like(noisy)

        def denoise(rows: tuple[int, int]) -> None:
            low, high = max(0, rows[0] - halo), min(len(noisy), rows[1] + halo)
            how = {"patch_size": patch, "patch_distance": distance, "h": h, "fast_mode": True}
            part = noisy[low:high]
            if dimensions == 3:
                found = denoise_nl_means(part, **how)
            else:
                found = np.stack([denoise_nl_means(one, **how) for one in part])
            result[slice(*rows)] = found[rows[0] - low : rows[1] - low]

        edges = np.linspace(0, len(noisy), min(scan.threads, len(noisy)) + 1).round().astype(int)
        with ThreadPoolExecutor(scan.threads) as pool:
            list(pool.map(denoise, pairwise(edges)))
        return result * np.float32(scan.solid)

    return solve


def _noise(scan: NoisyScan, cutoff: float) -> float:
    """Standard deviation of the noise within the disc, by the difference of two halves."""
    even, odd = (
        fbp(half, filter="hann", cutoff=cutoff)
        for half in (scan.views(slice(0, None, 2)), scan.views(slice(1, None, 2)))
    )
    return float((even - odd)[:, scan.mask].std() / 2)


CLASSICAL = {
    "fbp": Method("FBP, ramp", fbp, ({},)),
    "fbp_window": Method(
        "FBP, best window",
        fbp,
        grid(filter=tuple(FILTERS), cutoff=(0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.8, 1.0)),
    ),
    "tv": Method(
        "total variation, 2D",
        total_variation(2),
        grid(regularisation=(0.02, 0.025, 0.03), num_iterations=(60,)),
    ),
    "tv_3d": Method(
        "total variation, 3D",
        total_variation(3),
        grid(regularisation=(0.014, 0.018, 0.022), num_iterations=(60,)),
    ),
    "nlm": Method(
        "non-local means, 2D",
        non_local_means(2),
        grid(cutoff=(0.5, 0.6, 0.7), patch=(7, 9), distance=(10,), strength=(0.5, 0.6, 0.7, 0.8)),
    ),
    "nlm_3d": Method(
        "non-local means, 3D",
        non_local_means(3),
        grid(cutoff=(0.6, 0.7), patch=(5,), distance=(3,), strength=(0.6, 0.7, 0.8, 0.9)),
    ),
}
