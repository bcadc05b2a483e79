"""What a run has done, operation by operation: replayed, it leads back to where it stopped.

An algorithm is a program that always does the same operations in the same order. The journal has a
line for each that is complete, with the numbers that came out of it; a run that begins again does
its program from the top, takes these as done, and works from the first one that has no line.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tomodask.errors import OutputExistsError

JOURNAL = "journal.jsonl"


def digest_of(identity: Mapping[str, Any]) -> str:
    """Of all that decides the bytes of a run; JSON."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Journal:
    """The lines of a folder's journal, and where the next one goes."""

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        """Begin a journal, or go on with one of the same identity.

        Raises
        ------
        OutputExistsError : the folder holds the journal of another run.
        """
        self._path = folder / JOURNAL
        self._done: dict[int, dict[str, Any]] = {}
        digest = digest_of(identity)
        lines = self._lines()
        if lines and lines[0].get("run") != digest:
            raise OutputExistsError(
                f"{folder} holds what another run left (digest {lines[0].get('run')}, this one is "
                f"{digest}): choose another folder, or remove it"
            )
        for line in lines[1:]:
            self._done[int(line["operation"])] = line
        if not lines:
            self._append({"run": digest, **identity})

    def done(self, operation: int, kind: str) -> dict[str, Any] | None:
        """What a complete operation noted, None where it is not complete.

        Raises
        ------
        OutputExistsError : another kind of operation was done in its place, so this is not the
            program that began the folder.
        """
        line = self._done.get(operation)
        if line is not None and line["kind"] != kind:
            raise OutputExistsError(
                f"{self._path}: operation {operation} was {line['kind']}, now it is {kind}: the "
                "program has changed since; remove the folder to begin anew"
            )
        return line

    def record(self, operation: int, kind: str, **found: Any) -> dict[str, Any]:
        """Note that an operation is complete; on return the note is on the disk."""
        line = {"operation": operation, "kind": kind, **found}
        self._append(line)
        self._done[operation] = line
        return line

    def _append(self, line: Mapping[str, Any]) -> None:
        with self._path.open("ab") as file:
            if file.tell() and not self._ends_a_line():
                file.write(b"\n")  # after the half line of a killed writer
            file.write(json.dumps(line, default=str).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _ends_a_line(self) -> bool:
        with self._path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    def _lines(self) -> list[dict[str, Any]]:
        """Whole lines; a half one at the end was never promised."""
        if not self._path.is_file():
            return []
        found = []
        for text in self._path.read_bytes().splitlines():
            try:
                found.append(json.loads(text))
            except ValueError:
                continue
        return found
