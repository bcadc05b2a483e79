"""ASTRA's CPU algorithms "FP" and "BP" (GPL-3.0) with its projector "linear" (Joseph's method).

It uses one core a slice and lets go of Python meanwhile, so it gets as many slices at a time as
there are threads; geometry and projector are made once.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import astra
import numpy as np


class AstraProjector:
    """Both directions for square slices; ASTRA turns the other way around than we do."""

    def __init__(self, angles: np.ndarray, columns: int, threads: int) -> None:
        self.threads = threads
        self._volume = astra.create_vol_geom(columns, columns)
        self._views = astra.create_proj_geom("parallel", 1.0, columns, -angles)
        self._projector = astra.create_projector("linear", self._views, self._volume)

    def forward(self, volume: np.ndarray) -> np.ndarray:
        """(z, y, x) -> (row, angle, column)."""
        return self._for_each(volume, "FP")

    def adjoint(self, sinograms: np.ndarray) -> np.ndarray:
        """(row, angle, column) -> (z, y, x)."""
        return self._for_each(sinograms, "BP")

    def _for_each(self, arrays: np.ndarray, algorithm: str) -> np.ndarray:
        def one(array: np.ndarray) -> np.ndarray:
            forward = algorithm == "FP"
            image_id = astra.data2d.create("-vol", self._volume, array if forward else 0)
            sinogram_id = astra.data2d.create("-sino", self._views, 0 if forward else array)
            options = astra.astra_dict(algorithm)
            options["ProjectorId"] = self._projector
            options["ProjectionDataId"] = sinogram_id
            options["VolumeDataId" if forward else "ReconstructionDataId"] = image_id
            run = astra.algorithm.create(options)
            astra.algorithm.run(run)
            result = astra.data2d.get(sinogram_id if forward else image_id)
            astra.algorithm.delete(run)
            astra.data2d.delete([image_id, sinogram_id])
            return np.asarray(result)

        with ThreadPoolExecutor(self.threads) as pool:
            return np.stack(list(pool.map(one, arrays)))
