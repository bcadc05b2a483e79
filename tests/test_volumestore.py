"""A volume is valid OME-Zarr, its levels agree, and slabs make the same bytes in any order."""

import hashlib
import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorstore
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from ome_zarr_models.v05 import Image

from tomodask import volumestore as volume_module
from tomodask.errors import ChunkLayoutError, FormatError, InputError, OutputExistsError
from tomodask.ledger import Ledger, ledgers_of
from tomodask.shards import checksum, remove_partials
from tomodask.volumestore import (
    Volume,
    VolumeSpec,
    create_volume,
    halve,
    remove_volume,
    volume_metadata,
)

SIZES = [(5, 7, 9), (33, 130, 257), (1, 300, 300), (64, 64, 64)]
ATTRIBUTES = {"recipe": {"algorithm": "fbp"}, "recipe_hash": "cafe", "geometry": {"angles": 3}}


def make(path: Path, shape: tuple[int, int, int], chunk_rows: int = 8, **options: object) -> Volume:
    options = {"voxel_size_um": 0.5, "value_unit": "1/mm"} | options
    return create_volume(path, VolumeSpec(shape, chunk_rows=chunk_rows, **options), ATTRIBUTES)


def write_all(volume: Volume, values: np.ndarray, rows: int | None = None) -> None:
    rows = rows or volume.spec.chunk_rows
    for start in range(0, len(values), rows):
        volume.write(start, values[start : start + rows])


def random_values(shape: tuple[int, int, int]) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def digests(path: Path) -> dict[str, str]:
    return {
        file.relative_to(path).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in path.rglob("*")
        if file.is_file() and file.name != "zarr.json"
    }


def positions(volume: Volume, level: int) -> list[np.ndarray]:
    """z, y, x of the voxels' middles, from the OME metadata alone."""
    ome = json.loads((volume.path / "zarr.json").read_text())["attributes"]["ome"]
    scale, translation = ome["multiscales"][0]["datasets"][level]["coordinateTransformations"]
    return [
        first + size * np.arange(length)
        for first, size, length in zip(
            translation["translation"][2:],
            scale["scale"][2:],
            volume.spec.level_shape(level),
            strict=True,
        )
    ]


# ---- the format ------------------------------------------------------------------------------


@pytest.mark.parametrize("voxel_size_um", [0.65, None])
@pytest.mark.parametrize("shape", SIZES)
def test_a_volume_is_valid_ome_zarr(tmp_path, shape, voxel_size_um):
    volume = make(tmp_path / "v.zarr", shape, voxel_size_um=voxel_size_um)
    write_all(volume, random_values(shape))
    volume.finish()
    image = Image.from_zarr(zarr.open_group(volume.path, mode="r"))
    (multiscale,) = image.ome_attributes.multiscales
    assert len(multiscale.datasets) == volume.num_levels
    units = [axis.unit for axis in multiscale.axes]
    assert units[:2] == ["second", None]
    assert units[2:] == [None if voxel_size_um is None else "micrometer"] * 3
    assert image.ome_attributes.omero is not None


@pytest.mark.parametrize("compression", ["none", "lz4", "zstd"])
@pytest.mark.parametrize("shape", SIZES)
def test_tensorstore_reads_what_was_written(tmp_path, shape, compression):
    volume = make(tmp_path / "v.zarr", shape, compression=compression)
    values = random_values(shape)
    write_all(volume, values)
    for level in range(volume.num_levels):
        kvstore = {"driver": "file", "path": str(volume.path / str(level))}
        found = tensorstore.open({"driver": "zarr3", "kvstore": kvstore}, read=True).result()
        np.testing.assert_array_equal(found.read().result()[0, 0], values)
        np.testing.assert_array_equal(volume.read_level(level), values)
        values = halve(values)


def test_the_pyramid_ends_where_no_axis_is_longer_than_256():
    for length in (256, 257, 512, 513, 4096, 5000):
        spec = VolumeSpec((4, length, 16), chunk_rows=64)
        assert max(spec.level_shape(spec.num_levels - 1)) <= 256
        assert spec.num_levels == 1 or max(spec.level_shape(spec.num_levels - 2)) > 256


