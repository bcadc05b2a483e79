"""Compiling kernels once a machine, however many workers start together."""

from __future__ import annotations

import fcntl
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)


@contextmanager
def one_process_at_a_time() -> Iterator[None]:
    """Hold a lock among a user's processes on this machine, where there can be one."""
    path = Path(tempfile.gettempdir()) / f"tomodask-compile-{os.getuid()}.lock"
    lock = None
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError as error:
        log.info("compiling without a lock: %s", error)
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)
