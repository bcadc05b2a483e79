"""A scan in Zarr, opened lazily and read block by block: raw counts with all that is known of them.

Two kinds are opened. A *scan store* is made by `tomodask ingest`: Zarr v3, `projections` (frame,
row, column) in chunks of about 16 frames x 32 rows x all columns, so that a block of rows is read
with no byte too many. A *foreign stack*, Zarr v2 or v3, is read in place with no copy:

- a group with `projections` or `data` (frame, row, column) and `angle`, `angles` or `theta`
  (frame,); if at hand `flats` or `data_white`, `darks` or `data_dark` (n, row, column);
  `timestamp`, `flat_timestamp`, `dark_timestamp`, and `quality`, 0 for frames to leave out;
- all of them at the top or in a group `exchange`;
- the angles' attribute `units` says degrees or radians. Without it, angles beyond 4 pi are
  degrees; smaller ones could be either, and are refused;
- attributes `pixel_size_um`, `energy_kev`, `distance_mm`, `gain`, `signal` of the group or of the
  projections.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr

from tomodask.errors import (
    AnglesError,
    ChunkLayoutError,
    FormatError,
    GeometryError,
    MissingInputError,
    UnfinishedError,
)
from tomodask.frames import direct_layout, missing_shards, piece_frames, read_frames
from tomodask.geometry import ParallelBeam
from tomodask.projections import Projections, Signal

FORMAT_VERSION = 1
DECODED_TOGETHER = 10  # chunks outside of shards: zarr's async.concurrency

_NAMES = {
    "projections": ("projections", "data"),
    "angle": ("angle", "angles", "theta"),
    "flats": ("flats", "data_white"),
    "darks": ("darks", "data_dark"),
}
_DEGREES = ("degree", "degrees", "deg", "°")
_RADIANS = ("radian", "radians", "rad")


@dataclass(frozen=True, eq=False)
class Scan:
    """What was measured, and where it lies; holds no open file, so that it can be pickled.

    path : of the Zarr group.
    arrays : where in the group "projections" lie, and "flats" and "darks" where there are any.
    geometry : of the whole detector; one angle for each good frame, centre of rotation unknown.
    frames : (num_angles,) where the good frames lie along the stored frame axis, rising.
    stored_shape, chunk_shape, shard_shape : (frame, row, column); a chunk is what is decoded at
        once, a shard (or the chunk again) what is one file.
    image_bytes : of all flats and darks, for one pixel.
    timestamps, flat_times, dark_times : seconds or frame numbers on one clock, or None.
    input_digest : changes when the measured data do.
    is_foreign : read in place, not made by `tomodask ingest`.
    reads_directly : the projections are decoded without Zarr's copies (`shardcodec`).
    """

    path: Path
    arrays: Mapping[str, str]
    geometry: ParallelBeam
    frames: np.ndarray
    dtype: np.dtype
    stored_shape: tuple[int, int, int]
    chunk_shape: tuple[int, int, int]
    shard_shape: tuple[int, int, int]
    num_flats: int
    num_darks: int
    image_bytes: int
    timestamps: np.ndarray | None
    flat_times: np.ndarray | None
    dark_times: np.ndarray | None
    signal: Signal
    gain: float | None
    energy_kev: float | None
    distance_mm: float | None
    metadata: Mapping[str, str | float]
    input_digest: str
    is_foreign: bool
    reads_directly: bool

    @classmethod
    def open(cls, path: Path | str) -> Scan:
        """Open a scan store or a foreign stack; reads its metadata and coordinates, no frame.

        Raises
        ------
        MissingInputError : nothing is there.
        FormatError : not a Zarr group, not a scan, damaged, or written by a newer tomodask.
        UnfinishedError : a scan store whose ingest has not ended.
        AnglesError : angles of unknown unit, or not one for each frame.
        """
        path = Path(path)
        group = _open_group(path)
        own = _own_attributes(group, path)
        found = _find_arrays(group, path)
        projections = found["projections"]
        shape = cast(tuple[int, int, int], projections.shape)
        known = own or _foreign_attributes(group, projections)
        frames = _good_frames(group, path, shape[0])
        angles = _radians(found["angle"], path)[frames]
        timestamps = _coordinate(group, path, "timestamp", shape[0])
        return cls(
            path=path,
            arrays={kind: array.path for kind, array in found.items()},
            geometry=ParallelBeam(
                angles, shape[1], shape[2], pixel_size_um=_positive(known, "pixel_size_um", path)
            ),
            frames=frames,
            dtype=projections.dtype.newbyteorder("="),
            stored_shape=shape,
            chunk_shape=cast(tuple[int, int, int], projections.chunks),
            shard_shape=cast(tuple[int, int, int], projections.shards or projections.chunks),
            num_flats=_count(found, "flats"),
            num_darks=_count(found, "darks"),
            image_bytes=sum(
                array.shape[0] * array.dtype.itemsize
                for kind, array in found.items()
                if kind in ("flats", "darks")
            ),
            timestamps=None if timestamps is None else timestamps[frames],
            flat_times=_coordinate(group, path, "flat_timestamp", _count(found, "flats")),
            dark_times=_coordinate(group, path, "dark_timestamp", _count(found, "darks")),
            signal=_signal(known, path),
            gain=_positive(known, "gain", path),
            energy_kev=_positive(known, "energy_kev", path),
            distance_mm=_positive(known, "distance_mm", path),
            metadata=own.get("metadata", {}),
            input_digest=own["input_digest"] if own else _foreign_digest(path, found, angles),
            is_foreign=not own,
            reads_directly=direct_layout(projections) is not None,
        )

    def read(
        self,
        rows: tuple[int, int],
        columns: tuple[int, int] | None = None,
        views: slice = slice(None),
        threads: int = 1,
    ) -> Projections:
        """Read detector rows [start, stop), once each inner chunk that meets them, and no other.

        Parameters
        ----------
        rows, columns : first and last plus one; all columns if None.
        views : which of `geometry.angles`, in that order (bad frames are not counted).
        threads : that decode side by side.

        Raises
        ------
        GeometryError : rows, columns or views that the detector does not have.
        FormatError : a shard of a scan store is missing or damaged.
        """
        columns = columns or (0, self.geometry.det_count)
        geometry = self.geometry.take_rows(*rows).take_columns(*columns)
        frames = self.frames[views]
        if frames.size == 0:
            raise GeometryError(f"{views} takes none of the scan's {self.frames.size} views")
        window = (slice(*rows), slice(*columns))
        return Projections(
            data=self._read_frames(frames, window, threads),
            geometry=geometry.take_views(views),
            flats=self._read_images("flats", window),
            darks=self._read_images("darks", window),
            timestamps=None if self.timestamps is None else self.timestamps[views],
            flat_times=self.flat_times,
            dark_times=self.dark_times,
            signal=self.signal,
            gain=self.gain,
        )

    def bytes_read(self, rows: tuple[int, int]) -> int:
        """Bytes, uncompressed, of the inner chunks that `read` takes, all views and columns.

        What the last chunks hold beyond the detector's edge is not counted.
        """
        chunk_frames, num_frames = self.chunk_shape[0], self.stored_shape[0]
        bands = np.unique(self.frames // chunk_frames)
        frames = np.minimum((bands + 1) * chunk_frames, num_frames) - bands * chunk_frames
        return int(frames.sum()) * self._covered_rows(rows) * self._row_bytes

    def memory_bytes(self, rows: tuple[int, int], threads: int = 1, width: int = 0) -> int:
        """Most memory that `read` of these rows takes, its result included.

        width : columns that are read; 0 for all.
        """
        height, width = rows[1] - rows[0], width or self.geometry.det_count
        pixel_bytes = self.frames.size * self.dtype.itemsize + self.image_bytes
        result = height * width * pixel_bytes
        chunk_bytes = math.prod(self.chunk_shape) * self.dtype.itemsize
        if self.reads_directly:  # a chunk as it is stored, and one decoded
            return result + 2 * threads * chunk_bytes
        if self.shard_shape == self.chunk_shape:
            return result + 2 * DECODED_TOGETHER * chunk_bytes
        # Each shard of a piece is held as its chunks, compressed and decoded, and as one.
        row_bytes = width * self.dtype.itemsize
        piece = min(piece_frames(self.shard_shape[0], height * row_bytes), self.stored_shape[0])
        decoded = 2 * self._covered_rows(rows) * self._row_bytes
        return result + piece * (decoded + height * row_bytes)

    def check_layout(self, block_rows: int, halo: int = 0) -> None:
        """Refuse a foreign stack from which reading block by block would take over twice its bytes.

        Scan stores pass: theirs is the layout that the advice would give.

        Raises
        ------
        ChunkLayoutError : names the numbers and the way out.
        """
        if not self.is_foreign:
            return
        det_rows = self.geometry.det_rows
        blocks = [
            (max(0, start - halo), min(det_rows, start + block_rows + halo))
            for start in range(0, det_rows, block_rows)
        ]
        rows = sum(stop - start for start, stop in blocks)
        needed = rows * self.frames.size * self._row_bytes
        taken = sum(self.bytes_read(block) for block in blocks)
        if taken > 2 * needed:
            raise ChunkLayoutError(
                f"{self.path}: its chunks (frames, rows, columns) are {self.chunk_shape}; "
                f"{len(blocks)} blocks of {block_rows} rows with a halo of {halo} would read "
                f"{taken / 1e9:.3g} GB where they need {needed / 1e9:.3g} GB, {taken / needed:.1f} "
                f"times as much (limit 2): run `tomodask ingest {self.path} SCAN.zarr` first, "
                "which reads it once, or take larger blocks"
            )

    def _read_frames(
        self, frames: np.ndarray, window: tuple[slice, slice], threads: int
    ) -> np.ndarray:
        folder = self.path / self.arrays["projections"]
        missing = None if self.is_foreign else next(missing_shards(folder, frames, window[0]), None)
        if missing is not None:
            raise FormatError(
                f"{missing} is missing, though the scan was completed: `tomodask doctor "
                f"{self.path}` notes it, then the command that made the scan makes it again"
            )
        return read_frames(folder, frames, window, threads)

    def _read_images(self, kind: str, window: tuple[slice, slice]) -> np.ndarray | None:
        if kind not in self.arrays:
            return None
        count = self.num_flats if kind == "flats" else self.num_darks
        return read_frames(self.path / self.arrays[kind], np.arange(count), window)

    def _covered_rows(self, rows: tuple[int, int]) -> int:
        """Detector rows of all inner chunks that meet `rows`."""
        chunk_rows = self.chunk_shape[1]
        first, last = rows[0] // chunk_rows, -(-rows[1] // chunk_rows)
        return min(last * chunk_rows, self.stored_shape[1]) - first * chunk_rows

    @property
    def _row_bytes(self) -> int:
        return self.geometry.det_count * self.dtype.itemsize


def scan_metadata(path: Path | str) -> dict[str, Any] | None:
    """The attributes of the scan store at `path`, finished or not; None where there is none."""
    try:
        document = json.loads((Path(path) / "zarr.json").read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise FormatError(f"{path}/zarr.json is damaged: {error}") from error
    found = document.get("attributes", {}).get("tomodask")
    return found if isinstance(found, dict) and found.get("kind") == "scan" else None


def is_zarr(path: Path | str) -> bool:
    """Whether a Zarr group or array, of version 2 or 3, begins at `path`."""
    return any((Path(path) / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray"))


def _open_group(path: Path) -> zarr.Group:
    if not path.exists():
        raise MissingInputError(f"{path} does not exist: give a Zarr group that holds a scan")
    try:
        return zarr.open_group(path, mode="r", use_consolidated=False)
    except ValueError as error:  # Zarr's own errors and those of json
        raise FormatError(
            f"{path} can't be opened as a Zarr group ({error}): make a scan of other formats with "
            f"`tomodask ingest {path} SCAN.zarr`"
        ) from error


def _own_attributes(group: zarr.Group, path: Path) -> dict[str, Any]:
    """The attributes that ingest wrote, checked; empty for a foreign stack."""
    own = group.attrs.get("tomodask")
    if not isinstance(own, dict) or "kind" not in own:
        return {}
    if own["kind"] != "scan":
        raise FormatError(f"{path} is a tomodask {own['kind']}, not a scan")
    if own["format_version"] > FORMAT_VERSION:
        raise FormatError(
            f"{path} has format {own['format_version']}, this tomodask reads up to "
            f"{FORMAT_VERSION}: update tomodask"
        )
    if not own["complete"]:
        raise UnfinishedError(
            f"{path} is not complete: run the same ingest command again, which goes on where "
            "it stopped"
        )
    return own


def _foreign_attributes(group: zarr.Group, projections: zarr.Array[Any]) -> dict[str, Any]:
    folder, _, _ = projections.path.rpartition("/")
    parent = group[folder] if folder else group
    return {**group.attrs, **parent.attrs, **projections.attrs}


def _find_arrays(group: zarr.Group, path: Path) -> dict[str, zarr.Array[Any]]:
    """Projections and angle, flats and darks if there are any, by any of their names; checked."""
    found: dict[str, zarr.Array[Any]] = {}
    for kind, names in _NAMES.items():
        for key in [folder + name for folder in ("", "exchange/") for name in names]:
            if isinstance(array := group.get(key), zarr.Array):
                found.setdefault(kind, array)
    if not {"projections", "angle"} <= found.keys():
        raise FormatError(
            f"{path} has the arrays {sorted(group.array_keys())}: a scan needs `projections` or "
            "`data` (frame, row, column) and `angle`, `angles` or `theta` (frame,), at the top or "
            "in a group `exchange`"
        )
    num_frames, *detector = found["projections"].shape
    for kind, array in found.items():
        if kind == "angle":
            if array.shape != (num_frames,):
                raise AnglesError(f"{path}: angles of shape {array.shape} for {num_frames} frames")
        elif array.ndim != 3 or list(array.shape[1:]) != detector or array.dtype.kind not in "uif":
            raise FormatError(
                f"{path}: `{array.path}` has shape {array.shape} and type {array.dtype}, expected "
                f"(frame, row, column) of real numbers on a detector of {detector}"
            )
    return found


def _count(found: Mapping[str, zarr.Array[Any]], kind: str) -> int:
    return found[kind].shape[0] if kind in found else 0


def _coordinate(group: zarr.Group, path: Path, name: str, length: int) -> np.ndarray | None:
    for key in (name, f"exchange/{name}"):
        array = group.get(key)
        if isinstance(array, zarr.Array):
            if array.shape != (length,):
                raise FormatError(
                    f"{path}: `{key}` has shape {array.shape}, expected ({length},), one a frame"
                )
            return np.asarray(array[:])
    return None


def _good_frames(group: zarr.Group, path: Path, num_frames: int) -> np.ndarray:
    quality = _coordinate(group, path, "quality", num_frames)
    frames = np.arange(num_frames) if quality is None else np.flatnonzero(quality)
    if frames.size == 0:
        raise FormatError(f"{path}: `quality` is 0 for each of the {num_frames} frames")
    return frames


def _radians(array: zarr.Array[Any], path: Path) -> np.ndarray:
    angles = np.asarray(array[:], dtype=np.float64)
    units = str(array.attrs.get("units", "")).strip().lower()
    largest = np.abs(angles).max(initial=0)
    if units in _RADIANS:
        return angles
    if units in _DEGREES or (not units and largest > 4 * np.pi):
        return np.deg2rad(angles)
    raise AnglesError(
        f"{path}: `{array.path}` has the units {units!r} and values up to {largest:g}, which could "
        'be degrees or radians: set its attribute `units` to "degrees" or "radians"'
    )


def _positive(known: Mapping[str, Any], name: str, path: Path) -> float | None:
    value = known.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or not 0 < value < np.inf:
        raise FormatError(f"{path}: attribute {name} is {value!r}, expected a positive number")
    return float(value)


def _signal(known: Mapping[str, Any], path: Path) -> Signal:
    value = known.get("signal") or "transmission"
    if value not in ("transmission", "emission"):
        raise FormatError(
            f'{path}: attribute signal is {value!r}, expected "transmission" or "emission"'
        )
    return cast(Signal, value)


def _foreign_digest(path: Path, found: Mapping[str, zarr.Array[Any]], angles: np.ndarray) -> str:
    """Digest of the metadata and angles alone: counts changed in place are not noticed."""
    digest = hashlib.sha256()
    for kind, array in sorted(found.items()):
        for name in ("zarr.json", ".zarray", ".zattrs"):
            document = path / array.path / name
            if document.exists():
                digest.update(f"{kind} {name} {array.shape}\n".encode() + document.read_bytes())
    digest.update(np.ascontiguousarray(angles, dtype="<f8").tobytes())
    return digest.hexdigest()
