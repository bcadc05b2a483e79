"""Who writes a run's output, and whether they live: judged from leases and statuses alone.

A writer holds a lease as long as it lives. Where it ran on this machine its process tells whether
it is dead; elsewhere only the age of its last sign does. Clocks of machines differ, so that an age
is a hint, and is told as such.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tomodask.elements import element_named
from tomodask.errors import FormatError
from tomodask.lease import Sign, last_sign, this_machine
from tomodask.runfolder import DRIVER, RunFolder, Status

SILENT_SECONDS = 60.0  # without a sign, a writer may be dead
FRESH_SECONDS = 10.0  # within it a sign counts more than a lease that can't be seen (yet)
PREPARE = "prepare"  # the writer of what comes before a job array, under the output's lease
GOES_ON = ("not begun", "running", "silent")
BY_HAND = "somebody, by a file named cancel"
STATES = (*GOES_ON, "done", "failed", "cancelled", "interrupted")


@dataclass(frozen=True)
class Writer:
    """A driver or an element of a job array: what it told, and what is to be thought of that.

    state : one of `STATES`; heard_s : seconds since its last sign, None where there is none.
    alive : whether its process surely lives (True) or surely doesn't (False), None if unknown.
    """

    status: Status
    state: str
    heard_s: float | None
    alive: bool | None

    @property
    def name(self) -> str:
        return self.status.writer

    def as_dict(self) -> dict[str, Any]:
        told = self.status
        names = ("writer", "host", "pid", "started", "stage", "blocks", "blocks_done", "workers")
        return {
            **{name: getattr(told, name) for name in names},
            "state": self.state,
            "alive": self.alive,
            "last_heard_s": self.heard_s and round(self.heard_s, 1),
            "message": told.message,
        }


def writers_of(output: Path) -> tuple[Writer, ...]:
    """Whoever writes or wrote an output, judged; the driver first."""
    now, sign = time.time(), last_sign(output)
    statuses = {status.writer: status for status in RunFolder.of(output).statuses()}
    drivers = [statuses.pop(name) for name in (DRIVER, PREPARE) if name in statuses]
    owner = sign.owner if sign else None
    if owner and (owner.host, owner.pid) not in [(told.host, told.pid) for told in drivers]:
        # a driver that has told nothing (yet): all that is known is its lease
        silent = Status(host=owner.host, pid=owner.pid, started=_seconds(owner.since), updated=0.0)
        drivers = [silent, *(told for told in drivers if told.writer != DRIVER)]
    found = [_writer(told, sign, now) for told in drivers]
    for name, told in statuses.items():
        element = element_named(name)
        found.append(_writer(told, last_sign(element.place(output)) if element else None, now))
    return tuple(found)


def _writer(told: Status, sign: Sign | None, now: float) -> Writer:
    """Each has a lease as long as it lives, and leaves it behind when it is killed."""
    owner = sign.owner if sign else None
    is_its = owner is not None and (owner.host, owner.pid) == (told.host, told.pid)
    heard = max(0.0, now - max(told.updated, sign.time if sign and is_its else 0.0))
    alive: bool | None = None
    if owner is not None and is_its:
        if owner.machine == this_machine():
            alive = not owner.is_dead()
    elif heard >= FRESH_SECONDS:  # file servers may tell of a new lease, or an old one, late
        alive = False
    return Writer(told, _judged(told.state, alive, heard), heard, alive)


def latest_array(writers: Sequence[Writer]) -> list[Writer]:
    """The elements that have begun of the job array that was begun last."""
    arrays: dict[int, list[Writer]] = {}
    for writer in writers:
        if element := element_named(writer.name):
            arrays.setdefault(element.count, []).append(writer)
    began = [max(writer.status.started for writer in array) for array in arrays.values()]
    return max(zip(began, arrays.values(), strict=True), default=(0.0, []))[1]


def _judged(told: str, alive: bool | None, heard: float) -> str:
    if told != "running":
        return told
    if alive is False:
        return "interrupted"
    return "silent" if heard > SILENT_SECONDS else "running"


def _seconds(since: str) -> float:
    """The beginning of a lease in seconds since 1970."""
    try:
        return datetime.strptime(since, "%Y-%m-%d %H:%M:%S %z").timestamp()
    except ValueError:
        return 0.0


def who_cancelled(folder: RunFolder) -> str | None:
    """Who asked the run to stop; an empty file counts, a disk that can't be read does not."""
    try:
        return folder.cancel_requested()
    except FormatError:
        return BY_HAND
    except OSError:
        return None
