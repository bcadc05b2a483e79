"""Files of arrays that are larger than memory: raw float32, all of an array in one file.

They are scratch, not results: no metadata, no compression, read and written at any place by
`pread` and `pwrite`, which beats Zarr where a block is cut in one way when it is written (by views)
and in another when it is read (by rows). Blocks that are written at the same time never overlap.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from tomodask import arrays as memory
from tomodask.errors import MissingInputError
from tomodask.shards import sync_folder

ITEM = 4  # bytes of a float32
PIECE = 2**18  # floats of each array at once, at most, so that temporaries stay in the cache
PIECES = 12  # at once in memory: the arrays of a formula and its temporaries

Run = tuple[int, int]  # start and stop
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Region:
    """Part of an array: runs along its first two axes, all of the third."""

    rows: Run
    lines: Run

    @classmethod
    def whole(cls, shape: Shape) -> Region:
        return cls((0, shape[0]), (0, shape[1]))

    def shape_in(self, shape: Shape) -> Shape:
        return self.rows[1] - self.rows[0], self.lines[1] - self.lines[0], shape[2]

    def pieces(self, columns: int, floats: int) -> Iterator[Region]:
        """The same in pieces of about `floats` values: whole rows, or a part of one."""
        num_lines = self.lines[1] - self.lines[0]
        lines = max(1, min(num_lines, floats // max(1, columns)))
        rows = max(1, floats // (lines * columns)) if lines == num_lines else 1
        for row in range(*self.rows, rows):
            for line in range(*self.lines, lines):
                yield Region(
                    (row, min(row + rows, self.rows[1])), (line, min(line + lines, self.lines[1]))
                )

    def within(self, outer: Region) -> tuple[slice, slice]:
        """Where it lies in an array that holds `outer`."""
        (row, line), (first, second) = (self.rows[0], self.lines[0]), (outer.rows, outer.lines)
        return (
            slice(row - first[0], self.rows[1] - first[0]),
            slice(line - second[0], self.lines[1] - second[0]),
        )


@dataclass
class Files:
    """The files that a task has open, and how many bytes went through them."""

    bytes_read: int = 0
    bytes_written: int = 0
    _open: dict[str, int] = field(default_factory=dict)
    _written: set[int] = field(default_factory=set)

    def read(self, path: str, shape: Shape, region: Region) -> np.ndarray:
        """A region of an array, in memory."""
        values = memory.empty(region.shape_in(shape), np.float32)
        for run, offset in _runs(values, shape, region):
            self._read_run(path, run, offset)
        self.bytes_read += values.nbytes
        return values

    def write(self, path: str, shape: Shape, region: Region, values: np.ndarray) -> None:
        """Put values in their place; they are safe on the disk after `sync`."""
        values = np.ascontiguousarray(values, np.float32)
        descriptor = self._descriptor(path)
        self._written.add(descriptor)
        for run, offset in _runs(values, shape, region):
            while run:
                done = os.pwrite(descriptor, run, offset)
                run, offset = run[done:], offset + done
        self.bytes_written += values.nbytes

    def sync(self) -> None:
        """Wait until all that was written is on the disk."""
        for descriptor in self._written:
            os.fsync(descriptor)
        self._written.clear()

    def close(self) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()
        self._written.clear()

    def _read_run(self, path: str, run: memoryview, offset: int) -> None:
        descriptor = self._descriptor(path)
        while run:
            done = os.preadv(descriptor, [run], offset)
            if done == 0:
                raise MissingInputError(f"{path} ends at byte {offset}: it was cut, or is another")
            run, offset = run[done:], offset + done

    def _descriptor(self, path: str) -> int:
        if path not in self._open:
            try:
                self._open[path] = os.open(path, os.O_RDWR)
            except FileNotFoundError:
                raise MissingInputError(
                    f"{path} is gone: another driver has removed it, or this one was replaced"
                ) from None
        return self._open[path]


def runs(start: int, stop: int, length: int) -> list[Run]:
    """Runs of at most `length`, of equal sizes but for one, so that none is a small rest."""
    count = -(-(stop - start) // max(1, length))
    if count < 1:
        return []
    size, rest = divmod(stop - start, count)
    edges = [start + part * size + min(part, rest) for part in range(count + 1)]
    return list(pairwise(edges))


def piece_floats(budget: int) -> int:
    """Values of each array that a formula is worked out for at once: a sixth of memory for all."""
    return max(1, min(PIECE, budget // (6 * PIECES * ITEM)))


@contextmanager
def opened() -> Iterator[Files]:
    """Files that are closed when the `with` block ends."""
    files = Files()
    try:
        yield files
    finally:
        files.close()


def read_rows(path: str, shape: Shape, start: int, stop: int) -> np.ndarray:
    """Rows [start, stop) of an array, in memory."""
    with opened() as files:
        return np.array(files.read(path, shape, Region((start, stop), (0, shape[1]))))


def create(path: Path, shape: Shape) -> None:
    """An array of zeros that takes no space yet; one that is there in the right size stays."""
    size = int(np.prod(shape)) * ITEM
    if path.exists() and path.stat().st_size == size:
        return
    with path.open("wb") as file:
        file.truncate(size)
    sync_folder(path.parent)


def remove(path: str) -> None:
    """Remove a file that may be gone already."""
    with suppress(FileNotFoundError):
        os.unlink(path)


def _runs(values: np.ndarray, shape: Shape, region: Region) -> Iterator[tuple[memoryview, int]]:
    """The pieces of C-ordered `values` that lie together in the file, each with its offset."""
    line = shape[2] * ITEM
    if region.lines == (0, shape[1]):
        if values.size:
            yield values.data.cast("B"), region.rows[0] * shape[1] * line
        return
    for number, row in enumerate(range(*region.rows)):
        if values[number].size:
            offset = (row * shape[1] + region.lines[0]) * line
            yield values[number].data.cast("B"), offset
