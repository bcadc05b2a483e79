"""Which blocks are done: the only truth for it, as a shard on the disk may be an older run's.

Each process appends to a log of its own, one line a block, so that thousands of blocks stay a few
files and writers need no lock; `compact` merges the logs into one file of such lines. A line that
is lost costs the work of one block again and no more, so readers may skip what they can't parse; a
line that is there promises that its shards are on the disk.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import socket
import stat
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tomodask.errors import FormatError
from tomodask.garbage import collector_paused
from tomodask.ledgerlines import (
    HEADER,
    Entry,
    check_version,
    encode,
    encode_merged,
    entry_of_version_1,
    read_lines,
)
from tomodask.shards import ShardEntry, checksum, swap_in, sync_folder

MERGED = "done.json"
LOG_PATTERN = "writer-*.jsonl"
CLOSED_SUFFIX = ".closed"  # a log that `compact` has taken from its writer
PROBED_FILES = 64  # whose sizes are asked for one by one, to learn how long it takes
SLOW_SECONDS = 2e-4  # for a file's size: a disk in the machine takes a hundredth, a server more
ASKING_THREADS = 32
TOLD_BLOCKS = 5  # whose shards are missing, by name; of more the number alone

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ledger:
    """The finished blocks of one run into one store; `path` is the folder that lists them."""

    path: Path

    @classmethod
    def of(cls, store_path: Path, store_uuid: str, run_hash: str) -> Ledger:
        """The ledger beside a store: another store, or another recipe, has another folder."""
        for name in (store_uuid, run_hash):
            if not re.fullmatch(r"[\w-]+", name):
                raise FormatError(f"{store_path}: {name!r} is neither a store's uuid nor a hash")
        return cls(ledgers_of(store_path) / store_uuid / run_hash)

    @property
    def store_uuid(self) -> str:
        """Of the store whose blocks are listed: one made anew at its path has another."""
        return self.path.parent.name

    def record(
        self, block_id: str, entries: Iterable[ShardEntry], report: Mapping[str, Any] | None = None
    ) -> None:
        """Note that a block is done; on return the note is on the disk. Its shards must be already.

        Recording a block twice is harmless. `report` must be JSON, NumPy scalars are converted.
        """
        line = encode(Entry(block_id, tuple(entries), dict(report or {}), time.time()))
        with _LOGS.lock:
            # compact() renames a log before it reads it: what comes later goes into a new one
            while not _LOGS.append(self.path, line):
                pass

    def done(self) -> dict[str, Entry]:
        """Every finished block by its id.

        Raises
        ------
        FormatError : written by a newer tomodask.
        """
        entries: dict[str, Entry] = {}
        with collector_paused():
            for log in self._logs():
                entries |= _read_log(log)
            # last, since compact() writes it before it removes the logs that are in it
            return _read_merged(self.path / MERGED) | entries

    def intact(self, store_path: Path) -> dict[str, Entry]:
        """The finished blocks whose shards lie in the store in their full size; no data is read."""
        with collector_paused():
            return self._intact(store_path)

    def _intact(self, store_path: Path) -> dict[str, Entry]:
        done = self.done()
        owned = [(name, shard) for name, entry in done.items() for shard in entry.shards]
        sizes = _sizes([os.path.join(store_path, shard.key) for _, shard in owned])
        bad = {
            name: shard
            for (name, shard), size in zip(owned, sizes, strict=True)
            if size != shard.size
        }
        for name in list(bad)[:TOLD_BLOCKS]:
            key = bad[name].key
            _logger.warning("%s: %s is missing or torn, %s is made again", store_path, key, name)
        if len(bad) > TOLD_BLOCKS:
            more = len(bad) - TOLD_BLOCKS
            _logger.warning("%s: so are shards of %d more blocks", store_path, more)
        return {name: entry for name, entry in done.items() if name not in bad}

    def compact(self) -> None:
        """Merge the logs into one file. Safe while others record, or compact, at the same time."""
        if not self.path.is_dir():
            return
        with _try_lock(self.path / "compact.lock") as locked:
            if locked:
                self._merge()

    def revoke(self, block_ids: Collection[str]) -> None:
        """Take blocks out, so that they are done again; on return that is on the disk.

        Only for who holds the store's lease: it goes on where the file system has no locks.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with _try_lock(self.path / "compact.lock"):
            self._merge(without=block_ids)

    def _merge(self, without: Collection[str] = ()) -> None:
        _LOGS.close(self.path)
        closed = [_take_from_writer(log) for log in self._logs()]
        with collector_paused():
            entries = {name: entry for name, entry in self.done().items() if name not in without}
            swap_in(self.path / MERGED, encode_merged(entries))
        sync_folder(self.path)
        for log in closed:
            log.unlink(missing_ok=True)
        sync_folder(self.path)  # a log that came back would bring what was taken out

    def verify(self, entry: Entry, store_path: Path, *, checksums: bool = True) -> list[ShardEntry]:
        """The shards of a block that are missing or changed: none is good.

        Without `checksums` only sizes are compared, which reads no data.
        """
        return [shard for shard in entry.shards if not _is_intact(shard, store_path, checksums)]

    def _logs(self) -> list[Path]:
        if not self.path.is_dir():
            return []
        found = [*self.path.glob(LOG_PATTERN), *self.path.glob(LOG_PATTERN + CLOSED_SUFFIX)]
        return sorted(found)


