"""Where a program on stored arrays works: its folder, its journal, its workers, its budget."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distributed import Client

from tomodask.blockwise.chunkfiles import PARTIAL, ChunkFiles
from tomodask.blockwise.journal import Journal
from tomodask.blockwise.tasks import run_task
from tomodask.cluster.run import Listener, Progress, run_blocks, silent
from tomodask.errors import MemoryBudgetError

PARTS = 8  # chunks that a task may hold at once: results, operands, and what a projector takes


class Workspace:
    """Runs operations one after the other, each as a stage of tasks.

    folder : of the scratch arrays and the journal; it is removed by whoever made it.
    budget : bytes of memory that a task may use; it decides how arrays are cut.
    client : Dask's; None runs the tasks here, one by one.
    """

    def __init__(
        self,
        folder: Path,
        identity: Mapping[str, Any],
        *,
        budget: int,
        client: Client | None = None,
        listener: Listener = silent,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f"*/*{PARTIAL}"):
            left.unlink(missing_ok=True)  # of writers that were killed
        self.folder, self.budget, self.client, self.listener = folder, budget, client, listener
        self.journal = Journal(folder, {**identity, "chunk_bytes": self.chunk_bytes})
        self.bytes_written = 0
        self._operation = 0
        self._forgotten: list[ChunkFiles] = []

    @property
    def chunk_bytes(self) -> int:
        return self.budget // PARTS

    def cut(self, shape: tuple[int, int, int], axis: int) -> ChunkFiles:
        """How an array of this shape is cut along an axis; its folder is not made.

        Raises
        ------
        MemoryBudgetError : not even one row or view fits.
        """
        one = 4 * math.prod(shape) // shape[axis]
        if one > self.chunk_bytes:
            raise MemoryBudgetError(
                f"one {('row', 'view')[axis]} of an array of shape {shape} takes "
                f"{one / 2**20:.1f} MiB, and a task with {self.budget / 2**20:.0f} MiB holds "
                f"{PARTS} chunks of {self.chunk_bytes / 2**20:.1f} MiB: give each worker "
                f"{PARTS * one / 2**20:.0f} MiB"
            )
        most = self.chunk_bytes // one
        chunks = math.ceil(shape[axis] / most)
        return ChunkFiles(self.folder, shape, axis, math.ceil(shape[axis] / chunks))

    def next_operation(self) -> int:
        self._operation += 1
        return self._operation

    def folder_of(self, operation: int, result: int = 0) -> Path:
        return self.folder / f"{operation:07d}-{result}"

    def carry_out(
        self, operation: int, kind: str, tasks: Sequence[Any], outs: Sequence[ChunkFiles]
    ) -> list[Mapping[str, Any]]:
        """Run the tasks of an operation that are not done; the reports of those that ran."""
        for out in outs:
            out.make()
        left = [task for task in tasks if not outs or not all(out.has(task.chunk) for out in outs)]
        stage = f"{kind} {operation}"
        if self.client is not None:
            reports = run_blocks(
                self.client, run_task, left, stage=stage, listener=self.listener
            ).reports
        else:
            progress = Progress(stage, len(left))
            for task in left:
                progress.add(run_task(task))
                self.listener(progress)
            reports = progress.reports
        self.bytes_written += sum(int(report.get("bytes_written", 0)) for report in reports)
        return list(reports)

    def complete(self, operation: int, kind: str, **found: Any) -> dict[str, Any]:
        """Note an operation as done, and remove the arrays that nobody holds any more.

        Not before: should it fail, the program's variables go as its frames are left, and the
        arrays in them are what the next run goes on with.
        """
        line = self.journal.record(operation, kind, **found)
        while self._forgotten:
            self._forgotten.pop().remove()
        return line

    def forget(self, files: ChunkFiles) -> None:
        """An array that no variable refers to any more."""
        self._forgotten.append(files)
