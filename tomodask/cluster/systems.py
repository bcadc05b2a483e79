"""Batch systems: how each is asked what it does with our jobs, and what it calls things."""

from __future__ import annotations

import getpass
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from tomodask.errors import InputError

QUESTION_SECONDS = 20.0  # a busy controller answers late; then nothing is known, and nothing done


@dataclass(frozen=True)
class BatchSystem:
    """One batch system.

    cluster : class of dask-jobqueue.
    submit, cancel : its commands.
    question : lists the user's jobs, a line each with the job's id first ({user} is filled in).
    over : states of jobs that are listed although they have ended.
    number_means : of a walltime that is one number, or two with a colon.
    """

    name: str
    cluster: str
    submit: str
    cancel: str
    question: tuple[str, ...]
    over: tuple[str, ...] = ()
    number_means: Literal["seconds", "minutes"] = "seconds"

    def require(self) -> None:
        """Raises InputError where jobs can't be submitted from this machine."""
        if shutil.which(self.submit) is None:
            raise InputError(
                f"there is no {self.submit} on the path of this machine: start the run where jobs "
                f"are submitted (a login node), load the site's module for {self.name}, or let one "
                "job do it all: `tomodask cluster script`"
            )

    def states(self, ids: Iterable[str]) -> dict[str, str] | None:
        """What the queue says of jobs that it still has: id -> its words; None: no answer."""
        wanted = set(ids)
        command = [part.format(user=getpass.getuser()) for part in self.question]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=QUESTION_SECONDS, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return self.parse(done.stdout, wanted)

    def parse(self, listing: str, wanted: set[str]) -> dict[str, str]:
        """The lines of a listing that are about some jobs."""
        found: dict[str, str] = {}
        for line in listing.splitlines():
            first, *rest = line.split() or [""]
            number = re.match(r"\d+", first)
            if number is None or not {first, number.group()} & wanted:
                continue
            if not any(word in self.over for word in rest):
                found[first if first in wanted else number.group()] = " ".join(rest)
        return found


SYSTEMS = {
    "slurm": BatchSystem(
        "Slurm", "SLURMCluster", "sbatch", "scancel",
        ("squeue", "-h", "-u", "{user}", "-o", "%A %T %r"), number_means="minutes",
        over=("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT"),
    ),
    "pbs": BatchSystem("PBS", "PBSCluster", "qsub", "qdel", ("qstat", "-u", "{user}")),
    "lsf": BatchSystem(
        "LSF", "LSFCluster", "bsub", "bkill",
        ("bjobs", "-noheader", "-o", "jobid stat pend_reason"), over=("DONE", "EXIT"),
        number_means="minutes",
    ),
    "sge": BatchSystem("SGE", "SGECluster", "qsub", "qdel", ("qstat", "-u", "{user}")),
    "oar": BatchSystem("OAR", "OARCluster", "oarsub", "oardel", ("oarstat", "-u", "{user}")),
    "htcondor": BatchSystem(
        "HTCondor", "HTCondorCluster", "condor_submit", "condor_rm",
        ("condor_q", "{user}", "-af", "ClusterId", "JobStatus", "HoldReason"),
    ),
}  # fmt: skip
