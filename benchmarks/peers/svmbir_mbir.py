"""svmbir's model-based reconstruction (BSD-3): weighted data, the qGGMRF prior, all rows at once.

Its noise model and its sharpness are chosen as our regularisation is; values are kept above 0, its
only bound. The system matrix is computed once and kept in its cache, which no timed call pays for.
"""

from __future__ import annotations

import numpy as np
import svmbir
from methods import Method, grid
from sparse_foam import Case


def _mbir(case: Case, snr_db: float, sharpness: float) -> np.ndarray:
    columns = case.y.shape[-1]
    volume: np.ndarray = svmbir.recon(
        np.ascontiguousarray(case.y.swapaxes(0, 1)), case.angles, weight_type="transmission",
        num_rows=columns, num_cols=columns, snr_db=snr_db, sharpness=sharpness,
        num_threads=case.threads, verbose=0,
    )  # fmt: skip
    return np.rot90(volume, axes=(1, 2))  # its angle 0 looks along the other axis


METHODS = {
    "svmbir": Method(
        "svmbir, MBIR",
        _mbir,
        grid(snr_db=(25.0, 30.0, 35.0), sharpness=(-1.0, 0.0, 1.0)),
    )
}
