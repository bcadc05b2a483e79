"""Shards are swapped in whole, heal when torn, and are on the disk before they count."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec

from tomodask import shards
from tomodask.errors import ChunkLayoutError, FormatError, InputError
from tomodask.shards import OwnedShardStore, checksum, write_shards

SHAPE = (6, 13, 17)  # shards of (4, 8, 8): every axis ends ragged
WHOLE = tuple(slice(0, length) for length in SHAPE)
LAYOUTS = {
    "sharded": {"chunks": (2, 4, 4), "shards": (4, 8, 8), "compressors": None},
    "compressed": {"chunks": (2, 4, 4), "shards": (4, 8, 8), "compressors": BloscCodec()},
    "plain": {"chunks": (4, 8, 8), "compressors": None},
}


@pytest.fixture(params=LAYOUTS)
def array_path(request, tmp_path) -> Path:
    path = tmp_path / "array"
    zarr.create_array(
        store=path, shape=SHAPE, dtype="float32", fill_value=np.nan, **LAYOUTS[request.param]
    )
    return path


def values(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def digests(path: Path) -> dict[str, str]:
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


def test_what_was_written_reads_back(array_path):
    write_shards(array_path, WHOLE, values())
    np.testing.assert_array_equal(zarr.open_array(array_path, mode="r")[:], values())


def test_writing_a_region_again_gives_the_same_bytes(array_path):
    first = write_shards(array_path, WHOLE, values())
    before = digests(array_path)
    assert write_shards(array_path, WHOLE, values()) == first
    assert digests(array_path) == before


def test_an_entry_has_the_size_and_checksum_of_its_file(array_path):
    entries = write_shards(array_path, WHOLE, values())
    assert len(entries) == 2 * 2 * 3
    for entry in entries:
        file = array_path / entry.key
        assert (entry.size, entry.crc32c) == (file.stat().st_size, checksum(file))


@pytest.mark.parametrize("key", ["c/0/0/0", "c/1/1/2"], ids=["inner", "ragged edge"])
@pytest.mark.parametrize("left", [0, 5, -3], ids=["empty", "head", "tail cut"])
def test_a_torn_shard_heals_to_the_same_bytes(array_path, key, left):
    write_shards(array_path, WHOLE, values())
    before = digests(array_path)
    torn = array_path / key
    torn.write_bytes(torn.read_bytes()[:left])
    write_shards(array_path, WHOLE, values())
    assert digests(array_path) == before


def test_shards_of_other_owners_are_not_touched(array_path):
    write_shards(array_path, WHOLE, values())
    others = {file: file.stat() for file in array_path.glob("c/0/*/*")}
    write_shards(array_path, (slice(4, 6), slice(0, 13), slice(0, 17)), values(1)[4:])
    assert others
    for file, stat in others.items():  # a file swapped in anew would have another inode
        assert (file.stat().st_ino, file.stat().st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns)


def test_shards_of_fill_values_are_files_too(array_path):
    entries = write_shards(array_path, WHOLE, np.full(SHAPE, np.nan, np.float32))
    assert all((array_path / entry.key).stat().st_size == entry.size > 0 for entry in entries)


@pytest.mark.parametrize(
    "region",
    [
        (slice(0, 3), slice(0, 13), slice(0, 17)),
        (slice(2, 6), slice(0, 13), slice(0, 17)),
        (slice(0, 6), slice(0, 13), slice(0, 12)),
    ],
)
def test_a_region_that_cuts_a_shard_is_refused(array_path, region):
    part = values()[region]
    with pytest.raises(ChunkLayoutError, match="cuts a shard"):
        write_shards(array_path, region, part)
    assert not list(array_path.glob("c/**/*"))


@pytest.mark.parametrize(
    "region", [(slice(0, 8), *WHOLE[1:]), (slice(4, 4), *WHOLE[1:]), (slice(0, 4, 2), *WHOLE[1:])]
)
def test_a_region_outside_the_array_is_refused(array_path, region):
    with pytest.raises(InputError, match="axis 0 of length 6"):
        write_shards(array_path, region, values())


def test_data_of_another_shape_or_type_is_refused(array_path):
    with pytest.raises(InputError, match="shape"):
        write_shards(array_path, WHOLE, values()[:4])
    with pytest.raises(InputError, match="type float64"):
        write_shards(array_path, WHOLE, values().astype(np.float64))
    with pytest.raises(InputError, match="2 axes for an array of 3"):
        write_shards(array_path, WHOLE[1:], values())


def test_big_endian_counts_are_taken_as_they_are(tmp_path):
    counts = np.arange(64, dtype=">u2").reshape(8, 8)
    zarr.create_array(store=tmp_path / "counts", shape=(8, 8), chunks=(4, 4), dtype="uint16")
    write_shards(tmp_path / "counts", (slice(0, 8), slice(0, 8)), counts)
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "counts", mode="r")[:], counts)


def test_zarr_version_2_is_refused(tmp_path):
    zarr.create_array(
        store=tmp_path / "old", shape=(4,), chunks=(4,), dtype="uint16", zarr_format=2
    )
    with pytest.raises(FormatError, match="version 2"):
        write_shards(tmp_path / "old", (slice(0, 4),), np.zeros(4, np.uint16))


def test_a_store_writes_only_what_it_owns_and_erases_nothing(array_path):
    write_shards(array_path, WHOLE, values())
    before = digests(array_path)
    store = OwnedShardStore(array_path, ["c/0/0/0"])
    array = zarr.open_array(store=store, mode="r+")
    with pytest.raises(ChunkLayoutError, match="not among the shards"):
        array[4:] = values()[4:]
    with pytest.raises(ChunkLayoutError, match="refused to delete"):
        array[:4, :8, :8] = np.nan  # zarr deletes chunks of fill values unless told not to
    assert digests(array_path) == before


def test_each_shard_is_synced_before_it_gets_its_name_and_its_folder_after(array_path, monkeypatch):
    steps = []
    sync, swap = os.fsync, Path.replace

    def spy_sync(descriptor: int) -> None:
        steps.append(("sync", Path(os.readlink(f"/proc/self/fd/{descriptor}"))))
        sync(descriptor)

    def spy_swap(source: Path, target: Path) -> Path:
        steps.append(("swap", source, target))
        return swap(source, target)

    monkeypatch.setattr(os, "fsync", spy_sync)
    monkeypatch.setattr(Path, "replace", spy_swap)
    write_shards(array_path, WHOLE, values())
    swaps = [step for step in steps if step[0] == "swap"]
    assert len(swaps) == 12
    for swap_step in swaps:
        _, partial, final = swap_step
        assert steps.index(("sync", partial)) < steps.index(swap_step)
        for folder in final.relative_to(array_path).parents:
            assert ("sync", array_path / folder) in steps[steps.index(swap_step) :]


def test_a_full_disk_leaves_the_old_shard_and_no_partial_file(array_path, monkeypatch):
    write_shards(array_path, WHOLE, values())
    before = digests(array_path)

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shards.os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_shards(array_path, WHOLE, values(1))
    assert digests(array_path) == before


WRITE_FOR_EVER = """
import sys
import numpy as np
from tomodask.shards import write_shards
ones = np.ones((16, 512, 512), np.float32)
for turn in range(1, 10**6):
    write_shards(sys.argv[1], (slice(0, 16), slice(0, 512), slice(0, 512)), ones * (turn % 2))
    print(turn, flush=True)
"""


def test_a_killed_writer_leaves_the_shard_old_or_new(tmp_path):
    path = tmp_path / "array"
    zarr.create_array(
        store=path,
        shape=(16, 512, 512),
        chunks=(16, 128, 128),
        shards=(16, 512, 512),
        dtype="float32",
        fill_value=np.nan,
        compressors=None,
    )
    for _ in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITE_FOR_EVER, str(path)], stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        writer.stdout.readline()  # the first shard is there: now it dies somewhere in the next
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        found = zarr.open_array(path, mode="r")[:]
        assert found.min() == found.max()  # all 0 or all 1
        assert found.max() in (0, 1)
        partial = list(path.rglob("*.partial"))
        assert len(partial) <= 1
        for file in partial:
            file.unlink()
