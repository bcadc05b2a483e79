"""Large arrays whose memory is used again: a page that is new costs more than what is put into it.

The sub-blocks of a run have the same sizes over and over. Given back to the system, their pages
would be cleared and mapped anew each time, which takes 0.2 to 2 ms of a core for every MB; left to
malloc, they break its heap into pieces, and a worker takes a third more than its arrays add up to.
"""

from __future__ import annotations

import math
import mmap
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

LARGE_BYTES = 2**17  # smaller arrays are NumPy's own
WASTE = 1.25  # a piece up to so many times as large as an array serves for it
FORGET_AFTER = 1024  # arrays made since a piece was last in use: then it goes back to the system


def empty(shape: int | Sequence[int], dtype: DTypeLike = np.float32) -> np.ndarray:
    """Like `numpy.empty`: large arrays get memory that an earlier one has left."""
    dtype = np.dtype(dtype)
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    size = math.prod(shape) * dtype.itemsize
    if size < LARGE_BYTES:
        return np.empty(shape, dtype)
    memory = _POOL.take(size)
    return np.asarray(memory)[:size].view(dtype).reshape(shape)


def forget() -> None:
    """Give back all memory that no array uses."""
    _POOL.forget(after=0)


def peak_bytes() -> int:
    """Most memory that this process has had so far, all of it counted; 0 where none is told."""
    try:  # not ru_maxrss, which a process has from the one that started it
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    return 0


class _Memory:
    """What arrays and their views hold on to; when the last of them goes, its piece is free."""

    def __init__(self, piece: mmap.mmap) -> None:
        start = np.frombuffer(piece, np.uint8)
        self._start = start
        self.__array_interface__: dict[str, Any] = start.__array_interface__


class _Pool:
    """Pieces of memory that are free, each with the number of the request it was last used for."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a collection may end an array's life inside of `take`
        self._free: list[tuple[mmap.mmap, int]] = []
        self._requests = 0

    def take(self, size: int) -> _Memory:
        with self._lock:
            self._requests += 1
            fitting = [
                index
                for index, (piece, _) in enumerate(self._free)
                if size <= len(piece) <= WASTE * size + mmap.PAGESIZE
            ]
            best = min(fitting, key=lambda index: len(self._free[index][0]), default=None)
            piece = None if best is None else self._free.pop(best)[0]
            self.forget(FORGET_AFTER)
        if piece is None:
            length = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
            piece = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            if hasattr(mmap, "MADV_HUGEPAGE"):  # Linux: fewer pages to clear and to look up
                with suppress(OSError):  # a kernel without them
                    piece.madvise(mmap.MADV_HUGEPAGE)
        memory = _Memory(piece)
        weakref.finalize(memory, self._give_back, piece).atexit = False
        return memory

    def _give_back(self, piece: mmap.mmap) -> None:
        with self._lock:
            self._free.append((piece, self._requests))

    def forget(self, after: int) -> None:
        """Let go of pieces that served none of the last `after` requests."""
        with self._lock:
            self._free = [
                (piece, used) for piece, used in self._free if self._requests - used < after
            ]


_POOL = _Pool()
