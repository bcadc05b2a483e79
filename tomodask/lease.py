"""One driver at a time on a store: a lease with a heartbeat, in a small file beside the store.

The owner holds the file open and renews it every few seconds through its descriptor, so that an
owner which was asleep can never overwrite the lease of its successor. A dead process on the same
machine frees its lease at once. An owner elsewhere is taken for gone when its heartbeat has stood
still for a while on the observer's own clock: clocks differ, and are not compared.

The lease spares work that would be done twice, and keeps one recipe from replacing what another is
writing. Bytes do not depend on it: two tasks that write one block write the same.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tomodask.errors import InputError, OutputInUseError

HEARTBEAT_SECONDS = 5.0
PATIENCE_SECONDS = 60.0  # a driver that reads from a slow disk may miss many beats
SETTLE_SECONDS = 0.2  # after taking a lease over: of several takers the last one has it
LOOK_SECONDS = 0.25  # between two looks at somebody else's heartbeat
RECORD_BYTES = 512  # of fixed length, so that a beat is one write in place and needs no new space
SUFFIX = ".lease"

_log = logging.getLogger(__name__)
_Subject = TypeVar("_Subject")


@dataclass(frozen=True)
class Owner:
    """Who drives: `machine` tells boots and containers apart, `started` processes of one pid."""

    token: str
    host: str
    machine: str
    pid: int
    started: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"

    def is_dead(self) -> bool:
        """Whether it surely is no more; of a process elsewhere nothing is sure."""
        if self.machine != this_machine():
            return False
        start = _start_of(self.pid)
        return start is None or (start != "" and start != self.started)


@dataclass(frozen=True)
class Sign:
    """The last sign of life of a driver, and when it came by the file server's clock (unix s)."""

    owner: Owner | None
    time: float


@dataclass(frozen=True)
class Lease:
    """A store that this process alone may drive, for as long as `check` is silent."""

    store: Path
    owner: Owner
    descriptor: int = field(repr=False)

    def is_held(self) -> bool:
        """Whether nobody has taken it over."""
        found = _read(lease_path(self.store))
        return found is not None and found.owner == self.owner

    def check(self) -> None:
        """Raises OutputInUseError where another driver has taken the store over."""
        if not self.is_held():
            now = owner_of(self.store)
            why = f"{now} took it over" if now else f"{lease_path(self.store)} was removed"
            raise OutputInUseError(
                f"{self.store} is no longer this driver's, {why}; it stops, and what it has done "
                "is kept: the same command goes on when no other driver runs"
            )

    def watched(self, listener: Callable[[_Subject], None]) -> Callable[[_Subject], None]:
        """A listener that checks the lease first, each time that progress is told."""

        def checked(progress: _Subject) -> None:
            self.check()
            listener(progress)

        return checked


def lease_path(store: Path) -> Path:
    """The file beside the store itself, whatever link it was named by."""
    place = Path(store).resolve()
    return place.with_name(place.name + SUFFIX)


def owner_of(store: Path) -> Owner | None:
    """Who drives a store now, None where nobody does; a dead process on this machine does not."""
    found = _read(lease_path(store))
    return None if found is None or found.owner is None or found.owner.is_dead() else found.owner


def last_sign(store: Path) -> Sign | None:
    """Of whoever has the lease, dead or alive; None where nobody has. Nothing is written."""
    found = _read(lease_path(store))
    return None if found is None else Sign(found.owner, found.changed_ns / 1e9)


@contextlib.contextmanager
def held(store: Path) -> Iterator[Lease]:
    """The lease of a store for the length of a `with` block, renewed by a thread of its own.

    Raises
    ------
    OutputInUseError : another driver has it; names it.
    InputError : there is no folder for it, or it can't be written.
    """
    lease = _take(Path(store))
    ended = threading.Event()
    heart = threading.Thread(target=_beat, args=(lease, ended), name="lease", daemon=True)
    heart.start()
    try:
        yield lease
    finally:
        ended.set()
        heart.join()
        if lease.is_held():
            lease_path(lease.store).unlink(missing_ok=True)
        os.close(lease.descriptor)


def this_machine() -> str:
    """This boot of this machine, and the container whose process numbers we see."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # no Linux: then a host that keeps its name
        return socket.gethostname()


# ---- taking ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """A lease's file as it was at one look; `owner` is None where it is being written, or cut."""

    owner: Owner | None
    content: bytes
    changed_ns: int


