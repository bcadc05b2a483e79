"""TIFF stacks: a folder or glob with one frame a file, or one file with many pages."""

from __future__ import annotations

import glob
import logging
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import tifffile

from tomodask.errors import AnglesError, FormatError, MissingInputError, MissingPackageError
from tomodask.ingest.angles import WAYS, Selection, given_angles
from tomodask.ingest.signatures import is_tiff, looks_like
from tomodask.ingest.source import (
    Source,
    SourceOptions,
    bounds,
    check_frames,
    is_glob,
    require_path,
)

SUFFIXES = (".tif", ".tiff")
BROKEN = (tifffile.TiffFileError, struct.error, ValueError, IndexError, KeyError)


@dataclass(frozen=True, eq=False)
class TiffFrames:
    """Frames in TIFF files, one a file, or all of them pages of a single file.

    stored_dtype : with the byte order of the first file.
    offset : of the first frame in bytes, where a single file holds all frames uncompressed one
        after another, -1 otherwise.
    """

    files: tuple[Path, ...]
    shape: tuple[int, int, int]
    dtype: np.dtype
    stored_dtype: np.dtype
    offset: int = -1

    @property
    def chunk_shape(self) -> tuple[int, int, int]:
        """One frame."""
        return (1, *self.shape[1:])

    @property
    def first_index(self) -> int:
        """Frames are always consecutive here."""
        return 0

    @property
    def label(self) -> str:
        """The names of the first and the last file."""
        first, last = self.files[0].name, self.files[-1].name
        return first if len(self.files) == 1 else f"{first} .. {last}"

    def read(self, frames: slice, rows: slice) -> np.ndarray:
        """(frames, rows, columns), in order; of uncompressed frames only the rows are read."""
        first, last = bounds(frames, self.shape[0])
        top, bottom = bounds(rows, self.shape[1])
        counts = np.empty((last - first, bottom - top, self.shape[2]), self.dtype)
        if counts.size == 0:
            return counts
        top_byte = top * self.shape[2] * self.dtype.itemsize
        if self.offset >= 0:
            frame_bytes = self.shape[1] * self.shape[2] * self.dtype.itemsize
            with self.files[0].open("rb") as file:
                for number, frame in zip(range(first, last), counts, strict=True):
                    offset = self.offset + number * frame_bytes + top_byte
                    _read_into(frame, file, offset, self.stored_dtype)
        elif len(self.files) == 1:
            with _opened(self.files[0]) as tiff:
                for number, frame in zip(range(first, last), counts, strict=True):
                    _read_page_into(frame, tiff, number, top, top_byte)
        else:
            for path, frame in zip(self.files[first:last], counts, strict=True):
                with _opened(path) as tiff:
                    _read_page_into(frame, tiff, 0, top, top_byte)
        return counts


def _read_page_into(
    frame: np.ndarray, tiff: tifffile.TiffFile, number: int, top: int, top_byte: int
) -> None:
    """Fill (rows, columns) from row `top` of a page on; a compressed page is decoded whole."""
    page = tiff.pages[number]
    if page.is_memmappable:
        stored = np.dtype(page.dtype).newbyteorder(tiff.byteorder)
        _read_into(frame, tiff.filehandle, page.dataoffsets[0] + top_byte, stored)
    else:
        frame[...] = page.asarray()[top : top + len(frame)]


def _read_into(
    frame: np.ndarray, file: BinaryIO | tifffile.FileHandle, offset: int, stored: np.dtype
) -> None:
    """Fill (rows, columns) with uncompressed counts from a place in a file on."""
    file.seek(offset)
    frame[...] = np.frombuffer(file.read(frame.nbytes), stored).reshape(frame.shape)


def open_tiff(path: Path, options: SourceOptions) -> Source:
    """A TIFF stack as a source; TIFF files carry no angles, flats or darks of their own.

    Raises
    ------
    MissingInputError : no file at that path, or none that fits the glob.
    FormatError : frames that differ in shape or type, or a broken file, by its name.
    AnglesError : no option `angles`, or another number of angles than frames.
    """
    projections = tiff_frames(path)
    count = projections.shape[0]
    angles = given_angles(options, Selection(np.arange(count), count))
    if angles is None:
        raise AnglesError(f"{path} holds {count} TIFF frames, which carry no angles: give {WAYS}")
    return Source(path=path, description="TIFF stack", projections=projections, angles=angles)


def tiff_frames(path: Path) -> TiffFrames:
    """The frames of a folder or glob of single-page TIFFs, sorted naturally, or of one TIFF."""
    files = tuple(_list_files(path))
    with _checked(files[0]) as tiff:
        if len(files) == 1:
            return _paged_frames(files[0], tiff)
        shape, stored = _check_page(files[0], tiff, 0)
        _try_to_decode(files[0], tiff)
    for file in files:
        with _checked(file) as tiff:
            if len(tiff.pages) > 1:
                raise FormatError(
                    f"{file} has {len(tiff.pages)} pages, in a stack of {len(files)} files one "
                    "frame each is expected: name the one file, or a glob that leaves it out"
                )
            found = _check_page(file, tiff, 0)
        if found[0] != shape or found[1].newbyteorder("=") != stored.newbyteorder("="):
            raise FormatError(
                f"{file} holds {found[0]} {found[1]}, but {files[0].name} {shape} {stored}: "
                "name a glob that leaves out what is no projection"
            )
    return TiffFrames(files, (len(files), *shape), stored.newbyteorder("="), stored)