def test_no_more_levels_than_a_slab_can_write_alone():
    assert VolumeSpec((4096, 4096, 4096), chunk_rows=1).num_levels == 1
    assert VolumeSpec((4096, 4096, 4096), chunk_rows=12).num_levels == 3
    with pytest.raises(InputError, match="from 1 to 3"):
        VolumeSpec((64, 64, 64), chunk_rows=4, levels=4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"shape": (0, 4, 4)},
        {"shape": (4, 4)},
        {"chunk_rows": 0},
        {"compression": "gzip"},
        {"levels": 0},
        {"voxel_size_um": 0.0},
        {"voxel_size_um": float("nan")},
    ],
)
def test_a_spec_that_cannot_be_is_refused(wrong):
    with pytest.raises(InputError):
        VolumeSpec(**({"shape": (4, 4, 4)} | wrong))


@pytest.mark.parametrize("length", [1, 127, 128, 129, 1000, 1025, 2560])
def test_shards_are_whole_chunks_and_little_is_padded(length):
    spec = VolumeSpec((64, length, length))
    for level in range(spec.num_levels):
        _, chunk, _ = spec.chunk_shape(level)
        _, shard, _ = spec.shard_shape(level)
        assert chunk <= 128
        assert shard <= 1024
        assert shard % chunk == 0
        _, size, _ = spec.level_shape(level)
        padded = -(-size // chunk) * chunk
        assert padded - size < -(-size // chunk)  # less than a voxel a chunk


# ---- the pyramid -----------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_value_equal_to_its_position_stays_so_on_all_levels(tmp_path, axis):
    volume = make(tmp_path / "v.zarr", (40, 64, 48), levels=4, origin=(1.0, -2.0, 3.0))
    z, y, x = positions(volume, 0)
    ramp = np.stack(np.meshgrid(z, y, x, indexing="ij"))[axis].astype(np.float32)
    write_all(volume, ramp)
    for level in range(volume.num_levels):
        values = np.moveaxis(volume.read_level(level), axis, -1)
        expected = positions(volume, level)[axis]
        assert values.shape[-1] == expected.size
        # halves and quarters of small numbers: exact in float32
        np.testing.assert_array_equal(values, np.broadcast_to(expected, values.shape))


def test_a_bright_voxel_has_one_position_on_all_levels(tmp_path):
    volume = make(tmp_path / "v.zarr", (33, 130, 257), levels=4)
    values = np.zeros((33, 130, 257), np.float32)
    values[19, 77, 201] = 1
    write_all(volume, values)
    true = np.array([19, 77, 201]) * 0.5
    for level in range(volume.num_levels):
        found = volume.read_level(level)
        index = np.unravel_index(found.argmax(), found.shape)
        middle = [axis[i] for axis, i in zip(positions(volume, level), index, strict=True)]
        assert np.abs(middle - true).max() <= volume.spec.scale(level) / 2


@given(
    arrays.arrays(
        np.float32,
        arrays.array_shapes(min_dims=3, max_dims=3, max_side=5),
        elements=st.floats(-1000, 1000, width=32) | st.just(np.nan),
    )
)
def test_halving_is_the_mean_of_the_voxels_that_are_there(values):
    halved = halve(values)
    padded = np.pad(values.astype(np.float64), [(0, n % 2) for n in values.shape], mode="edge")
    nz, ny, nx = (n // 2 for n in padded.shape)
    cells = padded.reshape(nz, 2, ny, 2, nx, 2).transpose(0, 2, 4, 1, 3, 5).reshape(nz, ny, nx, 8)
    present = np.isfinite(cells)
    total = np.where(present, cells, 0).sum(axis=-1)
    expected = np.where(present.any(axis=-1), total / np.maximum(present.sum(axis=-1), 1), np.nan)
    # eight float32 terms of up to 1000: 7 roundings of at most 8000 * 6e-8, then divided by 8
    np.testing.assert_allclose(halved, expected, rtol=1e-6, atol=5e-4)


def test_a_missing_voxel_changes_no_bit_elsewhere():
    values = random_values((4, 6, 8))
    holed = values.copy()
    holed[0, 0, 0] = np.nan
    different = halve(values) != halve(holed)
    assert np.argwhere(different).tolist() == [[0, 0, 0]]


def test_infinities_are_halved_without_a_warning():
    values = np.full((2, 2, 2), np.inf, np.float32)
    assert halve(values) == np.inf
    values[0] = -np.inf
    assert np.isnan(halve(values))


# ---- writing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SIZES)
def test_slabs_of_any_height_in_any_order_and_twice_give_the_same_bytes(tmp_path, shape):
    values = random_values(shape)
    values[shape[0] // 2, 0, 0] = np.nan
    once = make(tmp_path / "a.zarr", shape, levels=3)
    write_all(once, values, rows=8)
    other = make(tmp_path / "b.zarr", shape, levels=3)
    for start in reversed(range(0, shape[0], 24)):
        other.write(start, values[start : start + 24])
    other.write(0, values[:8])
    assert digests(once.path) == digests(other.path)


def test_entries_name_every_shard_of_the_slab_from_the_volume_on(tmp_path):
    volume = make(tmp_path / "v.zarr", (33, 130, 257), levels=3)
    entries = volume.write(8, random_values((8, 130, 257)))
    assert {entry.key for entry in entries} == set(digests(volume.path))
    assert {entry.key.split("/")[0] for entry in entries} == {"0", "1", "2"}
    for entry in entries:
        assert entry.crc32c == checksum(volume.path / entry.key)


@pytest.mark.parametrize("key", ["0/c/0/0/0/0/0", "0/c/0/0/4/0/0", "2/c/0/0/4/0/0"])
def test_a_torn_shard_heals_also_at_the_ragged_edge(tmp_path, key):
    shape = (33, 130, 257)
    volume = make(tmp_path / "v.zarr", shape, levels=3)
    write_all(volume, random_values(shape))
    before = digests(volume.path)
    torn = volume.path / key
    torn.write_bytes(torn.read_bytes()[:100])
    write_all(volume, random_values(shape))
    assert digests(volume.path) == before


def test_what_is_not_written_reads_as_missing(tmp_path):
    volume = make(tmp_path / "v.zarr", (33, 16, 16), levels=3)
    volume.write(8, np.ones((8, 16, 16), np.float32))
    for level in range(3):
        values = volume.read_level(level)
        written = slice(8 >> level, 16 >> level)
        assert (values[written] == 1).all()
        assert np.isnan(np.delete(values, written, axis=0)).all()


@pytest.mark.parametrize(("start", "rows"), [(4, 8), (0, 12), (0, 4), (32, 8)])
def test_a_slab_that_cuts_a_shard_or_leaves_the_volume_is_refused(tmp_path, start, rows):
    volume = make(tmp_path / "v.zarr", (33, 16, 16))
    with pytest.raises(InputError) as refusal:
        volume.write(start, np.zeros((rows, 16, 16), np.float32))
    assert isinstance(refusal.value, ChunkLayoutError) == (start + rows <= 33)
    assert not digests(volume.path)


def test_a_slab_of_another_shape_or_type_is_refused(tmp_path):
    volume = make(tmp_path / "v.zarr", (16, 16, 16))
    for slab in (np.zeros((8, 16, 15), np.float32), np.zeros((8, 16, 16)), np.zeros((16, 16))):
        with pytest.raises(InputError):
            volume.write(0, slab)


def test_a_read_takes_a_crop_of_a_level(tmp_path):
    volume = make(tmp_path / "v.zarr", (16, 20, 24), levels=2)
    values = random_values((16, 20, 24))
    write_all(volume, values)
    crop = volume.read(1, slice(2, 5), slice(0, 3), slice(7, 9))
    np.testing.assert_array_equal(crop, halve(values)[2:5, :3, 7:9])
    with pytest.raises(InputError, match="levels 0 to 1, not 2"):
        volume.read(2)
    assert volume.level_at_most(12) == 1
    assert volume.level_at_most(24) == 0
    assert volume.level_at_most(3) == 1


WRITE_FOR_EVER = """
import sys
import numpy as np
from tomodask.volumestore import Volume
volume = Volume.open(sys.argv[1])
ones = np.ones((8, 256, 256), np.float32)
for turn in range(1, 10**6):
    volume.write(8, ones * (turn % 2))
    print(turn, flush=True)
"""


def test_a_killed_writer_leaves_every_level_old_or_new_and_its_slab_can_be_written_again(tmp_path):
    volume = make(tmp_path / "v.zarr", (16, 256, 256), levels=3)
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITE_FOR_EVER, str(volume.path)], stdout=subprocess.PIPE
    )
    assert writer.stdout is not None
    writer.stdout.readline()
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    for level in range(3):
        values = volume.read_level(level)[8 >> level :]
        assert values.min() == values.max()
        assert values.max() in (0, 1)
    assert len(list(volume.path.rglob("*.partial"))) <= 1
    volume.write(8, np.full((8, 256, 256), 2, np.float32))
    assert (volume.read(0, slice(8, 16)) == 2).all()


# ---- metadata --------------------------------------------------------------------------------


def test_a_volume_opens_as_it_was_made(tmp_path):
    made = make(tmp_path / "v.zarr", (33, 16, 16), levels=3, compression="lz4", origin=(1, 2, 3))
    opened = Volume.open(tmp_path / "v.zarr")
    assert opened == made
    assert pickle.loads(pickle.dumps(opened)) == made
    assert opened.spec.origin == (1.0, 2.0, 3.0)
    metadata = volume_metadata(made.path)
    assert metadata.items() >= ATTRIBUTES.items()
    assert metadata["kind"] == "volume"
    assert metadata["complete"] is False
    assert metadata["value_unit"] == "1/mm"


def test_two_volumes_have_different_uuids(tmp_path):
    assert make(tmp_path / "a.zarr", (4, 4, 4)).uuid != make(tmp_path / "b.zarr", (4, 4, 4)).uuid


def test_finish_marks_the_volume_complete_and_keeps_the_rest(tmp_path):
    volume = make(tmp_path / "v.zarr", (16, 16, 16))
    write_all(volume, random_values((16, 16, 16)))
    before = dict(volume.metadata)
    assert volume.finish().finish().metadata == before | {"complete": True}
    assert volume_metadata(volume.path) == before | {"complete": True}


def test_finish_of_an_empty_volume_gives_no_grey_range(tmp_path):
    volume = make(tmp_path / "v.zarr", (16, 16, 16)).finish()
    assert "omero" not in json.loads((volume.path / "zarr.json").read_text())["attributes"]["ome"]


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "[]",
        "{}",
        '{"attributes": {"tomodask": {"kind": "scan", "format_version": 1}}}',
        '{"attributes": {"ome": {}}}',
    ],
)
def test_what_is_no_volume_has_no_metadata_and_does_not_open(tmp_path, content):
    if content is not None:
        (tmp_path / "zarr.json").write_text(content)
    assert volume_metadata(tmp_path) is None
    with pytest.raises(FormatError, match="not a volume of tomodask"):
        Volume.open(tmp_path)