def _take(store: Path) -> Lease:
    path, owner = lease_path(store), _myself()
    while True:
        try:
            # fails where there is one: of two drivers that begin, the first one has it
            return _make(path, store, owner)
        except FileExistsError:
            gone = _wait_until_gone(path, store)
        if gone is not None and _read(path) == gone:
            return _take_over(path, store, owner)


def _make(path: Path, store: Path, owner: Owner) -> Lease:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise InputError(
            f"there is no folder {path.parent} to make {store.name} in, or it can't be written "
            f"({error.strerror}): make it, or choose another output"
        ) from None
    lease = Lease(store, owner, descriptor)
    try:
        _write(lease, 0)
        os.fsync(descriptor)
    except BaseException:
        path.unlink(missing_ok=True)
        os.close(descriptor)
        raise
    return lease


def _take_over(path: Path, store: Path, owner: Owner) -> Lease:
    made = path.with_name(f"{path.name}.{owner.token}.partial")
    lease = _make(made, store, owner)
    try:
        made.replace(path)
        time.sleep(SETTLE_SECONDS)
        if not lease.is_held():  # somebody else took it over in the same moment
            raise OutputInUseError(_in_use(store, owner_of(store)))
    except BaseException:
        made.unlink(missing_ok=True)
        os.close(lease.descriptor)
        raise
    return lease


def _wait_until_gone(path: Path, store: Path) -> _Found | None:
    """The last sign of an owner that is gone, None of one that has released its lease.

    Raises OutputInUseError at the first sign of life.
    """
    first = _read(path)
    until = time.monotonic() + PATIENCE_SECONDS
    if first is None or (first.owner is not None and first.owner.is_dead()):
        return first
    if first.owner is not None and first.owner.machine == this_machine():
        raise OutputInUseError(_in_use(store, first.owner))
    _log.warning(
        "%s may be driven by %s: looking for up to %.0f s whether it lives",
        store, first.owner, PATIENCE_SECONDS,
    )  # fmt: skip
    while time.monotonic() < until:
        time.sleep(LOOK_SECONDS)
        found = _read(path)
        if found is None:
            return None
        if found != first:
            raise OutputInUseError(_in_use(store, found.owner))
    _log.warning("%s is taken over from %s, which is gone", store, first.owner)
    return first


def _in_use(store: Path, owner: Owner | None) -> str:
    return (
        f"{store} is being written by another driver ({owner or 'it is just starting'}): wait until"
        " it has ended, or stop it; then the same command goes on"
    )


# ---- the file --------------------------------------------------------------------------------


def _beat(lease: Lease, ended: threading.Event) -> None:
    count = 0
    while not ended.wait(HEARTBEAT_SECONDS):
        count += 1
        try:
            _write(lease, count)
        except OSError as error:  # a full or failing disk: the run itself will tell
            _log.info("%s: no heartbeat, %s", lease.store, error)


def _write(lease: Lease, beat: int) -> None:
    """Write through the descriptor: what was put under the same name since is not touched."""
    text = json.dumps({"beat": beat, "owner": vars(lease.owner)})
    os.pwrite(lease.descriptor, text.ljust(RECORD_BYTES - 1).encode() + b"\n", 0)


def _read(path: Path) -> _Found | None:
    """A fresh look, None where there is no lease. Opening also asks a file server anew."""
    try:
        with path.open("rb") as file:
            content, changed_ns = file.read(), os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None
    try:
        parsed: dict[str, Any] = json.loads(content)
        owner = Owner(**parsed["owner"])
    except (ValueError, KeyError, TypeError):
        return _Found(None, content, changed_ns)
    return _Found(owner, content, changed_ns)


def _myself() -> Owner:
    pid = os.getpid()
    since = time.strftime("%Y-%m-%d %H:%M:%S %z")
    return Owner(
        uuid.uuid4().hex, socket.gethostname(), this_machine(), pid, _start_of(pid) or "", since
    )


def _start_of(pid: int) -> str | None:
    """When a process began, as this machine counts; None where it has ended, "" if unknown."""
    try:
        # after the name, which may hold anything: the state is field 3, the start field 22
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # no /proc, or one that hides the processes of others
        return "" if _exists(pid) else None
    return None if fields[0] in "ZX" else fields[19]


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        pass
    return True
