"""Copying a raw source into a scan store: each chunk read once, each shard written once.

The driver plans (`plan_ingest`) and makes an empty store (`create_scan`); workers run
`ingest_block` on the plan's tasks in any order, some perhaps twice; `finish_scan` marks the store
complete. A task owns whole shards and begins and ends on edges of the source's chunks, so that
tasks share neither. Its memory depends on the frame and shard sizes, never on the number of frames.

Where the projections begin in the middle of a source chunk, edges of chunks and shards never meet:
then one task goes through all frames (of a band of rows, where the source's chunks allow bands)
and keeps the frames of a cut chunk for the next shard.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import numpy as np
import zarr
from zarr.codecs import BloscCodec

from tomodask.errors import (
    AnglesError,
    FormatError,
    InputError,
    MemoryBudgetError,
    OutputExistsError,
    UnfinishedError,
)
from tomodask.frames import missing_shards
from tomodask.ingest.layout import Layout, Shape3, choose_layout, image_chunks, peak_bytes, task_id
from tomodask.ingest.source import Frames, Source, turn_frames, turned_shape
from tomodask.scan import FORMAT_VERSION, scan_metadata
from tomodask.shards import ShardEntry, sync_folder, write_shards

__all__ = [
    "IngestPlan",
    "IngestTask",
    "create_scan",
    "finish_scan",
    "ingest_block",
    "plan_ingest",
    "scan_metadata",
]


@dataclass(frozen=True, eq=False)
class IngestTask:
    """Whole shards of one store, and the frames and rows (both of the store) that fill them.

    It is sent to a worker, so it has of the source no more than the way to its projections.
    """

    projections: Frames
    path: Path
    frames: tuple[int, int]
    rows: tuple[int, int]
    layout: Layout
    rotate_detector: int
    flip: bool

    @property
    def id(self) -> str:
        """Name of the task in the ledger."""
        return task_id(self.frames, self.rows)

    @property
    def source_rows(self) -> slice:
        """Detector rows of the source that become the task's rows."""
        if self.rotate_detector == 0:
            return slice(*self.rows)
        num_rows = self.projections.shape[1]
        if self.rotate_detector == 180:
            return slice(num_rows - self.rows[1], num_rows - self.rows[0])
        return slice(0, num_rows)


@dataclass(frozen=True, eq=False)
class IngestPlan:
    """What `create_scan` makes, and the tasks that fill it.

    shape : (frame, row, column) of the store, its frames turned.
    budget_bytes, peak_bytes : memory that a task may take, and at most takes.
    input_digest : changes when the counts to be stored, or what is said about them, would change.
    """

    source: Source
    path: Path
    shape: Shape3
    layout: Layout
    budget_bytes: int
    rotate_detector: int
    flip: bool
    input_digest: str

    @property
    def peak_bytes(self) -> int:
        return peak_bytes(self.source, self.shape, self.layout)

    @property
    def tasks(self) -> list[IngestTask]:
        """All tasks, in the order of the frames; any order will do."""
        layout, (num_frames, num_rows, _) = self.layout, self.shape
        return [
            IngestTask(
                self.source.projections,
                self.path,
                (frame, min(frame + layout.task_frames, num_frames)),
                (row, min(row + layout.task_rows, num_rows)),
                layout,
                self.rotate_detector,
                self.flip,
            )
            for frame in range(0, num_frames, layout.task_frames)
            for row in range(0, num_rows, layout.task_rows)
        ]

    def on(self, metadata: Mapping[str, Any]) -> IngestPlan:
        """The plan that goes on with the store that has this metadata, whatever its budget was.

        Raises
        ------
        MemoryBudgetError : the store was begun by workers with more memory.
        """
        plan = replace(self, layout=Layout.from_metadata(metadata))
        if plan.peak_bytes > self.budget_bytes:
            raise MemoryBudgetError(
                f"{self.path} was begun with shards of {plan.layout.shard}, for which a task needs "
                f"{plan.peak_bytes / 2**30:.3g} GiB; a worker has "
                f"{self.budget_bytes / 2**30:.3g} GiB: give each worker more memory, or remove the "
                "store and begin again"
            )
        return plan


