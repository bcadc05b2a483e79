"""A file written past the cache holds what was written, whatever the file system can do."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from tomodask import directfile
from tomodask.directfile import BUFFER_BYTES, DirectFile


def content(size: int) -> bytes:
    return np.random.default_rng(0).integers(0, 256, size, np.uint8).tobytes()


@pytest.mark.parametrize("past_cache", [True, False])
@pytest.mark.parametrize(
    "sizes",
    [[0], [1], [4096], [BUFFER_BYTES], [BUFFER_BYTES + 5, 7], [5, 2 * BUFFER_BYTES, 4096, 1]],
    ids=str,
)
def test_the_file_holds_what_was_written(tmp_path, sizes, past_cache):
    pieces = [content(size) for size in sizes]
    with DirectFile(tmp_path / "file", past_cache) as file:
        for piece in pieces:
            file.write(np.frombuffer(piece, np.uint8))
    assert (tmp_path / "file").read_bytes() == b"".join(pieces)


def refuse_direct(number: int):
    """A file system that answers `number` to writes past its cache."""
    write = os.write

    def refusing(descriptor: int, data) -> int:
        if directfile.fcntl.fcntl(descriptor, directfile.fcntl.F_GETFL) & directfile._DIRECT:
            raise OSError(number, os.strerror(number))
        return write(descriptor, data)

    return refusing


def test_a_file_system_that_refuses_gets_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "write", refuse_direct(errno.EINVAL))
    with DirectFile(tmp_path / "file") as file:
        file.write(content(2 * BUFFER_BYTES + 9))
    assert (tmp_path / "file").read_bytes() == content(2 * BUFFER_BYTES + 9)


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "write", refuse_direct(errno.ENOSPC))
    with pytest.raises(OSError, match="No space left"), DirectFile(tmp_path / "file") as file:
        file.write(content(BUFFER_BYTES))
    assert [link for link in Path("/proc/self/fd").iterdir() if _leads_to(link, tmp_path)] == []


def _leads_to(link: Path, folder: Path) -> bool:
    return link.exists() and str(folder) in os.readlink(link)
