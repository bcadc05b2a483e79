"""What every reader returns: a scan as its files hold it, without open handles.

A `Source` is pickled to Dask workers, so it holds paths and indices only; each read opens the files
it needs and closes them again. Its three stacks of frames (projections, flats, darks) may come from
files of different formats.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from tomodask.errors import FormatError, MissingInputError
from tomodask.projections import Signal

Metadata = Mapping[str, str | float]

GLOB_CHARACTERS = "*?["


@dataclass(frozen=True)
class SourceOptions:
    """What the files don't say, or what is to replace what they say; one flag a field.

    flats, darks : a TIFF file, folder or glob, a Zarr array, or an HDF5 FILE[:/dataset].
    angles : "START:STOP:COUNT" in degrees, STOP not included ("START:STOP:COUNT:closed" includes
        it), a text file with one angle a line, an HDF5 FILE:/dataset, or a dataset of the input.
    angles_lines : "START:STOP": the entries of a longer list of angles that belong to the
        projections, counted from 0, STOP not included.
    angle_units : of angles read from a file; None believes the file and takes degrees where it
        does not say.
    data : the projections' dataset inside an HDF5 file or Zarr group.
    rotate_detector, flip : applied when the scan is converted, see `turn_frames`.
    """

    format: Literal["auto", "dxchange", "nxtomo", "tiff", "hdf5", "zarr"] = "auto"
    flats: str | None = None
    darks: str | None = None
    angles: str | None = None
    angles_lines: str | None = None
    angle_units: Literal["degrees", "radians"] | None = None
    data: str | None = None
    pixel_size_um: float | None = None
    energy_kev: float | None = None
    distance_mm: float | None = None
    gain: float | None = None
    signal: Signal | None = None
    rotate_detector: Literal[0, 90, 180, 270] = 0
    flip: bool = False


class Frames(Protocol):
    """A stack of frames of one size in files of one format; picklable, no open handles.

    shape : (frames, rows, columns).
    dtype : of the raw counts, in this machine's byte order.
    chunk_shape : how the file stores them; (1, rows, columns) where frames lie one by one.
    first_index : position of frame 0 in its dataset, -1 if the frames aren't consecutive there.
    label : what they are, without the folder ("scan.h5:/exchange/data").
    files : every file that a read may touch or that says which frames they are.
    """

    @property
    def shape(self) -> tuple[int, int, int]: ...
    @property
    def dtype(self) -> np.dtype: ...
    @property
    def chunk_shape(self) -> tuple[int, int, int]: ...
    @property
    def first_index(self) -> int: ...
    @property
    def label(self) -> str: ...
    @property
    def files(self) -> tuple[Path, ...]: ...

    def read(self, frames: slice, rows: slice) -> np.ndarray:
        """(frames, rows, columns), in order; each chunk that the range meets is read once."""
        ...


@dataclass(frozen=True, eq=False)
class Source:
    """A scan as its files hold it.

    path : what the user named.
    description : of the format, for people.
    projections, flat_frames, dark_frames : where the raw counts are.
    angles : (frames,) radians.
    timestamps, flat_times, dark_times : seconds or frame numbers on one clock, or None.
    signal : what the counts are; gain : detector counts a photon, None where unknown.
    pixel_size_um : detector pixel at the object; distance_mm : from object to detector.
    metadata : title, sample, date, units of the counts ...; ready for JSON.
    """

    path: Path
    description: str
    projections: Frames
    angles: np.ndarray
    flat_frames: Frames | None = None
    dark_frames: Frames | None = None
    timestamps: np.ndarray | None = None
    flat_times: np.ndarray | None = None
    dark_times: np.ndarray | None = None
    signal: Signal = "transmission"
    gain: float | None = None
    pixel_size_um: float | None = None
    energy_kev: float | None = None
    distance_mm: float | None = None
    metadata: Metadata = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(frames, rows, columns) of the projections alone."""
        return self.projections.shape

    @property
    def dtype(self) -> np.dtype:
        """Of the raw counts."""
        return self.projections.dtype

    @property
    def chunk_shape(self) -> tuple[int, int, int]:
        """How the file stores the projections: whole chunks are the cheapest to read."""
        return self.projections.chunk_shape

    @property
    def first_index(self) -> int:
        """Position of projection 0 in its dataset, -1 if they aren't consecutive there."""
        return self.projections.first_index

    def read(self, frames: slice, rows: slice) -> np.ndarray:
        """Projections (frames, rows, columns), raw; each chunk that they meet is read once."""
        return self.projections.read(frames, rows)

    def flats(self) -> np.ndarray | None:
        """(n, rows, columns) raw counts with the open beam, None if there are none."""
        return None if self.flat_frames is None else self.flat_frames.read(slice(None), slice(None))

    def darks(self) -> np.ndarray | None:
        """(n, rows, columns) raw counts without beam, None if there are none."""
        return None if self.dark_frames is None else self.dark_frames.read(slice(None), slice(None))

    def stacks(self) -> dict[str, Frames]:
        """The stacks of frames there are, by name."""
        named = {
            "projections": self.projections,
            "flats": self.flat_frames,
            "darks": self.dark_frames,
        }
        return {name: frames for name, frames in named.items() if frames is not None}

    def fingerprint(self) -> str:
        """SHA-256 that changes when the input does: file sizes and times, shapes, angles, options.

        Counts are not read, so a file changed without a change of its size and time goes unnoticed.
        Folders don't matter: a scan moved with its time stamps keeps its fingerprint.
        """
        facts: dict[str, object] = {
            "format": self.description,
            "signal": self.signal,
            "numbers": [self.gain, self.pixel_size_um, self.energy_kev, self.distance_mm],
        }
        for name, frames in self.stacks().items():
            status = [(file.name, file.stat()) for file in frames.files]
            files = [(label, stat.st_size, stat.st_mtime_ns) for label, stat in status]
            facts[name] = [
                frames.label, frames.shape, frames.dtype.str, frames.first_index, sorted(files),
            ]  # fmt: skip
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        for values in (self.angles, self.timestamps, self.flat_times, self.dark_times):
            digest.update(b"-" if values is None else np.asarray(values, "<f8").tobytes())
        return digest.hexdigest()