def plan_ingest(
    source: Source,
    path: Path | str,
    budget_bytes: int,
    rotate_detector: int = 0,
    flip: bool = False,
) -> IngestPlan:
    """Choose chunks, shards and tasks for a copy of `source` at `path`; nothing is written.

    A store that an interrupted ingest of the same source left at `path` keeps its layout.
    Projections that aren't consecutive in their dataset (`first_index` -1) are cut as if they began
    it; a source chunk of several frames may then be read by two tasks.

    Parameters
    ----------
    budget_bytes : what a task may take.
    rotate_detector : 0, 90, 180 or 270 degrees, counter-clockwise as `numpy.rot90` turns a frame.
    flip : then mirror the columns.

    Raises
    ------
    MemoryBudgetError : not even one chunk's frames fit, 16 as a rule.
    AnglesError : angles don't match the frames.
    InputError : an unknown rotation.
    """
    if rotate_detector not in (0, 90, 180, 270):
        raise InputError(f"rotate_detector is {rotate_detector}: give 0, 90, 180 or 270 degrees")
    frames = source.shape[0]
    if len(source.angles) != frames:
        raise AnglesError(f"{source.path}: {len(source.angles)} angles for {frames} projections")
    path, digest = Path(path), _input_digest(source, rotate_detector, flip)
    shape = turned_shape(source.shape, rotate_detector)
    stored = scan_metadata(path)
    if stored is None or stored["input_digest"] != digest:
        layout = choose_layout(source, rotate_detector, budget_bytes)
        return IngestPlan(source, path, shape, layout, budget_bytes, rotate_detector, flip, digest)
    layout = Layout.from_metadata(stored)
    plan = IngestPlan(source, path, shape, layout, budget_bytes, rotate_detector, flip, digest)
    return plan if stored["complete"] else plan.on(stored)


