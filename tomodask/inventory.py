"""What should lie in a store: its blocks of the smallest size, and the shards of each."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import zarr

from tomodask.blocks import block_id_of
from tomodask.errors import FormatError, MissingInputError
from tomodask.ingest.layout import Layout, task_id
from tomodask.ledger import Ledger
from tomodask.scan import scan_metadata
from tomodask.volumestore import Volume, volume_metadata


@dataclass(frozen=True)
class Shard:
    """A file of an array: `key` from the store, the part of the array that it holds, its bytes.

    num_bytes : uncompressed.
    """

    key: str
    array: str
    region: tuple[slice, ...]
    num_bytes: int


@dataclass(frozen=True)
class Unit:
    """The least that one task writes, under the id that its block has in the ledger."""

    block_id: str
    shards: tuple[Shard, ...]


@dataclass(frozen=True)
class Inventory:
    """A store of tomodask and all that belongs in it.

    units : all that tasks write.
    others : flats and darks, which the driver wrote when it made the store.
    """

    path: Path
    kind: Literal["scan", "volume"]
    metadata: Mapping[str, Any]
    ledger: Ledger
    units: tuple[Unit, ...]
    others: tuple[Shard, ...]

    @property
    def is_complete(self) -> bool:
        """Whether a run has said that every block is written."""
        return bool(self.metadata["complete"])

    def missing_bytes(self) -> int:
        """Uncompressed size of the shards that are not there."""
        shards = (shard for unit in self.units for shard in unit.shards)
        return sum(shard.num_bytes for shard in shards if not (self.path / shard.key).exists())


def take_inventory(path: Path | str) -> Inventory:
    """What should be in a scan store or volume, from its metadata alone.

    Raises
    ------
    MissingInputError : nothing is there.
    FormatError : it is no store of tomodask, or an array's metadata is damaged.
    """
    path = Path(path)
    if not path.exists():
        raise MissingInputError(f"{path} does not exist: give a scan store or a volume of tomodask")
    metadata = volume_metadata(path)
    if metadata is not None:
        return _of_volume(path, metadata)
    metadata = scan_metadata(path)
    if metadata is None:
        raise FormatError(f"{path} is no scan store or volume that tomodask made")
    return _of_scan(path, metadata)


def scan_ledger(path: Path, store_uuid: str, input_digest: str) -> Ledger:
    """The ledger of a scan store."""
    return Ledger.of(path, store_uuid, input_digest[:16])


def volume_ledger(path: Path, metadata: Mapping[str, Any]) -> Ledger:
    """The ledger of a volume, from its `volume_metadata`."""
    return Ledger.of(path, metadata["uuid"], metadata.get("recipe_hash") or "none")


def scan_tasks(path: Path, metadata: Mapping[str, Any]) -> list[str]:
    """Names of the tasks that fill a scan store, from its `scan_metadata`."""
    layout = Layout.from_metadata(metadata)
    num_frames, num_rows, _ = _open(path, "projections").shape
    return [
        task_id(
            (first, min(first + layout.task_frames, num_frames)),
            (top, min(top + layout.task_rows, num_rows)),
        )
        for first in range(0, num_frames, layout.task_frames)
        for top in range(0, num_rows, layout.task_rows)
    ]


def _of_volume(path: Path, metadata: Mapping[str, Any]) -> Inventory:
    spec = Volume.open(path).spec
    by_row: dict[int, list[Shard]] = {}
    for level in range(spec.num_levels):
        for index, shard in _shards(path, str(level)):
            by_row.setdefault(index[2], []).append(shard)
    rows, height = spec.chunk_rows, spec.shape[0]
    units = tuple(
        Unit(block_id_of(row * rows, min(height, (row + 1) * rows)), tuple(shards))
        for row, shards in sorted(by_row.items())
    )
    return Inventory(path, "volume", metadata, volume_ledger(path, metadata), units, ())


def _of_scan(path: Path, metadata: Mapping[str, Any]) -> Inventory:
    layout = Layout.from_metadata(metadata)
    by_task: dict[str, list[Shard]] = {}
    num_frames, num_rows, _ = _open(path, "projections").shape
    for _, shard in _shards(path, "projections"):
        frames, rows, _ = shard.region
        first = frames.start // layout.task_frames * layout.task_frames
        top = rows.start // layout.task_rows * layout.task_rows
        last, bottom = first + layout.task_frames, top + layout.task_rows
        name = task_id((first, min(last, num_frames)), (top, min(bottom, num_rows)))
        by_task.setdefault(name, []).append(shard)
    units = tuple(Unit(name, tuple(shards)) for name, shards in by_task.items())
    images = [name for name in ("flats", "darks") if (path / name).exists()]
    others = tuple(shard for name in images for _, shard in _shards(path, name))
    ledger = scan_ledger(path, metadata["uuid"], metadata["input_digest"])
    return Inventory(path, "scan", metadata, ledger, units, others)


def _shards(path: Path, name: str) -> Iterator[tuple[tuple[int, ...], Shard]]:
    """Every shard of an array with its index in the grid."""
    array = _open(path, name)
    lengths = array.shards or array.chunks
    grid = [range(math.ceil(n / length)) for n, length in zip(array.shape, lengths, strict=True)]
    for index in itertools.product(*grid):
        region = tuple(
            slice(i * length, min((i + 1) * length, n))
            for i, length, n in zip(index, lengths, array.shape, strict=True)
        )
        key = f"{name}/{array.metadata.encode_chunk_key(index)}"
        yield index, Shard(key, name, region, math.prod(lengths) * array.dtype.itemsize)


def _open(path: Path, name: str) -> zarr.Array[Any]:
    try:
        return zarr.open_array(path / name, mode="r")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FormatError(
            f"{path / name}: the array's zarr.json is missing or damaged ({error}): make the store "
            "again with --overwrite"
        ) from error
