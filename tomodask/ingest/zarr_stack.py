"""Zarr groups and arrays that other programs wrote: projections with angles, flats and darks.

A group has `projections` or `data`, and `angle`, `angles` or `theta`, `flats` or `data_white`,
`darks` or `data_dark`, at the top or under `exchange`. Zarr formats 2 and 3.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.errors import BaseZarrError

from tomodask.errors import AnglesError, FormatError, MissingInputError
from tomodask.ingest.angles import (
    WAYS,
    AngleList,
    Selection,
    angle_units,
    chosen_angles,
    given_angles,
)
from tomodask.ingest.source import Source, SourceOptions, bounds, check_frames, require_path

MARKERS = ("zarr.json", ".zarray", ".zgroup")
PROJECTIONS = ("projections", "data")
ANGLES = ("angle", "angles", "theta")
FLATS = ("flats", "data_white")
DARKS = ("darks", "data_dark")


@dataclass(frozen=True, eq=False)
class ZarrFrames:
    """All frames of one Zarr array in a folder.

    chunk_shape : the inner chunks where chunks are packed into shards.
    """

    folder: Path
    shape: tuple[int, int, int]
    dtype: np.dtype
    chunk_shape: tuple[int, int, int]

    @property
    def first_index(self) -> int:
        """Frames are always consecutive here."""
        return 0

    @property
    def label(self) -> str:
        """Store and array, without the folder that the store is in."""
        parts = [self.folder.name]
        for parent in self.folder.parents:
            if not is_zarr(parent):
                break
            parts.append(parent.name)
        return "/".join(reversed(parts))

    @property
    def files(self) -> tuple[Path, ...]:
        """Metadata, chunks and shards."""
        return tuple(sorted(path for path in self.folder.rglob("*") if path.is_file()))

    def read(self, frames: slice, rows: slice) -> np.ndarray:
        """(frames, rows, columns), in order; each chunk that the range meets is read once."""
        first, last = bounds(frames, self.shape[0])
        top, bottom = bounds(rows, self.shape[1])
        array = zarr.open_array(store=self.folder, mode="r")
        return np.asarray(array[first:last, top:bottom, :], dtype=self.dtype)


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr group or array."""
    return path.is_dir() and any((path / name).is_file() for name in MARKERS)


def open_zarr(path: Path, options: SourceOptions) -> Source:
    """A Zarr group or array as a source.

    Raises
    ------
    FormatError : no projections, a tomodask store, or arrays of other shapes or types than frames.
    AnglesError : no angles, or another number of angles than frames.
    """
    node = _open(path)
    if "tomodask" in node.attrs:
        raise FormatError(f"{path} is a tomodask store already: use it as it is, nothing to ingest")
    if isinstance(node, zarr.Array):
        projections = zarr_frames(path)
        angles = None
    else:
        names = (options.data.strip("/"),) if options.data else PROJECTIONS
        folder = _find(path, names)
        if folder is None:
            members = ", ".join(sorted(node.keys())) or "nothing"
            raise MissingInputError(
                f"{path} has no array {' or '.join(names)}, at the top or under exchange: name it "
                f"with --data (it holds {members})"
            )
        projections = zarr_frames(folder)
        angles = _find(path, ANGLES)
    selection = Selection(np.arange(projections.shape[0]), projections.shape[0])
    return Source(
        path=path,
        description="Zarr",
        projections=projections,
        angles=_angles(path, angles, options, selection),
        flat_frames=_optional_frames(path, FLATS),
        dark_frames=_optional_frames(path, DARKS),
    )


def zarr_frames(folder: Path) -> ZarrFrames:
    """All frames of a Zarr array; FormatError if it holds no frames."""
    array = _open(folder)
    if not isinstance(array, zarr.Array):
        members = ", ".join(sorted(array.keys())) or "nothing"
        raise FormatError(f"{folder} is a Zarr group, name an array in it (it holds {members})")
    check_frames(array.shape, array.dtype, str(folder))
    frames, rows, columns = array.shape
    depth, height, width = array.chunks
    return ZarrFrames(
        folder, (frames, rows, columns), array.dtype.newbyteorder("="), (depth, height, width)
    )


def _angles(
    path: Path, folder: Path | None, options: SourceOptions, selection: Selection
) -> np.ndarray:
    angles = given_angles(options, selection)
    if angles is not None:
        return angles
    if folder is None:
        raise AnglesError(
            f"{path} has no array {' or '.join(ANGLES)} for its {selection.count} projections: "
            f"give {WAYS}"
        )
    array = zarr.open_array(store=folder, mode="r")
    values = np.asarray(array[...], dtype=np.float64)
    if values.ndim != 1:
        raise AnglesError(f"{folder} has shape {values.shape}: a list of angles expected")
    units = options.angle_units or angle_units(_text(array.attrs.get("units")), str(folder))
    return chosen_angles(AngleList(values, units, str(folder)), options, selection)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _find(path: Path, names: Iterable[str]) -> Path | None:
    """The folder of the first array of these names, at the top or under `exchange`."""
    for name in names:
        for folder in (path / name, path / "exchange" / name):
            if is_zarr(folder):
                return folder
    return None


def _optional_frames(path: Path, names: Iterable[str]) -> ZarrFrames | None:
    folder = _find(path, names)
    if folder is None or 0 in getattr(_open(folder), "shape", ()):
        return None
    return zarr_frames(folder)


def _open(folder: Path) -> zarr.Array[Any] | zarr.Group:
    require_path(folder)
    try:
        return zarr.open(store=folder, mode="r")
    except (BaseZarrError, ValueError, KeyError, FileNotFoundError) as error:
        raise FormatError(f"{folder} can't be opened as Zarr: {error}") from error