def create_scan(plan: IngestPlan, source: Source) -> dict[str, Any]:
    """Make the store with everything but the projections; returns its metadata.

    It appears under its name at once and whole, or not at all.

    Raises
    ------
    OutputExistsError : there is something at the path.
    """
    path = plan.path
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise OutputExistsError(
            f"{path} exists: choose another path for the scan store, or remove what is there"
        )
    metadata: dict[str, Any] = {
        "kind": "scan",
        "format_version": FORMAT_VERSION,
        "uuid": str(uuid.uuid4()),
        "signal": source.signal,
        "gain": source.gain,
        "pixel_size_um": source.pixel_size_um,
        "energy_kev": source.energy_kev,
        "distance_mm": source.distance_mm,
        "source": f"{source.path} ({source.description})",
        "rotate_detector": plan.rotate_detector,
        "flip": plan.flip,
        "input_digest": plan.input_digest,
        "metadata": dict(source.metadata),
        "layout": plan.layout.as_metadata(),
        "complete": False,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        group = zarr.create_group(partial, zarr_format=3, attributes={"tomodask": metadata})
        chunk, shard = plan.layout.chunk, plan.layout.shard
        _create_array(partial / "projections", plan.shape, source.dtype, chunk, shard)
        _write_images(partial, plan, "flats", source.flats())
        _write_images(partial, plan, "darks", source.darks())
        _write_coordinates(group, source)
        for folder, _, names in os.walk(partial):
            for name in names:
                _sync(Path(folder) / name)
            sync_folder(Path(folder))
        partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    sync_folder(path.parent)
    return metadata


def ingest_block(task: IngestTask) -> dict[str, Any]:
    """Read the task's frames and write its shards; when this returns, they are on the disk.

    Doing it again gives the same bytes. Returns what was moved, for the report, and the `shards`
    (`ShardEntry`, keys counted from the store).
    """
    seconds_read = seconds_write = 0.0
    num_bytes, shards = 0, []
    first = task.frames[0]
    blocks = _shard_blocks(task)
    while True:
        began = perf_counter()
        block = next(blocks, None)
        seconds_read += perf_counter() - began
        if block is None:
            break
        began = perf_counter()
        shards += _write_block(task, first, block)
        first += len(block)
        num_bytes += block.nbytes
        del block  # or it would be kept while the next one is read
        seconds_write += perf_counter() - began
    return {
        "frames": task.frames[1] - task.frames[0],
        "bytes_read": num_bytes,
        "bytes_written": sum(shard.size for shard in shards),
        "seconds_read": seconds_read,
        "seconds_write": seconds_write,
        "shards": shards,
    }


def finish_scan(path: Path | str) -> None:
    """Mark the store as complete, which makes it readable.

    Raises
    ------
    FormatError : not a scan store.
    UnfinishedError : shards are missing.
    """
    path = Path(path)
    metadata = scan_metadata(path)
    if metadata is None:
        raise FormatError(f"{path} is not a scan store: make one with `tomodask ingest`")
    group = zarr.open_group(path, mode="r+", use_consolidated=False)
    missing = list(missing_shards(path / "projections"))
    if missing:
        raise UnfinishedError(
            f"{path}: {len(missing)} shards were not written, the first is {missing[0]}: run the "
            "same ingest command again"
        )
    group.update_attributes({"tomodask": {**metadata, "complete": True}})
    _sync(path / "zarr.json")
    sync_folder(path)


# ---- what a task does ------------------------------------------------------------------------


def _pieces(task: IngestTask) -> Iterator[np.ndarray]:
    """The task's frames in runs that end on the edges of source chunks."""
    projections, (start, stop) = task.projections, task.frames
    chunk_frames, offset = projections.chunk_shape[0], max(projections.first_index, 0)
    while start < stop:
        edge = (offset + start + task.layout.read_frames) // chunk_frames * chunk_frames - offset
        end = min(edge, stop)
        yield projections.read(slice(start, end), task.source_rows)
        start = end


def _shard_blocks(task: IngestTask) -> Iterator[np.ndarray]:
    """The task's frames, a shard's worth at a time; a view where one piece holds them all."""
    first, stop = task.frames
    block, filled = np.empty(0), 0
    for piece in _pieces(task):
        used = 0
        while used < len(piece):
            length = min(task.layout.shard[0], stop - first)
            part = piece[used : used + length - filled]
            used += len(part)
            if len(part) == length:
                yield part
                first += length
                continue
            if filled == 0:
                block = np.empty((length, *piece.shape[1:]), piece.dtype)
            block[filled : filled + len(part)] = part
            filled += len(part)
            if filled == length:
                yield block
                first += length
                block, filled = np.empty(0), 0
        del piece, part  # or they would be kept while the next piece is read


def _write_block(task: IngestTask, first: int, block: np.ndarray) -> list[ShardEntry]:
    turned = turn_frames(block, task.rotate_detector, task.flip)
    frames, (top, bottom) = slice(first, first + len(block)), task.rows
    shards = []
    for row in range(top, bottom, task.layout.shard[1]):
        # One shard after the other: those encoded together would all be held in memory.
        end = min(row + task.layout.shard[1], bottom)
        region = (frames, slice(row, end), slice(0, turned.shape[2]))
        shards += write_shards(task.path / "projections", region, turned[:, row - top : end - top])
    return [shard.below("projections") for shard in shards]


def _input_digest(source: Source, rotate_detector: int, flip: bool) -> str:
    said = (source.signal, source.gain, source.pixel_size_um, source.energy_kev, source.distance_mm)
    facts = (source.fingerprint(), *said, rotate_detector, flip)
    return sha256(repr(facts).encode()).hexdigest()


# ---- the empty store -------------------------------------------------------------------------


def _create_array(
    folder: Path, shape: Shape3, dtype: np.dtype, chunk: Shape3, shard: Shape3
) -> None:
    # bitshuffle packs away the unused high bits of 12 and 14 bit detectors; floats have none
    shuffle: Literal["bitshuffle", "shuffle"] = "bitshuffle" if dtype.kind in "ui" else "shuffle"
    zarr.create_array(
        folder,
        shape=shape,
        dtype=dtype.newbyteorder("="),
        chunks=chunk,
        shards=shard,
        compressors=BloscCodec(cname="lz4", clevel=5, shuffle=shuffle),
        fill_value=0,
        dimension_names=("frame", "row", "column"),
    )


def _write_images(folder: Path, plan: IngestPlan, name: str, frames: np.ndarray | None) -> None:
    """Flats or darks, cut in rows like the projections: a block reads its own rows alone."""
    if frames is None:
        return
    turned = turn_frames(frames, plan.rotate_detector, plan.flip)
    rows = turned.shape[1]
    if turned.shape[1:] != plan.shape[1:]:
        raise FormatError(
            f"{plan.source.path}: {name} of {frames.shape[1:]} pixels for projections of "
            f"{plan.source.shape[1:]}"
        )
    chunk, shard = image_chunks(turned.shape, frames.dtype, plan.layout)
    _create_array(folder / name, turned.shape, frames.dtype, chunk, shard)
    for row in range(0, rows, shard[1]):
        region = (slice(None), slice(row, min(row + shard[1], rows)), slice(None))
        write_shards(folder / name, region, turned[region])


def _write_coordinates(group: zarr.Group, source: Source) -> None:
    values = {
        "angle": np.asarray(source.angles, np.float64),
        "timestamp": source.timestamps,
        "quality": np.ones(source.shape[0], np.uint8),
        "flat_timestamp": source.flat_times,
        "dark_timestamp": source.dark_times,
    }
    for name, value in values.items():
        if value is None:
            continue
        axis = {"flat_timestamp": "flat", "dark_timestamp": "dark"}.get(name, "frame")
        group.create_array(
            name,
            data=np.asarray(value),
            chunks=(len(value),),
            dimension_names=(axis,),
            attributes={"units": "radians"} if name == "angle" else {},
        )


def _sync(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
