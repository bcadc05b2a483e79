"""Workers as a run asks for them, started when its first task needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from distributed import Client

from tomodask.cluster.joboptions import JobOptions, unheard
from tomodask.cluster.jobqueue import BatchCluster, batch_cluster
from tomodask.cluster.local import Workers, connect, local_cluster, size_workers, workers_of
from tomodask.cluster.standing import connect_file
from tomodask.errors import InputError
from tomodask.runfolder import RunFolder


@dataclass
class Workforce:
    """A cluster on this machine, or a scheduler that runs already, or a client that is given.

    workers, threads : worker processes and threads of each; None: as many as the machine has.
    memory : bytes a worker; None: a share of what is free.
    folder : of the run, where batch jobs find their certificates and leave their logs.
    waiting : told in words what the jobs wait for; what it raises ends the waiting.
    """

    workers: int | None = None
    threads: int | None = None
    memory: int | None = None
    scheduler: str | None = None
    kind: str = "local"
    jobs: int = 1
    gpus_per_job: int = 0
    jobqueue: Mapping[str, Any] = field(default_factory=dict)
    wait_s: float = 600
    scheduler_file: str | None = None
    dashboard: bool = False
    given: Client | None = None
    folder: RunFolder | None = None
    waiting: Callable[[str], None] = unheard
    _open: ExitStack = field(default_factory=ExitStack, repr=False)
    _batch: BatchCluster | None = field(default=None, repr=False)

    @cached_property
    def size(self) -> Workers:
        """How many workers, with how many threads and how much memory each."""
        if self.given is not None or self.scheduler is not None or self.kind == "scheduler-file":
            return workers_of(self.client, self.threads, self.memory, self.wait_s)
        if self.kind == "local":
            return size_workers(self.workers, self.threads, self.memory)
        told = self._jobs().workers
        return Workers(told.count, self.threads or told.threads, self.memory or told.memory)

    @cached_property
    def client(self) -> Client:
        """A client of the scheduler; the cluster starts on first use."""
        if self.given is not None:
            return self.given
        if self.scheduler is not None:
            return self._open.enter_context(connect(self.scheduler))
        if self.kind == "scheduler-file":
            return self._open.enter_context(connect_file(self._scheduler_file()))
        if self.kind == "local":
            return self._open.enter_context(local_cluster(self.size, self.dashboard))
        self._batch = self._open.enter_context(batch_cluster(self._jobs()))
        self._batch.start()
        return self._batch.client

    def batch_jobs(self) -> list[str]:
        """Ids of the batch jobs that were submitted."""
        return [] if self._batch is None else self._batch.jobs()

    def queue_words(self) -> str:
        """What the queue says of the jobs, while there are no workers."""
        return "" if self._batch is None else self._batch.said

    def close(self) -> None:
        """Stop what was started here; a client that was given stays."""
        self._open.close()

    def _jobs(self) -> JobOptions:
        if self.folder is None:
            raise InputError(f"--cluster {self.kind} needs an output, beside which its files lie")
        return JobOptions(
            self.kind, self.jobs, self.folder, self.gpus_per_job, self.jobqueue,
            self.wait_s, self.dashboard, self.waiting,
        )  # fmt: skip

    def _scheduler_file(self) -> Path:
        if self.scheduler_file is None:
            raise InputError(
                "--cluster scheduler-file needs --scheduler-file FILE, as `dask scheduler "
                "--scheduler-file FILE` or `tomodask cluster start` writes it"
            )
        return Path(self.scheduler_file)


@contextmanager
def workforce(force: Workforce) -> Iterator[Workforce]:
    """The workers for the length of a `with` block."""
    try:
        yield force
    finally:
        force.close()
