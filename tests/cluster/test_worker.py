"""The worker command: what it sets before Dask's own, and what it passes on."""

import os
import sys
import time
from types import ModuleType, SimpleNamespace

import dask
import pytest

from tomodask.cluster import worker
from tomodask.cluster.walltime import ENDS_AT

SERVER = SimpleNamespace(stop=lambda: None)
PASSED = ["tls://10.0.0.1:8786", "--name", "job-3", "--memory-limit", "4GiB", "--tls-key", "k.pem"]


@pytest.fixture
def called(monkeypatch):
    """What Dask's command would be called with, in an environment that is put back."""
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_END_TIME", ENDS_AT, worker.GPUS):
        monkeypatch.delenv(name, raising=False)
    before, seen = dict(os.environ), SimpleNamespace()

    def command(args, prog_name):
        seen.args = args
        seen.environment = dict(os.environ)
        seen.spawned = dask.config.get("distributed.nanny.pre-spawn-environ")

    monkeypatch.setattr(worker.dask_worker, "main", command)
    yield seen
    os.environ.clear()
    os.environ.update(before)


def test_a_worker_does_one_block_at_a_time_with_all_its_threads(called):
    worker.main([*PASSED, "--nthreads", "8", "--nworkers", "2"])
    assert called.args[: len(PASSED)] == PASSED
    options = dict(
        zip(called.args[len(PASSED) :: 2], called.args[len(PASSED) + 1 :: 2], strict=False)
    )
    assert options["--nworkers"] == "2"
    text = " ".join(called.args)
    assert "--nthreads 1 --no-dashboard --preload tomodask.cluster.worker" in text
    assert "--nthreads 8" not in text
    assert called.environment["OMP_NUM_THREADS"] == "8"
    assert called.spawned["NUMBA_NUM_THREADS"] == "8"
    assert ENDS_AT not in called.environment


def test_it_knows_when_its_job_ends(called):
    worker.main([*PASSED, "--walltime", "1000"])
    assert float(called.environment[ENDS_AT]) == pytest.approx(time.time() + 900, abs=10)


def test_each_worker_sees_one_of_the_devices_that_the_job_was_given(called, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-5f,6,7")
    worker.main([*PASSED, "--gpus", "3"])
    assert called.args[called.args.index("--nworkers") + 1] == "3"
    assert called.environment[worker.GPUS] == "4,GPU-5f,6"
    seen = []
    for name in ("job-3-0", "job-3-1", "job-3-2"):
        worker.dask_setup(SimpleNamespace(name=name, http_server=SERVER))
        seen.append(os.environ["CUDA_VISIBLE_DEVICES"])
    assert seen == ["4", "GPU-5f", "6"]


def test_devices_are_counted_where_the_batch_system_names_none():
    assert worker.device_of("job-3", ["0"]) == "0"
    assert worker.device_of("job-3-1", ["0", "1"]) == "1"


def test_dask_cuda_pins_the_devices_where_it_is_installed(called, monkeypatch):
    commands = ModuleType("dask_cuda.cli")
    commands.worker = worker.dask_worker.main
    monkeypatch.setitem(sys.modules, "dask_cuda", ModuleType("dask_cuda"))
    monkeypatch.setitem(sys.modules, "dask_cuda.cli", commands)
    monkeypatch.setattr(worker.importlib.util, "find_spec", lambda name: object())
    worker.main([*PASSED, "--gpus", "2"])
    assert called.args[: len(PASSED)] == PASSED
    assert "--nworkers" not in called.args
    assert "--nanny" not in called.args
    assert worker.GPUS not in called.environment


def test_a_worker_leaves_when_its_time_is_up(monkeypatch):
    later = []
    loop = SimpleNamespace(call_later=lambda seconds, function: later.append((seconds, function)))
    monkeypatch.delenv(worker.GPUS, raising=False)
    monkeypatch.setenv(ENDS_AT, str(time.time() + 50))
    told = SimpleNamespace(name="w", io_loop=loop, close_gracefully="leave", http_server=SERVER)
    worker.dask_setup(told)
    ((seconds, function),) = later
    assert seconds == pytest.approx(50, abs=5)
    assert function == "leave"