def edit(volume: Volume, **changes: object) -> None:
    file = volume.path / "zarr.json"
    content = json.loads(file.read_text())
    content["attributes"]["tomodask"] |= changes
    file.write_text(json.dumps(content))


def test_a_newer_format_is_refused(tmp_path):
    volume = make(tmp_path / "v.zarr", (4, 4, 4))
    edit(volume, format_version=2)
    for refused in (volume_metadata, Volume.open, remove_volume):
        with pytest.raises(FormatError, match="format version 2"):
            refused(volume.path)


def test_a_damaged_layout_is_named(tmp_path):
    volume = make(tmp_path / "v.zarr", (4, 4, 4))
    edit(volume, layout={"lost": 1})
    with pytest.raises(FormatError, match="layout"):
        Volume.open(volume.path)


def test_an_existing_output_is_not_overwritten(tmp_path):
    volume = make(tmp_path / "v.zarr", (4, 4, 4))
    with pytest.raises(OutputExistsError):
        make(volume.path, (4, 4, 4))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputExistsError):
        make(tmp_path / "file", (4, 4, 4))
    assert Volume.open(volume.path) == volume
    assert {entry.name for entry in tmp_path.iterdir()} == {"v.zarr", "file"}


def test_a_volume_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(volume_module, "swap_in", fail)
    with pytest.raises(OSError, match="No space left"):
        make(tmp_path / "v.zarr", (4, 4, 4))
    assert list(tmp_path.iterdir()) == []


