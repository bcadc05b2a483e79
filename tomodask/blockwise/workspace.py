"""A folder of scratch arrays, and the journal by which a killed run goes on where it was.

The algorithm itself is replayed: its Python code runs from the top, and its operations on stored
arrays are numbered as they come. What an operation with a given number has done is in a ledger: a
finished one gives its arrays and sums at once, of one that was interrupted the blocks that are
missing are done. As the code is the same and the sums are, so are all numbers and all decisions.
An array's file is removed when nothing in the program refers to it any more, which a replay reaches
at the same place: what is gone is not asked for again. It is removed as the next operation begins,
not at once: an error that unwinds the program drops arrays too, and the next call needs them.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from distributed import Client

from tomodask.blockwise.scratch import Region, Shape, create, piece_floats, remove
from tomodask.blockwise.tasks import BlockTask, Source, Target, work
from tomodask.blockwise.trees import Tree
from tomodask.cluster.run import Listener, Progress, run_blocks, silent
from tomodask.errors import (
    DiskFullError,
    FormatError,
    OutputExistsError,
    TomodaskError,
    is_disk_full,
)
from tomodask.lease import held
from tomodask.ledger import Ledger
from tomodask.ledgerlines import Entry

JOURNAL = "journal-"
SCRATCH = ".float32"


@dataclass(eq=False)
class File:
    """An array on the disk; `name` tells its operation and which of its arrays it is."""

    path: str
    shape: Shape
    name: str


@dataclass(frozen=True)
class Counts:
    """Bytes that operations have read and written, and the most that lay on the disk at once."""

    operations: int
    bytes_read: int
    bytes_written: int
    most_files_bytes: int


@dataclass
class Workspace:
    """Where the operations of one run are done; made by `open_workspace`.

    folder : of scratch files and journal, on a file system that all workers see.
    budget : bytes that one task may take beside the interpreter.
    client : the cluster; None does the blocks in this process.
    """

    folder: Path
    ledger: Ledger
    budget: int
    client: Client | None = None
    listener: Listener = silent
    stage: str = "blockwise"
    _count: int = 0
    _done: dict[str, Entry] = field(default_factory=dict)
    _files: weakref.WeakSet[File] = field(default_factory=weakref.WeakSet)
    _dropped: list[str] = field(default_factory=list)
    _read: int = 0
    _written: int = 0
    _most: int = 0

    @property
    def counts(self) -> Counts:
        """What this process has had done so far."""
        return Counts(self._count, self._read, self._written, self._most)

    def operate(
        self,
        what: str,
        shape: Shape,
        regions: Sequence[Region],
        *,
        targets: Sequence[Tree] = (),
        sums: Sequence[tuple[Tree, Tree]] = (),
        source: Callable[[Region], Source] | None = None,
        inline: bool = False,
    ) -> tuple[list[File], list[float]]:
        """Write the formulas `targets` as new arrays, and add up inner products, block by block.

        what : says what is done, the same at every replay.
        inline : in this process in any case, for sources that can't be sent.

        Raises
        ------
        FormatError : at this place of an earlier run another operation was done.
        """
        self.sweep()
        number = self._count
        self._count += 1
        name = f"{number:06d}"
        paths = [f"{self.folder}/{name}-{k}{SCRATCH}" for k in range(len(targets))]
        entry = self._done.get(name)
        if entry is not None:
            if entry.report["what"] != what:
                raise FormatError(
                    f"operation {number} in {self.folder} was {entry.report['what']}, now it is "
                    f"{what}: the algorithm must do the same each time; begin anew with `forget`"
                )
            return self._handles(paths, shape), list(entry.report["sums"])
        for path in paths:
            create(Path(path), shape)
        files = self._handles(paths, shape)
        tasks = [
            BlockTask(
                f"{name}.{block:05d}",
                self.ledger.path,
                shape,
                region,
                tuple(Target(path, tree) for path, tree in zip(paths, targets, strict=True)),
                tuple(sums),
                None if source is None else source(region),
                piece_floats(self.budget),
            )
            for block, region in enumerate(regions)
        ]
        added = self._run(f"{self.stage} {number}: {what.partition(' ')[0]}", tasks, inline)
        totals = [float(sum(block[k] for block in added)) for k in range(len(sums))]
        self.ledger.record(name, (), {"what": what, "sums": totals})
        return files, totals

    def sweep(self) -> None:
        """Remove the files of arrays that nothing refers to."""
        while self._dropped:
            remove(self._dropped.pop())

    def _handles(self, paths: Sequence[str], shape: Shape) -> list[File]:
        files = [File(path, shape, Path(path).stem) for path in paths]
        for file in files:
            # a program that ends may be called again, and go on
            weakref.finalize(file, self._dropped.append, file.path).atexit = False
        self._files.update(files)
        on_disk = sum(4 * f.shape[0] * f.shape[1] * f.shape[2] for f in self._files)
        self._most = max(self._most, on_disk)
        return files

    def _run(self, stage: str, tasks: Sequence[BlockTask], inline: bool) -> list[list[float]]:
        """The sums of every block, in their order."""
        found = {
            task.id: self._done[task.id].report["sums"] for task in tasks if task.id in self._done
        }
        missing = [task for task in tasks if task.id not in found]
        if self.client is None or inline:
            progress = Progress(stage, len(missing), workers=1)
            for task in missing:
                progress.add(work(task))
                self.listener(progress)
        else:
            progress = run_blocks(self.client, work, missing, stage=stage, listener=self.listener)
        self._read += progress.bytes_read
        self._written += progress.bytes_written
        found |= {report["block"]: report["sums"] for report in progress.reports}
        return [found[task.id] for task in tasks]


@contextlib.contextmanager
def open_workspace(
    folder: Path | str,
    run_hash: str,
    budget: int,
    *,
    client: Client | None = None,
    listener: Listener = silent,
) -> Iterator[Workspace]:
    """The workspace of one run, begun or gone on with, for the length of a `with` block.

    run_hash : of all that decides what is computed; a folder belongs to one.

    Raises
    ------
    OutputExistsError : the folder belongs to a run with another hash, or is not a scratch folder.
    OutputInUseError : another driver is at work in it.
    DiskFullError : no space is left; what is done is kept, and the same call goes on.
    """
    folder = Path(folder).resolve()
    try:
        with held(folder) as lease:
            folder.mkdir(exist_ok=True)
            ledger = Ledger(folder / f"{JOURNAL}{run_hash}")
            _refuse_others(folder, ledger.path)
            ledger.path.mkdir(exist_ok=True)
            ledger.compact()
            yield Workspace(
                folder, ledger, budget, client, lease.watched(listener), _done=ledger.done()
            )
    except OSError as error:
        if isinstance(error, TomodaskError) or not is_disk_full(error):
            raise
        free = shutil.disk_usage(folder if folder.exists() else folder.parent).free
        raise DiskFullError(
            f"no space is left for the arrays in {folder} ({error.strerror}): "
            f"{free / 1e9:.3g} GB are free. Make space and give the same command again: it goes "
            "on where it stopped"
        ) from error


def forget(folder: Path | str) -> None:
    """Remove the scratch arrays and the journal of a run.

    Raises
    ------
    OutputInUseError : a driver is at work in it.
    """
    folder = Path(folder).resolve()
    if not folder.exists():
        return
    with held(folder):
        for path in folder.glob(f"*{SCRATCH}"):
            path.unlink(missing_ok=True)
        for path in folder.glob(f"{JOURNAL}*"):
            shutil.rmtree(path)
        with suppress(OSError):  # files that are not ours stay
            folder.rmdir()


def hash_of(*parts: object) -> str:
    """A short name for what the parts say, each by its `repr` or, of bytes, by what they hold."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else repr(part).encode())
        digest.update(b"\0")
    return digest.hexdigest()[:24]


def _refuse_others(folder: Path, journal: Path) -> None:
    others = [path for path in folder.glob(f"{JOURNAL}*") if path != journal]
    if others:
        raise OutputExistsError(
            f"{folder} holds the arrays of another run ({others[0].name}; this one is "
            f"{journal.name}: algorithm, geometry, projections or budget differ): choose another "
            "folder, or remove it with `forget`"
        )
    strange = [path for path in folder.iterdir() if path != journal and path.suffix != SCRATCH]
    if strange:
        raise OutputExistsError(
            f"{folder} is not a scratch folder of tomodask, it holds {strange[0].name}: choose "
            "another"
        )
