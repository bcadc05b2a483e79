import json
import os
import pickle
from collections import Counter
from itertools import product
from math import ceil

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.abc.store import RangeByteRequest
from zarr.codecs import BloscCodec, ZstdCodec
from zarr.storage import LocalStore

from tomodask import frames as frames_module
from tomodask.errors import (
    AnglesError,
    ChunkLayoutError,
    FormatError,
    GeometryError,
    MissingInputError,
    UnfinishedError,
)
from tomodask.scan import FORMAT_VERSION, Scan, is_zarr, scan_metadata

SHAPE = (45, 37, 11)  # nothing divides it
CHUNK, SHARD = (4, 8, 11), (16, 16, 11)
ANGLES = np.linspace(0, np.pi, SHAPE[0])


def counts(shape=SHAPE):
    return np.random.default_rng(1).integers(1, 4000, shape).astype(np.uint16)


def attributes(**changes):
    """What ingest writes into a scan store."""
    metadata = {
        "kind": "scan",
        "format_version": 1,
        "uuid": "0",
        "signal": "transmission",
        "gain": 2.5,
        "pixel_size_um": 3.2,
        "energy_kev": 53.0,
        "distance_mm": None,
        "source": "a test",
        "input_digest": "abc",
        "metadata": {"title": "foam"},
        "complete": True,
    }
    return {"tomodask": metadata | changes}


def write_scan(path, quality=None, compressors="auto", **changes):
    data = counts()
    group = zarr.create_group(path, attributes=attributes(**changes))
    every = {"write_empty_chunks": True}
    group.create_array(
        "projections", data=data, chunks=CHUNK, shards=SHARD, config=every,
        compressors=compressors,
    )  # fmt: skip
    group.create_array("angle", data=ANGLES, attributes={"units": "radians"})
    group.create_array("timestamp", data=np.arange(45.0))
    group.create_array("flats", data=counts((3, 37, 11)), chunks=(3, 8, 11))
    group.create_array("darks", data=counts((2, 37, 11)), chunks=(2, 8, 11))
    group.create_array("flat_timestamp", data=np.array([0.0, 1.0, 50.0]))
    if quality is not None:
        group.create_array("quality", data=np.asarray(quality, np.uint8))
    return data


def write_stack(path, zarr_format=3, folder="", chunks=(4, 8, 11), units="degrees", names=None):
    """A stack as other programs write it; `names` of projections, angles, flats, darks."""
    names = names or ("data", "theta", "data_white", "data_dark")
    data = counts()
    group = zarr.create_group(path, zarr_format=zarr_format)
    inside = group.create_group(folder) if folder else group
    inside.create_array(names[0], data=data.astype(">u2"), chunks=chunks)
    angle = inside.create_array(names[1], data=np.rad2deg(ANGLES))
    if units:
        angle.attrs["units"] = units
    inside.create_array(names[2], data=counts((3, *SHAPE[1:])), chunks=(1, *SHAPE[1:]))
    inside.create_array(names[3], data=counts((2, *SHAPE[1:])), chunks=(1, *SHAPE[1:]))
    return data


# what ingest writes, and plain bytes, are read directly; all else by Zarr
COMPRESSORS = {"zarr": ZstdCodec(), "lz4": BloscCodec(cname="lz4", typesize=2), "bytes": None}


