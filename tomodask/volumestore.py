"""The reconstructed volume: OME-Zarr 0.5, a pyramid of sharded Zarr v3 arrays (t, c, z, y, x).

A task owns a run of whole chunk rows on every level: level n has shards of `chunk_rows >> n` rows,
so the task that has a slab in memory writes its part of the whole pyramid, and no second pass over
the volume is needed. Level n+1 is the mean of 2 x 2 x 2 voxels of level n; NaN is a voxel that is
missing, and the mean is of those that are not.

Voxel i of level n lies at origin + s (2^n i + (2^n - 1) / 2), with s the size of a voxel of level 0
and the origin in the middle of its first one.
"""

from __future__ import annotations

import errno
import json
import math
import re
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from zarr.codecs import BloscCodec
from zarr.storage import LocalStore

from tomodask.directfile import BUFFER_BYTES
from tomodask.errors import FormatError, InputError, OutputExistsError
from tomodask.ledger import remove_known, remove_ledgers
from tomodask.pyramid import halve
from tomodask.shardcodec import index_bytes
from tomodask.shards import (
    PARTIAL_NAME,
    PARTIAL_SUFFIX,
    SHARDS_IN_FLIGHT,
    ShardEntry,
    remove_partials,
    swap_in,
    sync_folder,
    write_shards,
)

FORMAT_VERSION = 1
INNER = 128  # columns and rows of y in a chunk: a viewer fetches 2 MiB of 32 rows
SHARD = 1024  # at most, in y and x: 128 MiB of 32 rows, few files and little to encode at once
ENCODE_COPIES = 2  # Zarr lays a shard out chunk by chunk, then as one file
COARSEST = 256  # halved until no axis is longer: enough for a first look at all of it

