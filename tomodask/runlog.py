"""What a run tells those who look at its folder: where it is, and what ended how.

The status is swapped in every two seconds by a thread of its own, so that a run which waits for
its queue, or works on one block for minutes, is known to live. A line a block goes to one open
file. Neither may end a run: where the folder can't be written, the run goes on untold.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from tomodask.cluster.run import Listener, Progress, silent
from tomodask.errors import BlocksLeftError, CancelledRunError, TomodaskError
from tomodask.recipe import Recipe
from tomodask.runfolder import DRIVER, RunFolder, Status
from tomodask.writers import who_cancelled

STATUS_SECONDS = 2.0  # between two statuses
TAKE_SECONDS = 0.2  # between two looks at progress, of which there may be hundreds a second
CANCEL_SECONDS = 1.0  # between two looks for a request to stop
MOST_FAILED = 1000  # blocks in a status, which is written whole every time; the events have all
MOST_TRACEBACKS = 100
MOST_CHARACTERS = 20_000  # of an error or traceback

log = logging.getLogger(__name__)


class RunLog:
    """A listener that keeps a run's folder up to date, from `begin` to `close`, or in a `with`.

    writer : whose status it is: the driver's, or an element's of a job array.
    is_ours : whether the run is still this process'; nothing is written once it isn't.
    """

    def __init__(
        self,
        folder: RunFolder,
        listener: Listener = silent,
        *,
        writer: str = DRIVER,
        is_ours: Callable[[], bool] = lambda: True,
    ) -> None:
        self.folder, self.listener, self.is_ours = folder, listener, is_ours
        self._status = Status(writer=writer)
        self._progress: Progress | None = None
        self._failed: list[dict[str, Any]] = []  # of the stages before this one
        self._seen = [0, 0]  # reports and failures of this stage that are in the events
        self._taken = self._looked = 0.0
        self._events: IO[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        self._has_complained = False

    # ---- from beginning to end -------------------------------------------------------------------

    def begin(self) -> None:
        """Say that the run goes on. A driver forgets what was asked of the one before it."""
        if self._thread is not None:
            return
        with self._untold():
            if self._status.writer == DRIVER and self.is_ours():
                self.folder.clear_cancel()
        self._write()
        self._thread = threading.Thread(target=self._keep_telling, name="run log", daemon=True)
        self._thread.start()

    def close(self, state: str = "done", message: str = "") -> None:
        """Say how it ended, one of `runfolder.STATES`; a second call does nothing."""
        if self._ended.is_set():
            return
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        if self._progress is not None:
            self._take(self._progress)
        self.tell(state=state, message=message[:MOST_CHARACTERS], running=[])
        self._write()
        if self._events is not None:
            with self._untold():
                self._events.close()

    def __enter__(self) -> Self:
        self.begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(*how_it_ended(error))

    # ---- while it goes on ------------------------------------------------------------------------

    def __call__(self, progress: Progress) -> None:
        """Take progress in and pass it on.

        Raises CancelledRunError where somebody asked the run to stop.
        """
        self.begin()
        if progress is not self._progress:
            self._failed += _failed_of(self._progress)
            self._progress, self._seen = progress, [0, 0]
        if time.monotonic() - self._taken >= TAKE_SECONDS or progress.stage != self._status.stage:
            self._take(progress)
        self._note(progress)
        self.listener(progress)
        self.check_cancelled()

    def tell(self, **fields: Any) -> None:
        """Set fields of the status that progress does not know: stage, workers, jobs, message."""
        self._status = dataclasses.replace(self._status, **fields)

    def check_cancelled(self) -> None:
        """Raises CancelledRunError where a request stands; looks once a second at most."""
        now = time.monotonic()
        if now - self._looked < CANCEL_SECONDS:
            return
        self._looked = now
        by = who_cancelled(self.folder)
        if by is not None:
            raise CancelledRunError(
                f"{self.folder.output}: cancelled by {by}; what is done is kept, "
                f"`tomodask resume {self.folder.output}` goes on"
            )

    def _take(self, progress: Progress) -> None:
        self._taken = time.monotonic()
        running = dict(progress.running)
        failed = (self._failed + _failed_of(progress))[:MOST_FAILED]
        self.tell(
            stage=progress.stage,
            blocks=progress.blocks,
            blocks_done=progress.blocks_done,
            rows_done=progress.rows_done,
            seconds=round(progress.seconds, 3),
            workers=progress.workers,
            bytes_read=progress.bytes_read,
            bytes_written=progress.bytes_written,
            running=[
                {"block": block, "worker": worker, "since": since}
                for block, (worker, since) in running.items()
            ],
            failed=[_cut(block, number < MOST_TRACEBACKS) for number, block in enumerate(failed)],
            message=progress.note,
        )

    def _note(self, progress: Progress) -> None:
        """A line for each block that ended since the last time."""
        reports, failed = progress.reports[self._seen[0] :], _failed_of(progress)[self._seen[1] :]
        self._seen = [self._seen[0] + len(reports), self._seen[1] + len(failed)]
        is_driver = self._status.writer == DRIVER  # elements of an array would write into one file
        if not (reports or failed) or not is_driver or not self.is_ours():
            return
        now, stage, writer = round(time.time(), 3), progress.stage, self._status.writer
        lines: list[dict[str, Any]] = [
            {"time": now, "writer": writer, "stage": stage, "ended": "done", **_plain(report)}
            for report in reports
        ]
        for block in failed:
            told = {name: block.get(name) for name in ("block", "error", "attempts")}
            lines.append({"time": now, "writer": writer, "stage": stage, "ended": "failed", **told})
        with self._untold():
            if self._events is None:
                self.folder.make()
                self._events = self.folder.events.open("ab")
            self._events.write(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
            self._events.flush()

    def _keep_telling(self) -> None:
        while not self._ended.wait(STATUS_SECONDS):
            self._write()

    def _write(self) -> None:
        with self._untold():
            if self.is_ours():
                self.folder.write_status(self._status)

    @contextmanager
    def _untold(self) -> Iterator[None]:
        """A disk may fail, or JSON: what is told must not end what it tells of."""
        try:
            yield
        except (OSError, TypeError, ValueError) as error:
            # once: a full disk fails every two seconds, and the run itself will tell of it
            told = log.debug if self._has_complained else log.warning
            self._has_complained = True
            told("%s can't be kept up to date: %s", self.folder.path, error)


def how_it_ended(error: BaseException | None) -> tuple[str, str]:
    """State and message of a run that this ended, None where nothing did."""
    if error is None:
        return "done", ""
    if isinstance(error, CancelledRunError):
        return "cancelled", str(error)
    if isinstance(error, BlocksLeftError):
        return "interrupted", str(error)
    if not isinstance(error, Exception):  # Ctrl-C, a signal that became an exit
        return "interrupted", type(error).__name__
    return "failed", str(error) if isinstance(error, TomodaskError) else repr(error)


# ---- the recipe that is kept -----------------------------------------------------------------

PATHS = {
    "": ("source", "output", "scan"),
    "ingest": ("flats", "darks"),
    "geometry": ("poses",),
    "cluster": ("scheduler_file",),
    "denoise": ("model", "start"),
}


def keep_recipe(folder: RunFolder, recipe: Recipe) -> None:
    """Keep a recipe for `resume`, which may be called from another folder: its paths are whole."""
    folder.save_recipe(with_whole_paths(recipe).as_dict())


def with_whole_paths(recipe: Recipe) -> Recipe:
    """The same recipe for whoever works in another folder: batch jobs, `resume`."""
    tree = recipe.as_dict()
    for section, names in PATHS.items():
        part = tree[section] if section else tree
        if part is None:  # nothing is learnt
            continue
        part |= {name: str(Path(part[name]).absolute()) for name in names if part[name]}
    file, colon, dataset = (tree["ingest"]["angles"] or "").partition(":/")
    if file and Path(file).exists():  # neither START:STOP:COUNT nor a dataset of the source
        tree["ingest"]["angles"] = f"{Path(file).absolute()}{colon}{dataset}"
    return Recipe.model_validate(tree)


# ---- what fits into a line or a status -------------------------------------------------------


def _failed_of(progress: Progress | None) -> list[dict[str, Any]]:
    return [] if progress is None else list(progress.failed)


def _cut(block: Mapping[str, Any], with_traceback: bool) -> dict[str, Any]:
    told = {k: v[:MOST_CHARACTERS] if isinstance(v, str) else v for k, v in block.items()}
    return told if with_traceback else {**told, "traceback": ""}


def _plain(report: Mapping[str, Any]) -> dict[str, Any]:
    """A report without its arrays and lists: numbers, short texts, and counts by name."""
    kept: dict[str, Any] = {}
    for name, value in report.items():
        value = value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value
        is_small = isinstance(value, (bool, int, float)) or (
            isinstance(value, str) and len(value) <= 200
        )
        if is_small or value is None:
            kept[name] = value
        elif isinstance(value, Mapping) and len(value) <= 20:
            kept[name] = _plain(value)
    return kept
