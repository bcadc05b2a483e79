"""How long the first FBP of a process takes: compiled now (cold), or before by another (warm).

python benchmarks/first_call.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile

SLICES, COLUMNS, ANGLES = 2, 64, 100

# a process of its own: what it compiles or loads, it does once
ONE_CALL = f"""
import time
import numpy as np
from tomodask.geometry import Box, ParallelBeam
from tomodask.projectors import make_projector
from tomodask.reconstruct import FBP
angles = np.linspace(0, np.pi, {ANGLES}, endpoint=False)
geometry = ParallelBeam(angles, {SLICES}, {COLUMNS}, center_of_rotation={(COLUMNS - 1) / 2})
sinograms = np.ones(({SLICES}, {ANGLES}, {COLUMNS}), np.float32)
began = time.perf_counter()
A = make_projector(Box((0, 0, 0), ({SLICES}, {COLUMNS}, {COLUMNS})), geometry, BACKEND)
FBP()(sinograms, A)
first = time.perf_counter() - began
began = time.perf_counter()
FBP()(sinograms, A)
print(first, time.perf_counter() - began)
"""


def first_call_seconds(backend: str) -> dict[str, float]:
    """Seconds of the first FBP with an empty cache of compiled code, with a full one, and later.

    The backend's import counts, tomodask's own does not.
    """
    with tempfile.TemporaryDirectory() as cache:
        cold, _ = _one_process(backend, cache)
        warm, later = _one_process(backend, cache)
    return {"cold": cold, "warm": warm, "second_call": later}


def _one_process(backend: str, cache: str) -> tuple[float, float]:
    code = ONE_CALL.replace("BACKEND", repr(backend))
    environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    first, later = (float(word) for word in done.stdout.split())
    return first, later


if __name__ == "__main__":
    print(json.dumps(first_call_seconds("fourier"), indent=2))
