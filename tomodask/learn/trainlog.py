"""The live loss of a training: a line of JSON every few steps, TensorBoard's files beside it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from tomodask.shards import swap_in

LINES = 200  # in a whole training
FILE = "log.jsonl"
BOARD = "tensorboard"
SCALARS = ("loss", "held_out", "rate")

log = logging.getLogger(__name__)


class TrainLog:
    """Keeps `log.jsonl` and `tensorboard/` in a training's folder, from a step on.

    Lines of later steps, of a training that was killed after its last checkpoint, are dropped.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.path = folder / FILE
        folder.mkdir(parents=True, exist_ok=True)
        _drop_after(self.path, step)
        self._file: IO[str] = self.path.open("a")
        self._board = _board(folder / BOARD, step)

    def __call__(self, report: Mapping[str, Any], steps: int) -> None:
        """Note a step, where its turn has come: one in `steps` / `LINES`."""
        step = report["step"]
        if step % max(1, steps // LINES) and not report["ended"]:
            return
        with suppress(OSError):  # a full disk is told of by the checkpoint
            self._file.write(json.dumps(report) + "\n")
            self._file.flush()
        if self._board is not None:
            for name in SCALARS:
                if report.get(name) is not None:
                    self._board.add_scalar(name, report[name], report["voxels"])
            self._board.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):
            self._file.close()
        if self._board is not None:
            self._board.close()


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines that are whole."""
    lines = []
    with suppress(FileNotFoundError):
        for line in (folder / FILE).read_text().splitlines():
            with suppress(ValueError):
                lines.append(json.loads(line))
    return lines


def _drop_after(path: Path, step: int) -> None:
    if path.is_file():
        kept = [line for line in read_log(path.parent) if line["step"] <= step]
        swap_in(path, "".join(json.dumps(line) + "\n" for line in kept).encode())


def _board(folder: Path, step: int) -> Any:
    """A writer of TensorBoard's, None where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  (optional and slow)
    except ImportError:
        log.debug("no TensorBoard: the loss is in %s alone", FILE)
        return None
    return SummaryWriter(str(folder), purge_step=step)