def turn_frames(frames: np.ndarray, rotate_detector: int, flip: bool) -> np.ndarray:
    """Frames turned counter-clockwise by some degrees, then mirrored in their columns; a view.

    frames : (n, rows, columns); rotate_detector : 0, 90, 180 or 270, as `numpy.rot90` turns.
    """
    turned = np.rot90(frames, rotate_detector // 90, axes=(1, 2))
    return turned[:, :, ::-1] if flip else turned


def turned_shape(shape: tuple[int, int, int], rotate_detector: int) -> tuple[int, int, int]:
    """(frames, rows, columns) after `turn_frames`."""
    frames, rows, columns = shape
    return (frames, columns, rows) if rotate_detector in (90, 270) else shape


def bounds(selection: slice, length: int) -> tuple[int, int]:
    """Start and stop of a slice without a step, cut at `length`."""
    start, stop, step = selection.indices(length)
    if step != 1:
        raise ValueError(f"a stack of frames is read by ranges, not with step {step}")
    return start, max(start, stop)


def require_path(path: Path | str) -> Path:
    """The path, if it exists; MissingInputError names the nearest neighbour otherwise."""
    path = Path(path)
    if path.exists():
        return path
    folder = path.parent
    if path.is_symlink():
        raise MissingInputError(f"{path} is a link to {path.readlink()}, which does not exist")
    if not folder.is_dir():
        raise MissingInputError(f"{path} does not exist: there is no folder {folder}")
    near = difflib.get_close_matches(path.name, [entry.name for entry in folder.iterdir()], n=1)
    hint = (
        f"did you mean {folder / near[0]}?" if near else f"nothing in {folder} has a name like it"
    )
    raise MissingInputError(f"{path} does not exist: {hint}")


def is_glob(path: Path | str) -> bool:
    """Whether a path that does not exist is a pattern for files that may."""
    return any(mark in str(path) for mark in GLOB_CHARACTERS) and not Path(path).exists()


def check_frames(shape: tuple[int, ...], dtype: np.dtype, where: str) -> None:
    """FormatError unless (frames, rows, columns) of real numbers, at least one of each."""
    if len(shape) != 3 or 0 in shape:
        raise FormatError(
            f"{where} has shape {shape}: projections are (frames, rows, columns), none of them 0"
        )
    if dtype.kind not in "uif":
        raise FormatError(f"{where} holds {dtype}: counts are integers or floats")


def describe(source: Source) -> list[tuple[str, str]]:
    """What `tomodask info` prints about a source: pairs of a name and a value."""
    frames, rows, columns = source.shape
    size = frames * rows * columns * source.dtype.itemsize
    lines = [
        ("input", str(source.path)),
        ("format", source.description),
        ("projections", f"{_shape_text(source.projections)}, {_bytes_text(size)}"),
        ("angles", angles_text(source.angles)),
    ]
    for name, stack in (("flats", source.flat_frames), ("darks", source.dark_frames)):
        lines.append((name, "none" if stack is None else _shape_text(stack)))
    for name, value, unit in (
        ("pixel size", source.pixel_size_um, "um"),
        ("energy", source.energy_kev, "keV"),
        ("distance", source.distance_mm, "mm"),
        ("gain", source.gain, "counts a photon"),
    ):
        lines.append((name, "unknown" if value is None else f"{value:g} {unit}"))
    lines += [("signal", source.signal), ("chunks", " x ".join(map(str, source.chunk_shape)))]
    return lines + [(name, str(value)) for name, value in source.metadata.items()]


def angles_text(angles: np.ndarray) -> str:
    """First and last angle, count and step, in degrees."""
    degrees = np.rad2deg(angles)
    text = f"{degrees[0]:.6g} .. {degrees[-1]:.6g} degrees, {degrees.size}"
    if degrees.size < 2:
        return text
    steps = np.diff(degrees)
    low, high = steps.min(), steps.max()
    even = high - low <= 1e-3 * abs(high)  # file formats round angles to a few digits
    return text + (f", step {steps.mean():.5g}" if even else f", steps {low:.5g} .. {high:.5g}")


def _shape_text(frames: Frames) -> str:
    return f"{' x '.join(map(str, frames.shape))} {frames.dtype}"


def _bytes_text(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
