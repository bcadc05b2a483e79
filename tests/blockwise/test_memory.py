"""A volume and projections of 64 MiB each, in less memory than one of them takes."""

import subprocess
import sys

import numpy as np
import pytest

from tomodask.geometry import cone, volume
from tomodask.projectors.operator import operator
from tomodask.reconstruct import SIRT

# long along z, so that rays are short and the test is quick
CODE = """
import resource, sys
from pathlib import Path
import numpy as np
from tomodask.blockwise import reconstruct_blockwise
from tomodask.geometry import cone, volume
from tomodask.reconstruct import SIRT

LIMITED = 48 * 2**20  # below the size of an array
BUDGET = 20 * 2**20

folder = Path(sys.argv[1])
def geometry(rows):
    projections = cone(angles=32, shape=(rows, 128), src_orig_dist=3000, src_det_dist=3600)
    return volume(shape=(rows, 64, 64)), projections

def load(start, stop):
    with (folder / "y").open("rb") as file:
        file.seek(start * 32 * 128 * 4)
        return np.fromfile(file, np.float32, (stop - start) * 32 * 128).reshape(-1, 32, 128)

def run(rows, name):
    return reconstruct_blockwise(
        load, SIRT(num_iterations=2), *geometry(rows), folder=folder / name, budget=BUDGET,
        input_id="y",
    )

run(64, "first")  # compiles and imports what there is
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + LIMITED, used + LIMITED))
try:
    np.ones(2**24, np.float32)
except MemoryError:
    print("an array does not fit")
x = run(4096, "second")
with (folder / "x").open("wb") as file:
    for start in range(0, 4096, 256):
        x.rows(start, start + 256).tofile(file)
print(x.place.counts.most_files_bytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS and /proc are Linux's")
def test_sirt_runs_in_less_memory_than_an_array_takes(tmp_path, rng):
    V = volume(shape=(4096, 64, 64))
    P = cone(angles=32, shape=(4096, 128), src_orig_dist=3000, src_det_dist=3600)
    A = operator(V, P, "numba_cpu", threads=2)
    x = np.zeros(V.shape, np.float32)
    x[:, 20:40, 25:50] = rng.random((4096, 1, 1), dtype=np.float32)
    y = A(x)
    y.tofile(tmp_path / "y")
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    fits, most = done.stdout.strip().splitlines()
    assert fits == "an array does not fit"
    found = np.fromfile(tmp_path / "x", np.float32).reshape(V.shape)
    expected = SIRT(num_iterations=2)(y, A)
    assert np.linalg.norm(found - expected) < 1e-5 * np.linalg.norm(expected)
    # y, weights and residual; x twice and its weights
    assert int(most) <= 3 * x.nbytes + 3 * y.nbytes
