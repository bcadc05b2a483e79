"""ASTRA's CPU algorithm "FBP" (GPL-3.0) with its projector "linear" (Joseph's method).

It uses one core a slice and lets go of Python meanwhile, so it gets as many slices at a time as
there are threads.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import astra
import numpy as np

from peers import Reconstruct


def prepare(angles: np.ndarray, columns: int, threads: int) -> Reconstruct:
    """ASTRA turns the other way around, and has a ramp of its own, "ram-lak"."""
    volume = astra.create_vol_geom(columns, columns)
    views = astra.create_proj_geom("parallel", 1.0, columns, -angles)
    projector = astra.create_projector("linear", views, volume)

    def one(sinogram: np.ndarray) -> np.ndarray:
        sinogram_id = astra.data2d.create("-sino", views, sinogram)
        image_id = astra.data2d.create("-vol", volume)
        options = astra.astra_dict("FBP")
        options["ProjectorId"] = projector
        options["ProjectionDataId"] = sinogram_id
        options["ReconstructionDataId"] = image_id
        options["option"] = {"FilterType": "ram-lak"}
        algorithm = astra.algorithm.create(options)
        astra.algorithm.run(algorithm)
        image = astra.data2d.get(image_id)
        astra.algorithm.delete(algorithm)
        astra.data2d.delete([sinogram_id, image_id])
        return np.asarray(image)

    def reconstruct(sinograms: np.ndarray) -> np.ndarray:
        with ThreadPoolExecutor(threads) as pool:
            return np.stack(list(pool.map(one, sinograms)))

    return reconstruct
