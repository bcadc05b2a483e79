"""A scheduler that goes away ends a run with one message; Dask alone would wait or hang."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager

from distributed import Client

from tomodask.errors import SchedulerLostError, TomodaskError

RECONNECT_SECONDS = 5.0  # for a network that stumbles: a scheduler that died does not come back
NOTICE_SECONDS = 1.0  # until the client's own thread has seen that a connection broke


@contextmanager
def quiet_logs() -> Iterator[None]:
    """Dask's own log is held back: it tells with a traceback what we tell in one line."""
    handlers = [(handler, handler.level) for handler in logging.getLogger("distributed").handlers]
    for handler, _ in handlers:
        handler.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for handler, level in handlers:
            handler.setLevel(level)


def require_scheduler(client: Client) -> None:
    """Return at once while there is a connection; wait a little where it just broke.

    Raises
    ------
    SchedulerLostError : it does not come back.
    """
    deadline = time.monotonic() + RECONNECT_SECONDS
    while client.status == "connecting" and time.monotonic() < deadline:
        time.sleep(0.05)
    if client.status != "running":
        raise _lost(client)


@contextmanager
def scheduler_needed(client: Client) -> Iterator[None]:
    """A call to the scheduler inside, which fails in many ways where it is gone, fails in one.

    Raises
    ------
    SchedulerLostError : the call failed and there is no connection any more.
    """
    try:
        yield
    except TomodaskError:
        raise
    except (OSError, RuntimeError, CancelledError) as error:
        deadline = time.monotonic() + NOTICE_SECONDS
        while client.status == "running" and time.monotonic() < deadline:
            time.sleep(0.05)
        if client.status == "running":
            raise
        raise _lost(client) from error


def _lost(client: Client) -> SchedulerLostError:
    address = getattr(client.scheduler, "address", None) or getattr(client, "_start_arg", "")
    return SchedulerLostError(
        f"the scheduler{f' at {address}' if address else ''} is gone; what is done is kept: start "
        "one again (`dask scheduler`, and its workers), and the same command goes on"
    )
