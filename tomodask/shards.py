"""Writing whole shards of a Zarr array: each by one rename, durable, none read or erased first.

Zarr reads a shard before it writes into it, even where all of it is replaced, so that a shard torn
by a crash could never be written again (zarr 3.1.6; later ones still so at an array's ragged edge).
`OwnedShardStore` hides the shards that a task owns from the encoder instead of erasing them: a task
given up for dead, which still runs, would otherwise erase what its successor has finished.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Self

import google_crc32c
import numpy as np
import zarr
from zarr.abc.store import ByteRequest
from zarr.core.array_spec import ArrayConfigParams
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.core.metadata import ArrayV3Metadata
from zarr.storage import LocalStore, StorePath

from tomodask.directfile import DirectFile
from tomodask.errors import ChunkLayoutError, FormatError, InputError
from tomodask.shardcodec import ShardLayout

# one shard is encoded while the other is synced; Zarr takes twice a shard's bytes beside the data
SHARDS_IN_FLIGHT = 2
# what zarr's own LocalStore, too, appends to a file that is not yet swapped in
PARTIAL_SUFFIX = ".partial"
PARTIAL_NAME = re.compile(rf"\.[0-9a-f]{{32}}{re.escape(PARTIAL_SUFFIX)}$")


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """A shard as it was written: `key` below its array's folder, `size` in bytes and checksum."""

    key: str
    size: int
    crc32c: int

    def below(self, folder: str) -> ShardEntry:
        """The same shard with its key counted from the folder above `folder`."""
        return replace(self, key=f"{folder}/{self.key}")


class OwnedShardStore(LocalStore):
    """The folder of one array, as it looks to the task that owns the shards `owned`.

    Owned shards read as missing, so that each is encoded whole. They alone can be written, and
    nothing can be deleted. `written` holds what was swapped in.
    """

    def __init__(
        self, root: Path | str, owned: Iterable[str] = (), *, read_only: bool = False
    ) -> None:
        super().__init__(root, read_only=read_only)
        self.owned = frozenset(owned)
        self.written: dict[str, ShardEntry] = {}

    def with_read_only(self, read_only: bool = False) -> Self:
        return type(self)(self.root, self.owned, read_only=read_only)

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        return None if key in self.owned else await super().get(key, prototype, byte_range)

    def get_sync(
        self,
        key: str,
        *,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        if key in self.owned:
            return None
        return super().get_sync(key, prototype=prototype, byte_range=byte_range)

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    async def exists(self, key: str) -> bool:
        return key not in self.owned and await super().exists(key)

    async def set(self, key: str, value: Buffer) -> None:
        await asyncio.to_thread(self.set_sync, key, value)

    def set_sync(self, key: str, value: Buffer) -> None:
        if key not in self.owned:
            raise ChunkLayoutError(f"{self.root}: {key} is not among the shards being written")
        self.swap_in(key, [value.as_numpy_array()])

    def swap_in(self, key: str, pieces: Iterable[np.ndarray], past_cache: bool = False) -> None:
        """Give an owned shard its content, the pieces one after the other."""
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        size = crc32c = 0

        def counted() -> Iterator[np.ndarray]:
            nonlocal size, crc32c
            for piece in pieces:
                size += piece.nbytes
                crc32c = google_crc32c.extend(crc32c, piece)  # while it is in the processor's cache
                yield piece

        swap_in(path, counted(), past_cache)
        self.written[key] = ShardEntry(key, size, int(crc32c))

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        await self.set(key, value)

    async def delete(self, key: str) -> None:
        self.delete_sync(key)

    def delete_sync(self, key: str) -> None:
        raise ChunkLayoutError(f"{self.root}: refused to delete {key}, shards are only replaced")

    async def delete_dir(self, prefix: str) -> None:
        self.delete_sync(prefix)

    async def clear(self) -> None:
        self.delete_sync("")


def write_shards(
    array_path: Path, region: tuple[slice, ...], data: np.ndarray, past_cache: bool = False
) -> list[ShardEntry]:
    """Write `data` into `region` of an array; when this returns, the shards are on the disk.

    Writing a region twice gives the same bytes, whatever was there before, and a reader sees each
    shard old or new, never half. Arrays without sharding are written chunk by chunk.

    Parameters
    ----------
    array_path : folder of a Zarr array.
    region : a slice for each axis, made of whole shards, or ending at the array's edge.
    data : of the region's shape and the array's type.
    past_cache : leave the page cache out, for what is not read again soon.

    Raises
    ------
    ChunkLayoutError : the region cuts a shard, that another task may be writing.
    InputError : shape or type of `data` don't fit.
    FormatError : not Zarr v3.
    """
    array_path = Path(array_path)
    layout = zarr.open_array(store=LocalStore(array_path, read_only=True), mode="r")
    if not isinstance(layout.metadata, ArrayV3Metadata):
        raise FormatError(f"{array_path}: tomodask writes Zarr v3, this is an array of version 2")
    shard_shape = layout.shards or layout.chunks
    region = _check_region(array_path, layout.shape, shard_shape, region)
    _check_data(array_path, layout.dtype, region, data)
    shards = _shards_in(region, shard_shape)
    store = OwnedShardStore(array_path, (layout.metadata.encode_chunk_key(i) for i in shards))
    # a missing file must mean "not written": a shard of fill values alone is a file too.
    # Built from its parts, because open_array(config=...) ignores the setting of an existing array
    config: ArrayConfigParams = {"write_empty_chunks": True}
    array = zarr.Array(zarr.AsyncArray(layout.metadata, StorePath(store), config))

    plain = ShardLayout.of(layout)

    def write_one(shard: tuple[tuple[int, ...], tuple[slice, ...]]) -> None:
        index, span = shard
        part = data[_relative(span, region)]
        if plain is None or plain.is_compressed:
            array[span] = part
        else:
            key = layout.metadata.encode_chunk_key(index)
            store.swap_in(key, plain.encode(part), past_cache)

    with ThreadPoolExecutor(SHARDS_IN_FLIGHT) as pool:
        list(pool.map(write_one, shards.items()))
    _sync_folders(array_path, store.owned)
    return [store.written[layout.metadata.encode_chunk_key(index)] for index in shards]


def checksum(path: Path) -> int:
    """CRC-32C of a file, read in pieces of 16 MiB."""
    crc = 0
    with path.open("rb") as file:
        while piece := file.read(1 << 24):
            crc = google_crc32c.extend(crc, piece)
    return int(crc)


def swap_in(path: Path, content: bytes | Iterable[np.ndarray], past_cache: bool = False) -> None:
    """Give a file new content by one rename: after a crash it is the old or the new one, whole.

    content : all of it, or its pieces one after the other.

    The name is durable once `sync_folder` was called for the folder.
    """
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}{PARTIAL_SUFFIX}")
    try:
        with DirectFile(partial, past_cache) as file:
            for piece in [content] if isinstance(content, bytes) else content:
                file.write(piece)
        # DirectFile has synced it: a crash after the rename would else leave an empty file
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def partials_of(store: Path | str) -> list[Path]:
    """What writers of a store left behind, if they are dead: files in it, and folders beside it."""
    store = Path(store)
    found = [file for file in store.rglob(f"*{PARTIAL_SUFFIX}") if PARTIAL_NAME.search(file.name)]
    place = store.resolve()
    for folder in place.parent.iterdir():  # a store that was being made
        name = folder.name.removeprefix(place.name)
        if name != folder.name and PARTIAL_NAME.fullmatch(name):
            found.append(folder)
    return sorted(found)


