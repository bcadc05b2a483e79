"""Workers as a run asks for them, started when its first task needs them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from distributed import Client

from tomodask.cluster.local import Workers, connect, local_cluster, size_workers, workers_of


@dataclass
class Workforce:
    """A cluster on this machine, or a scheduler that runs already, or a client that is given.

    workers, threads : worker processes and threads of each; None: as many as the machine has.
    memory : bytes a worker; None: a share of what is free.
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
    _open: ExitStack = field(default_factory=ExitStack, repr=False)

    @cached_property
    def size(self) -> Workers:
        """How many workers, with how many threads and how much memory each."""
        if self.given is not None or self.scheduler is not None:
            return workers_of(self.client, self.threads, self.memory)
        return size_workers(self.workers, self.threads, self.memory)

    @cached_property
    def client(self) -> Client:
        """A client of the scheduler; the cluster starts on first use."""
        if self.given is not None:
            return self.given
        if self.scheduler is not None:
            return self._open.enter_context(connect(self.scheduler))
        return self._open.enter_context(local_cluster(self.size, self.dashboard))

    def close(self) -> None:
        """Stop what was started here; a client that was given stays."""
        self._open.close()


@contextmanager
def workforce(force: Workforce) -> Iterator[Workforce]:
    """The workers for the length of a `with` block."""
    try:
        yield force
    finally:
        force.close()
