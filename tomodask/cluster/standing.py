"""A scheduler that stands by itself, and how drivers and workers find it by its file.

Its file and its keys lie in the run's folder. What a scheduler that was killed has left there
misleads nobody: a file counts once something answers at its address with the keys beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
from distributed import Client, Scheduler, Security
from distributed.comm.addressing import get_address_host_port
from distributed.utils import get_ip_interface

from tomodask.cluster.certificates import (
    CERTIFICATE,
    load_certificates,
    make_certificates,
    remove_certificates,
)
from tomodask.cluster.connection import quiet_logs
from tomodask.cluster.local import SETTINGS, connect
from tomodask.errors import InputError, OutputInUseError
from tomodask.runfolder import RunFolder

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 60.0  # for a scheduler that is being started, or whose file is still on its way
HANDSHAKE_SECONDS = 3.0
LOOK_SECONDS = 0.2
Told = Callable[[str], None]


@dataclass(frozen=True)
class Place:
    """Where a scheduler is said to be; `security` is None where Dask's own settings hold."""

    address: str
    security: Security | None

    def answers(self, patience: float = HANDSHAKE_SECONDS) -> bool:
        """Whether something listens there, and has the key of the run."""
        host, port = get_address_host_port(self.address, strict=True)
        try:
            with socket.create_connection((host, port), timeout=patience) as plain:
                if self.security is not None:
                    context = self.security.get_connection_args("client")["ssl_context"]
                    context.wrap_socket(plain).close()
        except OSError:  # ssl.SSLError is one
            return False
        return True


def look(path: Path) -> Place:
    """What a scheduler's file says now: one of ours, with keys beside it, or one of Dask's.

    Raises
    ------
    InputError : there is none, it is no such file, or its keys can't be read.
    """
    try:
        address = str(json.loads(path.read_text())["address"])
        get_address_host_port(address, strict=True)
    except FileNotFoundError:
        raise InputError(f"there is no {path}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no scheduler's file ({error})") from error
    keys = path.parent / "tls"
    return Place(address, load_certificates(keys) if keys.is_dir() else None)


def find(path: Path, patience: float = PATIENCE_SECONDS) -> Place:
    """Wait until a scheduler's file is there and its scheduler answers.

    Raises
    ------
    InputError : none does within `patience` seconds.
    """
    deadline, told = time.monotonic() + patience, False
    while True:
        try:
            place = look(path)
            if place.answers():
                return place
            why = f"nothing with the right keys answers at {place.address}, which {path} names"
        except InputError as error:
            why = str(error)
        if time.monotonic() > deadline:
            raise InputError(
                f"no scheduler found within {patience:.0f} s: {why}. Start one with `tomodask "
                f"cluster start {path.parent}`, or `dask scheduler --scheduler-file {path}`"
            )
        if not told and time.monotonic() > deadline - patience + 2:
            log.warning("waiting for a scheduler: %s", why)
            told = True
        time.sleep(LOOK_SECONDS)


@contextlib.contextmanager
def connect_file(path: Path, patience: float = PATIENCE_SECONDS) -> Iterator[Client]:
    """A client of the scheduler that a file names; waits for it.

    With keys beside the file (`tls/`) only who has them is talked to; without, Dask's own settings
    hold.

    Raises
    ------
    InputError : no scheduler is found within `patience` seconds.
    """
    place = find(path, patience)
    if place.security is None and place.address.startswith("tcp://"):
        log.warning(
            "the scheduler at %s speaks no TLS: whoever reaches it can run code as you. "
            "`tomodask cluster start` starts one that does",
            place.address,
        )
    with connect(place.address, place.security) as client:
        yield client


# ---- the scheduler itself ------------------------------------------------------------------------


class TlsScheduler(Scheduler):
    """Dask's scheduler without its web server, which would listen without TLS and without keys."""

    def start_http_server(self, *_: Any, **__: Any) -> None:
        """Nothing listens but the scheduler itself."""


