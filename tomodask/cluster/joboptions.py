"""What the jobs of a run are asked for: settings of dask-jobqueue, the user's and the run's.

The settings of a site come from the user's own jobqueue.yaml, those of a run go over them. Ours are
what must not differ: TLS, one block a worker at a time, its threads, its device, its walltime.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import dask
from dask.utils import parse_bytes
from distributed import Security

from tomodask.cluster.local import CORES_A_WORKER, Workers
from tomodask.cluster.systems import SYSTEMS, BatchSystem
from tomodask.cluster.walltime import parse_walltime
from tomodask.errors import InputError, MissingPackageError, nearest
from tomodask.runfolder import RunFolder

log = logging.getLogger(__name__)

OURS = {
    "asynchronous", "config_name", "job_cls", "loop", "n_workers", "name", "nanny", "protocol",
    "scheduler", "scheduler_cls", "security", "self", "silence_logs", "worker_command",
    "dashboard_address", "host",
}  # fmt: skip
ONLY_IN_FILES = {"worker_command", "name"}
GPU_DIRECTIVES = {"slurm": "--gres=gpu:{}", "lsf": "-gpu num={}"}


def unheard(_: str) -> None:
    """Nobody is told."""


@dataclass(frozen=True)
class JobOptions:
    """The jobs that a run asks for.

    settings : of dask-jobqueue, over what its configuration files say.
    waiting : told in words what the jobs wait for; what it raises ends the waiting.
    """

    kind: str
    jobs: int
    folder: RunFolder
    gpus_per_job: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    wait_s: float = 600
    dashboard: bool = False
    waiting: Callable[[str], None] = unheard

    @property
    def system(self) -> BatchSystem:
        return SYSTEMS[self.kind]

    @cached_property
    def cluster_class(self) -> Any:
        """dask-jobqueue's class; importing it also reads its configuration."""
        try:
            dask_jobqueue = importlib.import_module("dask_jobqueue")
        except ImportError:
            raise MissingPackageError(
                f"--cluster {self.kind} needs dask-jobqueue: pip install 'tomodask[hpc]'"
            ) from None
        return getattr(dask_jobqueue, self.system.cluster)

    def setting(self, name: str) -> Any:
        """Of the run, else of the user's or the site's configuration."""
        for spelling in (name, name.replace("_", "-")):
            if self.settings.get(spelling) is not None:
                return self.settings[spelling]
        return dask.config.get(f"jobqueue.{self.kind}.{name.replace('_', '-')}", None)

    @cached_property
    def workers(self) -> Workers:
        """How many workers there will be, and what each has; a job is cut up evenly.

        Raises
        ------
        InputError : neither the recipe nor jobqueue.yaml says what a job has.
        """
        _ = self.cluster_class
        cores, memory = self.setting("cores"), self.setting("memory")
        if cores is None or memory is None:
            missing = "cores" if cores is None else "memory"
            raise InputError(
                f"a job of {self.kind} needs {missing}: give cluster.jobqueue.cores=16 "
                "cluster.jobqueue.memory=64GB, or write them into ~/.config/dask/jobqueue.yaml"
            )
        count = self.gpus_per_job or self.setting("processes") or max(1, cores // CORES_A_WORKER)
        if cores < count:
            raise InputError(f"{count} workers of a job share {cores} cores: give it more cores")
        return Workers(self.jobs * count, cores // count, int(parse_bytes(memory)) // count)

    @property
    def processes(self) -> int:
        return self.workers.count // self.jobs

    @property
    def walltime_s(self) -> float | None:
        """Of a job; None where the batch system has none."""
        text = self.setting("walltime")
        if text is None or self.kind == "htcondor":
            return None
        return parse_walltime(text, self.system.number_means)

    def keywords(self) -> dict[str, Any]:
        """What dask-jobqueue's class is called with.

        Raises
        ------
        InputError : a setting that dask-jobqueue doesn't have; the nearest is named.
        """
        given = {key.replace("-", "_"): value for key, value in self.settings.items()}
        known = known_settings(self.cluster_class)
        for key in given:
            if key not in known:
                hint = nearest(key, known)
                raise InputError(f"cluster.jobqueue of {self.kind} has no setting {key!r}: {hint}")
        self._tell_unknown(known)
        arguments = ["--nworkers", str(self.processes)]
        if self.gpus_per_job:
            arguments += ["--gpus", str(self.gpus_per_job)]
        if self.walltime_s is not None:
            arguments += ["--walltime", f"{self.walltime_s:g}"]
        schedule = {**(self.setting("scheduler_options") or {})}
        ours = {
            "processes": self.processes,
            **({} if self.kind == "htcondor" else {"job_name": job_name(self.folder)}),
            "log_directory": self.setting("log_directory") or str(self.folder.logs.absolute()),
            "worker_command": "tomodask.cluster.worker",
            "worker_extra_args": [*(self.setting("worker_extra_args") or []), *arguments],
            "scheduler_options": {
                "dashboard": self.dashboard, "dashboard_address": "127.0.0.1:0", **schedule
            },
        }  # fmt: skip
        return {**given, **ours, **self._directives()}

    def _tell_unknown(self, known: Collection[str]) -> None:
        """Settings of jobqueue.yaml that do nothing: misspelt ones would be missed silently."""
        own = {key.replace("-", "_") for key in dask.config.get(f"jobqueue.{self.kind}", {})}
        for key in sorted(own - {*known, *OURS, *ONLY_IN_FILES}):
            log.warning(
                "jobqueue.%s.%s of your jobqueue.yaml is no setting of dask-jobqueue: %s",
                self.kind, key, nearest(key, known),
            )  # fmt: skip

    def job_script(self, address: str, security: Security | None = None) -> str:
        """The batch script of one job, whose workers join the scheduler at `address`."""
        of_a_job = {
            name: value
            for name, value in self.keywords().items()
            if name not in ("scheduler_options", "shared_temp_directory")
        }
        made = self.cluster_class.job_cls(
            address, name="worker", protocol="tls://", security=security, **of_a_job
        )
        return str(made.job_script())

    def _directives(self) -> dict[str, Any]:
        """What asks for the GPUs, unless the site's own settings do, and names the job."""
        directives = self.setting("job_extra_directives") or []
        told = f"{directives} {self.setting('resource_spec') or ''}".lower()
        asks = 0 if "gpu" in told or "gres" in told else self.gpus_per_job
        if self.kind == "htcondor":
            named = {**dict(directives), "batch_name": job_name(self.folder)}
            return {"job_extra_directives": named | ({"request_gpus": asks} if asks else {})}
        more = []
        if self.kind == "slurm" and "open-mode" not in told:
            more.append("--open-mode=append")  # else a requeued job empties its first life's log
        if asks and self.kind == "pbs":
            cores, memory = self.setting("cores"), int(parse_bytes(self.setting("memory")))
            spec = f"select=1:ncpus={cores}:ngpus={asks}:mem={memory // 2**20}MB"
            return {"resource_spec": spec}
        if asks and self.kind not in GPU_DIRECTIVES:
            raise InputError(
                f"how a job of {self.kind} asks for GPUs differs from site to site: say it in "
                "cluster.jobqueue.job_extra_directives"
            )
        if asks:
            more.append(GPU_DIRECTIVES[self.kind].format(asks))
        return {"job_extra_directives": [*directives, *more]} if more else {}


def known_settings(cluster_class: Any) -> set[str]:
    """Settings that dask-jobqueue's class takes, but for those that are ours to choose."""
    signatures = [cluster_class.job_cls, *cluster_class.job_cls.__mro__, *cluster_class.__mro__]
    names: set[str] = set()
    for owner in signatures:
        if owner.__module__.startswith("dask_jobqueue"):
            for parameter in inspect.signature(owner.__init__).parameters.values():
                if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                    names.add(parameter.name)
    return names - OURS


def job_name(folder: RunFolder) -> str:
    """Jobs are named after the volume that they make."""
    stem = folder.output.name.removesuffix(".zarr").removesuffix(".ome")
    return "tomodask-" + re.sub(r"[^A-Za-z0-9_.-]", "_", stem)[:40]
