"""A scheduler that stands by itself, and how a driver finds it by its file."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from distributed import Client

from tomodask.cluster.local import connect
from tomodask.errors import InputError


@contextlib.contextmanager
def connect_file(path: Path) -> Iterator[Client]:
    """A client of the scheduler whose file this is."""
    try:
        address = json.loads(path.read_text())["address"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path} is no scheduler file: {error}") from error
    with connect(address) as client:
        yield client
