"""Arrays on the disk as a file a chunk: scratch for iterations, not a format for results.

A chunk is cut along one axis and holds all of the others: a slab of a volume's rows, or a run of
views of all detector rows. It is a plain float32 file, so that a run of detector rows is one piece
of it to read. A file appears by a rename, once its bytes are on the disk: if it is there it is
whole, and a killed writer leaves nothing that could be taken for it.
"""

from __future__ import annotations

import math
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tomodask import arrays
from tomodask.errors import FormatError

FLOAT = np.dtype(np.float32)
PARTIAL = ".partial"


@dataclass(frozen=True)
class ChunkFiles:
    """A float32 array of three axes in a folder, cut along `axis` into chunks of `length`."""

    folder: Path
    shape: tuple[int, int, int]
    axis: int
    length: int

    @property
    def count(self) -> int:
        """Number of chunks."""
        return math.ceil(self.shape[self.axis] / self.length)

    def span(self, chunk: int) -> tuple[int, int]:
        """First and last-plus-one index along `axis`."""
        start = chunk * self.length
        return start, min(self.shape[self.axis], start + self.length)

    def chunk_shape(self, chunk: int) -> tuple[int, int, int]:
        shape = list(self.shape)
        start, stop = self.span(chunk)
        shape[self.axis] = stop - start
        return shape[0], shape[1], shape[2]

    def at(self, folder: Path) -> ChunkFiles:
        """An array of the same cut in another folder."""
        return ChunkFiles(folder, self.shape, self.axis, self.length)

    def has(self, chunk: int) -> bool:
        """Whether a chunk is written."""
        try:
            return self._file(chunk).stat().st_size == math.prod(self.chunk_shape(chunk)) * 4
        except FileNotFoundError:
            return False

    def write(self, chunk: int, values: np.ndarray) -> int:
        """Write a chunk whole; on return it is on the disk. Returns its bytes."""
        shape = self.chunk_shape(chunk)
        if values.shape != shape:
            raise FormatError(f"chunk {chunk} of {self.folder}: shape {values.shape}, not {shape}")
        values = np.ascontiguousarray(values, FLOAT)
        file = self._file(chunk)
        partial = file.with_name(f"{file.name}.{uuid.uuid4().hex[:8]}{PARTIAL}")
        try:
            with partial.open("wb", buffering=0) as opened:
                view = memoryview(values.data).cast("B")
                while view:
                    view = view[opened.write(view) :]
                os.fdatasync(opened.fileno())
            partial.replace(file)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        return values.nbytes

    def read(self, chunk: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Indices [start, stop) of a chunk's first axis, counted within the chunk."""
        shape = self.chunk_shape(chunk)
        stop = shape[0] if stop is None else stop
        row = shape[1] * shape[2]
        values = arrays.empty((stop - start, *shape[1:]))
        with self._file(chunk).open("rb", buffering=0) as file:
            file.seek(start * row * FLOAT.itemsize)
            self._fill(file, values)
        return values

    def read_rows(self, start: int, stop: int) -> np.ndarray:
        """Indices [start, stop) of the first axis, all of the others."""
        if self.axis == 0:
            parts = [
                self.read(chunk, max(start, low) - low, min(stop, high) - low)
                for chunk in range(start // self.length, math.ceil(stop / self.length))
                for low, high in [self.span(chunk)]
            ]
            return parts[0] if len(parts) == 1 else np.concatenate(parts)
        values = arrays.empty((stop - start, *self.shape[1:]))
        for chunk in range(self.count):
            low, high = self.span(chunk)
            values[:, low:high] = self.read(chunk, start, stop)
        return values

    def read_lines(self, chunk: int, start: int, stop: int) -> np.ndarray:
        """Indices [start, stop) of the second axis of a chunk that is cut along the first."""
        rows, lines, columns = self.chunk_shape(chunk)
        values = arrays.empty((rows, stop - start, columns))
        line = columns * FLOAT.itemsize
        with self._file(chunk).open("rb", buffering=0) as file:
            for row in range(rows):
                file.seek((row * lines + start) * line)
                self._fill(file, values[row])
        return values

    def _fill(self, file: Any, values: np.ndarray) -> None:
        view = memoryview(values.data).cast("B")
        while view:
            got = file.readinto(view)
            if not got:
                raise FormatError(f"{file.name} ends early: the disk lost a part of it")
            view = view[got:]

    def make(self) -> ChunkFiles:
        """Make the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def remove(self) -> None:
        """Remove the folder and all chunks."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, chunk: int) -> Path:
        return self.folder / f"{chunk:06d}.f32"
