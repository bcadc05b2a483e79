"""Workers as jobs of a batch system, by dask-jobqueue: a fixed number of them, lost ones replaced.

Lost jobs are replaced by asking the queue for them, not by Dask's `adapt`: that replaces no job
that ended before its worker joined, and none of several processes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shlex
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dask
from distributed import Client, Status

from tomodask.cluster.certificates import certificates
from tomodask.cluster.joboptions import JobOptions
from tomodask.cluster.keeper import forget, kept
from tomodask.cluster.local import SETTINGS
from tomodask.cluster.webserver import close_web_server
from tomodask.errors import InputError

log = logging.getLogger(__name__)

HEAL_SECONDS = 5.0  # between two looks at the queue; a job is lost that is missing in two of them
MOST_PAUSE_SECONDS = 600.0  # between submissions of jobs that end before a worker joins


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
        certificates(options.folder.certificates.absolute()) as security,
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
        self._had_ended = False  # all jobs, before a worker joined
        self._missing: set[str] = set()  # names of jobs that the queue did not have
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
        if ended and self._had_ended:  # at the look before this one, too
            raise InputError(
                f"all {len(ids)} jobs have ended before a worker joined; what they printed is in "
                f"{self.options.folder.logs}: {last_words(self.options.folder.logs)}"
            )
        self._had_ended = ended

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