@pytest.fixture(scope="module", params=COMPRESSORS)
def store(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("scan") / "scan.zarr"
    write_scan(path, compressors=COMPRESSORS[request.param])
    assert Scan.open(path).reads_directly == (request.param != "zarr")
    return path


def test_a_block_is_what_was_stored_with_its_geometry_and_images(store):
    block = Scan.open(store).read((5, 20), (2, 9), slice(7, 30))
    np.testing.assert_array_equal(block.data, counts()[7:30, 5:20, 2:9])
    np.testing.assert_array_equal(block.flats, counts((3, 37, 11))[:, 5:20, 2:9])
    np.testing.assert_array_equal(block.darks, counts((2, 37, 11))[:, 5:20, 2:9])
    np.testing.assert_array_equal(block.geometry.angles, ANGLES[7:30])
    assert (block.geometry.row_start, block.geometry.det_rows, block.geometry.det_count) == (
        5,
        15,
        7,
    )
    np.testing.assert_array_equal(block.timestamps, np.arange(7.0, 30.0))
    np.testing.assert_array_equal(block.flat_times, [0, 1, 50])
    assert block.dark_times is None
    assert (block.signal, block.gain, block.geometry.pixel_size_um) == ("transmission", 2.5, 3.2)


def test_opening_reads_what_is_known_and_no_frame(store, monkeypatch):
    log = _count_reads(monkeypatch)
    scan = Scan.open(store)
    assert not [key for key, _ in log if "projections/c" in key or "flats/c" in key]
    assert scan.geometry.det_rows == 37
    assert scan.geometry.center_of_rotation is None
    assert (scan.num_flats, scan.num_darks, scan.dtype) == (3, 2, np.dtype(np.uint16))
    assert (scan.energy_kev, scan.distance_mm, scan.input_digest) == (53.0, None, "abc")
    assert scan.metadata == {"title": "foam"}


def _count_reads(monkeypatch):
    """All reads from stores from now on: (path of the file, byte range)."""
    log = []
    get, pread, preadv = LocalStore.get, os.pread, os.preadv

    def count(descriptor, length, offset):
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        is_index = offset + length == os.stat(path).st_size
        log.append((path, "index" if is_index else RangeByteRequest(offset, offset + length)))

    def counted_pread(descriptor, length, offset):
        count(descriptor, length, offset)
        return pread(descriptor, length, offset)

    def counted_preadv(descriptor, buffers, offset):
        count(descriptor, sum(buffer.nbytes for buffer in buffers), offset)
        return preadv(descriptor, buffers, offset)

    monkeypatch.setattr(os, "pread", counted_pread)
    monkeypatch.setattr(os, "preadv", counted_preadv)

    async def counted(self, key, prototype=None, byte_range=None):
        log.append((f"{self.root}/{key}", byte_range))
        return await get(self, key, prototype, byte_range)

    monkeypatch.setattr(LocalStore, "get", counted)
    return log


def _payloads(log):
    """How often each inner chunk of the projections was read; a whole shard is all its chunks."""
    chunks_in_shard = int(np.prod([s // c for s, c in zip(SHARD, CHUNK, strict=True)]))
    times = Counter()
    for key, byte_range in log:
        if "projections/c" not in key or byte_range == "index":
            continue
        if byte_range is None:
            times.update({(key, number): 1 for number in range(chunks_in_shard)})
        elif isinstance(byte_range, RangeByteRequest):
            times[key, byte_range.start] += 1
    return times


def _chunks_meeting(frames, rows):
    touched = {(frame // CHUNK[0], row // CHUNK[1]) for frame, row in product(frames, rows)}
    return len(touched)


def intervals(length):
    return st.tuples(st.integers(0, length - 1), st.integers(1, length)).map(
        lambda pair: (pair[0], min(length, pair[0] + pair[1]))
    )


@settings(max_examples=30, deadline=None)
@given(
    rows=intervals(SHAPE[1]),
    columns=st.none() | intervals(SHAPE[2]).filter(lambda pair: pair[1] - pair[0] > 1),
    views=st.tuples(intervals(SHAPE[0]), st.sampled_from([1, 1, 2, 7, -1, -3])),
    piece=st.sampled_from([1, 1 << 26]),
)
def test_each_inner_chunk_that_meets_the_block_is_read_once_and_no_other(
    store, rows, columns, views, piece
):
    (first, last), step = views
    views = slice(first, last, step) if step > 0 else slice(last - 1, first - 1 or None, step)
    if step < 0 and first == 0:
        views = slice(last - 1, None, step)
    chosen = np.arange(SHAPE[0])[views]
    scan = Scan.open(store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames_module, "PIECE_BYTES", piece)
        log = _count_reads(patch)
        if chosen.size == 0:
            with pytest.raises(GeometryError):
                scan.read(rows, columns, views)
            return
        block = scan.read(rows, columns, views)
    np.testing.assert_array_equal(
        block.data, counts()[views, slice(*rows), slice(*(columns or (0, SHAPE[2])))]
    )
    np.testing.assert_array_equal(block.geometry.angles, ANGLES[views])
    times = _payloads(log)
    assert set(times.values()) == {1}
    assert len(times) == _chunks_meeting(chosen, range(*rows))


def test_bytes_read_are_the_bytes_of_the_chunks_that_meet_the_rows(store):
    scan = Scan.open(store)
    frame_bytes = SHAPE[0] * SHAPE[2] * 2
    for start, stop in [(0, 8), (8, 24), (7, 9), (32, 37), (36, 37), (0, 37)]:
        covered = min(37, ceil(stop / 8) * 8) - start // 8 * 8
        assert scan.bytes_read((start, stop)) == covered * frame_bytes


def test_aligned_blocks_without_halo_read_each_byte_of_the_volume_once(store):
    scan = Scan.open(store)
    blocks = [(start, min(start + 16, 37)) for start in range(0, 37, 16)]
    assert sum(scan.bytes_read(block) for block in blocks) == counts().nbytes


def test_bad_frames_are_left_out_of_everything(tmp_path):
    quality = np.ones(45)
    quality[[0, 3, 20, 21, 22, 23, 44]] = 0
    data = write_scan(tmp_path / "scan.zarr", quality=quality)
    good = np.flatnonzero(quality)
    scan = Scan.open(tmp_path / "scan.zarr")
    block = scan.read((3, 30))
    np.testing.assert_array_equal(block.data, data[good, 3:30])
    np.testing.assert_array_equal(block.geometry.angles, ANGLES[good])
    np.testing.assert_array_equal(block.timestamps, good)
    np.testing.assert_array_equal(scan.read((3, 4), views=slice(2, 5)).data, data[good[2:5], 3:4])
    # frames 20 to 23, and 44 alone, are chunks of their own, which are never read
    assert scan.bytes_read((0, 37)) == (45 - 5) * 37 * 11 * 2


def test_a_scan_can_be_sent_to_another_process(store):
    scan = pickle.loads(pickle.dumps(Scan.open(store)))
    np.testing.assert_array_equal(scan.read((5, 9)).data, counts()[:, 5:9])
    assert len(pickle.dumps(scan)) < 5000


def test_rows_columns_and_views_outside_the_detector_are_refused(store):
    scan = Scan.open(store)
    for rows, columns in [((-1, 5), None), ((30, 38), None), ((5, 5), None), ((0, 5), (3, 12))]:
        with pytest.raises(GeometryError):
            scan.read(rows, columns)


def test_an_unfinished_scan_is_refused_but_its_metadata_can_be_seen(tmp_path):
    write_scan(tmp_path / "scan.zarr", complete=False)
    with pytest.raises(UnfinishedError, match="same ingest command again"):
        Scan.open(tmp_path / "scan.zarr")
    assert scan_metadata(tmp_path / "scan.zarr")["input_digest"] == "abc"


def test_a_newer_format_and_other_stores_are_refused(tmp_path):
    write_scan(tmp_path / "newer.zarr", format_version=FORMAT_VERSION + 1)
    with pytest.raises(FormatError, match="update tomodask"):
        Scan.open(tmp_path / "newer.zarr")
    write_scan(tmp_path / "volume.zarr", kind="volume")
    with pytest.raises(FormatError, match="a tomodask volume"):
        Scan.open(tmp_path / "volume.zarr")
    assert scan_metadata(tmp_path / "volume.zarr") is None
    write_stack(tmp_path / "marked.zarr")
    zarr.open_group(tmp_path / "marked.zarr").attrs["tomodask"] = "checked"  # a note of someone's
    assert Scan.open(tmp_path / "marked.zarr").is_foreign
    assert scan_metadata(tmp_path / "marked.zarr") is None


@pytest.mark.parametrize("compressor", COMPRESSORS)
def test_a_lost_shard_is_noticed_instead_of_read_as_zeros(tmp_path, compressor):
    write_scan(tmp_path / "scan.zarr", compressors=COMPRESSORS[compressor])
    (tmp_path / "scan.zarr/projections/c/1/2/0").unlink()
    scan = Scan.open(tmp_path / "scan.zarr")
    scan.read((0, 32))
    scan.read((32, 37), views=slice(0, 16))
    with pytest.raises(FormatError, match="c/1/2/0 is missing"):
        scan.read((30, 33))


def test_what_is_no_zarr_group_is_refused_by_its_name(tmp_path):
    with pytest.raises(MissingInputError, match=r"nothing\.zarr does not exist"):
        Scan.open(tmp_path / "nothing.zarr")
    (tmp_path / "scan.h5").write_bytes(b"\x89HDF")
    zarr.create_array(tmp_path / "array.zarr", data=counts())
    (tmp_path / "torn.zarr").mkdir()
    (tmp_path / "torn.zarr/zarr.json").write_text("{")
    for name in ("scan.h5", "array.zarr", "torn.zarr", "."):
        with pytest.raises(FormatError, match="tomodask ingest"):
            Scan.open(tmp_path / name)
    assert [is_zarr(tmp_path / name) for name in ("scan.h5", "array.zarr", ".")] == [
        False,
        True,
        False,
    ]
    assert scan_metadata(tmp_path / "nothing.zarr") is None
    assert scan_metadata(tmp_path / "scan.h5") is None


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    ("folder", "names"),
    [("exchange", None), ("", ("projections", "angles", "flats", "darks"))],
)
def test_a_stack_of_another_program_is_read_in_place(tmp_path, zarr_format, folder, names):
    data = write_stack(tmp_path / "stack.zarr", zarr_format, folder, names=names)
    group = zarr.open_group(tmp_path / "stack.zarr")
    (group[folder] if folder else group).attrs.update({"pixel_size_um": 1.5, "signal": "emission"})
    scan = Scan.open(tmp_path / "stack.zarr")
    block = scan.read((3, 30), (1, 10), slice(4, None))
    np.testing.assert_array_equal(block.data, data[4:, 3:30, 1:10])
    assert block.data.dtype == np.uint16  # this machine's byte order
    np.testing.assert_array_equal(block.flats, counts((3, 37, 11))[:, 3:30, 1:10])
    np.testing.assert_array_equal(block.darks, counts((2, 37, 11))[:, 3:30, 1:10])
    np.testing.assert_allclose(block.geometry.angles, ANGLES[4:], rtol=1e-15)
    assert (block.geometry.pixel_size_um, block.signal) == (1.5, "emission")
    assert (scan.is_foreign, len(scan.input_digest)) == (True, 64)


def test_angles_without_units_are_degrees_only_where_they_can_be_nothing_else(tmp_path):
    write_stack(tmp_path / "degrees.zarr", units=None)
    np.testing.assert_allclose(Scan.open(tmp_path / "degrees.zarr").geometry.angles, ANGLES)
    write_stack(tmp_path / "either.zarr", units=None)
    group = zarr.open_group(tmp_path / "either.zarr")
    group["theta"][:] = ANGLES
    with pytest.raises(AnglesError, match=r'`units` to "degrees" or "radians"'):
        Scan.open(tmp_path / "either.zarr")
    group["theta"].attrs["units"] = "radians"
    np.testing.assert_array_equal(Scan.open(tmp_path / "either.zarr").geometry.angles, ANGLES)
    group["theta"].attrs["units"] = "steps"
    with pytest.raises(AnglesError, match="steps"):
        Scan.open(tmp_path / "either.zarr")


def test_a_stack_that_contradicts_itself_is_refused(tmp_path):
    def broken(name, change):
        write_stack(tmp_path / name)
        change(zarr.open_group(tmp_path / name))
        return tmp_path / name

    few = broken("few", lambda group: group.create_array("angle", data=np.arange(44.0)))
    with pytest.raises(AnglesError, match="45 frames"):
        Scan.open(few)
    flats = broken("flats", lambda group: group.create_array("flats", data=np.ones((2, 37, 12))))
    with pytest.raises(FormatError, match="flats"):
        Scan.open(flats)
    gain = broken("gain", lambda group: group.attrs.update({"gain": -1}))
    with pytest.raises(FormatError, match="gain is -1"):
        Scan.open(gain)
    signal = broken("signal", lambda group: group.attrs.update({"signal": "phase"}))
    with pytest.raises(FormatError, match="phase"):
        Scan.open(signal)
    bad = broken("bad", lambda group: group.create_array("quality", data=np.zeros(45, "u1")))
    with pytest.raises(FormatError, match="quality"):
        Scan.open(bad)
    bare = broken("bare", lambda group: group.__delitem__("theta"))
    with pytest.raises(FormatError, match=r"\['data', 'data_dark', 'data_white'\]"):
        Scan.open(bare)


def test_the_digest_of_a_stack_follows_its_angles_and_metadata(tmp_path):
    write_stack(tmp_path / "stack.zarr")
    first = Scan.open(tmp_path / "stack.zarr").input_digest
    (tmp_path / "stack.zarr").rename(tmp_path / "moved.zarr")
    assert Scan.open(tmp_path / "moved.zarr").input_digest == first
    zarr.open_group(tmp_path / "moved.zarr")["theta"][3] = 7.5
    second = Scan.open(tmp_path / "moved.zarr").input_digest
    write_stack(tmp_path / "chunked.zarr", chunks=(8, 8, 11))
    assert len({first, second, Scan.open(tmp_path / "chunked.zarr").input_digest}) == 3


def test_a_stack_chunked_by_frames_is_refused_with_the_way_out(tmp_path):
    write_stack(tmp_path / "frames.zarr", chunks=(1, 37, 11))
    scan = Scan.open(tmp_path / "frames.zarr")
    with pytest.raises(ChunkLayoutError) as refused:
        scan.check_layout(8)
    assert "(1, 37, 11)" in str(refused.value)
    assert "5.0 times as much" in str(refused.value)  # 5 blocks, each reads all
    assert f"tomodask ingest {tmp_path / 'frames.zarr'} SCAN.zarr" in str(refused.value)
    scan.check_layout(37)
    write_stack(tmp_path / "rows.zarr", chunks=(1, 8, 11))
    scan = Scan.open(tmp_path / "rows.zarr")
    scan.check_layout(8)
    scan.check_layout(16, halo=1)
    with pytest.raises(ChunkLayoutError, match="halo of 1"):
        scan.check_layout(8, halo=1)


def test_a_scan_store_is_never_sent_back_to_ingest(store):
    Scan.open(store).check_layout(1)  # eight times as much: the way out is a larger block


def test_declared_memory_covers_what_a_read_takes(tmp_path):
    import tracemalloc

    shape = (256, 64, 256)
    data = np.random.default_rng(2).integers(0, 65536, shape).astype(np.uint16)  # incompressible
    for name, chunks, shards in [
        ("sharded", (16, 32, 256), (64, 64, 256)),
        ("direct", (16, 32, 256), (64, 64, 256)),
        ("plain", (16, 32, 256), None),
        ("frames", (4, 64, 256), None),
    ]:
        group = zarr.create_group(tmp_path / name)
        codec = COMPRESSORS["lz4"] if name == "direct" else "auto"
        group.create_array(
            "projections", data=data, chunks=chunks, shards=shards, compressors=codec
        )
        group.create_array("angle", data=np.linspace(0, 3, 256), attributes={"units": "rad"})
        scan = Scan.open(tmp_path / name)
        for rows in [(0, 64), (20, 40), (0, 32)]:
            scan.read(rows)  # what is allocated once and kept is no matter of this read
            tracemalloc.start()
            scan.read(rows)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < scan.memory_bytes(rows) + 2**20  # Python's own objects


def test_metadata_of_a_torn_store_is_an_error(tmp_path):
    (tmp_path / "zarr.json").write_text(json.dumps({"attributes": {}})[:-3])
    with pytest.raises(FormatError, match="damaged"):
        scan_metadata(tmp_path)
