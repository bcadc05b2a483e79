"""A cluster for one machine, or somebody's scheduler: where a run finds its workers."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

import dask
import psutil
from distributed import Client, LocalCluster, Security, Status
from distributed.system import MEMORY_LIMIT

from tomodask import arrays
from tomodask.cluster.connection import quiet_logs, scheduler_needed
from tomodask.cluster.keeper import forget, kept
from tomodask.cluster.webserver import close_web_server
from tomodask.errors import InputError, MemoryBudgetError

log = logging.getLogger(__name__)

# A task may hold a worker for minutes; a budget is kept by the block plan, not by Dask's spilling.
SETTINGS = {
    "distributed.scheduler.worker-ttl": "30 minutes",
    "distributed.scheduler.allowed-failures": 1,  # workers that die of one block, an attempt
    "distributed.scheduler.http.routes": [],
    # Dask would end a worker that takes longer than 15 s to come back, and a requeued job
    "distributed.deploy.lost-worker-timeout": "365 days",
    "distributed.worker.http.routes": [],
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.98,
    "distributed.worker.profile.enabled": False,
    "distributed.admin.event-loop-monitor-interval": "1s",
}
WORKER_BASE_BYTES = 400 * 2**20  # interpreter, imports and FFT plans, before any block
CORES_A_WORKER = 4
CONNECT_SECONDS = 20.0  # for a scheduler to answer
LOOK_SECONDS = 2.0  # between two looks at the workers' health
THREADS = "TOMODASK_THREADS"  # of a block, told to each worker by its environment
SHARE_OF_MEMORY = 0.75  # of what is free, for all workers together: the page cache needs some too


@dataclass(frozen=True)
class Workers:
    """How many worker processes, with how many threads and how many bytes each."""

    count: int
    threads: int
    memory: int

    @property
    def budget(self) -> int:
        """Bytes that one block may take on a worker."""
        return self.memory - WORKER_BASE_BYTES


def available_cores() -> int:
    """Cores that this process may run on (an affinity mask or a batch job may grant fewer)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> int:
    """Bytes free now, within the limit of a container or batch job."""
    return int(min(MEMORY_LIMIT, psutil.virtual_memory().available))


