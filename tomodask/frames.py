"""Frames of a (frame, row, column) array on the disk: any of them, of any window, once each."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.buffer.cpu import NDBuffer

from tomodask import arrays
from tomodask.shardcodec import ShardLayout

PIECE_BYTES = 64 * 2**20  # decoded by Zarr at once: enough shards to keep its threads busy


def read_frames(
    folder: Path, frames: np.ndarray, window: tuple[slice, slice], threads: int = 1
) -> np.ndarray:
    """(frame, row, column) of the frames asked for, in their order and this machine's bytes.

    Shards in the layout that ingest writes are decoded in place; all else is read by Zarr, whole
    shards at a time, so that none is opened twice.

    Parameters
    ----------
    folder : of a Zarr array.
    window : rows and columns, slices with both ends.
    threads : that decode side by side; Zarr has its own.
    """
    array = zarr.open_array(folder, mode="r")
    height, width = (axis.stop - axis.start for axis in window)
    out = arrays.empty((frames.size, height, width), array.dtype.newbyteorder("="))
    layout = direct_layout(array)
    if layout is not None:
        layout.read_frames(folder, frames, window, out, threads)
        return out
    shard_frames = (array.shards or array.chunks)[0]
    bands = frames // piece_frames(shard_frames, height * width * out.itemsize)
    edges = [0, *(np.flatnonzero(np.diff(bands)) + 1), frames.size]
    for start, stop in pairwise(edges):
        piece = frames[start:stop]
        first, last = int(piece[0]), int(piece[-1])
        target = NDBuffer.from_numpy_array(out[start:stop])
        if last - first + 1 == piece.size:
            array.get_basic_selection((slice(first, last + 1), *window), out=target)
        else:
            array.get_orthogonal_selection((piece, *window), out=target)
    return out


def direct_layout(array: zarr.Array[Any]) -> ShardLayout | None:
    """The layout of an array that is read without Zarr, None for all others."""
    layout = ShardLayout.of(array)
    return layout if layout is not None and layout.holds_frames else None


def piece_frames(shard_frames: int, frame_bytes: int) -> int:
    """Frames that Zarr is to decode at once: whole shards."""
    return shard_frames * max(1, PIECE_BYTES // max(1, shard_frames * frame_bytes))


def missing_shards(
    folder: Path, frames: np.ndarray | None = None, rows: slice = slice(None)
) -> Iterator[Path]:
    """Files that a scan store's array at `folder` lacks, of those that meet the frames and rows.

    Zarr would read them as zeros, but ingest writes every shard, empty or not.
    """
    array = zarr.open_array(folder, mode="r")
    shard_frames, shard_rows, _ = array.shards or array.chunks
    chosen = np.arange(array.shape[0]) if frames is None else frames
    top, bottom, _ = rows.indices(array.shape[1])
    for band in np.unique(chosen // shard_frames):
        for row in range(top // shard_rows, -(-bottom // shard_rows)):
            path = folder / array.metadata.encode_chunk_key((int(band), row, 0))
            if not path.exists():
                yield path
