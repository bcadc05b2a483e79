"""Ways to denoise that learn nothing, each at its best: tuned against the truth on a few rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.util import find_spec
from typing import Any

import numpy as np
from noisy_foam import NoisyFoam

from tomodask.geometry import Box
from tomodask.projectors import make_projector
from tomodask.reconstruct import FBP, FISTATV

TUNED_ROWS = 2  # in the middle
FILTERS = [
    {"filter": name, "cutoff": cutoff}
    for name in ("hann", "cosine", "shepp-logan")
    for cutoff in (1.0, 0.7, 0.5, 0.35, 0.25)
]
WEIGHTS = (0.02, 0.03, 0.045, 0.065, 0.09, 0.13)
NON_LOCAL = [
    {"cutoff": cutoff, "strength": strength}
    for cutoff in (0.35, 0.5, 0.7)
    for strength in (0.6, 0.8, 1.0, 1.3)
]

Method = Callable[[NoisyFoam, int | None], tuple[np.ndarray, dict[str, Any]]]


def ramp(scan: NoisyFoam, points: int | None) -> tuple[np.ndarray, dict[str, Any]]:
    """FBP as it is."""
    return scan.full, {}


def window(scan: NoisyFoam, points: int | None) -> tuple[np.ndarray, dict[str, Any]]:
    """FBP with the best of many windows."""

    def filtered(y: np.ndarray, A: Any, **parameters: Any) -> np.ndarray:
        return FBP(**parameters)(y, A)

    best = _tuned(scan, FILTERS[:points], filtered)
    return filtered(scan.sinograms, scan.A, **best), {"parameters": best}


def total_variation(scan: NoisyFoam, points: int | None) -> tuple[np.ndarray, dict[str, Any]]:
    """Least squares with total variation, values not below 0."""

    def solved(y: np.ndarray, A: Any, weight: float) -> np.ndarray:
        solve: Any = FISTATV(weight, num_iterations=100, min_constraint=0.0)
        return np.asarray(solve(y, A))

    best = _tuned(scan, [{"weight": weight} for weight in WEIGHTS[:points]], solved)
    return solved(scan.sinograms, scan.A, **best), {"parameters": best}


def non_local_means(scan: NoisyFoam, points: int | None) -> tuple[np.ndarray, dict[str, Any]]:
    """scikit-image's, slice by slice, on a windowed FBP, whose noise has its own strength."""
    from skimage.restoration import denoise_nl_means, estimate_sigma  # noqa: PLC0415

    def cleaned(y: np.ndarray, A: Any, cutoff: float, strength: float) -> np.ndarray:
        slices = FBP(filter="hann", cutoff=cutoff)(y, A)
        made = []
        for image in slices:
            sigma = float(image[scan.disc].std()) * 0.5 or float(estimate_sigma(image))
            made.append(
                denoise_nl_means(
                    image, h=strength * sigma, patch_size=7, patch_distance=11, fast_mode=True
                )
            )
        return np.stack(made).astype(np.float32)

    best = _tuned(scan, NON_LOCAL[:points], cleaned)
    return cleaned(scan.sinograms, scan.A, **best), {"parameters": best}


def _tuned(
    scan: NoisyFoam, grid: Iterable[dict[str, Any]], method: Callable[..., np.ndarray]
) -> dict[str, Any]:
    """The parameters that are best in the middle rows."""
    start = (len(scan.clean) - TUNED_ROWS) // 2
    rows = slice(start, start + TUNED_ROWS)
    geometry = scan.A.geometry.take_rows(start, start + TUNED_ROWS)
    side = geometry.det_count
    A = make_projector(Box((0, 0, 0), (TUNED_ROWS, side, side)), geometry, threads=scan.A.threads)

    def score(parameters: dict[str, Any]) -> float:
        return scan.psnr(method(scan.sinograms[rows], A, **parameters), rows)

    return max(grid, key=score)


CLASSICAL: dict[str, Method] = {"fbp": ramp, "window": window, "tv": total_variation}
if find_spec("skimage"):
    CLASSICAL["nlm"] = non_local_means
