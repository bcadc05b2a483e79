"""Workers as jobs of a batch system, by dask-jobqueue: a fixed number of them, lost ones replaced.

The settings of a site come from the user's own jobqueue.yaml, those of a run go over them. Ours are
what must not differ: TLS, one block a worker at a time, its threads, its device, its walltime.

Lost jobs are replaced by asking the queue for them, not by Dask's `adapt`: that replaces no job
that ended before its worker joined, and none of several processes.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import logging
import os
import re
import shlex
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import dask
from dask.utils import parse_bytes
from distributed import Client, Security, Status

from tomodask.cluster.certificates import certificates
from tomodask.cluster.keeper import forget, kept
from tomodask.cluster.local import CORES_A_WORKER, SETTINGS, Workers
from tomodask.cluster.systems import SYSTEMS, BatchSystem
from tomodask.cluster.walltime import parse_walltime
from tomodask.cluster.webserver import close_web_server
from tomodask.errors import InputError, MissingPackageError, nearest
from tomodask.runfolder import RunFolder

log = logging.getLogger(__name__)

HEAL_SECONDS = 5.0  # between two looks at the queue; a job is lost that is missing in two of them
MOST_PAUSE_SECONDS = 600.0  # between submissions of jobs that end before a worker joins
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
        if self.kind == "slurm" and "open-mode" not in told:
            # a requeued job would empty the log of its first life
            directives = [*directives, "--open-mode=append"]
            if not asks:
                return {"job_extra_directives": directives}
        if not asks:
            return {}
        if self.kind == "pbs":
            cores, memory = self.setting("cores"), int(parse_bytes(self.setting("memory")))
            spec = f"select=1:ncpus={cores}:ngpus={asks}:mem={memory // 2**20}MB"
            return {"resource_spec": spec}
        if self.kind not in GPU_DIRECTIVES:
            raise InputError(
                f"how a job of {self.kind} asks for GPUs differs from site to site: say it in "
                "cluster.jobqueue.job_extra_directives"
            )
        text = GPU_DIRECTIVES[self.kind].format(asks)
        return {"job_extra_directives": [*directives, text]}


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


@contextlib.contextmanager
def batch_cluster(options: JobOptions) -> Iterator[BatchCluster]:
    """The jobs for the length of a `with` block: `start` submits them, its end cancels them.

    Raises
    ------
    InputError : jobs can't be submitted from here, or the queue refuses them, in its own words; or
        none has started within `wait_s` seconds.
    """
    options.system.require()
    _refuse_what_needs_quotes(options.folder.path.absolute())
    keywords = options.keywords()
    with (
        dask.config.set(SETTINGS),
        certificates(_made(options.folder).certificates.absolute()) as security,
        contextlib.ExitStack() as stack,
    ):
        refusals: list[str] = []
        jobs = type("RunJob", (_telling(refusals), options.cluster_class.job_cls), {})
        try:
            cluster = stack.enter_context(
                options.cluster_class(
                    job_cls=jobs,
                    security=security,
                    protocol="tls://",
                    silence_logs="critical",
                    **keywords,
                )
            )
        except (ValueError, TypeError) as error:
            raise InputError(f"dask-jobqueue refuses the settings of the jobs: {error}") from error
        client = stack.enter_context(Client(cluster, set_as_default=False))
        if not options.dashboard:
            cluster.sync(close_web_server, cluster.scheduler)
        batch = BatchCluster(options, cluster, client, refusals)
        stack.callback(batch.stop)
        yield batch


class BatchCluster:
    """Jobs that run workers; a thread of its own replaces those that are lost."""

    def __init__(
        self, options: JobOptions, cluster: Any, client: Client, refusals: list[str]
    ) -> None:
        self.options, self.client = options, client
        self._cluster, self._refusals = cluster, refusals
        self.said = ""  # by the queue, while there are no workers
        self._missing: set[str] = set()
        self._joined: set[str] = set()  # ids of jobs whose workers were seen
        self._stillborn = 0  # jobs in a row that ended before a worker of theirs joined
        self._patient_until = 0.0
        self._kept = contextlib.ExitStack()

    def start(self) -> None:
        """Submit the jobs and wait for the first worker."""
        self._cluster.scale(jobs=self.options.jobs)
        self._wait()
        self._kept.enter_context(kept(self._heal, HEAL_SECONDS))

    def stop(self) -> None:
        """Replace no more jobs."""
        self._kept.close()

    def jobs(self) -> list[str]:
        """Ids of the jobs that are submitted now."""
        jobs = list(self._cluster.workers.values())
        return [str(job.job_id) for job in jobs if job.job_id]

    def words(self) -> str:
        """What the queue says of the jobs."""
        ids = self.jobs()
        states = self.options.system.states(ids)
        if states is None:
            return f"{self.options.system.question[0]} doesn't answer"
        return "; ".join(f"{name} {states.get(name, 'is gone')}" for name in ids) or "no jobs"

    def _wait(self) -> None:
        system, began = self.options.system, time.monotonic()
        told = -HEAL_SECONDS
        while not self.client.nthreads():
            waited = time.monotonic() - began
            if self._refusals and not self.jobs():
                raise InputError(f"{system.name} takes no job: {self._refusals[-1]}")
            if waited - told >= HEAL_SECONDS:
                told = waited
                self._refuse_if_all_ended()
                self.said = f"waiting for the first of the jobs: {self.words()}"
            self.options.waiting(self.said)
            if waited > self.options.wait_s:
                raise InputError(
                    f"none of the {self.options.jobs} jobs has started a worker within "
                    f"{self.options.wait_s:g} s; {system.name} says: {self.words()}. Wait longer "
                    f"with --wait, or look into {self.options.folder.logs} where a job has ended"
                )
            time.sleep(0.2)

    def _refuse_if_all_ended(self) -> None:
        """Jobs that end at once will do so again: nobody needs to wait for that."""
        ids = self.jobs()
        states = self.options.system.states(ids)
        ended = bool(ids) and states == {} and not self.client.nthreads()
        if ended and self._missing == {*ids}:  # at the look before this one, too
            raise InputError(
                f"all {len(ids)} jobs have ended before a worker joined; what they printed is in "
                f"{self.options.folder.logs}: {last_words(self.options.folder.logs)}"
            )
        self._missing = {*ids} if ended else set()

    def _heal(self) -> None:
        """Submit anew what the queue doesn't have any more, and no worker is left of."""
        jobs = dict(self._cluster.workers)
        states = self.options.system.states(self.jobs())
        if states is None:
            return
        info = self.client.scheduler_info(n_workers=-1)["workers"].values()
        present = {str(worker["name"]) for worker in info}
        missing = {
            name
            for name, job in jobs.items()
            if str(job.job_id) not in states and not _is_present(str(name), present)
        }
        self._joined |= {
            str(job.job_id) for name, job in jobs.items() if _is_present(str(name), present)
        }
        lost, self._missing = missing & self._missing, missing
        if lost and time.monotonic() >= self._patient_until:
            self._replace({name: str(jobs[name].job_id) for name in lost})
        self.said = "" if present else f"{self.options.system.name} says: {self.words()}"
        if self._refusals:
            log.warning("%s took no job: %s", self.options.system.name, self._refusals[-1])
            self._refusals.clear()

    def _replace(self, lost: Mapping[str, str]) -> None:
        """Submit jobs for those that are lost; later and later where they end at once."""
        log.warning("jobs %s are gone, others are submitted for them", ", ".join(lost.values()))
        born = self._joined & {*lost.values()}
        self._stillborn = 0 if born else self._stillborn + len(lost)
        if self._stillborn:
            pause = min(MOST_PAUSE_SECONDS, HEAL_SECONDS * 2**self._stillborn)
            self._patient_until = time.monotonic() + pause
        self._missing -= {*lost}
        forget(self._cluster, lost)
        self._cluster.scale(jobs=self.options.jobs)


