"""ASTRA's CPU algorithms "SIRT" and "CGLS" (GPL-3.0) with its projector "linear" (Joseph's method).

Both get the iterations that were chosen for ours, SIRT also our relaxation and box. One core a
slice; it lets go of Python meanwhile.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import astra
import numpy as np
from methods import Method
from sparse_foam import Case


def _solve(algorithm: str, case: Case, num_iterations: int, options: dict[str, Any]) -> np.ndarray:
    """All slices; ASTRA turns the other way around."""
    columns = case.y.shape[-1]
    volume = astra.create_vol_geom(columns, columns)
    views = astra.create_proj_geom("parallel", 1.0, columns, -case.angles)
    projector = astra.create_projector("linear", views, volume)

    def one(sinogram: np.ndarray) -> np.ndarray:
        sinogram_id = astra.data2d.create("-sino", views, sinogram)
        image_id = astra.data2d.create("-vol", volume)
        config = astra.astra_dict(algorithm)
        config["ProjectorId"] = projector
        config["ProjectionDataId"] = sinogram_id
        config["ReconstructionDataId"] = image_id
        config["option"] = options
        algorithm_id = astra.algorithm.create(config)
        astra.algorithm.run(algorithm_id, num_iterations)
        image = astra.data2d.get(image_id)
        astra.algorithm.delete(algorithm_id)
        astra.data2d.delete([sinogram_id, image_id])
        return np.asarray(image)

    with ThreadPoolExecutor(case.threads) as pool:
        slices = np.stack(list(pool.map(one, case.y)))
    astra.projector.delete(projector)
    return slices


def _sirt(case: Case, num_iterations: int, relaxation: float) -> np.ndarray:
    box = {"MinConstraint": 0.0, "MaxConstraint": case.solid, "Relaxation": relaxation}
    return _solve("SIRT", case, num_iterations, box)


def _cgls(case: Case, num_iterations: int) -> np.ndarray:
    return _solve("CGLS", case, num_iterations, {})


METHODS = {
    "astra_sirt": Method("ASTRA (CPU, linear), SIRT", _sirt, like="sirt"),
    "astra_cgls": Method("ASTRA (CPU, linear), CGLS", _cgls, like="cgls"),
}