def _paged_frames(file: Path, tiff: tifffile.TiffFile) -> TiffFrames:
    """All frames of one file: its pages, or one block of them as ImageJ writes large files."""
    shape, stored = _check_page(file, tiff, 0)
    _try_to_decode(file, tiff)
    series = tiff.series[0]
    if len(tiff.series) == 1 and series.dataoffset is not None and series.shape[-2:] == shape:
        count = int(np.prod(series.shape[:-2], dtype=np.int64))
        end = series.dataoffset + count * shape[0] * shape[1] * stored.itemsize
        if end > file.stat().st_size:
            raise _truncated(file)
        return TiffFrames(
            (file,), (count, *shape), stored.newbyteorder("="), stored, int(series.dataoffset)
        )
    for number in range(1, len(tiff.pages)):
        found = _check_page(file, tiff, number)
        if found != (shape, stored):
            raise FormatError(
                f"{file}: page {number} holds {found[0]} {found[1]}, but page 0 {shape} {stored}"
            )
    return TiffFrames((file,), (len(tiff.pages), *shape), stored.newbyteorder("="), stored)


def _check_page(
    file: Path, tiff: tifffile.TiffFile, number: int
) -> tuple[tuple[int, int], np.dtype]:
    """(rows, columns) and stored type of a page, with FormatError if it is no complete frame."""
    page = tiff.pages[number]
    shape, dtype = page.shape, page.dtype
    ends = [a + b for a, b in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if dtype is None or len(shape) != 2:
        raise FormatError(
            f"{file}: page {number} has shape {shape} and type {dtype}: one grey value a pixel "
            "expected, no colours"
        )
    check_frames((1, *shape), dtype, str(file))
    if max(ends, default=0) > file.stat().st_size:
        raise _truncated(file)
    return (shape[0], shape[1]), dtype.newbyteorder(tiff.byteorder)


def _try_to_decode(file: Path, tiff: tifffile.TiffFile) -> None:
    """Decode a compressed frame once, so that a missing codec shows before hours are spent."""
    page = tiff.pages[0]
    if page.is_memmappable:
        return
    try:
        page.asarray()
    except Exception as error:  # codecs raise errors of their own kinds
        if "imagecodecs" in str(error):
            raise MissingPackageError(
                f"{file} is compressed ({page.compression!r}), which tifffile decodes with another "
                "package: pip install imagecodecs"
            ) from error
        raise FormatError(f"{file} can't be decoded: {error}") from error


def _truncated(file: Path) -> FormatError:
    return FormatError(
        f"{file} ends before its frames do ({file.stat().st_size} bytes): fetch it again"
    )


@contextmanager
def _opened(file: Path) -> Iterator[tifffile.TiffFile]:
    """The file, open; FormatError says what it is if it is no TIFF."""
    if not is_tiff(file):
        raise FormatError(f"{file} is no TIFF: it is {looks_like(file)}")
    try:
        tiff = tifffile.TiffFile(file)
    except BROKEN as error:
        raise FormatError(f"{file} is a broken TIFF: {error}") from error
    with tiff:
        yield tiff


class _Complaints(logging.Handler):
    """Collects what tifffile only logs: pages it could not find, of which it then says no more."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def _checked(file: Path) -> Iterator[tifffile.TiffFile]:
    """The file, open; FormatError if tifffile complains while it is looked through."""
    complaints = _Complaints()
    logger = logging.getLogger("tifffile")
    logger.addHandler(complaints)
    try:
        with _opened(file) as tiff:
            yield tiff
            len(tiff.pages)  # walks to the last page
    except FormatError:
        raise
    except BROKEN as error:
        raise FormatError(f"{file} is a broken TIFF: {error}") from error
    finally:
        logger.removeHandler(complaints)
    if complaints.messages:
        raise FormatError(
            f"{file} is truncated or broken: {complaints.messages[0]}; fetch it again"
        )


def _list_files(path: Path) -> list[Path]:
    if is_glob(path):
        files = [Path(name) for name in glob.glob(str(path))]
        if not files:
            raise MissingInputError(f"no file fits {path}: put it in quotes, or mend the pattern")
    elif require_path(path).is_dir():
        files = [file for file in path.iterdir() if file.suffix.lower() in SUFFIXES]
        if not files:
            names = ", ".join(sorted(file.name for file in path.iterdir())[:5]) or "nothing"
            raise MissingInputError(f"{path} holds no .tif or .tiff files (it holds {names})")
    else:
        files = [path]
    return sorted(files, key=natural_key)


def natural_key(path: Path) -> tuple[list[str | int], str]:
    """Sorts frame_2 before frame_10."""
    parts = re.split(r"(\d+)", path.name)
    return [int(part) if part.isdigit() else part for part in parts], path.name
