"""scikit-image's `iradon_sart` (BSD-3): SART view by view, in our box; one core a slice.

It turns around column n // 2, the middle only where the columns are odd; an image's y runs down.
"""

from __future__ import annotations

import numpy as np
from methods import Method, grid
from skimage.transform import iradon_sart
from sparse_foam import Case


def _sart(case: Case, num_iterations: int, relaxation: float) -> np.ndarray:
    degrees, box = np.rad2deg(case.angles), (0.0, case.solid)
    slices = []
    for sinogram in case.y:
        image = None
        for _ in range(num_iterations):
            image = iradon_sart(
                np.ascontiguousarray(sinogram.T), degrees, image, clip=box, relaxation=relaxation
            )
        slices.append(image[::-1])
    return np.stack(slices)


METHODS = {
    "skimage_sart": Method(
        "scikit-image, SART", _sart, grid(num_iterations=(1, 2, 4, 8), relaxation=(0.05, 0.15, 0.3))
    )
}