def remove_partials(store: Path | str) -> list[Path]:
    """Remove what killed writers left behind; return it. Only while nobody writes there."""
    found = partials_of(store)
    for path in found:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return found


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: a file's own fsync does not cover its name."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folders(array_path: Path, keys: Iterable[str]) -> None:
    folders = {array_path}
    for key in keys:
        parent = (array_path / key).parent
        while parent not in folders:
            folders.add(parent)
            parent = parent.parent
    for folder in folders:
        sync_folder(folder)


def _check_region(
    path: Path, shape: tuple[int, ...], shard_shape: tuple[int, ...], region: tuple[slice, ...]
) -> tuple[slice, ...]:
    if len(region) != len(shape):
        raise InputError(f"{path}: a region of {len(region)} axes for an array of {len(shape)}")
    resolved = []
    for axis, (wanted, length, shard) in enumerate(zip(region, shape, shard_shape, strict=True)):
        start, stop, step = wanted.indices(length)
        given_stop = length if wanted.stop is None else wanted.stop
        if step != 1 or not 0 <= start < stop or given_stop > length:
            raise InputError(f"{path}: {wanted} on axis {axis} of length {length}")
        if start % shard or (stop % shard and stop != length):
            raise ChunkLayoutError(
                f"{path}: {start}:{stop} on axis {axis} cuts a shard, they are {shard} long: start "
                f"at a multiple of {shard} and stop at one or at the array's edge, {length}"
            )
        resolved.append(slice(start, stop))
    return tuple(resolved)


def _check_data(path: Path, dtype: np.dtype, region: tuple[slice, ...], data: np.ndarray) -> None:
    shape = tuple(axis.stop - axis.start for axis in region)
    if data.shape != shape:
        raise InputError(f"{path}: data of shape {data.shape} for a region of shape {shape}")
    if not np.can_cast(data.dtype, dtype, casting="equiv"):
        raise InputError(f"{path}: data of type {data.dtype} for an array of {dtype}: convert it")


def _shards_in(
    region: tuple[slice, ...], shard_shape: tuple[int, ...]
) -> dict[tuple[int, ...], tuple[slice, ...]]:
    """Index of each shard in the grid -> the part of the array that it holds."""
    spans = [
        range(axis.start // shard, -(-axis.stop // shard))
        for axis, shard in zip(region, shard_shape, strict=True)
    ]
    return {
        index: tuple(
            slice(i * shard, min((i + 1) * shard, axis.stop))
            for i, shard, axis in zip(index, shard_shape, region, strict=True)
        )
        for index in product(*spans)
    }


def _relative(part: tuple[slice, ...], whole: tuple[slice, ...]) -> tuple[slice, ...]:
    return tuple(
        slice(inner.start - outer.start, inner.stop - outer.start)
        for inner, outer in zip(part, whole, strict=True)
    )