COMPRESSORS = {
    "none": None,
    "lz4": BloscCodec(cname="lz4", clevel=5, shuffle="shuffle"),
    "zstd": BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle"),
}
_METADATA = "zarr.json"

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class VolumeSpec:
    """What a volume is to be like; everything (z, y, x).

    voxel_size_um : of level 0, None where unknown: positions are then in voxels.
    origin : position of the middle of the first voxel, in micrometres (voxels where unknown).
    chunk_rows : rows of a shard of level 0, the least that one task writes. Each factor of two in
        it allows one more level.
    levels : of the pyramid with level 0; None for as many as a look at the whole volume needs.
    """

    shape: Shape
    voxel_size_um: float | None = None
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    value_unit: str = "1/pixel"
    chunk_rows: int = 32
    compression: Literal["none", "lz4", "zstd"] = "none"
    levels: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(length) for length in self.shape))
        object.__setattr__(self, "origin", tuple(float(start) for start in self.origin))
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise InputError(f"a volume of shape {self.shape}: three lengths of at least 1 needed")
        if self.voxel_size_um is not None and not self.voxel_size_um > 0:
            raise InputError(f"voxel size {self.voxel_size_um} um: give a positive length, or none")
        if self.compression not in COMPRESSORS:
            raise InputError(f"compression {self.compression!r}: take one of {list(COMPRESSORS)}")
        if self.chunk_rows < 1:
            raise InputError(f"chunk_rows={self.chunk_rows}: give at least 1, best a power of two")
        if self.levels is not None and not 1 <= self.levels <= self._most_levels:
            raise InputError(
                f"{self.levels} levels with chunk_rows={self.chunk_rows}: from 1 to "
                f"{self._most_levels} can be, one more for each factor of two in chunk_rows"
            )

    @property
    def _most_levels(self) -> int:
        return (self.chunk_rows & -self.chunk_rows).bit_length()  # 1 + the factors of two

    @property
    def num_levels(self) -> int:
        """Levels of the pyramid, level 0 among them."""
        if self.levels is not None:
            return self.levels
        halvings = max(0, math.ceil(math.log2(max(self.shape) / COARSEST)))
        return min(self._most_levels, 1 + halvings)

    def level_shape(self, level: int) -> Shape:
        """(z, y, x) voxels: half of the level before, rounded up."""
        nz, ny, nx = (-(-length >> level) for length in self.shape)
        return nz, ny, nx

    def chunk_shape(self, level: int) -> Shape:
        """(z, y, x) of the inner chunks, of about equal size where an axis is not a multiple."""
        nz, ny, nx = self.level_shape(level)
        return min(self.chunk_rows >> level, nz), _even_part(ny, INNER), _even_part(nx, INNER)

    def shard_shape(self, level: int) -> Shape:
        """(z, y, x) of the shards: whole chunks, about equally many in each."""
        (_, ny, nx), (rows, cy, cx) = self.level_shape(level), self.chunk_shape(level)
        chunks_y, chunks_x = -(-ny // cy), -(-nx // cx)
        return rows, cy * _even_part(chunks_y, SHARD // cy), cx * _even_part(chunks_x, SHARD // cx)

    def scale(self, level: int) -> float:
        """Size of a voxel in micrometres, or in voxels of level 0 where that is unknown."""
        return (self.voxel_size_um or 1.0) * (1 << level)

    def translation(self, level: int) -> tuple[float, float, float]:
        """(z, y, x) position of the middle of the first voxel, in the unit of `scale`."""
        shift = (self.scale(level) - self.scale(0)) / 2
        z, y, x = (start + shift for start in self.origin)
        return z, y, x


@dataclass(frozen=True)
class Volume:
    """A volume on the disk; what it holds is read when it is asked for, so it pickles well."""

    path: Path
    spec: VolumeSpec
    metadata: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path | str) -> Volume:
        """Raises FormatError where no volume of tomodask is, or a newer version's."""
        metadata = volume_metadata(path)
        if metadata is None:
            raise FormatError(
                f"{path} is not a volume of tomodask: its {_METADATA} is missing or says otherwise"
            )
        try:
            spec = VolumeSpec(**metadata["layout"], value_unit=metadata["value_unit"])
        except (KeyError, TypeError) as error:
            raise FormatError(
                f"{path}: the layout in its {_METADATA} is damaged: {error}"
            ) from None
        return cls(Path(path), spec, metadata)

    @property
    def uuid(self) -> str:
        """Minted when the store was made: names its ledger."""
        return str(self.metadata["uuid"])

    @property
    def num_levels(self) -> int:
        return self.spec.num_levels

    def level_at_most(self, longest: int) -> int:
        """The finest level with no axis longer than `longest` voxels, else the coarsest."""
        for level in range(self.num_levels):
            if max(self.spec.level_shape(level)) <= longest:
                return level
        return self.num_levels - 1

    def write(self, z_start: int, slab: np.ndarray) -> list[ShardEntry]:
        """Write rows from `z_start` on into every level; on return they are on the disk.

        Parameters
        ----------
        z_start : a multiple of `chunk_rows`.
        slab : (rows, y, x) float32; rows a multiple of `chunk_rows`, or up to the last one.

        Raises
        ------
        ChunkLayoutError : the slab cuts a shard, that another task may be writing.
        InputError : shape or type don't fit.
        """
        if slab.ndim != 3:
            raise InputError(f"{self.path}: a slab has axes (z, y, x), got shape {slab.shape}")
        entries: list[ShardEntry] = []
        for level in range(self.num_levels):
            if level > 0:
                slab = halve(slab)
            first = z_start >> level
            _, ny, nx = self.spec.level_shape(level)
            rows = slice(first, first + len(slab))
            region = (slice(0, 1), slice(0, 1), rows, slice(0, ny), slice(0, nx))
            folder, values = self.path / str(level), slab[np.newaxis, np.newaxis]
            written = write_shards(folder, region, values, past_cache=True)
            entries += [entry.below(str(level)) for entry in written]
        return entries

    def read(
        self,
        level: int = 0,
        z: slice = slice(None),
        y: slice = slice(None),
        x: slice = slice(None),
    ) -> np.ndarray:
        """(z, y, x) float32 voxels of a level; NaN where nothing was written yet."""
        if not 0 <= level < self.num_levels:
            raise InputError(f"{self.path} has levels 0 to {self.num_levels - 1}, not {level}")
        store = LocalStore(self.path / str(level), read_only=True)
        return np.asarray(zarr.open_array(store=store, mode="r")[0, 0, z, y, x])

    def read_level(self, level: int) -> np.ndarray:
        """All of a level, (z, y, x) float32."""
        return self.read(level)

    def finish(self) -> Volume:
        """Say in the metadata that every block is written, and which grey values to show."""
        content = json.loads((self.path / _METADATA).read_bytes())
        attributes = content["attributes"]
        attributes["tomodask"]["complete"] = True
        middle = self.spec.level_shape(self.num_levels - 1)[0] // 2
        values = self.read(self.num_levels - 1, z=slice(middle, middle + 1))
        values = values[np.isfinite(values)]
        if values.size:
            attributes["ome"]["omero"] = _rendering(values, self.spec.value_unit)
        _write_metadata(self.path, content)
        return replace(self, metadata=attributes["tomodask"])


def create_volume(path: Path | str, spec: VolumeSpec, attributes: Mapping[str, Any]) -> Volume:
    """Make an empty volume; it appears with all its metadata, or not at all.

    Parameters
    ----------
    path : a new folder, or one that holds no Zarr.
    attributes : what makes the volume (recipe, recipe_hash, geometry, ...), kept as it is; JSON.

    Raises
    ------
    OutputExistsError : something of the same name is there.
    """
    path = Path(path)
    spec = replace(spec, levels=spec.num_levels)  # of this day: "enough" may change
    own = {
        "kind": "volume",
        "format_version": FORMAT_VERSION,
        "uuid": uuid.uuid4().hex,
        "value_unit": spec.value_unit,
        "complete": False,
        "layout": {name: value for name, value in asdict(spec).items() if name != "value_unit"},
    }
    group = {"tomodask": {**attributes, **own}, "ome": _multiscales(path.name, spec)}
    place = path.resolve()  # behind a link, so that the rename stays on one file system
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_name(f"{place.name}.{uuid.uuid4().hex}{PARTIAL_SUFFIX}")
    try:
        _create_arrays(partial, spec, group)
        _move_in(partial, place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Volume.open(path)


def volume_metadata(path: Path | str) -> dict[str, Any] | None:
    """What tomodask noted in a volume, from one small file; None where there is none.

    Raises
    ------
    FormatError : written by a newer tomodask.
    """
    try:
        metadata = json.loads((Path(path) / _METADATA).read_bytes())["attributes"]["tomodask"]
        if metadata["kind"] != "volume":
            return None
        version = int(metadata["format_version"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if version > FORMAT_VERSION:
        raise FormatError(
            f"{path} has format version {version}, this tomodask reads up to {FORMAT_VERSION}: "
            "update tomodask"
        )
    return dict(metadata)


def remove_volume(path: Path | str) -> list[Path]:
    """Remove a volume and its ledger, and nothing that tomodask did not make.

    Returns the files that stay, in their folders. Killed halfway, it can be called again.

    Raises
    ------
    OutputExistsError : this is no volume of tomodask.
    """
    path = Path(path)
    if not path.exists():
        return []
    metadata = volume_metadata(path)
    if metadata is None:
        raise OutputExistsError(
            f"{path} is not a volume of tomodask, nothing was removed: take another output, or "
            "remove it yourself"
        )
    volume = Volume.open(path)
    kept = remove_ledgers(path)  # first: nothing may be listed as done once its shards are gone
    content = json.loads((path / _METADATA).read_bytes())
    content["attributes"]["tomodask"]["complete"] = False
    _write_metadata(path, content)
    remove_partials(path)
    for level in range(volume.num_levels):
        kept += remove_known(path / str(level), lambda file: _is_own(file.relative_to(path)))
    (path / _METADATA).unlink()  # last: without it the rest could not be recognised as ours
    return sorted({*kept, *remove_known(path, lambda file: False)})


def write_bytes(spec: VolumeSpec, rows: int) -> int:
    """Memory that `Volume.write` takes beside a slab of so many rows."""
    _, ny, nx = spec.shape
    itemsize = np.dtype(np.float32).itemsize
    halved = sum(
        math.prod(spec.level_shape(level)[1:]) * -(-rows >> level) * itemsize
        for level in range(1, min(3, spec.num_levels))  # a level and the one it is made of
    )
    shard = math.prod(spec.shard_shape(0)) * itemsize
    chunk = math.prod(spec.chunk_shape(0)) * itemsize
    # where there is something to compress Zarr does it: chunk by chunk, then as one file
    is_plain = spec.compression == "none"
    encoding = chunk + BUFFER_BYTES if is_plain else ENCODE_COPIES * shard
    return halved + 3 * ny * nx * itemsize + SHARDS_IN_FLIGHT * encoding


def stored_bytes(spec: VolumeSpec, rows: int) -> int:
    """Bytes of the files, all levels, of the first so many rows, whole shards or all there are.

    Of a compressed volume those of its plain chunks, which is what it takes at most.
    """
    total, itemsize = 0, np.dtype(np.float32).itemsize
    for level in range(spec.num_levels):
        shape = (-(-rows >> level), *spec.level_shape(level)[1:])
        chunk, shard = spec.chunk_shape(level), spec.shard_shape(level)
        chunks = math.prod(-(-n // c) for n, c in zip(shape, chunk, strict=True))
        shards = math.prod(-(-n // s) for n, s in zip(shape, shard, strict=True))
        total += chunks * math.prod(chunk) * itemsize
        total += shards * index_bytes(math.prod(shard) // math.prod(chunk))
    return total


def _even_part(length: int, most: int) -> int:
    """The length of parts of at most `most`, as few and as equal as can be."""
    return -(-length // -(-length // most))


def _create_arrays(path: Path, spec: VolumeSpec, attributes: Mapping[str, Any]) -> None:
    group = zarr.create_group(store=LocalStore(path), zarr_format=3, attributes=dict(attributes))
    for level in range(spec.num_levels):
        group.create_array(
            str(level),
            shape=(1, 1, *spec.level_shape(level)),
            chunks=(1, 1, *spec.chunk_shape(level)),
            shards=(1, 1, *spec.shard_shape(level)),
            dtype=np.float32,
            fill_value=np.nan,
            compressors=COMPRESSORS[spec.compression],
            dimension_names=["t", "c", "z", "y", "x"],
        )


def _move_in(made: Path, path: Path) -> None:
    """Give a finished folder its name; beside foreign files, its metadata file by file."""
    for file in made.rglob(_METADATA):
        swap_in(file, file.read_bytes())  # zarr has not synced it
        sync_folder(file.parent)
    try:
        made.rename(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        if not path.is_dir() or (path / _METADATA).exists():
            raise OutputExistsError(f"{path} exists: take another path ({error})") from None
        nested = sorted(made.rglob(_METADATA), key=lambda file: file.parent == made)
        for file in nested:  # the group's own comes last: it makes the folder a volume
            target = path / file.relative_to(made)
            target.parent.mkdir(exist_ok=True)
            file.replace(target)
            sync_folder(target.parent)
    sync_folder(path.parent)


def _write_metadata(path: Path, content: Mapping[str, Any]) -> None:
    swap_in(path / _METADATA, json.dumps(content, indent=2).encode())
    sync_folder(path)


def _is_own(file: Path) -> bool:
    """Whether a file, named from the volume's folder, is one that `Volume` writes."""
    name = PARTIAL_NAME.sub("", file.as_posix())
    return re.fullmatch(r"\d+/(zarr(\.json)?|c(/\d+){5})", name) is not None


def _multiscales(name: str, spec: VolumeSpec) -> dict[str, Any]:
    """The `ome` attributes of version 0.5, https://ngff.openmicroscopy.org/0.5/."""
    unit = {} if spec.voxel_size_um is None else {"unit": "micrometer"}
    datasets = [
        {
            "path": str(level),
            "coordinateTransformations": [
                {"type": "scale", "scale": [1.0, 1.0] + [spec.scale(level)] * 3},
                {"type": "translation", "translation": [0.0, 0.0, *spec.translation(level)]},
            ],
        }
        for level in range(spec.num_levels)
    ]
    axes = [
        {"name": "t", "type": "time", "unit": "second"},
        {"name": "c", "type": "channel"},
        *({"name": axis, "type": "space", **unit} for axis in "zyx"),
    ]
    multiscale = {"name": name, "axes": axes, "datasets": datasets, "type": "mean"}
    return {"version": "0.5", "multiscales": [multiscale]}


def _rendering(values: np.ndarray, label: str) -> dict[str, Any]:
    start, end = (float(value) for value in np.percentile(values, (1, 99)))
    window = {"min": float(values.min()), "max": float(values.max()), "start": start, "end": end}
    channel = {"label": label, "color": "FFFFFF", "active": True, "window": window}
    return {"channels": [channel]}
