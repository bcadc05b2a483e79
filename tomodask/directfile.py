"""Writing a large new file past the page cache, so that a core is not spent on filling it.

Of a volume that is larger than the memory nobody reads the first shard from the cache when the last
one is written; but the cache costs a copy and, on a virtual machine, a page fault in the host for
every 4 KiB: 9 ms of a core for a slice of 1024 x 1024 where writing past it takes 0.1 ms.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

BUFFER_BYTES = 4 * 2**20  # written at once: enough to keep a disk busy, and a few fit into a cache
_DIRECT = getattr(os, "O_DIRECT", 0)  # none on macOS


class DirectFile:
    """A new file, on the disk when its `with` block ends; what is shorter than a buffer is cached.

    past_cache : leave the page cache out, where the file system knows how to.
    """

    def __init__(self, path: Path, past_cache: bool = True) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        self._is_direct = past_cache and _DIRECT != 0
        # Pages of its own: a disk takes nothing else past the cache.
        self._buffer = mmap.mmap(-1, BUFFER_BYTES) if self._is_direct else None
        self._filled = 0

    def write(self, content: bytes | memoryview | np.ndarray) -> None:
        """Append bytes; an array must be contiguous."""
        rest = memoryview(content).cast("B")  # type: ignore[arg-type]
        if self._buffer is None:
            _write_all(self._descriptor, rest)
            return
        while rest:
            taken = min(len(rest), BUFFER_BYTES - self._filled)
            self._buffer[self._filled : self._filled + taken] = rest[:taken]
            self._filled += taken
            rest = rest[taken:]
            if self._filled == BUFFER_BYTES:
                self._flush(direct=self._is_direct)

    def _flush(self, direct: bool) -> None:
        assert self._buffer is not None
        with memoryview(self._buffer) as whole, whole[: self._filled] as filled:
            if direct:
                self._is_direct = _write_directly(self._descriptor, filled)
            if not (direct and self._is_direct):
                _write_all(self._descriptor, filled)
        self._filled = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                if self._filled:  # a tail is no whole number of pages
                    self._flush(direct=False)
                os.fsync(self._descriptor)
        finally:
            os.close(self._descriptor)
            self._buffer = None  # not closed: a write that failed may still hold a view of it


def _write_directly(descriptor: int, content: memoryview) -> bool:
    """Write past the cache; False, with nothing written, where the file system refuses to."""
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | _DIRECT)
        written = os.write(descriptor, content)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return False
    finally:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags)
    _write_all(descriptor, content[written:])  # a disk that is full takes a part
    return True


def _write_all(descriptor: int, content: memoryview) -> None:
    while content:  # one write takes at most 2 GiB on Linux
        content = content[os.write(descriptor, content) :]
