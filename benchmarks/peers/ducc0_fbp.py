"""ducc0.nufft (GPL-2.0): nu2u of the filtered lines, https://gitlab.mpcdf.mpg.de/mtr/ducc.

Its own choice of the grid factor (1.19 to 2.51) and factor 2 are tried: the one was faster at 1024
columns, the other at 512; 1.2 to 1.35, 1.5 and 1.75 never were. The 1D stage is SciPy's: ducc0's
FFT takes 1.5 times as long there (56 against 36 ms for 16 slices of 1024 columns, 2 threads).
"""

from __future__ import annotations

import ducc0
import numpy as np

from peers.lines import FilteredLines
from peers.nonuniform import MakeTransform, NonuniformFBP, Transform

TOLERANCE = 1e-3
FACTORS = ((1.19, 2.51), (1.9, 2.1))  # of the grid, least and greatest


def prepare(angles: np.ndarray, columns: int, threads: int) -> NonuniformFBP:
    """Plans for each thread, at the grid factor that is fastest here."""

    def way(least: float, greatest: float) -> MakeTransform:
        def make(lines: FilteredLines) -> Transform:
            plan = ducc0.nufft.plan(
                nu2u=True,
                coord=np.ascontiguousarray(lines.points_yx.T),
                grid_shape=(columns, columns),
                epsilon=TOLERANCE,
                nthreads=1,
                sigma_min=least,
                sigma_max=greatest,
            )
            return lambda spectra, image: plan.nu2u(forward=False, points=spectra, out=image)

        return make

    return NonuniformFBP(
        angles, columns, threads, {f"grid {low} to {high}": way(low, high) for low, high in FACTORS}
    )
