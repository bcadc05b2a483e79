"""Where a run is, found from files alone and without writing one: on any machine that sees them.

What is done is counted from the ledgers. What goes on, and what failed, is told by the writers in
the run's folder, as far as they live.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tomodask.blocks import chunk_rows_done, parse_block_id
from tomodask.elements import element_named
from tomodask.errors import InputError, MissingInputError
from tomodask.inventory import scan_ledger, scan_tasks, volume_ledger
from tomodask.layers import environment_layer, recipe_file, resolve, user_layer
from tomodask.ledger import ledgers_of
from tomodask.ledgerlines import Entry
from tomodask.runfolder import DRIVER, SUFFIX, RunFolder
from tomodask.scan import is_zarr, scan_metadata
from tomodask.volumestore import Volume, VolumeSpec, volume_metadata
from tomodask.writers import (
    GOES_ON,
    PREPARE,
    Writer,
    latest_array,
    who_cancelled,
    writers_of,
)

RATE_SECONDS = 60.0  # over which a rate is taken,
RATE_BLOCKS = 4  # or over so many blocks, where they take longer


@dataclass(frozen=True)
class Stage:
    """A stage of a run and how far it is; `store` is None where it has no ledger.

    blocks : of the smallest size, as the ledger's may be of several; None before it has begun.
    rows : volume rows, None where a stage does not count them.
    """

    name: str
    store: Path | None
    blocks: int | None
    blocks_done: int
    rows: int | None
    rows_done: int | None
    is_complete: bool

    def as_dict(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "store": self.store and str(self.store)}


@dataclass(frozen=True)
class Rate:
    """What was done a second over the last `seconds`; slices are None where none are made."""

    blocks: float
    slices: float | None
    bytes_read: float
    bytes_written: float
    seconds: float


@dataclass(frozen=True)
class RunState:
    """All that is known of a run.

    running : {"block", "worker", "since", "writer"}; failed : {"block", "stage", "error",
        "attempts", "traceback", "writer"} of blocks that no writer has done since.
    stages : in their order; the first one that is not complete is the one that goes on.
    now : when this was so.
    """

    output: Path
    state: str
    stages: tuple[Stage, ...]
    writers: tuple[Writer, ...]
    running: tuple[Mapping[str, Any], ...]
    failed: tuple[Mapping[str, Any], ...]
    rate: Rate | None
    eta_s: float | None
    cancel_requested: str | None
    jobs: tuple[str, ...]
    message: str
    now: float

    @property
    def goes_on(self) -> bool:
        """Whether more may come without anybody doing anything."""
        return self.state in GOES_ON

    @property
    def driver(self) -> Writer | None:
        """The driver; of a job array what prepared it."""
        return next((writer for writer in self.writers if not element_named(writer.name)), None)

    @property
    def elements(self) -> tuple[Writer, ...]:
        """Those of a job array that have begun."""
        return tuple(writer for writer in self.writers if element_named(writer.name))

    @property
    def waiting(self) -> int:
        """How many elements of the array that was begun last have not begun yet."""
        array = latest_array(self.writers)
        elements = [element for writer in array if (element := element_named(writer.name))]
        return elements[0].count - len(elements) if elements else 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON; README says what the keys mean."""
        return {
            "output": str(self.output),
            "state": self.state,
            "stages": [stage.as_dict() for stage in self.stages],
            "running": [dict(block) for block in self.running],
            "failed": [dict(block) for block in self.failed],
            "rate": self.rate and _per_second(self.rate),
            "eta_s": self.eta_s and round(self.eta_s, 1),
            "driver": self.driver and self.driver.as_dict(),
            "elements": [element.as_dict() for element in self.elements],
            "elements_not_begun": self.waiting,
            "cancel_requested": self.cancel_requested,
            "jobs": list(self.jobs),
            "message": self.message,
        }


