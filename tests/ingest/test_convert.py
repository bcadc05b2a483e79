import pickle
import tracemalloc
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import zarr

from tomodask.errors import (
    AnglesError,
    FormatError,
    InputError,
    MemoryBudgetError,
    OutputExistsError,
    UnfinishedError,
)
from tomodask.ingest import layout as layout_module
from tomodask.ingest import open_source
from tomodask.ingest.convert import (
    create_scan,
    finish_scan,
    ingest_block,
    plan_ingest,
    scan_metadata,
)
from tomodask.ingest.source import Source
from tomodask.scan import Scan

LARGE = 2**34


@dataclass(frozen=True, eq=False)
class ArrayFrames:
    """Frames in memory, as if a file held them in chunks; counts how often each chunk is read."""

    values: np.ndarray
    chunk_shape: tuple[int, int, int]
    first_index: int = 0
    files: tuple[Path, ...] = ()
    label: str = "memory"
    touched: Counter = field(default_factory=Counter)

    @property
    def shape(self):
        return self.values.shape

    @property
    def dtype(self):
        return self.values.dtype

    def chunks_met(self, frames, rows):
        first, offset = range(*frames.indices(self.shape[0])), max(self.first_index, 0)
        tops = range(*rows.indices(self.shape[1]))
        bands = {(offset + frame) // self.chunk_shape[0] for frame in first}
        return [
            (band, row) for band in bands for row in {top // self.chunk_shape[1] for top in tops}
        ]

    def read(self, frames, rows):
        self.touched.update(self.chunks_met(frames, rows))
        return self.values[frames, rows].copy()


def make_source(shape, chunk_shape=None, first_index=0, dtype=np.uint16, **known):
    rng = np.random.default_rng(3)
    values = rng.integers(0, 4096, shape).astype(dtype)
    frame = (1, *shape[1:])
    return Source(
        Path("/data/foam.h5"),
        "a fake",
        ArrayFrames(values, chunk_shape or frame, first_index),
        np.linspace(0, np.pi, shape[0]),
        flat_frames=ArrayFrames(rng.integers(3000, 4096, (5, *shape[1:])).astype(dtype), frame),
        dark_frames=ArrayFrames(rng.random((3, *shape[1:]), np.float32), frame),
        **known,
    )


def ingest(source, path, budget=LARGE, order=None, **turn):
    plan = plan_ingest(source, path, budget, **turn)
    create_scan(plan, source)
    tasks = plan.tasks
    for number in range(len(tasks)) if order is None else order(len(tasks)):
        ingest_block(tasks[number])
    finish_scan(path)
    return plan


def contents(path):
    """Bytes of every file below a folder."""
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


def least_budget(source, **turn):
    """The smallest budget that is not refused."""
    low, high = 0, LARGE
    while high - low > 1:
        middle = (low + high) // 2
        try:
            plan_ingest(source, "nowhere", middle, **turn)
            high = middle
        except MemoryBudgetError:
            low = middle
    return high


@pytest.fixture
def small_shards(monkeypatch):
    """Shards and bands so small that tests of a few MB have many."""
    monkeypatch.setattr(layout_module, "SHARD_FRAMES", 32)
    monkeypatch.setattr(layout_module, "SHARD_BYTES", 32 * 64 * 20 * 2)
    monkeypatch.setattr(layout_module, "BAND_BYTES", 32 * 40 * 20 * 2)


SOURCES = {
    "one frame": ((1, 3, 5), None, 0),
    "few frames": ((7, 35, 21), None, 0),
    "frame by frame": ((150, 70, 20), None, 0),
    "frame by frame, after flats": ((150, 70, 20), None, 11),
    "chunks of frames": ((150, 70, 20), (12, 70, 20), 0),
    "chunks of frames and rows": ((91, 135, 20), (12, 34, 20), 0),
    "large chunks of frames": ((150, 70, 20), (48, 70, 20), 0),
    "prime chunks": ((150, 70, 20), (67, 70, 20), 0),
    "offset in the first chunk": ((150, 70, 20), (12, 70, 20), 5),
    "offset, chunks of rows": ((150, 135, 20), (12, 34, 20), 20),
    "offset, chunks longer than shards": ((150, 135, 20), (50, 8, 20), 20),
    "sinograms": ((150, 135, 20), (150, 1, 20), 0),
    "sinograms, after flats": ((150, 135, 20), (170, 1, 20), 20),
}


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("budget", ["large", "least"])
@pytest.mark.parametrize("case", SOURCES)
def test_a_scan_is_its_source_and_each_source_chunk_is_read_once(tmp_path, case, budget):
    shape, chunk_shape, first_index = SOURCES[case]
    source = make_source(shape, chunk_shape, first_index)
    allowed = LARGE if budget == "large" else least_budget(source)
    plan = ingest(source, tmp_path / "scan.zarr", allowed)
    block = Scan.open(tmp_path / "scan.zarr").read((0, shape[1]))
    np.testing.assert_array_equal(block.data, source.projections.values)
    np.testing.assert_array_equal(block.flats, source.flat_frames.values)
    np.testing.assert_array_equal(block.darks, source.dark_frames.values)
    np.testing.assert_array_equal(block.geometry.angles, source.angles)
    every = source.projections.chunks_met(slice(None), slice(None))
    assert source.projections.touched == dict.fromkeys(every, 1)
    assert plan.peak_bytes <= allowed


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("rotate", [90, 180, 270])
@pytest.mark.parametrize(
    ("chunk_shape", "flip"), [((1, 136, 20), False), ((12, 34, 20), True), ((50, 8, 20), False)]
)
def test_frames_flats_and_darks_are_turned_alike(tmp_path, rotate, flip, chunk_shape):
    source = make_source((60, 136, 20), chunk_shape, 3)
    turn = {"rotate_detector": rotate, "flip": flip}
    ingest(source, tmp_path / "scan.zarr", least_budget(source, **turn), **turn)
    scan = Scan.open(tmp_path / "scan.zarr")
    block = scan.read((0, scan.geometry.det_rows))

    def turned(frames):
        frames = np.rot90(frames, rotate // 90, axes=(1, 2))
        return frames[:, :, ::-1] if flip else frames

    np.testing.assert_array_equal(block.data, turned(source.projections.values))
    np.testing.assert_array_equal(block.flats, turned(source.flat_frames.values))
    np.testing.assert_array_equal(block.darks, turned(source.dark_frames.values))
    assert set(source.projections.touched.values()) == {1}


def test_a_rotation_by_90_degrees_takes_the_top_right_pixel_to_the_top_left(tmp_path):
    source = make_source((2, 4, 6))
    ingest(source, tmp_path / "scan.zarr", rotate_detector=90)
    turned = Scan.open(tmp_path / "scan.zarr").read((0, 6)).data
    np.testing.assert_array_equal(turned[:, 0, 0], source.projections.values[:, 0, 5])
    np.testing.assert_array_equal(turned[:, 5, 0], source.projections.values[:, 0, 0])


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("case", ["chunks of frames and rows", "offset, chunks of rows"])
def test_order_and_repetition_of_tasks_do_not_change_a_byte(tmp_path, case):
    source = make_source(*SOURCES[case])
    budget = least_budget(source)
    ingest(source, tmp_path / "a.zarr", budget)
    ingest(
        source, tmp_path / "b.zarr", budget, lambda count: [*reversed(range(count)), 0, count - 1]
    )
    first, second = (contents(tmp_path / name) for name in ("a.zarr", "b.zarr"))
    uuids = [scan_metadata(tmp_path / name)["uuid"] for name in ("a.zarr", "b.zarr")]
    assert len([key for key in first if key.startswith("projections/c/")]) > 2
    second["zarr.json"] = second["zarr.json"].replace(uuids[1].encode(), uuids[0].encode())
    assert first == second


@pytest.mark.usefixtures("small_shards")
def test_a_torn_shard_heals_when_its_task_runs_again(tmp_path):
    source = make_source((50, 70, 20))
    plan = ingest(source, tmp_path / "scan.zarr")
    good = contents(tmp_path / "scan.zarr")
    torn = tmp_path / "scan.zarr/projections/c/1/0/0"
    torn.write_bytes(torn.read_bytes()[:100])
    for task in plan.tasks:
        ingest_block(task)
    assert contents(tmp_path / "scan.zarr") == good


@pytest.mark.usefixtures("small_shards")
def test_tasks_share_no_shard_and_their_reports_name_them_all(tmp_path):
    source = make_source((150, 135, 20), (12, 34, 20))
    plan = plan_ingest(source, tmp_path / "scan.zarr", least_budget(source))
    create_scan(plan, source)
    reports = [ingest_block(task) for task in plan.tasks]
    shards = [shard for report in reports for shard in report["shards"]]
    keys = [shard.key for shard in shards]
    files = [
        str(file.relative_to(tmp_path / "scan.zarr"))
        for file in (tmp_path / "scan.zarr/projections/c").rglob("*")
        if file.is_file()
    ]
    assert sorted(keys) == sorted(files)
    assert len({task.id for task in plan.tasks}) == len(plan.tasks) > 1
    assert sum(report["bytes_read"] for report in reports) == source.projections.values.nbytes
    assert sum(report["bytes_written"] for report in reports) == sum(shard.size for shard in shards)
    for shard in shards:
        assert (tmp_path / "scan.zarr" / shard.key).stat().st_size == shard.size


def test_a_task_travels_to_another_process(tmp_path):
    source = make_source((20, 8, 6))
    plan = plan_ingest(source, tmp_path / "scan.zarr", LARGE)
    create_scan(plan, source)
    for task in plan.tasks:
        ingest_block(pickle.loads(pickle.dumps(task)))
    finish_scan(tmp_path / "scan.zarr")
    read = Scan.open(tmp_path / "scan.zarr").read((0, 8)).data
    np.testing.assert_array_equal(read, source.projections.values)


def test_zeros_are_stored_not_left_out(tmp_path):
    source = make_source((40, 33, 6))
    source.projections.values[:] = 0
    ingest(source, tmp_path / "scan.zarr")
    assert not Scan.open(tmp_path / "scan.zarr").read((0, 33)).data.any()


@pytest.mark.parametrize(
    ("dtype", "shuffle"), [("u2", "bitshuffle"), (">u2", "bitshuffle"), ("f4", "shuffle")]
)
def test_the_store_is_plain_zarr_with_raw_counts(tmp_path, dtype, shuffle):
    source = make_source((40, 33, 6), dtype=dtype)
    ingest(source, tmp_path / "scan.zarr")
    array = zarr.open_array(tmp_path / "scan.zarr/projections")
    np.testing.assert_array_equal(array[:], source.projections.values)
    assert (array.dtype, array.fill_value) == (np.dtype(dtype).newbyteorder("="), 0)
    assert array.metadata.dimension_names == ("frame", "row", "column")
    (codec,) = array.compressors
    assert (codec.cname.value, codec.shuffle.value) == ("lz4", shuffle)


def test_what_is_known_of_the_source_is_kept(tmp_path):
    known = {
        "timestamps": np.arange(20.0) / 10,
        "flat_times": np.arange(5.0),
        "signal": "emission",
        "gain": 1.5,
        "pixel_size_um": 0.65,
        "energy_kev": 25.0,
        "distance_mm": 300.0,
        "metadata": {"title": "foam", "exposure_s": 0.1},
    }
    ingest(make_source((20, 8, 6), **known), tmp_path / "scan.zarr")
    scan = Scan.open(tmp_path / "scan.zarr")
    for name in ("signal", "gain", "energy_kev", "distance_mm", "metadata"):
        assert getattr(scan, name) == known[name]
    assert scan.geometry.pixel_size_um == 0.65
    np.testing.assert_array_equal(scan.timestamps, known["timestamps"])
    np.testing.assert_array_equal(scan.flat_times, known["flat_times"])
    assert scan.dark_times is None


def test_a_scan_without_flats_and_darks_can_be_stored(tmp_path):
    source = replace(make_source((20, 8, 6)), flat_frames=None, dark_frames=None)
    ingest(source, tmp_path / "scan.zarr")
    block = Scan.open(tmp_path / "scan.zarr").read((2, 4))
    assert block.flats is None
    assert block.darks is None


@pytest.mark.usefixtures("small_shards")
def test_an_unfinished_store_is_refused_by_readers_and_by_finish(tmp_path):
    source = make_source((80, 40, 20))
    plan = plan_ingest(source, tmp_path / "scan.zarr", LARGE)
    metadata = create_scan(plan, source)
    assert metadata == scan_metadata(tmp_path / "scan.zarr")
    assert (metadata["complete"], metadata["input_digest"]) == (False, plan.input_digest)
    for task in plan.tasks[1:]:
        ingest_block(task)
    with pytest.raises(UnfinishedError):
        Scan.open(tmp_path / "scan.zarr")
    with pytest.raises(UnfinishedError, match="c/0/0/0"):
        finish_scan(tmp_path / "scan.zarr")
    ingest_block(plan.tasks[0])
    finish_scan(tmp_path / "scan.zarr")
    finish_scan(tmp_path / "scan.zarr")
    assert scan_metadata(tmp_path / "scan.zarr") == metadata | {"complete": True}


@pytest.mark.usefixtures("small_shards")
def test_an_ingest_goes_on_in_the_layout_it_began_with(tmp_path):
    source = make_source((150, 70, 20))
    small = least_budget(source)
    begun = plan_ingest(source, tmp_path / "scan.zarr", small)
    metadata = create_scan(begun, source)
    later = plan_ingest(source, tmp_path / "scan.zarr", LARGE)
    assert later.layout == begun.layout
    assert later.layout != plan_ingest(source, tmp_path / "other.zarr", LARGE).layout
    assert later.on(metadata).layout == begun.layout
    roomy = plan_ingest(source, tmp_path / "roomy.zarr", LARGE)
    create_scan(roomy, source)
    with pytest.raises(MemoryBudgetError, match="was begun with shards"):
        plan_ingest(source, tmp_path / "roomy.zarr", small)
    for task in roomy.tasks:
        ingest_block(task)
    finish_scan(tmp_path / "roomy.zarr")
    assert plan_ingest(source, tmp_path / "roomy.zarr", small).layout == roomy.layout  # all done


def test_the_digest_follows_what_would_change_the_store():
    source = make_source((20, 8, 6))
    plans = [
        plan_ingest(source, "nowhere", LARGE),
        plan_ingest(source, "nowhere", LARGE, rotate_detector=90),
        plan_ingest(source, "nowhere", LARGE, flip=True),
        plan_ingest(replace(source, pixel_size_um=1.0), "nowhere", LARGE),
        plan_ingest(replace(source, angles=source.angles + 1), "nowhere", LARGE),
    ]
    assert len({plan.input_digest for plan in plans}) == len(plans)
    again = plan_ingest(source, "elsewhere", least_budget(source))
    assert again.input_digest == plans[0].input_digest


def test_nothing_is_overwritten_and_nothing_half_made_is_left(tmp_path):
    source = make_source((20, 8, 6))
    path = tmp_path / "scan.zarr"
    path.mkdir()
    (path / "notes.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"scan\.zarr exists"):
        create_scan(plan_ingest(source, path, LARGE), source)
    small = ArrayFrames(np.ones((2, 8, 5), np.uint16), (1, 8, 5))
    odd = replace(source, flat_frames=small)
    with pytest.raises(FormatError, match="flats"):
        create_scan(plan_ingest(odd, tmp_path / "odd.zarr", LARGE), odd)
    assert [entry.name for entry in tmp_path.iterdir()] == ["scan.zarr"]
    with pytest.raises(FormatError, match="not a scan store"):
        finish_scan(path)


def test_what_cannot_be_ingested_is_refused_when_it_is_planned():
    source = make_source((150, 70, 20))
    with pytest.raises(InputError, match="rotate_detector is 45"):
        plan_ingest(source, "nowhere", LARGE, rotate_detector=45)
    with pytest.raises(AnglesError, match="149 angles for 150"):
        plan_ingest(replace(source, angles=source.angles[1:]), "nowhere", LARGE)
    with pytest.raises(MemoryBudgetError, match="70 x 20 uint16"):
        plan_ingest(source, "nowhere", 10_000)


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize(
    ("shape", "chunk_shape", "first_index", "rotate"),
    [
        ((200, 512, 64), (1, 512, 64), 0, 0),
        ((200, 64, 512), (1, 64, 512), 0, 90),
        ((200, 512, 64), (12, 512, 64), 5, 0),
        ((200, 64, 512), (12, 32, 512), 5, 90),
    ],
)
def test_a_task_takes_no_more_memory_than_declared(
    tmp_path, monkeypatch, shape, chunk_shape, first_index, rotate
):
    monkeypatch.setattr(layout_module, "SHARD_BYTES", 2**20)
    source = make_source(shape, chunk_shape, first_index)
    source.projections.values[:] = np.random.default_rng(0).integers(0, 65536, shape)
    plan = plan_ingest(source, tmp_path / "scan.zarr", LARGE, rotate)
    create_scan(plan, source)
    ingest(make_source((20, 64, 64)), tmp_path / "small.zarr")  # what is made once and kept
    tracemalloc.start()
    ingest_block(plan.tasks[0])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < plan.peak_bytes + 2**18  # Python's own objects


@pytest.mark.real
def test_a_measured_scan_in_chunks_of_frames_rows_and_columns(tmp_path, data_dir):
    import h5py

    path = data_dir / "i12_24737/i12_24737.h5"
    source = open_source(path)
    assert source.chunk_shape == (12, 34, 40)
    ingest(source, tmp_path / "scan.zarr", least_budget(source))
    block = Scan.open(tmp_path / "scan.zarr").read((0, 135))
    with h5py.File(path) as file:
        np.testing.assert_array_equal(block.data, file["exchange/data"][:])
        np.testing.assert_array_equal(block.flats, file["exchange/data_white"][:])
        np.testing.assert_array_equal(block.darks, file["exchange/data_dark"][:])
