"""How a scan store is cut into chunks, shards and tasks, so that source chunks are read once.

Edges of tasks must be edges of shards and of the source's chunks. Along the frames they meet where
a shard holds a multiple of the source chunk's frames, and the projections begin on an edge.
Otherwise a task spans all frames. Along the rows a task spans the whole detector, or a band whose
height is a multiple of both chunks' rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tomodask.errors import MemoryBudgetError
from tomodask.ingest.source import Source, turned_shape

Shape3 = tuple[int, int, int]  # (frame, row, column)

CHUNK_FRAMES, CHUNK_ROWS = 16, 32  # of an inner chunk; volumes are cut in multiples of 32 rows too
SHARD_FRAMES = 128
SHARD_BYTES = 256 * 2**20  # at most, uncompressed
BAND_BYTES = 64 * 2**20  # a shard in a band of rows is as large, if memory allows
ENCODE_COPIES = 2  # a shard is encoded chunk by chunk, then laid out as one file
ENCODED_TOGETHER = 10  # chunks: zarr's async.concurrency


@dataclass(frozen=True)
class Layout:
    """How a store is cut; kept in its attributes, so that an interrupted ingest goes on.

    chunk, shard : (frame, row, column).
    task_frames, task_rows : what one task writes: multiples of the shard, or all there are.
    read_frames : frames that it reads at once, a multiple of the source's chunk.
    """

    chunk: Shape3
    shard: Shape3
    task_frames: int
    task_rows: int
    read_frames: int

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> Layout:
        """The layout of a store that exists, from its `scan_metadata`."""
        stored = metadata["layout"]
        return cls(**{**stored, "chunk": tuple(stored["chunk"]), "shard": tuple(stored["shard"])})

    def as_metadata(self) -> dict[str, Any]:
        """For JSON, what `from_metadata` takes as `layout`."""
        return {**asdict(self), "chunk": list(self.chunk), "shard": list(self.shard)}


def task_id(frames: tuple[int, int], rows: tuple[int, int]) -> str:
    """Name in the ledger of the task that writes these frames and rows, each [start, stop)."""
    return f"f{frames[0]:07d}-{frames[1]:07d}-r{rows[0]:05d}-{rows[1]:05d}"


def choose_layout(source: Source, rotate_detector: int, budget_bytes: int) -> Layout:
    """The best layout whose tasks fit into the budget.

    Raises
    ------
    MemoryBudgetError : none fits; names the least that is needed.
    """
    shape = turned_shape(source.shape, rotate_detector)
    least = 0
    for layout in _candidates(source, rotate_detector):
        need = peak_bytes(source, shape, layout)
        if need <= budget_bytes:
            return layout
        least = min(least or need, need)
    frames, rows, columns = source.shape
    raise MemoryBudgetError(
        f"{source.path}: frames of {rows} x {columns} {source.dtype}, stored in chunks of "
        f"{source.chunk_shape}, are copied {min(frames, CHUNK_FRAMES)} or more at once, which "
        f"needs {least / 2**30:.3g} GiB; a worker has {budget_bytes / 2**30:.3g} GiB: give each "
        "worker more memory"
    )


def peak_bytes(source: Source, shape: Shape3, layout: Layout) -> int:
    """Memory of a task: the frames held, a shard as it is encoded, and chunks on their way.

    shape : (frame, row, column) of the store.
    """
    frames, rows, columns = shape
    shard_frames, shard_rows = min(layout.shard[0], frames), min(layout.shard[1], rows)
    held = min(layout.read_frames, frames)
    if layout.task_frames > layout.shard[0] and not _in_one_chunk(source):
        held += shard_frames  # the block in which frames of two reads are gathered
    pixels = held * min(layout.task_rows, rows) * columns
    pixels += ENCODE_COPIES * shard_frames * shard_rows * columns
    pixels += ENCODED_TOGETHER * math.prod(layout.chunk)
    pixels += 2 * math.prod(source.chunk_shape)  # as the reader decodes it
    return pixels * source.dtype.itemsize


def image_chunks(shape: Shape3, dtype: np.dtype, layout: Layout) -> tuple[Shape3, Shape3]:
    """Chunk and shard of flats or darks: cut in rows as the projections are."""
    count, rows, columns = shape
    frames = min(count, CHUNK_FRAMES)
    shard_frames = _round_up(count, frames)
    row_bytes = shard_frames * columns * dtype.itemsize
    shard_rows = next(_shard_rows(rows, layout.chunk[1], row_bytes, is_band=False))
    return (frames, layout.chunk[1], columns), (shard_frames, shard_rows, columns)


def _candidates(source: Source, rotate_detector: int) -> Iterator[Layout]:
    """Layouts, best first: shards of about 128 frames, then ever fewer."""
    frames, rows, columns = turned_shape(source.shape, rotate_detector)
    is_aligned, inner_frames, unit = _frame_grid(source)
    longest = _round_up(math.ceil(frames / max(1, round(frames / SHARD_FRAMES))), unit)
    near = _near(CHUNK_ROWS, source.chunk_shape[1])
    # Chunks of other heights than 32 make readers of 32 rows take more than they need, but bands of
    # them may be what lets tasks that go through all frames run side by side.
    for heights in [(CHUNK_ROWS,), (near,)] if is_aligned else [(CHUNK_ROWS, near)]:
        for shard_frames in range(longest, 0, -unit):
            row_bytes = shard_frames * columns * source.dtype.itemsize
            prefers_whole = is_aligned or shard_frames >= frames
            for task_rows, inner_rows in _row_grids(
                source, rotate_detector, heights, row_bytes, prefers_whole
            ):
                for shard_rows in _shard_rows(task_rows, inner_rows, row_bytes, task_rows < rows):
                    yield Layout(
                        (inner_frames, inner_rows, columns),
                        (shard_frames, shard_rows, columns),
                        shard_frames if is_aligned else _round_up(frames, shard_frames),
                        task_rows,
                        _read_frames(source, shard_frames, is_aligned),
                    )


def _read_frames(source: Source, shard_frames: int, is_aligned: bool) -> int:
    frames, chunk_frames = source.shape[0], source.chunk_shape[0]
    if shard_frames >= frames:
        return _round_up(frames, chunk_frames) + chunk_frames  # all, wherever they begin
    if is_aligned:
        return shard_frames
    return max(chunk_frames, shard_frames // chunk_frames * chunk_frames)


def _frame_grid(source: Source) -> tuple[bool, int, int]:
    """Whether shards can end where source chunks do; frames of a chunk and of the least shard."""
    frames, chunk_frames = source.shape[0], source.chunk_shape[0]
    if frames <= CHUNK_FRAMES:
        return False, frames, frames
    inner_frames = _near(CHUNK_FRAMES, chunk_frames)
    begins_on_edge = max(source.first_index, 0) % chunk_frames == 0
    if begins_on_edge and chunk_frames <= 2 * SHARD_FRAMES and 8 <= inner_frames <= 32:
        return True, inner_frames, max(inner_frames, chunk_frames)
    return False, CHUNK_FRAMES, CHUNK_FRAMES


def _row_grids(
    source: Source,
    rotate_detector: int,
    heights: tuple[int, ...],
    row_bytes: int,
    prefers_whole: bool,
) -> list[tuple[int, int]]:
    """(rows of a task, rows of a chunk), best first: the whole detector, wide or narrow bands.

    heights : that chunks may have in a band.
    """
    rows, columns = source.shape[1:]
    chunk_rows = source.chunk_shape[1]
    if rotate_detector in (90, 270):
        return [(columns, min(CHUNK_ROWS, columns))]
    whole = [(rows, min(CHUNK_ROWS, rows))]
    if rotate_detector == 180 and rows % chunk_rows:
        return whole  # counted from the other end, the edges of chunks lie elsewhere
    wanted = math.ceil(BAND_BYTES / row_bytes)
    narrow = [(math.lcm(chunk_rows, height), height) for height in heights if 16 <= height <= 64]
    wide = [(_round_up(wanted, unit), height) for unit, height in narrow]
    wide, narrow = ([band for band in bands if band[0] < rows] for bands in (wide, narrow))
    return whole + wide + narrow if prefers_whole else wide + whole + narrow


def _shard_rows(task_rows: int, inner_rows: int, row_bytes: int, is_band: bool) -> Iterator[int]:
    """Rows of a shard, tall first: parts of nearly one height, of exactly one in a band."""
    chunks = math.ceil(task_rows / inner_rows)
    most = max(1, SHARD_BYTES // (row_bytes * inner_rows))
    while most >= 1:
        height = math.ceil(chunks / math.ceil(chunks / most))
        if is_band:
            height = max(part for part in range(1, most + 1) if chunks % part == 0)
        yield height * inner_rows
        most = height // 2


def _in_one_chunk(source: Source) -> bool:
    """Whether all projections lie in the same source chunk, along the frames."""
    chunk_frames = source.chunk_shape[0]
    return max(source.first_index, 0) % chunk_frames + source.shape[0] <= chunk_frames


def _near(target: int, size: int) -> int:
    """The multiple of `size`, or where that is larger the divisor, nearest to `target`."""
    if size <= target:
        return round(target / size) * size
    divisors = (part for part in range(1, size + 1) if size % part == 0)
    return min(divisors, key=lambda part: max(part / target, target / part))


def _round_up(length: int, unit: int) -> int:
    return -(-length // unit) * unit
