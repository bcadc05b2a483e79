"""HDF5 files: opened with errors that say what is wrong, links followed, frames read once.

Importing this file registers the filters of hdf5plugin (bitshuffle, Blosc, LZ4, Zstandard ...).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  registers its filters with HDF5
import numpy as np

from tomodask.errors import FormatError, InputError, MissingInputError
from tomodask.ingest.links import find_node
from tomodask.ingest.signatures import is_hdf5, looks_like
from tomodask.ingest.source import bounds, check_frames, require_path


@dataclass(frozen=True, eq=False)
class Hdf5Frames:
    """Frames of one HDF5 dataset, all of them or those at `indices`.

    file, dataset : where the frames really lie, all links followed.
    indices : (frames,) increasing positions in the dataset, None for all.
    flat : the dataset is a single frame (rows, columns).
    files : `file`, those that link to it, and the sources of a virtual dataset.
    """

    file: Path
    dataset: str
    shape: tuple[int, int, int]
    dtype: np.dtype
    chunk_shape: tuple[int, int, int]
    files: tuple[Path, ...]
    indices: np.ndarray | None = None
    flat: bool = False

    @property
    def label(self) -> str:
        """File and dataset, without the folder."""
        return f"{self.file.name}:{self.dataset}"

    @property
    def first_index(self) -> int:
        """Position of frame 0 in the dataset, -1 if the frames aren't consecutive there."""
        if self.indices is None:
            return 0
        first, last = int(self.indices[0]), int(self.indices[-1])
        return first if last - first + 1 == self.indices.size else -1

    def take(self, indices: np.ndarray) -> Hdf5Frames | None:
        """The frames at these positions of the dataset alone, None if there are none."""
        if indices.size == 0:
            return None
        whole = self.indices is None and indices.size == self.shape[0]
        return replace(
            self,
            shape=(int(indices.size), *self.shape[1:]),
            indices=None if whole else indices,
        )

    def read(self, frames: slice, rows: slice) -> np.ndarray:
        """(frames, rows, columns), in order; each chunk that the range meets is read once."""
        first, last = bounds(frames, self.shape[0])
        top, bottom = bounds(rows, self.shape[1])
        counts = np.empty((last - first, bottom - top, self.shape[2]), self.dtype)
        if counts.size == 0:
            return counts
        # A cache of one chunk makes HDF5 fetch even uncompressed chunks whole, not row by row.
        cache = int(np.prod(self.chunk_shape)) * self.dtype.itemsize
        with open_hdf5(self.file, cache_bytes=cache) as file:
            dataset = file[self.dataset]
            try:
                if self.flat:
                    dataset.read_direct(counts, np.s_[top:bottom], np.s_[0])
                else:
                    self._fill(counts, dataset, first, top)
            except OSError as error:  # may be the network's fault: stays an OSError, to be retried
                error.add_note(f"in frames {first}:{last}, rows {top}:{bottom} of {self.label}")
                raise
        return counts

    def _fill(self, counts: np.ndarray, dataset: h5py.Dataset, first: int, top: int) -> None:
        """Read frames from `first` and rows from `top` on into `counts`, range by range."""
        positions = np.arange(first, first + len(counts))
        if self.indices is not None:
            positions = self.indices[positions]
        bottom = top + counts.shape[1]
        for start, stop, wanted in self._ranges(positions):
            if stop - start == wanted.stop - wanted.start:
                dataset.read_direct(counts, np.s_[start:stop, top:bottom], wanted)
            else:
                counts[wanted] = dataset[start:stop, top:bottom][positions[wanted] - start]

    def _ranges(self, positions: np.ndarray) -> Iterator[tuple[int, int, slice]]:
        """Ranges [start, stop) of the dataset that hold these frames, and which of them each holds.

        Neighbouring frames are one range. Where flats lie between them inside one chunk, the range
        spans the flats too and ends with the chunk: reading the pieces apart would decode it twice.
        """
        depth = 1 if self.first_index >= 0 else self.chunk_shape[0]
        if depth == 1:
            cuts = np.flatnonzero(np.diff(positions) != 1) + 1
        else:
            cuts = np.flatnonzero(np.diff(positions // depth) != 0) + 1
        edges = [0, *cuts.tolist(), positions.size]
        for a, b in pairwise(edges):
            yield int(positions[a]), int(positions[b - 1]) + 1, slice(a, b)


def open_hdf5(path: Path | str, cache_bytes: int = 0) -> h5py.File:
    """The file, open for reading, with a chunk cache of at least 1 MiB.

    Raises
    ------
    MissingInputError : there is no such file.
    FormatError : it is no HDF5 file, or it ends too early.
    InputError : another program has it open for writing.
    """
    path = require_path(path)
    try:
        return h5py.File(path, "r", rdcc_nbytes=max(2**20, cache_bytes))
    except BlockingIOError as error:
        raise InputError(
            f"{path} is locked by a program that writes to it: wait until it has ended, or set "
            "HDF5_USE_FILE_LOCKING=FALSE if none does"
        ) from error
    except PermissionError as error:
        raise InputError(f"{path} may not be read: {error}") from error
    except OSError as error:
        if error.errno is not None:  # the system's fault, perhaps for a moment: may be retried
            raise
        if not path.is_file() or not is_hdf5(path):
            raise FormatError(f"{path} is no HDF5 file: it is {looks_like(path)}") from error
        reason = str(error).partition("(")[2].rstrip(")") or str(error)
        raise FormatError(
            f"{path} can't be opened as HDF5: {reason}; it was copied or written only in part, "
            "fetch it again"
        ) from error


def hdf5_frames(dataset: h5py.Dataset, files: tuple[Path, ...] = ()) -> Hdf5Frames:
    """All frames of an open dataset; (rows, columns) counts as one frame.

    files : others that the dataset was found through.

    Raises
    ------
    FormatError : wrong shape or type, or a filter that is not available.
    MissingInputError : a virtual dataset whose sources are missing; HDF5 would read them as zeros.
    """
    where = f"{dataset.file.filename}:{dataset.name}"
    flat = dataset.ndim == 2
    shape = (1, *dataset.shape) if flat else dataset.shape
    check_frames(shape, dataset.dtype, where)
    check_filters(dataset)
    file = Path(dataset.file.filename)
    sources = tuple(virtual_sources(dataset))
    frame = (1, shape[1], shape[2])
    chunks = frame if flat else (dataset.chunks or _source_chunks(dataset, sources) or frame)
    return Hdf5Frames(
        file=file,
        dataset=dataset.name,
        shape=shape,
        dtype=dataset.dtype.newbyteorder("="),
        chunk_shape=chunks,
        files=tuple(dict.fromkeys((file, *files, *sources))),
        flat=flat,
    )


def check_filters(dataset: h5py.Dataset) -> None:
    """FormatError if the dataset is compressed by a filter that is not at hand."""
    plist = dataset.id.get_create_plist()
    for number in range(plist.get_nfilters()):
        code, _, _, name = plist.get_filter(number)
        if not h5py.h5z.filter_avail(code):
            raise FormatError(
                f"{dataset.file.filename}:{dataset.name} is compressed with HDF5 filter {code} "
                f"({name.decode(errors='replace') or 'no name'}), which neither HDF5 nor "
                "hdf5plugin brings: install it and set HDF5_PLUGIN_PATH, or repack the file"
            )


def virtual_sources(dataset: h5py.Dataset) -> Iterator[Path]:
    """The files that a virtual dataset maps, none for a plain one."""
    if not dataset.is_virtual:
        return
    file = Path(dataset.file.filename)
    for name in dict.fromkeys(source.file_name for source in dataset.virtual_sources()):
        if name == "." or "%" in name:  # the file itself; a pattern that HDF5 fills in
            continue
        path = file.parent / name
        if not path.exists():
            raise MissingInputError(
                f"{file}:{dataset.name} is a virtual dataset, and its source {path} does not "
                f"exist: HDF5 would read zeros in its place; copy it there"
            )
        yield path


def _source_chunks(dataset: h5py.Dataset, sources: tuple[Path, ...]) -> tuple[int, int, int] | None:
    """Chunks of the first source of a virtual dataset, if it is a stack of frames too."""
    if not sources:
        return None
    with open_hdf5(sources[0]) as file:
        source = file.get(dataset.virtual_sources()[0].dset_name)
        if isinstance(source, h5py.Dataset) and source.ndim == 3 and source.chunks is not None:
            chunks: tuple[int, int, int] = source.chunks
            return chunks
    return None


def split_reference(reference: str) -> tuple[Path, str | None]:
    """The file and the dataset of FILE[:/dataset]; a name with ":/" in it that exists is a file."""
    if Path(reference).exists() or ":/" not in reference:
        return Path(reference), None
    name, _, dataset = reference.partition(":/")
    return Path(name), "/" + dataset


def find_dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """The dataset at this path; MissingInputError names the link that leads nowhere."""
    node = find_node(file, name)
    if not isinstance(node, h5py.Dataset):
        members = ", ".join(node) or "nothing"
        raise FormatError(f"{file.filename}:{name} is a group, not a dataset; it holds {members}")
    return node


def list_datasets(file: h5py.File, ndim: int) -> list[h5py.Dataset]:
    """All datasets of numbers with `ndim` dimensions that the file itself holds."""
    found: list[h5py.Dataset] = []

    def visit(_: str, node: h5py.HLObject) -> None:
        if isinstance(node, h5py.Dataset) and node.ndim == ndim and node.dtype.kind in "uif":
            found.append(node)

    file.visititems(visit)
    return found


def text_of(node: h5py.HLObject | None) -> str | None:
    """The string in a dataset, None if there is none."""
    if not isinstance(node, h5py.Dataset) or node.size != 1 or node.dtype.kind not in "SO":
        return None
    return _decode(np.asarray(node[()]).reshape(-1)[0])


def number_of(node: h5py.HLObject | None) -> float | None:
    """The number in a dataset of one element, None if there is none."""
    if not isinstance(node, h5py.Dataset) or node.size != 1 or node.dtype.kind not in "uif":
        return None
    return float(np.asarray(node[()]).reshape(-1)[0])


def attribute(node: h5py.HLObject | None, name: str) -> str | None:
    """The text of an attribute, None if there is none."""
    if node is None or name not in node.attrs:
        return None
    values = np.asarray(node.attrs[name]).reshape(-1)
    return _decode(values[0]) if values.size == 1 else None


def _decode(value: object) -> str | None:
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    text = str(value).strip("\0 \t\r\n") if isinstance(value, str) else ""
    return text or None