def size_workers(
    workers: int | None = None, threads: int | None = None, memory: int | None = None
) -> Workers:
    """Fill in what was not given: one worker for every 4 cores and two at least, all cores used,
    75 % of the memory.

    A worker reads and writes while it computes (`stream`), but not between its blocks: two on 2
    cores reach 59 % of the projector's own speed, one with both reaches 54 %.

    `memory` is bytes a worker.

    Raises
    ------
    InputError : fewer than one worker or thread.
    MemoryBudgetError : `memory` is less than an idle worker takes.
    """
    cores = available_cores()
    count = max(min(2, cores), cores // CORES_A_WORKER) if workers is None else workers
    if count < 1 or (threads is not None and threads < 1):
        raise InputError(f"{count} workers with {threads} threads: give at least one of each")
    share = threads if threads is not None else max(1, cores // count)
    size = memory if memory is not None else int(SHARE_OF_MEMORY * available_memory() / count)
    if size <= WORKER_BASE_BYTES:
        raise MemoryBudgetError(
            f"a worker has {size / 2**30:.2f} GiB and takes {WORKER_BASE_BYTES / 2**30:.2f} GiB "
            "before its first block: give it more (--memory, fewer --workers)"
        )
    return Workers(count, share, size)


def workers_of(
    client: Client, threads: int | None = None, memory: int | None = None, patience: float = 600
) -> Workers:
    """Sizes of the workers of a cluster that runs already: the smallest of them counts.

    A worker of several threads runs as many blocks at once, so each gets its share of the memory.

    Raises
    ------
    InputError : no worker joined within `patience` seconds.
    """
    try:
        client.wait_for_workers(1, timeout=patience)
    except TimeoutError:
        raise InputError(
            f"the scheduler of {client} has no workers after {patience:.0f} s: "
            "start some with `dask worker`"
        ) from None
    with scheduler_needed(client):
        known = client.scheduler_info(n_workers=-1)["workers"].values()
        asked = client.run(block_threads, on_error="ignore")
    limits = [worker["memory_limit"] / worker["nthreads"] for worker in known]
    smallest = int(min((limit for limit in limits if limit), default=available_memory()))
    told = min((number for number in asked.values() if number), default=1)
    return Workers(len(known), threads or told, memory or smallest)


def block_threads() -> int:
    """Threads that a block may use in this worker, where it was started as one of ours; else 1."""
    return int(os.environ.get(THREADS, "1"))


@contextlib.contextmanager
def local_cluster(workers: Workers, dashboard: bool = False) -> Iterator[Client]:
    """A scheduler and workers on this machine: TLS on loopback, nothing else listens.

    TLS, though nothing leaves the machine: else any user of a login node could run code as you.
    """
    environment = worker_environment(workers.threads)
    with (
        dask.config.set({**SETTINGS, "distributed.nanny.pre-spawn-environ": environment}),
        _environment(environment),
        tempfile.TemporaryDirectory(prefix="tomodask-") as scratch,
        LocalCluster(
            n_workers=workers.count,
            threads_per_worker=1,  # one block at a time; its threads are the projector's own
            processes=True,
            host="127.0.0.1",
            protocol="tls://",
            security=Security.temporary(),
            memory_limit=workers.memory,
            # Any free port of its own, or Dask warns of a second run that 8787 is taken.
            scheduler_kwargs={"dashboard": dashboard, "dashboard_address": "127.0.0.1:0"},
            local_directory=scratch,
            silence_logs=logging.CRITICAL,  # run_blocks tells what failed
            preload=["tomodask.cluster.webserver"],
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        if not dashboard:
            cluster.sync(close_web_server, cluster.scheduler)
        with kept(lambda: _replace_dead(cluster, workers.count), LOOK_SECONDS):
            yield client


def _replace_dead(cluster: LocalCluster, count: int) -> None:
    """Start workers for those whose nanny has given up: a busy machine can take too long for it."""
    over = (Status.closed, Status.failed)
    dead = [name for name, nanny in dict(cluster.workers).items() if nanny.status in over]
    if dead:
        log.warning("%d of %d workers have ended, others are started", len(dead), count)
        forget(cluster, dead)
        cluster.scale(count)


# Large arrays are made of memory that is used again (`arrays`); what is left is small, and glibc is
# to keep it: given back to the kernel, each page would be cleared anew. Something large in the heap
# would break it into pieces: 4 to 8 MB more after a thousand rows than after the first hundred.
KEEP_FREED_MEMORY = {
    "MALLOC_ARENA_MAX": "1",  # one heap for all threads: what one frees another uses
    "MALLOC_MMAP_THRESHOLD_": str(arrays.LARGE_BYTES),
    "MALLOC_TRIM_THRESHOLD_": str(32 * arrays.LARGE_BYTES),
}


def worker_environment(threads: int) -> dict[str, str]:
    """Thread counts of the libraries in a worker, and how it treats memory.

    Dask's own defaults are one thread for each library, and to give memory back early.
    """
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    counts = {**dict.fromkeys(names, str(threads)), "OPENBLAS_NUM_THREADS": "1"}
    return counts | KEEP_FREED_MEMORY | {THREADS: str(threads)}


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set variables while workers are started, then put everything back.

    Dask prefers what stands in the environment to its configuration, and leaves what it set there.
    """
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)


@contextlib.contextmanager
def connect(address: str, security: Security | None = None) -> Iterator[Client]:
    """Workers of a scheduler that runs already; None: TLS as Dask's own configuration says."""
    try:
        client = Client(address, security=security, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"no scheduler answers at {address} ({error}): start one with `dask scheduler`, or "
            "leave --scheduler out to compute on this machine"
        ) from error
    with quiet_logs(), client:
        yield client
