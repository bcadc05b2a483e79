"""Batch jobs end at their walltime: no block is begun that can't end in what is left.

A worker knows when its job ends (`ENDS_AT`); how long a block takes is learned from those that have
ended (`Pace`). A worker without enough time left gives its block back and leaves, and its job's
place is taken by a new one.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections import deque

from tomodask.errors import InputError

ENDS_AT = "TOMODASK_ENDS_AT"  # seconds since 1970 by this machine's clock
MARGIN_SHARE = 0.1  # of the walltime: for leaving in good order
MOST_MARGIN_S = 120.0
SAFETY = 1.3  # blocks of one plan take nearly the same time; disks do not
REMEMBERED = 64


def parse_walltime(text: str | float, units: str = "seconds") -> float:
    """Seconds from what batch systems take: [D-]HH:MM:SS, MM:SS or a number.

    units : what one number means, and HH:MM where it is "minutes" (LSF, Slurm's bare number).

    Raises
    ------
    InputError : it is neither.
    """
    per = {"seconds": 1.0, "minutes": 60.0}[units]
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", str(text).strip())
    if match is None:
        raise InputError(f"walltime {text!r}: give HH:MM:SS, or D-HH:MM:SS")
    days, first, second, third = match.groups()
    parts = [int(part) for part in (first, second, third) if part is not None]
    if days is not None:  # D-HH, D-HH:MM or D-HH:MM:SS
        hours, minutes, seconds = (*parts, 0, 0)[:3]
        return ((int(days) * 24 + hours) * 60 + minutes) * 60.0 + seconds
    if len(parts) == 1:
        return parts[0] * per
    if len(parts) == 2:
        return (parts[0] * 60 + parts[1]) * per
    return (parts[0] * 60 + parts[1]) * 60.0 + parts[2]


def lifetime(walltime_s: float) -> float:
    """Seconds after which the workers of a job leave, so that it ends before it is killed."""
    return walltime_s - min(MOST_MARGIN_S, MARGIN_SHARE * walltime_s)


def job_end(walltime_s: float | None = None) -> float | None:
    """When the workers that start now are to leave, as Slurm says or as the walltime says.

    A job that was begun again after its time was cut short ends earlier than its script says.
    """
    ends = [] if walltime_s is None else [time.time() + lifetime(walltime_s)]
    left = _slurm_seconds_left()
    if left is not None:
        ends.append(time.time() + lifetime(left))
    return min(ends, default=None)


def _slurm_seconds_left() -> float | None:
    """Of the Slurm job that this is in: later versions tell each job, all tell who asks."""
    told, job = os.environ.get("SLURM_JOB_END_TIME", ""), os.environ.get("SLURM_JOB_ID")
    if told.isdigit():
        return max(0.0, int(told) - time.time())
    if not job:
        return None
    question = ["squeue", "-h", "-j", job, "-o", "%L"]
    try:
        answer = subprocess.run(question, capture_output=True, text=True, timeout=10, check=True)
        return parse_walltime(answer.stdout)
    except (OSError, subprocess.SubprocessError, InputError):  # or UNLIMITED
        return None


def seconds_left() -> float | None:
    """Until this worker is to leave; None where nothing ends it."""
    told = os.environ.get(ENDS_AT)
    return None if told is None else float(told) - time.time()


class Pace:
    """How long a block takes, learned from those that have ended."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=REMEMBERED)

    def learn(self, seconds: float) -> None:
        """Take in a block that has ended."""
        self._seconds.append(seconds)

    @property
    def expected(self) -> float | None:
        """Seconds that the next block may take; None before the first has ended."""
        return SAFETY * max(self._seconds) if self._seconds else None
