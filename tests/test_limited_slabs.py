"""An iterative run by slabs, from scan to volume, in less memory than the volume takes."""

import os
import subprocess
import sys

import numpy as np
import pytest
import zarr

from tomodask.cluster.local import worker_environment
from tomodask.geometry import Box, ParallelBeam
from tomodask.projectors import make_projector
from tomodask.reconstruct import SIRT
from tomodask.volumestore import Volume

ROWS, VIEWS, COLUMNS = 2048, 24, 96  # a volume of 72 MiB
CODE = """
import resource, sys
from pathlib import Path
import numpy as np
from tomodask.cluster.local import WORKER_BASE_BYTES, Workers
from tomodask.layers import Layer, resolve
from tomodask.runplan import BlockTask, plan_run
from tomodask.scan import Scan
from tomodask.stream import stream_block
from tomodask.volumestore import create_volume

folder, limited, budget = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])

def run(rows):
    settings = {
        "source": str(folder / "scan.zarr"), "output": str(folder / f"{rows}.zarr"),
        "center": 47.5, "rows": [0, rows], "corrections": [],
        "volume": {"chunk_rows": 8},
        "algorithm": {"sirt": {"num_iterations": 3}},
    }
    recipe, _ = resolve([Layer("test", settings)])
    workers = Workers(1, 1, budget + WORKER_BASE_BYTES)
    plan = plan_run(recipe, Scan.open(folder / "scan.zarr"), workers)
    volume = create_volume(settings["output"], plan.spec, plan.attributes())
    job = plan.job(Path(settings["output"]), volume.uuid)
    for block in plan.blocks(job.ledger.done()):
        stream_block(BlockTask(job, block))

run(64)  # compiles and imports what there is
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + limited, used + limited))
try:
    np.ones((2048, 96, 96), np.float32)
except MemoryError:
    print("a volume does not fit")
run(2048)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS and /proc are Linux's")
def test_sirt_by_slabs_takes_less_memory_than_the_volume_and_is_the_same(tmp_path, rng):
    group = zarr.create_group(tmp_path / "scan.zarr")
    views = rng.random((VIEWS, ROWS, COLUMNS), dtype=np.float32)
    group.create_array("data", data=views, chunks=(VIEWS, 8, COLUMNS))
    angles = group.create_array("theta", data=np.linspace(0, 180, VIEWS, endpoint=False))
    angles.attrs["units"] = "degrees"
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path), str(60 * 2**20), str(52 * 2**20)],
        capture_output=True,
        text=True,
        env={**os.environ, **worker_environment(1), "MALLOC_ARENA_MAX": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "a volume does not fit" in done.stdout
    beam = ParallelBeam(np.deg2rad(angles[:]), ROWS, COLUMNS, center_of_rotation=47.5)
    A = make_projector(Box((0, 0, 0), (ROWS, COLUMNS, COLUMNS)), beam, threads=2)
    expected = SIRT(num_iterations=3)(np.swapaxes(views, 0, 1), A)
    found = Volume.open(tmp_path / f"{ROWS}.zarr").read_level(0)
    assert np.linalg.norm(found - expected) <= 1e-6 * np.linalg.norm(expected)
