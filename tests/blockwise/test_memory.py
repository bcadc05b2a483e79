"""Volume and projections of tens of MiB, in less memory than one of them takes."""

import subprocess
import sys

import numpy as np
import pytest

from tomodask import geometry, reconstruct
from tomodask.projectors.operator import operator

MIB = 2**20
# long along z, so that rays are short and the tests are quick
CASES = {
    "a cone beam": (
        "cone(angles=32, shape=(ROWS, 128), src_orig_dist=3000, src_det_dist=3600)",
        "SIRT(num_iterations=2)",
    ),
    "laminography": ("laminography(angles=32, shape=(ROWS, 128), tilt=0.3)", "CGLS(2)"),
    "total variation in space": (
        "parallel(angles=32, shape=(ROWS, 128))",
        "PDHGTV(num_iterations=2, dimensions=3, circle=False)",
    ),
}
CODE = """
import resource, sys
from pathlib import Path
import numpy as np
from tomodask.blockwise import reconstruct_blockwise
from tomodask.geometry import cone, laminography, parallel, volume
from tomodask.reconstruct import CGLS, PDHGTV, SIRT

ROWS, VIEWS, ALGORITHM, LIMITED, BUDGET = eval(sys.argv[2])
folder = Path(sys.argv[1])

def load(start, stop):
    with (folder / "y").open("rb") as file:
        file.seek(start * 32 * 128 * 4)
        return np.fromfile(file, np.float32, (stop - start) * 32 * 128).reshape(-1, 32, 128)

def run(rows, name):
    views = eval(VIEWS.replace("ROWS", str(rows)))
    return reconstruct_blockwise(
        load, eval(ALGORITHM), volume(shape=(rows, 64, 64)), views, folder=folder / name,
        budget=BUDGET, input_id="y",
    )

run(64, "first")  # compiles and imports what there is
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + LIMITED, used + LIMITED))
try:
    np.ones((ROWS, 64, 64), np.float32)
except MemoryError:
    print("an array does not fit")
x = run(ROWS, "second")
with (folder / "x").open("wb") as file:
    for start in range(0, ROWS, 256):
        x.rows(start, start + 256).tofile(file)
print(x.place.counts.most_files_bytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS and /proc are Linux's")
@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_run_takes_less_memory_than_an_array_and_is_the_same(tmp_path, rng, case):
    views, algorithm = CASES[case]
    rows = 4096
    space = geometry.volume(shape=(rows, 64, 64))
    projections = eval(views.replace("ROWS", str(rows)), vars(geometry))
    A = operator(space, projections, "numba_cpu", threads=2)
    x = np.zeros(space.shape, np.float32)
    x[:, 20:40, 25:50] = rng.random((rows, 1, 1), dtype=np.float32)
    y = A(x)
    y.tofile(tmp_path / "y")
    limits = (rows, views, algorithm, 48 * MIB, 20 * MIB)  # of arrays of 64 MiB
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path), repr(limits)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    fits, most = done.stdout.strip().splitlines()
    assert fits == "an array does not fit"
    found = np.fromfile(tmp_path / "x", np.float32).reshape(space.shape)
    expected = _all_at_once(algorithm, A, y)
    assert np.linalg.norm(found - expected) < 1e-4 * np.linalg.norm(expected)
    if "SIRT" in algorithm:  # y, weights and residual; x twice and its weights
        assert int(most) <= 3 * x.nbytes + 3 * y.nbytes


def _all_at_once(algorithm: str, A, y: np.ndarray) -> np.ndarray:
    return eval(algorithm, vars(reconstruct))(y, A)