def address_here(host: str | None = None, interface: str | None = None) -> str:
    """The address of this machine that others reach: of an interface, or the one that leads out.

    Raises
    ------
    InputError : no such interface.
    """
    if host is not None:
        return host
    if interface is not None:
        try:
            return str(get_ip_interface(interface))
        except ValueError as error:
            raise InputError(f"interface {interface!r}: {error}") from error
    found = own_address()
    if found.startswith("127."):
        log.warning(
            "this machine finds no address of its own but %s, which no other reaches: name its "
            "network with --interface",
            found,
        )
    return found


def own_address(towards: str = "203.0.113.1") -> str:
    """The address from which this machine would send to another; nothing is sent.

    Where no way leads there, what the machine's name stands for: compute nodes often have no way
    out.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((towards, 9))
            return str(probe.getsockname()[0])
        except OSError:
            pass
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return "127.0.0.1"


def serve(
    folder: RunFolder,
    *,
    host: str | None = None,
    interface: str | None = None,
    port: int = 0,
    idle_s: float | None = None,
    told: Told = log.info,
) -> None:
    """Run a scheduler of a run until SIGTERM or ctrl-C.

    idle_s : seconds without any driver or worker after which it ends, too.
    told : called with the address once it stands.

    Raises
    ------
    OutputInUseError : one runs for this run already.
    InputError : no such interface, or the port is taken.
    """
    address = address_here(host, interface)
    with contextlib.suppress(InputError):
        old = look(folder.scheduler_file)
        if old.security is not None and old.answers():
            raise OutputInUseError(
                f"{folder.scheduler_file} names a scheduler that runs, at {old.address}: end that "
                "one first, or let this run join it"
            )
    folder.make()
    _require_port(address, port)
    with quiet_logs(), dask.config.set(SETTINGS):
        asyncio.run(_serve(folder, address, port, idle_s, told))


def _require_port(address: str, port: int) -> None:
    """Dask tells with a traceback what is told here in one line."""
    try:
        socket.create_server((address, port)).close()
    except OSError as error:
        raise InputError(f"no scheduler can listen on {address}:{port}: {error}") from error


async def _serve(
    folder: RunFolder, address: str, port: int, idle_s: float | None, told: Told
) -> None:
    ended = asyncio.Event()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
    folder.scheduler_file.unlink(missing_ok=True)
    security = make_certificates(folder.certificates)
    certificate = (folder.certificates / CERTIFICATE).read_bytes()
    try:
        async with TlsScheduler(
            host=address, port=port, protocol="tls://", security=security, dashboard=False
        ) as scheduler:
            folder.write_json(
                folder.scheduler_file.name,
                {
                    "address": scheduler.address,
                    "id": scheduler.id,
                    "started": time.time(),
                    "host": socket.gethostname(),
                    "pid": os.getpid(),
                },
            )
            told(scheduler.address)
            await _until_idle(scheduler, ended, idle_s)
            # first of all: who loses the connection then sees that there is none to come back to
            _forget(folder, certificate)
    finally:
        _forget(folder, certificate)


async def _until_idle(scheduler: Scheduler, ended: asyncio.Event, idle_s: float | None) -> None:
    busy = time.monotonic()
    while not ended.is_set():
        if scheduler.workers or set(scheduler.clients) - {"fire-and-forget"}:
            busy = time.monotonic()
        if idle_s is not None and time.monotonic() - busy > idle_s:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), timeout=LOOK_SECONDS)


def _forget(folder: RunFolder, certificate: bytes) -> None:
    """Remove file and keys, unless a later scheduler has replaced them by its own."""
    with contextlib.suppress(FileNotFoundError):
        if (folder.certificates / CERTIFICATE).read_bytes() == certificate:
            folder.scheduler_file.unlink(missing_ok=True)
            remove_certificates(folder.certificates)
