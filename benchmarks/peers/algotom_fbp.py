"""algotom's `fbp_reconstruction` (Apache-2.0) on the CPU, with the best of its windows."""

from __future__ import annotations

import numpy as np
from algotom.rec.reconstruction import fbp_reconstruction
from methods import Method, grid
from sparse_foam import Case

WINDOWS = (None, "hann", "bartlett", "blackman", "hamming", "nuttall", "parzen", "triang")


def _fbp(case: Case, filter_name: str | None) -> np.ndarray:
    """Its y runs the other way."""
    columns = case.y.shape[-1]
    slices = [
        fbp_reconstruction(
            sinogram, (columns - 1) / 2, case.angles, filter_name=filter_name, pad=columns // 2,
            pad_mode="constant", apply_log=False, gpu=False, ncore=case.threads,
        )[::-1]
        for sinogram in case.y
    ]  # fmt: skip
    return np.stack(slices)


METHODS = {"algotom_fbp": Method("algotom, FBP, best window", _fbp, grid(filter_name=WINDOWS))}
