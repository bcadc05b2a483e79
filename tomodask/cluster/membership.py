"""Workers that join a run: the same versions as the driver, and a place to keep their files.

Blocks are sent as Python objects, and their bytes come from NumPy, numba and ours: another version
may fail in strange ways, or write other bytes without failing at all.
"""

from __future__ import annotations

import importlib.metadata
import logging
import platform
import socket
import weakref
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from functools import cache
from typing import Any

import psutil
from distributed import Client

from tomodask.cluster.connection import scheduler_needed
from tomodask.errors import VersionMismatchError

log = logging.getLogger(__name__)

PACKAGES = ("tomodask", "dask", "distributed", "numpy", "scipy", "numba", "zarr")
LEAST_FREE_BYTES = 2**30  # for what Dask and numba keep in a worker's local directory
NETWORK = ("nfs", "lustre", "gpfs", "cifs", "smb", "beegfs", "ceph", "fuse.sshfs", "9p", "afs")


def installed(packages: Iterable[str]) -> dict[str, str]:
    """Versions of packages; those not installed are absent."""
    found = {}
    for name in packages:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


@cache
def versions_here() -> dict[str, str]:
    """Python and the packages that must be the same on both sides."""
    python = {"python": ".".join(platform.python_version_tuple()[:2])}
    return python | dict.fromkeys(PACKAGES, "none") | installed(PACKAGES)


def about_worker(dask_worker: Any = None) -> dict[str, Any]:
    """What a worker tells of itself: host, versions, its local directory."""
    place = str(getattr(dask_worker, "local_directory", "") or "/")
    try:
        free = psutil.disk_usage(place).free
    except OSError:
        free = None
    return {
        "host": socket.gethostname(),
        "versions": versions_here(),
        "local_directory": place,
        "free_bytes": free,
        "file_system": file_system_of(place),
    }


def file_system_of(path: str) -> str:
    """Type of the file system that a path lies on; "" where it isn't known."""
    best, kind = "", ""
    try:
        mounts = psutil.disk_partitions(all=True)
    except OSError:
        return ""
    for mount in mounts:
        point = mount.mountpoint.rstrip("/") + "/"
        if (path.rstrip("/") + "/").startswith(point) and len(point) > len(best):
            best, kind = point, mount.fstype
    return kind


def members_of(client: Client) -> Members:
    """The workers of a client's cluster: a run of many stages asks each of them once."""
    if client not in _MEMBERS:
        _MEMBERS[client] = Members(client)
    return _MEMBERS[client]


class Members:
    """The workers that have been asked; each host is warned of once."""

    def __init__(self, client: Client) -> None:
        self._client = weakref.proxy(client)  # it is the key of what is known of its workers
        self._known: set[str] = set()
        self._warned: set[tuple[str, str]] = set()

    def admit(self, addresses: Collection[str]) -> None:
        """Ask those that are new.

        Raises
        ------
        VersionMismatchError : a worker has another version, or lacks a package.
        """
        self._known &= {*addresses}  # one that comes back is asked again
        new = [address for address in addresses if address not in self._known]
        if not new:
            return
        with scheduler_needed(self._client):
            answers = self._client.run(about_worker, workers=new, on_error="return")
        for address, answer in answers.items():
            if isinstance(answer, ModuleNotFoundError | ImportError | AttributeError):
                raise VersionMismatchError(
                    f"the worker at {address} can't import this tomodask ({answer}): start workers "
                    "from the same environment as the driver"
                )
            if isinstance(answer, BaseException):
                continue  # it left while it was asked; if it stays it is asked again
            self._check(address, answer)
            self._known.add(address)

    def _check(self, address: str, answer: Mapping[str, Any]) -> None:
        here, there = versions_here(), answer["versions"]
        differing = [
            f"{name} {there.get(name, 'none')} there, {version} here"
            for name, version in here.items()
            if there.get(name) != version
        ]
        if differing:
            raise VersionMismatchError(
                f"the worker at {address} on {answer['host']} runs other versions than this driver "
                f"({'; '.join(differing)}): start it from the same environment"
            )
        self._warn_of_place(answer)

    def _warn_of_place(self, answer: Mapping[str, Any]) -> None:
        place, free = answer["local_directory"], answer["free_bytes"]
        key = (answer["host"], place.rpartition("/")[0])
        if key in self._warned:
            return
        self._warned.add(key)
        if free is not None and free < LEAST_FREE_BYTES:
            log.warning(
                "workers on %s keep files in %s, where %.2g GB are free: give them another local "
                "directory (cluster.jobqueue.local_directory, or `--local-directory`)",
                answer["host"], place, free / 1e9,
            )  # fmt: skip
        if answer["file_system"].startswith(NETWORK):
            log.warning(
                "workers on %s keep files in %s, which is on a network file system (%s): a disk of "
                "the node is faster (cluster.jobqueue.local_directory=/tmp)",
                answer["host"], place, answer["file_system"],
            )  # fmt: skip


_MEMBERS: weakref.WeakKeyDictionary[Client, Members] = weakref.WeakKeyDictionary()