def run_state(path: Path | str) -> RunState:
    """Where the run is that makes a volume or scan store, named by itself, or by a recipe.

    Raises
    ------
    MissingInputError : nothing is there that a run leaves.
    InputError, FormatError : it is something else, or of a newer tomodask.
    """
    run = _Run(*output_of(path))
    if not run.has_begun and run.recipe is None:
        raise MissingInputError(
            f"there is no volume, scan store or run folder at {path}: give the OUTPUT of a run, or "
            "its recipe"
        )
    return run.state()


def output_of(path: Path | str) -> tuple[Path, Mapping[str, Any] | None]:
    """The output that a path means, and the recipe where it is one; a run folder means its output.

    Raises InputError for a recipe that names no output.
    """
    path = Path(path)
    if path.is_file():
        recipe, _ = resolve([user_layer(), environment_layer(), recipe_file(path)])
        output = recipe.output or recipe.scan
        if output is None:
            raise InputError(f"{path} names no output: give the OUTPUT of the run instead")
        return Path(output), recipe.as_dict()
    if path.name.endswith(SUFFIX):
        return RunFolder(path).output, None
    return path, None


# ---- one run, as it is at one moment ---------------------------------------------------------


@dataclass
class _Run:
    """What lies on the disk for one output; each file is read once."""

    output: Path
    recipe: Mapping[str, Any] | None

    def __post_init__(self) -> None:
        self.folder = RunFolder.of(self.output)
        if self.recipe is None and self.folder.recipe.is_file():
            self.recipe = recipe_file(self.folder.recipe).settings
        self.now = time.time()
        # before the ledgers: what these list is then not listed as running
        self.writers = writers_of(self.output)
        self.volume = volume_metadata(self.output)
        self.is_scan = scan_metadata(self.output) is not None or not self._names_volume
        if self.output.exists() and self.volume is None and scan_metadata(self.output) is None:
            raise InputError(f"{self.output} is no scan store or volume that tomodask made")

    @property
    def _names_volume(self) -> bool:
        return self.recipe is None or self.recipe.get("output") is not None

    @property
    def has_begun(self) -> bool:
        """Whether anything is there."""
        places = (self.output, self.folder.path, ledgers_of(self.output))
        return any(place.exists() for place in places) or bool(self.writers)

    @cached_property
    def scan(self) -> Path | None:
        """The scan store that the run makes, or reads from where it was made for it."""
        if self.is_scan:
            return self.output
        recipe = self.recipe or (self.volume or {}).get("recipe", {})
        if recipe.get("scan"):
            path = Path(recipe["scan"])
        else:
            path = self.output.with_name(self.output.name.removesuffix(".zarr") + ".scan.zarr")
        is_copied = recipe.get("source") is not None and not is_zarr(recipe["source"])
        will_be = self.recipe is not None and self.volume is None and is_copied
        return path if scan_metadata(path) is not None or will_be else None

    @cached_property
    def scan_done(self) -> Mapping[str, Entry]:
        metadata = None if self.scan is None else scan_metadata(self.scan)
        if self.scan is None or metadata is None:
            return {}
        return scan_ledger(self.scan, metadata["uuid"], metadata["input_digest"]).done()

    @cached_property
    def volume_done(self) -> Mapping[str, Entry]:
        return {} if self.volume is None else volume_ledger(self.output, self.volume).done()

    @cached_property
    def spec(self) -> VolumeSpec:
        """Of the volume, where there is one."""
        return Volume.open(self.output).spec

    @cached_property
    def rows_done(self) -> set[int]:
        """Chunk rows of the volume that the ledger lists."""
        if self.volume is None:
            return set()
        return chunk_rows_done(self.volume_done, self.spec.chunk_rows, self.spec.shape[0])

    def is_done(self, stage: str, block: str) -> bool:
        """Whether a ledger lists a block."""
        if stage == "ingest":
            return block in self.scan_done
        if self.volume is None or block in self.volume_done:
            return block in self.volume_done
        try:
            parse_block_id(block)
        except ValueError:  # of a stage without a ledger
            return False
        spec = self.spec
        return chunk_rows_done([block], spec.chunk_rows, spec.shape[0]) <= self.rows_done

    # ---- stages ----------------------------------------------------------------------------------

    @cached_property
    def told(self) -> Writer | None:
        """The writer that was heard of last."""
        return min(self.writers, key=lambda writer: writer.heard_s or 0.0, default=None)

    def stages(self) -> tuple[Stage, ...]:
        found = [] if self.scan is None else [self._ingest(self.scan)]
        if self.told is not None and self.told.status.stage == "iterate":
            told = self.told.status
            is_over = told.blocks_done == told.blocks
            found.append(Stage("iterate", None, told.blocks, told.blocks_done, None, None, is_over))
        return tuple(found) if self.is_scan else (*found, self._reconstruct())

    def _ingest(self, path: Path) -> Stage:
        metadata = scan_metadata(path)
        if metadata is None:
            return Stage("ingest", path, None, 0, None, None, False)
        tasks, is_complete = scan_tasks(path, metadata), bool(metadata["complete"])
        # its ledger may be deleted when it is complete
        done = len(tasks) if is_complete else len(set(tasks) & set(self.scan_done))
        return Stage("ingest", path, len(tasks), done, None, None, is_complete)

    def _reconstruct(self) -> Stage:
        stage = self.told.status.stage if self.told else ""
        name = stage if stage in ("reconstruct", "write") else "reconstruct"
        if self.volume is None:
            return Stage(name, self.output, None, 0, None, 0, False)
        height, chunk = self.spec.shape[0], self.spec.chunk_rows
        blocks, is_complete = -(-height // chunk), bool(self.volume["complete"])
        if is_complete and not self.volume_done:  # the ledger was deleted, as it may be
            return Stage(name, self.output, blocks, blocks, height, height, True)
        rows = sum(min(chunk, height - index * chunk) for index in self.rows_done)
        return Stage(name, self.output, blocks, len(self.rows_done), height, rows, is_complete)

    # ---- the whole -------------------------------------------------------------------------------

    def state(self) -> RunState:
        stages, failed = self.stages(), self._failed()
        current = next((stage for stage in stages if not stage.is_complete), stages[-1])
        requested = who_cancelled(self.folder)
        state = self._in_a_word(stages[-1].is_complete, bool(failed), requested is not None)
        rate = self._rate(current, state)
        jobs = dict.fromkeys(job for writer in self.writers for job in writer.status.jobs)
        return RunState(
            output=self.output,
            state=state,
            stages=stages,
            writers=self.writers,
            running=self._running(),
            failed=failed,
            rate=rate,
            eta_s=self._eta(current, rate) if state == "running" else None,
            cancel_requested=requested,
            jobs=tuple(jobs),
            message=self._message(),
            now=self.now,
        )

    def _message(self) -> str:
        """Elements have messages of their own."""
        told = self.told
        return "" if told is None or element_named(told.name) else told.status.message

    def _in_a_word(self, is_complete: bool, has_failed: bool, is_cancelled: bool) -> str:
        states = {writer.state for writer in self._latest()}
        if "running" in states:
            return "running"
        if is_complete:
            return "done"
        if "silent" in states:
            return "silent"
        if is_cancelled or "cancelled" in states:
            return "cancelled"
        if has_failed or "failed" in states:
            return "failed"
        is_prepared = {writer.name for writer in self.writers} == {PREPARE} and states == {"done"}
        return "interrupted" if self.has_begun and not is_prepared else "not begun"

    def _latest(self) -> list[Writer]:
        """Those whose end counts: not of an attempt or an array before the last one."""
        driver = next((writer for writer in self.writers if writer.name == DRIVER), None)
        began = driver.status.started if driver else 0.0
        array = latest_array(self.writers)
        return [
            writer
            for writer in self.writers
            if writer is driver or writer.state == "running" or writer.status.updated >= began
            if writer.state == "running" or writer in array or not element_named(writer.name)
        ]

    def _running(self) -> tuple[Mapping[str, Any], ...]:
        return tuple(
            {**block, "writer": writer.name}
            for writer in self.writers
            if writer.state in GOES_ON
            for block in writer.status.running
            if not self.is_done(writer.status.stage, str(block.get("block")))
        )

    def _failed(self) -> tuple[Mapping[str, Any], ...]:
        """Blocks that were given up and that nobody has done since, the latest failure of each."""
        found: dict[tuple[str, str], Mapping[str, Any]] = {}
        for writer in sorted(self.writers, key=lambda writer: writer.status.updated):
            for block in writer.status.failed:
                stage, name = str(block.get("stage", writer.status.stage)), str(block["block"])
                if not self.is_done(stage, name):
                    found[stage, name] = {**block, "stage": stage, "writer": writer.name}
        return tuple(found.values())

    # ---- how fast --------------------------------------------------------------------------------

    def _rate(self, stage: Stage, state: str) -> Rate | None:
        if stage.store is None:
            return None
        entries = self.scan_done if stage.name == "ingest" else self.volume_done
        # when its stage began, by its own clock: before it there was nothing to be done of it
        live = [
            max(told.started, told.updated - told.seconds)
            for told in (writer.status for writer in self.writers if writer.state in GOES_ON)
            if told.updated
        ]
        ended = max((entry.time for entry in entries.values()), default=0.0)
        until = max(self.now, ended) if state == "running" else ended
        rate = rate_of(list(entries.values()), min(live, default=None), until)
        return replace(rate, slices=None) if rate and stage.name == "ingest" else rate

    def _eta(self, stage: Stage, rate: Rate | None) -> float | None:
        if stage.store is None and self.told is not None:
            told = self.told.status
            left = told.blocks - told.blocks_done
            return told.seconds / told.blocks_done * left if told.blocks_done else None
        if rate is None or stage.blocks is None:
            return None
        if rate.slices and stage.rows is not None and stage.rows_done is not None:
            return (stage.rows - stage.rows_done) / rate.slices
        return (stage.blocks - stage.blocks_done) / rate.blocks if rate.blocks else None


def rate_of(entries: Sequence[Entry], began: float | None, until: float) -> Rate | None:
    """What was done a second, over the last minute or the last few blocks.

    began : when the run began, before which nothing counts; None if unknown.
    """
    recent = sorted(
        (entry for entry in entries if entry.time >= (began or 0.0)), key=lambda entry: entry.time
    )
    late = [entry for entry in recent if entry.time > until - RATE_SECONDS]
    if len(late) < RATE_BLOCKS:
        late = recent[-RATE_BLOCKS:]
    before = recent[: len(recent) - len(late)]
    if before:
        start = before[-1].time
    elif began is not None:
        start = began
    elif late:  # the first block's own time is unknown: it only says when the others began
        start, late = late[0].time, late[1:]
    if not late or until <= start:
        return None
    seconds = until - start
    reports = [entry.report for entry in late]
    return Rate(
        blocks=len(late) / seconds,
        slices=_sum(reports, "rows") / seconds,
        bytes_read=_sum(reports, "bytes_read") / seconds,
        bytes_written=_sum(reports, "bytes_written") / seconds,
        seconds=seconds,
    )


def _sum(reports: Collection[Mapping[str, Any]], name: str) -> float:
    return float(sum(report.get(name, 0) for report in reports))


def _per_second(rate: Rate) -> dict[str, float | None]:
    return {
        "blocks_per_s": round(rate.blocks, 4),
        "slices_per_s": None if rate.slices is None else round(rate.slices, 3),
        "read_bytes_per_s": round(rate.bytes_read),
        "written_bytes_per_s": round(rate.bytes_written),
        "over_s": round(rate.seconds, 1),
    }
