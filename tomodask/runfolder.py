"""The folder beside an output by which a run is followed, cancelled and resumed from any machine.

Small files, each swapped in whole, one writer a file: whoever sees the file system can read what
the driver and the elements of a job array do, without reaching them over the network. What is done
is known from the ledger alone; what stands here may be a few seconds old.
"""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tomodask.errors import FormatError
from tomodask.shards import swap_in

SUFFIX = ".run"
FORMAT_VERSION = 1
DRIVER = "driver"  # the writer's name of a run that submits to workers
STATES = ("running", "done", "failed", "cancelled", "interrupted")


@dataclass(frozen=True)
class Status:
    """What one writer is at; times are seconds since 1970.

    running : {"block", "worker", "since"} of what is being done.
    failed : {"block", "stage", "error", "attempts", "traceback"} of what was given up.
    jobs : ids of the batch jobs that were submitted.
    """

    writer: str = DRIVER
    state: str = "running"
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    started: float = field(default_factory=time.time)
    updated: float = field(default_factory=time.time)
    stage: str = ""
    blocks: int = 0
    blocks_done: int = 0
    rows_done: int = 0
    seconds: float = 0.0
    workers: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    running: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, Any]] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)
    message: str = ""


@dataclass(frozen=True)
class RunFolder:
    """The run folder at `path`; it is made when something is first written into it."""

    path: Path

    @classmethod
    def of(cls, output: str | Path) -> RunFolder:
        """The one beside an output."""
        output = Path(output)
        return cls(output.with_name(output.name + SUFFIX))

    @property
    def output(self) -> Path:
        """The volume or scan store that the run makes."""
        return self.path.with_name(self.path.name.removesuffix(SUFFIX))

    @property
    def recipe(self) -> Path:
        """The resolved recipe (YAML)."""
        return self.path / "recipe.yaml"

    @property
    def events(self) -> Path:
        """A line of JSON for each block that ended, well or not."""
        return self.path / "events.jsonl"

    @property
    def logs(self) -> Path:
        """What batch jobs print."""
        return self.path / "logs"

    @property
    def certificates(self) -> Path:
        """Keys of the run's scheduler and workers, while it runs."""
        return self.path / "tls"

    @property
    def scheduler_file(self) -> Path:
        """Where the run's scheduler is, while it runs."""
        return self.path / "scheduler.json"

    def make(self) -> Path:
        """Make the folder where there is none."""
        self.path.mkdir(exist_ok=True)
        return self.path

    def write_json(self, name: str, tree: Mapping[str, Any]) -> Path:
        """Swap a small file in, whole."""
        path = self.make() / name
        path.parent.mkdir(exist_ok=True)
        swap_in(path, json.dumps({"format_version": FORMAT_VERSION, **tree}, indent=1).encode())
        return path

    def read_json(self, name: str) -> dict[str, Any] | None:
        """What `write_json` wrote, None where it didn't.

        Raises
        ------
        FormatError : it is damaged, or of a newer tomodask.
        """
        path = self.path / name
        try:
            tree: dict[str, Any] = json.loads(path.read_bytes())
            version = tree.pop("format_version")
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise FormatError(f"{path} is damaged ({error}): remove it") from error
        if version > FORMAT_VERSION:
            raise FormatError(
                f"{path} is of format version {version}, this tomodask reads up to "
                f"{FORMAT_VERSION}: take the version that began the run, or a newer one"
            )
        return tree

    def write_status(self, status: Status) -> None:
        """Say what a writer is at."""
        now = dataclasses.replace(status, updated=time.time())
        self.write_json(f"status/{status.writer}.json", dataclasses.asdict(now))

    def statuses(self) -> list[Status]:
        """What every writer is at, by their names."""
        found = []
        for path in sorted(self.path.glob("status/*.json")):
            tree = self.read_json(f"status/{path.name}")
            if tree is not None:
                known = {field.name for field in dataclasses.fields(Status)}
                found.append(Status(**{k: v for k, v in tree.items() if k in known}))
        return found

    def request_cancel(self, by: str = "") -> None:
        """Ask whoever works on the run to stop."""
        self.write_json("cancel", {"by": by or f"{os.getpid()} on {socket.gethostname()}"})

    def cancel_requested(self) -> str | None:
        """Who asked for it; None where nobody did."""
        tree = self.read_json("cancel")
        return None if tree is None else str(tree.get("by", "somebody"))

    def clear_cancel(self) -> None:
        """Forget the request: the run begins, or goes on."""
        (self.path / "cancel").unlink(missing_ok=True)

    def save_recipe(self, tree: Mapping[str, Any]) -> None:
        """Keep the recipe for `resume`. JSON is YAML too; one reader serves both."""
        self.make()
        swap_in(self.recipe, json.dumps(tree, indent=1).encode())
