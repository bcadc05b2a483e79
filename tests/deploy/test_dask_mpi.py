"""deploy/dask_mpi.sh runs on the workers that mpirun starts, where there is an MPI."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tomodask import steps

SCRIPT = Path(__file__).parents[2] / "deploy" / "dask_mpi.sh"
RECIPE = "source: {source}\noutput: {output}\nvolume: {{chunk_rows: 4}}\n"


@pytest.fixture
def mpi():
    """Environment in which mpirun is found, its library and this Python's commands."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    if shutil.which("mpirun", path=path) is None:
        pytest.skip("there is no mpirun: pip install mpich, or the system's package")
    environment = os.environ | {"PATH": path}
    hello = [sys.executable, "-c", "import dask_mpi; from mpi4py import MPI"]
    done = subprocess.run(hello, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"MPI can't be used from Python: {done.stderr.splitlines()[-1]}")
    return environment


@pytest.mark.slow
def test_workers_of_mpirun_make_the_bytes_of_a_local_run(mpi, raw_file, bytes_of, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.format(source=raw_file.path, output=tmp_path / "mpi.zarr"))
    done = subprocess.run(
        ["bash", str(SCRIPT), str(recipe), "3", "1"],
        cwd=tmp_path,
        env=mpi,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "2 workers" in done.stderr
    steps.reconstruct(
        raw_file.path, tmp_path / "local.zarr", volume={"chunk_rows": 4}, cluster={"workers": 1}
    )
    assert bytes_of(tmp_path / "mpi.zarr") == bytes_of(tmp_path / "local.zarr")

    assert not list(tmp_path.glob("dask-mpi-*")), "its keys are gone with it"
    lines = [
        " ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])
    ]
    assert not [line for line in lines if "dask-mpi" in line and str(tmp_path) in line]


@pytest.mark.slow
def test_a_scheduler_that_never_begins_is_told(mpi, tmp_path):
    done = subprocess.run(
        ["bash", str(SCRIPT), "recipe.yaml", "1", "1"],  # one rank: nobody is left to work
        cwd=tmp_path,
        env=mpi,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "mpirun ended before its scheduler began" in done.stderr
    assert not list(tmp_path.glob("dask-mpi-*"))