# ---- removing --------------------------------------------------------------------------------


def test_removing_takes_all_that_is_ours_and_leaves_the_rest(tmp_path):
    volume = make(tmp_path / "v.zarr", (16, 16, 16), levels=3)
    entries = volume.write(0, random_values((8, 16, 16)))
    ledger = Ledger.of(volume.path, volume.uuid, "cafe")
    ledger.record("z0-8", entries)
    ledger.compact()
    left = volume.path / "0" / "c" / f"0.{'0' * 32}.partial"
    left.write_bytes(b"half a shard")
    foreign = ["notes.txt", "0/c/0/0/notes.txt", "7/c/0/0/0/0/0", "mine.partial"]
    for name in foreign:
        file = volume.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("mine")
    assert remove_volume(volume.path) == sorted(volume.path / name for name in foreign)
    assert digests(volume.path).keys() == set(foreign)
    assert volume_metadata(volume.path) is None
    assert not ledgers_of(volume.path).exists()


def test_a_volume_without_foreign_files_is_gone_altogether(tmp_path):
    volume = make(tmp_path / "v.zarr", (16, 16, 16), levels=3)
    write_all(volume, random_values((16, 16, 16)))
    volume.finish()
    assert remove_volume(volume.path) == []
    assert list(tmp_path.iterdir()) == []
    assert remove_volume(volume.path) == []


