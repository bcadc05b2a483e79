"""`python -m tomodask.cluster.worker`: Dask's worker command, set up for blocks of tomography.

A worker process runs one block at a time, with all the threads that it was given (Dask would run as
many blocks as there are threads), keeps freed memory, sees one GPU, and knows when its batch job
ends. All other arguments are those of `dask worker`.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from typing import Any

import dask
from distributed.cli import dask_worker

from tomodask.cluster import webserver
from tomodask.cluster.local import SETTINGS, worker_environment
from tomodask.cluster.walltime import ENDS_AT, job_end, seconds_left

GPUS = "TOMODASK_GPUS"  # devices of the job, a worker for each
PRELOAD = "tomodask.cluster.worker"
COMMON = ("--nthreads", "1", "--no-dashboard", "--preload", PRELOAD)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the workers of one job until the scheduler lets them go."""
    own, passed = _parse(sys.argv[1:] if arguments is None else arguments)
    os.environ.update(worker_environment(own.nthreads))
    ends = job_end(own.walltime)
    if ends is not None:
        os.environ[ENDS_AT] = str(ends)
    settings = {**SETTINGS, "distributed.nanny.pre-spawn-environ": worker_environment(own.nthreads)}
    with dask.config.set(settings):
        command, passed = _command(own, passed)
        command(args=[*passed, *COMMON], prog_name="tomodask-worker")


def _parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(prog=PRELOAD, description=__doc__, allow_abbrev=False)
    parser.add_argument("--nthreads", type=int, default=1, help="of one worker's block")
    parser.add_argument("--nworkers", type=int, default=1, help="worker processes")
    parser.add_argument("--gpus", type=int, default=0, help="devices, a worker for each")
    parser.add_argument("--walltime", type=float, default=None, help="of the job, seconds")
    own, passed = parser.parse_known_args(list(arguments))
    if own.gpus:
        own.nworkers = own.gpus
    return own, passed


def _command(own: argparse.Namespace, passed: list[str]) -> tuple[Any, list[str]]:
    """Dask's command and its arguments; dask-cuda's where there are GPUs and it is installed."""
    if own.gpus and importlib.util.find_spec("dask_cuda") is not None:
        return importlib.import_module("dask_cuda.cli").worker, passed  # pins devices by itself
    if own.gpus:
        os.environ[GPUS] = ",".join(visible_devices(own.gpus))
    return dask_worker.main, [*passed, "--nworkers", str(own.nworkers), "--nanny"]


def visible_devices(count: int) -> list[str]:
    """Devices that the job was given, as CUDA numbers them or by their uuid."""
    told = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    devices = [device for device in told.split(",") if device]
    return devices[:count] if devices else [str(number) for number in range(count)]


def device_of(name: object, devices: Sequence[str]) -> str:
    """The device of a worker by its name, whose last part is its number within the job."""
    last = str(name).rpartition("-")[2]
    number = int(last) if last.isdigit() and len(devices) > 1 else 0
    return devices[number % len(devices)]


def dask_setup(worker: Any) -> None:
    """Called by Dask in each worker process before its first task."""
    webserver.dask_setup(worker)
    devices = os.environ.get(GPUS)
    if devices:
        os.environ["CUDA_VISIBLE_DEVICES"] = device_of(worker.name, devices.split(","))
    left = seconds_left()
    if left is not None:  # not Dask's --lifetime: a worker that was restarted would count anew
        worker.io_loop.call_later(max(0.0, left), worker.close_gracefully)


if __name__ == "__main__":
    main()