def _refuse_what_needs_quotes(path: Path) -> None:
    if shlex.quote(str(path)) != str(path):
        raise InputError(
            f"{path} has characters that job scripts can't hold (they are not quoted there): give "
            "the output a path without spaces, or take `tomodask cluster script`"
        )


def _made(folder: RunFolder) -> RunFolder:
    folder.make()
    return folder


def _is_present(job: str, present: set[str]) -> bool:
    """Whether a worker of a job is connected: it has the job's name, or that and its number."""
    return any(re.fullmatch(re.escape(job) + r"(-\d+)?", name) for name in present)


def _telling(refusals: list[str]) -> type:
    """A job whose submission is refused says so in a list, rather than in Dask's log."""

    class Telling:
        async def start(self) -> None:
            try:
                await super().start()  # type: ignore[misc]
            except (RuntimeError, ValueError, OSError) as error:
                refusals.append(submission_words(str(error)))
                self.status = Status.running  # or Dask fails too; it is lost, and then replaced

        async def close(self) -> None:
            await super().close()  # type: ignore[misc]
            self.status = Status.closed  # the cluster's own close insists on it

    return Telling


def last_words(logs: Path) -> str:
    """The end of what the job that printed last has printed."""
    files = sorted((path for path in logs.glob("*") if path.is_file()), key=os.path.getmtime)
    texts = [path.read_text(errors="replace").strip() for path in reversed(files)]
    text = next((text for text in texts if text), "nothing")
    return text.splitlines()[-1][:500]


def submission_words(text: str) -> str:
    """What the command that submits printed, out of dask-jobqueue's account of it."""
    printed = re.search(r"stdout:\n(.*)stderr:\n(.*)", text, re.DOTALL)
    words = " ".join("\n".join(printed.groups()).split()) if printed else ""
    return words or " ".join(text.split())
