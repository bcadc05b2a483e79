"""Shards read and written without Zarr's codecs are the very same as with them."""

import math
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, GzipCodec

from tomodask.errors import FormatError
from tomodask.shardcodec import ShardLayout, morton_order

SHAPE, CHUNK, SHARD = (45, 37, 11), (4, 8, 11), (16, 16, 11)
LZ4 = BloscCodec(cname="lz4", shuffle="bitshuffle", typesize=2)


def counts(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(1).integers(1, 4000, shape).astype(np.uint16)


def stored(path: Path, values: np.ndarray, chunk=CHUNK, shard=SHARD, **options) -> zarr.Array:
    return zarr.create_array(
        path,
        data=values,
        chunks=chunk,
        shards=shard,
        config={"write_empty_chunks": True},
        **options,
    )


@settings(max_examples=40, deadline=None)
@given(
    chunk=st.tuples(*[st.integers(1, 3)] * 4),
    grid=st.tuples(*[st.integers(1, 5)] * 4),
    cut=st.tuples(*[st.integers(0, 8)] * 4),
)
def test_a_shard_is_byte_for_byte_the_one_that_zarr_writes(chunk, grid, cut):
    """Whole shards and ragged ones, with chunks cut by the array's edge and chunks beyond it."""
    shard = tuple(c * g for c, g in zip(chunk, grid, strict=True))
    shape = tuple(max(1, s - c) for s, c in zip(shard, cut, strict=True))
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    store: dict = {}
    array = zarr.create_array(
        zarr.storage.MemoryStore(store), data=values, chunks=chunk, shards=shard,
        compressors=None, fill_value=np.nan, config={"write_empty_chunks": True},
    )  # fmt: skip
    layout = ShardLayout.of(array)
    assert layout is not None
    ours = b"".join(piece.tobytes() for piece in layout.encode(values))
    assert ours == store["c/0/0/0/0"].to_bytes()


@pytest.mark.parametrize("compressor", [None, LZ4], ids=["bytes", "lz4"])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_frames_are_what_zarr_reads(tmp_path_factory, compressor, data):
    path = tmp_path_factory.getbasetemp() / f"frames-{compressor is None}"
    if not path.exists():
        stored(path, counts(), compressors=compressor)
    frames = np.array(data.draw(st.lists(st.integers(0, 44), min_size=1, max_size=50)))
    if data.draw(st.booleans()):
        frames = np.arange(frames.min(), frames.max() + 1)
    window = tuple(
        slice(*sorted(data.draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True))))
        for n in SHAPE[1:]
    )
    layout = ShardLayout.of(zarr.open_array(path, mode="r"))
    assert layout is not None
    assert layout.holds_frames
    out = np.zeros((frames.size, *(axis.stop - axis.start for axis in window)), np.uint16)
    layout.read_frames(path, frames, window, out, threads=data.draw(st.sampled_from([1, 3])))
    np.testing.assert_array_equal(out, counts()[frames][:, *window])


@pytest.mark.parametrize(
    "options",
    [
        {"compressors": GzipCodec()},
        {"filters": zarr.codecs.TransposeCodec(order=(1, 0, 2))},
        {"serializer": zarr.codecs.BytesCodec(endian="big"), "compressors": None},
        {"compressors": [LZ4, GzipCodec()]},
        {"shard": None},
    ],
    ids=["gzip", "transposed", "big endian", "two compressors", "no shards"],
)
def test_what_only_zarr_can_read_is_left_to_zarr(tmp_path, options):
    options = {"filters": None} | options
    assert ShardLayout.of(stored(tmp_path / "array", counts(), **options)) is None


@pytest.mark.parametrize("compressor", [None, LZ4], ids=["bytes", "lz4"])
@pytest.mark.parametrize("harm", ["empty", "cut", "index", "payload"])
def test_a_damaged_shard_is_an_error_that_names_it(tmp_path, compressor, harm):
    stored(tmp_path / "array", counts(), compressors=compressor)
    layout = ShardLayout.of(zarr.open_array(tmp_path / "array", mode="r"))
    file = tmp_path / "array/c/1/0/0"
    content = bytearray(file.read_bytes())
    changed = {
        "empty": b"",
        "cut": content[:-5],
        "index": content[:-20] + b"\x00" + content[-19:],
        "payload": b"\xff" * 40 + content[40:],
    }[harm]
    file.write_bytes(changed)
    out = np.empty(SHAPE, np.uint16)
    window = (slice(0, SHAPE[1]), slice(0, SHAPE[2]))
    if harm == "payload" and compressor is None:
        return  # plain bytes have no checksum, with Zarr as well: the ledger's is of the file
    with pytest.raises(FormatError, match=r"c/1/0/0.* damaged"):
        layout.read_frames(tmp_path / "array", np.arange(45), window, out)


def test_a_chunk_that_was_never_written_reads_as_fill_values(tmp_path):
    array = zarr.create_array(
        tmp_path / "array", shape=SHAPE, dtype="uint16", chunks=CHUNK, shards=SHARD,
        compressors=LZ4, fill_value=7,
    )  # fmt: skip
    array[:4] = counts()[:4]
    out = np.zeros(SHAPE, np.uint16)
    layout = ShardLayout.of(array)
    window = (slice(0, SHAPE[1]), slice(0, SHAPE[2]))
    layout.read_frames(tmp_path / "array", np.arange(45), window, out)
    np.testing.assert_array_equal(out, array[:])
    assert (out[4:] == 7).all()


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple))
def test_morton_order_has_every_place_once(grid):
    order = morton_order(grid)
    assert len(set(order)) == len(order) == math.prod(grid)
    assert order[0] == (0,) * len(grid)