def test_a_new_volume_can_be_made_beside_the_foreign_files_of_the_old_one(tmp_path):
    volume = make(tmp_path / "v.zarr", (16, 16, 16))
    notes = volume.path / "0" / "notes.txt"
    notes.write_text("mine")
    assert remove_volume(volume.path) == [notes]
    again = make(volume.path, (16, 16, 16))
    write_all(again, random_values((16, 16, 16)))
    np.testing.assert_array_equal(again.read(), random_values((16, 16, 16)))
    assert notes.read_text() == "mine"
    assert [entry.name for entry in tmp_path.iterdir()] == ["v.zarr"]


@pytest.mark.parametrize("inside", ["notes.txt", "zarr.json"])
def test_a_folder_that_is_no_volume_is_not_removed(tmp_path, inside):
    (tmp_path / inside).write_text("{}")
    with pytest.raises(OutputExistsError, match="nothing was removed"):
        remove_volume(tmp_path)
    assert (tmp_path / inside).read_text() == "{}"


def test_a_volume_behind_a_link_is_made_and_removed_there(tmp_path, monkeypatch):
    scratch = tmp_path / "other disk" / "scratch"
    scratch.mkdir(parents=True)
    made_in = []
    rename = Path.rename
    monkeypatch.setattr(
        Path, "rename", lambda made, path: (made_in.append(made.parent), rename(made, path))[1]
    )
    link = tmp_path / "v.zarr"
    link.symlink_to(scratch)
    write_all(make(link, (16, 16, 16)), random_values((16, 16, 16)))
    assert (scratch / "zarr.json").exists()
    assert made_in == [scratch.parent]  # a rename can't go from one disk to another
    assert remove_volume(link) == []
    assert list(scratch.iterdir()) == []
    make(link, (16, 16, 16))
    assert (scratch / "zarr.json").exists()


def test_a_removal_killed_halfway_can_be_called_again(tmp_path, monkeypatch):
    volume = make(tmp_path / "v.zarr", (16, 16, 16), levels=3)
    write_all(volume, random_values((16, 16, 16)))
    Ledger.of(volume.path, volume.uuid, "cafe").record("z0-8", [])
    volume.finish()
    unlink = Path.unlink

    def die_at_level_1(path: Path, missing_ok: bool = False) -> None:
        if path.parent.name == "1":
            raise KeyboardInterrupt
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", die_at_level_1)
        with pytest.raises(KeyboardInterrupt):
            remove_volume(volume.path)
    assert volume_metadata(volume.path)["complete"] is False
    assert Ledger.of(volume.path, volume.uuid, "cafe").done() == {}
    assert remove_volume(volume.path) == []
    assert list(tmp_path.iterdir()) == []


def test_partial_files_are_removed_and_foreign_ones_stay(tmp_path):
    volume = make(tmp_path / "v.zarr", (16, 16, 16))
    (volume.path / "mine.partial").write_text("mine")
    ours = [
        volume.path / "0" / f"zarr.{'a' * 32}.partial",
        tmp_path / f"v.zarr.{'b' * 32}.partial" / "zarr.json",
    ]
    for file in ours:
        file.parent.mkdir(exist_ok=True)
        file.write_text("{")
    assert remove_partials(volume.path) == sorted([ours[0], ours[1].parent])
    assert not any(file.exists() for file in ours)
    assert (volume.path / "mine.partial").exists()
    assert os.listdir(tmp_path) == ["v.zarr"]