def ledgers_of(store_path: Path) -> Path:
    """The folder beside a store that holds the ledgers of every run into it."""
    store_path = Path(store_path)
    return store_path.with_name(f"{store_path.name}.ledger")


def remove_ledgers(store_path: Path) -> list[Path]:
    """Remove every ledger of a store; return the files beside them that are not ours."""
    return remove_known(ledgers_of(store_path), _is_ledger_file)


def remove_known(folder: Path, is_known: Callable[[Path], bool]) -> list[Path]:
    """Remove files that `is_known` accepts, then empty folders; return the files that stay.

    Links to folders below are not followed, and count as files that stay.
    """
    kept: list[Path] = []
    for parent, folders, files in os.walk(folder, topdown=False):
        here = Path(parent)
        kept += [here / name for name in folders if (here / name).is_symlink()]
        for name in files:
            if is_known(here / name):
                (here / name).unlink(missing_ok=True)
            else:
                kept.append(here / name)
        if not any(here.iterdir()) and not here.is_symlink():
            here.rmdir()
    return sorted(kept)


@dataclass
class _OpenLogs:
    """The logs that this process appends to, by the folder of their ledger."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    logs: dict[Path, tuple[Path, int]] = field(default_factory=dict)

    def append(self, folder: Path, line: bytes) -> bool:
        """Append durably; False if the log was taken away meanwhile: then it must be repeated."""
        if folder not in self.logs:
            self.logs[folder] = _create_log(folder)
        log, descriptor = self.logs[folder]
        try:
            _write_all(descriptor, line)
            os.fsync(descriptor)
        except BaseException:
            self.close(folder)  # half a line may be there: the next one must not follow it
            raise
        if log.exists():
            return True
        self.close(folder)
        return False

    def close(self, folder: Path) -> None:
        _, descriptor = self.logs.pop(folder, (None, None))
        if descriptor is not None:
            os.close(descriptor)

    def reset(self) -> None:
        """A forked child starts anew: the logs are its parent's, and the lock may be held there."""
        self.lock = threading.Lock()
        self.logs = {}


_LOGS = _OpenLogs()
os.register_at_fork(after_in_child=_LOGS.reset)


def _create_log(folder: Path) -> tuple[Path, int]:
    folder.mkdir(parents=True, exist_ok=True)
    host = re.sub(r"[^\w.-]", "_", socket.gethostname())
    log = folder / f"writer-{host}-{os.getpid()}-{uuid.uuid4().hex[:12]}.jsonl"
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o666)
    _write_all(descriptor, HEADER)
    for created in (folder, *folder.parents[:3]):  # <store>.ledger/<uuid>/<hash> may all be new
        sync_folder(created)
    return log, descriptor


def _write_all(descriptor: int, content: bytes) -> None:
    remaining = memoryview(content)
    while remaining:
        remaining = remaining[os.write(descriptor, remaining) :]


def _take_from_writer(log: Path) -> Path:
    closed = log if log.name.endswith(CLOSED_SUFFIX) else log.with_name(log.name + CLOSED_SUFFIX)
    return log.replace(closed)


@contextmanager
def _try_lock(path: Path) -> Iterator[bool]:
    """Hold an advisory lock; False while another process holds it."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:  # also where the file system has no locks: then nothing is merged
            _logger.info("%s: not compacted, %s", path.parent, error)
            yield False
        else:
            yield True


def _read_log(log: Path) -> dict[str, Entry]:
    return read_lines(log, _read_taken(log))


def _read_taken(log: Path) -> bytes:
    """A log's bytes, also if compact() renames it now; none if its lines are merged already."""
    for name in (log.name, log.name + CLOSED_SUFFIX):
        try:
            return log.with_name(name).read_bytes()
        except FileNotFoundError:
            continue
    return b""


def _read_merged(path: Path) -> dict[str, Entry]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    header = check_version(path, content.partition(b"\n")[0])
    if "blocks" in header:  # of format version 1
        return {name: entry_of_version_1(name, block) for name, block in header["blocks"].items()}
    return read_lines(path, content)


def _is_intact(shard: ShardEntry, store_path: Path, checksums: bool) -> bool:
    file = Path(store_path) / shard.key
    if _size(str(file)) != shard.size:
        return False
    return not checksums or checksum(file) == shard.crc32c


def _sizes(paths: Sequence[str]) -> list[int]:
    """Bytes of each file, as `_size`; many at once where one takes long, as from a file server."""
    began = time.perf_counter()
    sizes = [_size(path) for path in paths[:PROBED_FILES]]
    is_slow = time.perf_counter() - began > SLOW_SECONDS * PROBED_FILES
    runs = range(PROBED_FILES, len(paths), PROBED_FILES)

    def ask(start: int) -> list[int]:
        return [_size(path) for path in paths[start : start + PROBED_FILES]]

    with ThreadPoolExecutor(ASKING_THREADS) as pool:
        for found in pool.map(ask, runs) if is_slow else map(ask, runs):
            sizes += found
    return sizes


def _size(path: str) -> int:
    """Bytes of a file, -1 where there is none: os.stat, as pathlib takes three times as long."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return -1
    return found.st_size if stat.S_ISREG(found.st_mode) else -1


def _is_ledger_file(path: Path) -> bool:
    return (
        path.match(LOG_PATTERN)
        or path.match(LOG_PATTERN + CLOSED_SUFFIX)
        or path.name in (MERGED, "compact.lock")
        or path.match(f"{MERGED}.*.partial")
    )
