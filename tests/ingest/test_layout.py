from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tomodask.errors import MemoryBudgetError
from tomodask.ingest.convert import IngestPlan
from tomodask.ingest.layout import Layout, choose_layout, image_chunks, peak_bytes
from tomodask.ingest.source import turned_shape

GIB = 2**30


@dataclass(frozen=True)
class StoredFrames:
    """What a layout depends on: how a source lies in its file."""

    shape: tuple[int, int, int]
    chunk_shape: tuple[int, int, int]
    first_index: int = 0
    path: Path = Path("/data/foam.h5")

    @property
    def projections(self):
        return self

    @property
    def dtype(self):
        return np.dtype(np.uint16)


CAMERA = StoredFrames((1800, 2160, 2560), (1, 2160, 2560))
PROJECTIONS_BY_CHUNK = {
    "frame by frame": CAMERA,
    "after flats": replace(CAMERA, first_index=20),
    "auto-chunked": replace(CAMERA, chunk_shape=(57, 135, 160)),
    "auto-chunked after flats": replace(CAMERA, chunk_shape=(57, 68, 160), first_index=20),
    "sinograms": replace(CAMERA, chunk_shape=(1800, 1, 2560)),
    "chunks of many frames": replace(CAMERA, chunk_shape=(450, 4, 2560)),
}


def tasks_of(source, layout, rotate=0):
    shape = turned_shape(source.shape, rotate)
    return IngestPlan(source, Path("scan.zarr"), shape, layout, 0, rotate, False, "").tasks


@st.composite
def sources(draw):
    shape = tuple(draw(st.integers(low, high)) for low, high in [(1, 4000), (1, 3000), (2, 3000)])
    chunk_frames = draw(st.sampled_from([1, 1, 2, 12, 16, 45, 67, 128, 500, shape[0]]))
    chunk_rows = draw(st.sampled_from([1, 4, 32, 34, 45, 139, shape[1]]))
    return StoredFrames(
        shape,
        (chunk_frames, min(chunk_rows, shape[1]), shape[2]),
        draw(st.sampled_from([0, 0, -1, 5, 16, 100])),
    )


def check_tasks(source, layout, rotate, budget):
    """Tasks own whole shards, share no source chunk, and fit into the budget."""
    shape = turned_shape(source.shape, rotate)
    assert peak_bytes(source, shape, layout) <= budget
    for chunk, shard, length in zip(layout.chunk, layout.shard, shape, strict=True):
        assert shard % chunk == 0
        assert chunk <= length
    assert layout.chunk[2] == layout.shard[2] == shape[2]
    tasks = tasks_of(source, layout, rotate)
    (frames, rows, _), (chunk_frames, chunk_rows, _) = shape, source.chunk_shape
    areas = [(t.frames[1] - t.frames[0]) * (t.rows[1] - t.rows[0]) for t in tasks]
    assert sum(areas) == frames * rows
    for task in tasks:
        assert [task.frames[0] % layout.shard[0], task.rows[0] % layout.shard[1]] == [0, 0]
        assert task.frames[1] % layout.shard[0] == 0 or task.frames[1] == frames
        assert task.rows[1] % layout.shard[1] == 0 or task.rows[1] == rows
        for edge in task.frames:
            assert edge in (0, frames) or (max(source.first_index, 0) + edge) % chunk_frames == 0
        for edge in (task.source_rows.start, task.source_rows.stop):
            assert edge in (0, source.shape[1]) or edge % chunk_rows == 0


@settings(max_examples=200, deadline=None)
@given(
    source=sources(),
    rotate=st.sampled_from([0, 90, 180, 270]),
    budget=st.sampled_from([GIB // 4, GIB, 8 * GIB, 1024 * GIB]),
)
def test_tasks_own_whole_shards_and_whole_source_chunks_within_the_budget(source, rotate, budget):
    try:
        layout = choose_layout(source, rotate, budget)
    except MemoryBudgetError:
        assert budget < 1024 * GIB
    else:
        check_tasks(source, layout, rotate, budget)


@pytest.mark.parametrize("case", PROJECTIONS_BY_CHUNK)
@pytest.mark.parametrize("budget", [GIB, 3 * GIB, 8 * GIB])
def test_a_cameras_scan_gets_large_shards_of_small_chunks(case, budget):
    source = PROJECTIONS_BY_CHUNK[case]
    layout = choose_layout(source, 0, budget)
    check_tasks(source, layout, 0, budget)
    assert 15 <= layout.chunk[0] <= 20
    assert layout.chunk[1] == 32  # other heights only where nothing else fits
    assert 57 <= layout.shard[0] <= 260
    shard_bytes = 2 * np.prod(layout.shard)
    assert 20 * 2**20 <= shard_bytes <= 300 * 2**20


def test_chunks_of_another_height_are_taken_before_an_ingest_is_refused():
    source = PROJECTIONS_BY_CHUNK["auto-chunked"]
    layout = choose_layout(source, 0, GIB // 3)
    check_tasks(source, layout, 0, GIB // 3)
    assert layout.chunk[1] == 27


def test_memory_and_shards_do_not_depend_on_the_number_of_frames():
    for source in PROJECTIONS_BY_CHUNK.values():
        if source.chunk_shape[0] == source.shape[0]:
            continue  # a chunk has to be held, and here each holds all frames
        longer = replace(source, shape=(18_000, *source.shape[1:]))
        peaks = [
            peak_bytes(stack, stack.shape, choose_layout(stack, 0, 3 * GIB))
            for stack in (source, longer)
        ]
        assert peaks[0] == pytest.approx(peaks[1], rel=0.3)  # shards are of nearly equal lengths


def test_less_memory_means_smaller_shards_until_it_is_refused():
    shards = [choose_layout(CAMERA, 0, budget).shard for budget in (4 * GIB, GIB, GIB // 3)]
    assert shards[0] > shards[1] > shards[2]
    assert shards[2][0] >= 16
    with pytest.raises(MemoryBudgetError, match="2160 x 2560 uint16") as refused:
        choose_layout(CAMERA, 0, GIB // 5)
    assert "a worker has 0.2 GiB" in str(refused.value)


def test_a_scan_that_begins_inside_a_chunk_still_has_tasks_side_by_side():
    source = PROJECTIONS_BY_CHUNK["auto-chunked after flats"]
    tasks = tasks_of(source, choose_layout(source, 0, 3 * GIB))
    assert len(tasks) >= 4
    assert {task.frames for task in tasks} == {(0, 1800)}


def test_a_small_scan_is_one_shard():
    source = StoredFrames((181, 2, 640), (1, 2, 640))
    layout = choose_layout(source, 0, GIB)
    assert layout.chunk == (16, 2, 640)
    assert layout.shard == (192, 2, 640)
    assert len(tasks_of(source, layout)) == 1


def test_flats_are_cut_in_the_rows_of_the_projections():
    layout = choose_layout(CAMERA, 0, 4 * GIB)
    chunk, shard = image_chunks((20, 2160, 2560), np.dtype(np.float32), layout)
    assert chunk == (16, 32, 2560)
    assert shard[0] == 32
    assert shard[1] % 32 == 0
    assert image_chunks((1, 2, 3), np.dtype(np.uint16), Layout((7, 2, 3), (7, 2, 3), 7, 2, 7)) == (
        (1, 2, 3),
        (1, 2, 3),
    )
