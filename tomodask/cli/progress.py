"""The live line of a run: blocks, time left, bytes and slices a second."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from tomodask.cluster.run import Progress

PLAIN_SECONDS = 10.0  # between lines where nobody watches a terminal
BAR = 24


class LiveLine:
    """A listener for `run_blocks` that draws one line, or prints plain lines without a terminal."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.quiet = quiet
        self._live: Live | None = None
        self._stage = ""
        self._told = 0.0

    def __enter__(self) -> Self:
        if self.console.is_terminal and not self.quiet:
            self._live = Live(console=self.console, refresh_per_second=8, transient=False)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, progress: Progress) -> None:
        if self.quiet:
            return
        if self._live is not None:
            self._draw(self._live, progress)
        elif self._is_due(progress):
            print(describe(progress), file=sys.stderr, flush=True)

    def _draw(self, live: Live, progress: Progress) -> None:
        if progress.stage != self._stage and self._stage:
            live.console.print()  # the last stage's line stays
        self._stage = progress.stage
        full = BAR * progress.blocks_done // max(1, progress.blocks)
        live.update(Text(f"[{'#' * full}{'.' * (BAR - full)}] {describe(progress)}"))

    def _is_due(self, progress: Progress) -> bool:
        ended = progress.blocks_done == progress.blocks
        now = time.monotonic()
        if progress.stage == self._stage and now - self._told < PLAIN_SECONDS and not ended:
            return False
        self._stage, self._told = progress.stage, now
        return True


def describe(progress: Progress) -> str:
    """'reconstruct 3/16 blocks, 41 s left, read 120 MB/s, write 88 MB/s, 21 slices/s, 2 workers'"""
    seconds = progress.seconds
    eta = progress.eta_seconds
    parts = [f"{progress.stage} {progress.blocks_done}/{progress.blocks} blocks"]
    if progress.blocks_done == progress.blocks:
        parts.append(f"done in {_duration(seconds)}")
    else:
        parts.append("time left unknown" if eta is None else f"{_duration(eta)} left")
    if progress.note:
        parts.append(progress.note)
    parts.append(f"read {progress.bytes_read / seconds / 1e6:.0f} MB/s")
    parts.append(f"write {progress.bytes_written / seconds / 1e6:.0f} MB/s")
    if progress.stage == "reconstruct":
        parts.append(f"{progress.rows_done / seconds:.1f} slices/s")
    parts.append(
        f"{progress.workers} worker{'s' * (progress.workers != 1)}"
        if progress.workers
        else "waiting for workers"
    )
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"
