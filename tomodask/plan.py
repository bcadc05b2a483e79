"""What a block will need: declared memory, stage by stage, before anything is submitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tomodask.blocks import MemoryNeed
from tomodask.geometry import ParallelBeam
from tomodask.preprocess import Correction, correction_bytes
from tomodask.projectors import memory_need
from tomodask.reconstruct import Reconstructor
from tomodask.reconstruct.splits import splits_need
from tomodask.scan import Scan
from tomodask.volumestore import VolumeSpec, write_bytes

FLOAT32 = np.dtype(np.float32).itemsize
SMALL_THINGS = 32 * 2**20  # stacks of threads, contexts of codecs, what the heap can't fill


@dataclass(frozen=True)
class StreamNeed:
    """Declared memory of a task: reading, computing and writing go on side by side.

    While a sub-block is corrected and reconstructed, the next one is read and the one before is
    written: each of the three has its own arrays.

    columns : detector columns in use; slices are as wide and as high.
    halo : rows that are read above and below those that are written.
    """

    scan: Scan
    columns: tuple[int, int]
    corrections: tuple[Correction, ...]
    algorithm: Reconstructor
    projector: MemoryNeed
    spec: VolumeSpec
    halo: int
    threads: int

    def reading(self, rows: int) -> int:
        """Raw counts, and what decoding them takes."""
        return self.scan.memory_bytes((0, self._read_rows(rows)), self.threads, self._width)

    def computing(self, rows: int) -> int:
        """Raw counts until they are corrected, sinograms until they are a volume."""
        geometry, read = self.scan.geometry.take_columns(*self.columns), self._read_rows(rows)
        shape = (geometry.num_angles, read, geometry.det_count)
        pixels = shape[0] * shape[1] * shape[2]
        raw, itemsize = pixels * self.scan.dtype.itemsize, self.scan.dtype.itemsize
        correcting = raw + correction_bytes(self.corrections, shape, itemsize, self.threads)
        corrected = pixels * (FLOAT32 if self.corrections else itemsize)
        a_row = self.projector.per_row + self.algorithm.row_bytes(geometry) + self.slice_bytes
        return self.projector.fixed + max(correcting, corrected + rows * a_row)

    def corrected_bytes(self, rows: int) -> int:
        """Corrected projections of so many rows and their halo."""
        views, width = self.scan.geometry.num_angles, self._width
        return FLOAT32 * views * self._read_rows(rows) * width

    def writing(self, rows: int) -> int:
        """The volume, its pyramid, and shards on their way to the disk."""
        return rows * self.slice_bytes + write_bytes(self.spec, rows)

    def bytes(self, rows: int) -> int:
        """Of a sub-block that writes so many rows."""
        return self.reading(rows) + self.computing(rows) + self.writing(rows) + SMALL_THINGS

    @property
    def _width(self) -> int:
        return self.columns[1] - self.columns[0]

    @property
    def slice_bytes(self) -> int:
        return FLOAT32 * self._width**2

    def _read_rows(self, rows: int) -> int:
        return min(rows + 2 * self.halo, self.scan.geometry.det_rows)


@dataclass(frozen=True)
class SplitNeed:
    """Declared memory of a task that makes all splits of a block, slab by slab.

    stream : of the same run without splits. group_rows : of a slab, reconstructed together.
    copies : of the corrected projections, one for each thinned split.
    """

    stream: StreamNeed
    num_splits: int
    slab_rows: int
    group_rows: int
    copies: int = 1

    def bytes(self, rows: int) -> int:
        """Of a block of so many rows: its projections, all splits of a slab and of a group."""
        stream, slab = self.stream, min(rows, self.slab_rows)
        geometry = stream.scan.geometry.take_columns(*stream.columns)
        projector = splits_need(stream.projector, stream.algorithm, geometry, self.num_splits)
        computing = replace(stream, projector=projector).computing(rows)
        computing += (self.copies - 1) * stream.corrected_bytes(rows)
        copies = 2 if slab > self.group_rows else 1  # groups are joined
        slices = copies * slab * (self.num_splits + 1) * stream.slice_bytes
        return (
            stream.reading(rows)
            + computing
            + slices
            + write_bytes(stream.spec, slab)
            + SMALL_THINGS
        )


@dataclass(frozen=True)
class DenoiseNeed:
    """Declared memory of a denoising task without its network: a row of shards at a time.

    stream : of the same run without a network. num_splits : that are reconstructed together.
    group_rows : of a batch that is reconstructed and denoised.
    """

    stream: StreamNeed
    num_splits: int
    copies: int = 1
    group_rows: int = 16

    def bytes(self, rows: int) -> int:
        """Of so many rows: projections, splits, means, one output and the slab that is written."""
        stream, group = self.stream, min(rows, self.group_rows)
        geometry = stream.scan.geometry.take_columns(*stream.columns)
        projector = splits_need(stream.projector, stream.algorithm, geometry, self.num_splits)
        computing = replace(stream, projector=projector).computing(rows)
        computing += (self.copies - 1) * stream.corrected_bytes(rows)
        slices = (2 * self.num_splits + 4) * group * stream.slice_bytes
        written = rows * stream.slice_bytes + write_bytes(stream.spec, rows)
        return stream.reading(rows) + computing + slices + written + SMALL_THINGS


@dataclass(frozen=True)
class StoredNeed:
    """The same where the input is read from a volume."""

    spec: VolumeSpec

    def bytes(self, rows: int) -> int:
        """Of so many rows: what is read, normalised, given by the network and written."""
        _, ny, nx = self.spec.shape
        return 4 * rows * 4 * ny * nx + write_bytes(self.spec, rows) + SMALL_THINGS


def need_of_blocks(
    scan: Scan,
    columns: tuple[int, int],
    corrections: Sequence[Correction],
    algorithm: Reconstructor,
    backend: str,
    threads: int,
    spec: VolumeSpec,
) -> StreamNeed:
    """Declared memory of the tasks of a run.

    columns : detector columns that a block uses; slices are as wide and as high.
    """
    geometry = scan.geometry.take_columns(*columns)
    return StreamNeed(
        scan=scan,
        columns=columns,
        corrections=tuple(corrections),
        algorithm=algorithm,
        projector=projector_need(backend, algorithm, geometry, threads),
        spec=spec,
        halo=sum(correct.halo(scan.geometry) for correct in corrections),
        threads=threads,
    )


def projector_need(
    backend: str, algorithm: Reconstructor, geometry: ParallelBeam, threads: int
) -> MemoryNeed:
    """Declared memory of the widest projector that an algorithm asks for, or its subsets'."""
    shape_yx = (geometry.det_count, geometry.det_count)
    wide = replace(geometry, det_count=algorithm.projector_columns(geometry))
    subsets: int = getattr(algorithm, "num_subsets", 1)  # each has a projector of its own
    one = memory_need(backend, wide.take_views(slice(None, None, subsets)), shape_yx, threads)
    return MemoryNeed(subsets * one.fixed, one.per_row)
