"""Elements of a job array: which rows of the volume each one owns, and which are at work now.

An element is named by its number and how many there are, as "3/16". Its share follows from these
two and the height of the volume alone, not from the machine it runs on or from what is done, so any
machine finds the same shares. Runs with other numbers of elements may work on one volume: the
ledger knows what is done.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

from tomodask.errors import InputError, OutputInUseError
from tomodask.lease import lease_path, owner_of, this_machine
from tomodask.runfolder import RunFolder

FOLDER = "elements"  # in the run folder: a lease for each element at work
GONE_SECONDS = 300.0  # without a heartbeat on another machine: clocks differ by less


@dataclass(frozen=True, order=True)
class Element:
    """Element `number` (1 is the first) of `count`."""

    count: int
    number: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @property
    def writer(self) -> str:
        """Its name in the run folder."""
        return f"shard-{self.number:04d}-of-{self.count:04d}"

    def share(self, chunk_rows: int) -> range:
        """Which of so many chunk rows are its own: neighbours, so that few halos are read twice."""
        return range(
            chunk_rows * (self.number - 1) // self.count, chunk_rows * self.number // self.count
        )

    def place(self, output: Path) -> Path:
        """What its lease is named after."""
        return RunFolder.of(output).path / FOLDER / self.writer


def parse_element(text: str) -> Element:
    """An element from "3/16".

    Raises
    ------
    InputError : not two whole numbers, or none of that many.
    """
    match = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", text, re.ASCII)
    if match is None:
        raise InputError(f"--shard {text}: give NUMBER/COUNT, such as 3/16 for the third of 16")
    number, count = int(match[1]), int(match[2])
    if count < 1 or not 1 <= number <= count:
        raise InputError(
            f"--shard {text}: the first is 1/{max(1, count)} and the last "
            f"{max(1, count)}/{max(1, count)}; a job array that counts from 0 gives its number + 1"
        )
    return Element(count, number)


def element_named(writer: str) -> Element | None:
    """The element that a writer in the run folder is, None for any other."""
    match = re.fullmatch(r"shard-(\d+)-of-(\d+)", writer)
    return None if match is None else Element(int(match[2]), int(match[1]))


def live_elements(output: Path) -> list[Element]:
    """Those that are at work on an output, here or elsewhere; a killed one counts for a while."""
    places = (RunFolder.of(output).path / FOLDER).glob("shard-*.lease")
    found = (element_named(place.stem) for place in places)
    return sorted(element for element in found if element and _is_live(element.place(output)))


def refuse_while_elements_live(output: Path) -> None:
    """What they write would land in the volume that replaces theirs."""
    live = live_elements(output)
    if live:
        names = ", ".join(str(element) for element in live[:5])
        raise OutputInUseError(
            f"{output} is being written by elements of a job array ({names}; the first is "
            f"{owner_of(live[0].place(output))}): cancel them, then give the same command again"
        )


def _is_live(place: Path) -> bool:
    owner = owner_of(place)
    if owner is None:
        return False
    if owner.machine == this_machine():
        return True
    try:
        silent = time.time() - lease_path(place).stat().st_mtime
    except FileNotFoundError:  # it has just ended
        return False
    return silent < GONE_SECONDS
