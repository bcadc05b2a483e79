"""A store in the hands of one driver: its lease, no leftovers, one error where a disk is full."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

from tomodask.elements import live_elements
from tomodask.errors import (
    DiskFullError,
    InputError,
    OutputExistsError,
    OutputInUseError,
    TomodaskError,
    is_disk_full,
)
from tomodask.inventory import take_inventory
from tomodask.lease import Lease, held
from tomodask.ledger import Ledger
from tomodask.shards import remove_partials

log = logging.getLogger(__name__)


@contextlib.contextmanager
def custody(store: Path) -> Iterator[Lease]:
    """The lease of a store; what killed writers left in it is removed before and after.

    Raises
    ------
    OutputInUseError : another driver has it.
    DiskFullError : whatever raised for want of space within the `with` block.
    """
    with told_if_full(store), held(store) as lease:
        _remove_leftovers(store)
        try:
            yield lease
        finally:
            if lease.is_held():
                _remove_leftovers(store)


def _remove_leftovers(store: Path) -> None:
    """What an element of a job array is writing looks the same: none while one is at work."""
    if not live_elements(store):
        remove_partials(store)


@contextlib.contextmanager
def told_if_full(store: Path) -> Iterator[None]:
    """Whatever raises for want of space within the `with` block becomes a DiskFullError."""
    try:
        yield
    except OSError as error:
        if isinstance(error, TomodaskError) or not is_disk_full(error):
            raise
        raise DiskFullError(_full_text(store, error)) from error


def refuse_foreign(path: Path) -> None:
    """Nothing that tomodask didn't make is written into or removed."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise OutputExistsError(f"{path} is not a store of tomodask: choose another path")
    if not path.resolve().parent.is_dir():
        raise InputError(f"there is no folder {path.resolve().parent} to make {path.name} in")


def refuse_replaced(path: Path, uuid: str, ledger: Ledger) -> None:
    """A task that outlives its run must not write into what was made at the path since."""
    if uuid != ledger.store_uuid:
        raise OutputInUseError(f"{path} was replaced since this task was sent: it writes nothing")


def tell_what_stays(path: Path, files: list[Path]) -> None:
    """Name the files that were left when a store was removed."""
    if files:
        names = ", ".join(str(file) for file in files[:5])
        log.warning("left in %s, as tomodask did not make them: %s", path, names)


def _full_text(store: Path, error: OSError) -> str:
    parent = store.resolve().parent
    room = f"{shutil.disk_usage(parent).free / 1e9:.3g} GB are free in {parent}"
    try:
        need = f"up to {take_inventory(store).missing_bytes() / 1e9:.3g} GB are still to be written"
    except TomodaskError:  # not even its metadata had room
        need = "it is not begun yet"
    return (
        f"no space is left for {store} ({error.strerror}): {room}, {need}. Make space and give the "
        "same command again: it goes on where it stopped"
    )
