import pickle
import shutil
import subprocess
import sys

import h5py
import hdf5plugin
import numpy as np
import pytest

from tomodask.errors import FormatError, InputError, MissingInputError
from tomodask.ingest.hdf5_frames import hdf5_frames, open_hdf5, split_reference

EVERYTHING = slice(None)


def frames_of(path, dataset="exchange/data", indices=None):
    with open_hdf5(path) as file:
        frames = hdf5_frames(file[dataset])
    return frames if indices is None else frames.take(np.array(indices))


@pytest.mark.parametrize(
    "storage",
    [
        {},
        {"chunks": (1, 6, 8)},
        {"chunks": (5, 4, 3), "compression": "gzip"},
        {"chunks": (5, 4, 3), **hdf5plugin.Bitshuffle()},
        {"chunks": (4, 6, 8), **hdf5plugin.Blosc()},
    ],
    ids=["contiguous", "frames", "gzip", "bitshuffle", "blosc"],
)
@pytest.mark.parametrize("indices", [None, [3, 4, 5, 6], [0, 1, 3, 6, 7, 11]])
def test_any_range_of_any_storage_is_the_slice_of_the_array(
    write_dxchange, counts, storage, indices
):
    frames = frames_of(write_dxchange(counts, **storage), indices=indices)
    truth = counts if indices is None else counts[indices]
    for wanted, rows in [
        (EVERYTHING, EVERYTHING),
        (slice(1, 4), slice(2, 5)),
        (slice(3, 99), slice(5, 6)),
        (slice(2, 2), EVERYTHING),
    ]:
        np.testing.assert_array_equal(frames.read(wanted, rows), truth[wanted, rows])


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_blocks_of_whole_chunks_read_each_chunk_of_the_file_once(
    write_dxchange, counts, chunk_reads, compression
):
    path = write_dxchange(counts, chunks=(5, 4, 3), compression=compression)
    frames = frames_of(path)
    depth, height, _ = frames.chunk_shape

    def read_all():
        for first in range(0, 12, depth):
            for top in range(0, 6, height):
                frames.read(slice(first, first + depth), slice(top, top + height))

    assert set(chunk_reads(path, "exchange/data", read_all).values()) == {1}


@pytest.mark.parametrize("compression", [None, "lzf"])
def test_flats_between_the_projections_do_not_make_a_chunk_be_read_twice(
    write_dxchange, chunk_reads, compression
):
    # chunks larger than HDF5's cache of 1 MiB, two side by side: no cache hides a second read
    counts = np.broadcast_to(np.arange(600, dtype=np.uint16), (12, 600, 600))
    path = write_dxchange(counts, chunks=(4, 300, 600), compression=compression)
    frames = frames_of(path, indices=[0, 1, 3, 8, 9, 11])
    reads = chunk_reads(path, "exchange/data", lambda: frames.read(EVERYTHING, EVERYTHING))
    assert {offset[0] for offset, times in reads.items() if times == 1} == {0, 8}
    assert max(reads.values()) == 1


def test_first_index_is_told_only_where_frames_are_consecutive(write_dxchange, counts):
    path = write_dxchange(counts)
    assert frames_of(path).first_index == 0
    assert frames_of(path, indices=[3, 4, 5]).first_index == 3
    assert frames_of(path, indices=[3, 5]).first_index == -1
    assert frames_of(path, indices=[]) is None


def test_big_endian_counts_come_in_the_byte_order_of_this_machine(write_dxchange, counts):
    frames = frames_of(write_dxchange(counts.astype(">u2")))
    assert frames.dtype == np.dtype("=u2")
    assert frames.read(EVERYTHING, EVERYTHING).dtype.isnative
    np.testing.assert_array_equal(frames.read(EVERYTHING, EVERYTHING), counts)


def test_frames_hold_no_open_file_when_pickled(write_dxchange, counts):
    frames = pickle.loads(pickle.dumps(frames_of(write_dxchange(counts))))
    np.testing.assert_array_equal(frames.read(slice(2, 4), EVERYTHING), counts[2:4])


def test_a_single_image_is_a_stack_of_one_frame(write_dxchange, counts):
    frames = frames_of(write_dxchange(counts[0]))
    assert frames.shape == (1, 6, 8)
    np.testing.assert_array_equal(frames.read(EVERYTHING, slice(1, 3)), counts[:1, 1:3])


@pytest.mark.parametrize("shape", [(0, 6, 8), (4, 0, 8), (5,), (2, 2, 2, 2)])
def test_what_holds_no_frames_is_refused_with_its_shape(write_dxchange, shape):
    with pytest.raises(FormatError, match=str(shape).replace("(", r"\(").replace(")", r"\)")):
        frames_of(write_dxchange(np.zeros(shape, "u2")))


def test_complex_counts_are_refused(write_dxchange):
    with pytest.raises(FormatError, match="complex"):
        frames_of(write_dxchange(np.zeros((2, 3, 4), complex)))


def test_a_filter_that_is_not_at_hand_is_named_before_anything_is_read(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((1, 2, 2))
        plist.set_filter(32999, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((4, 2, 2))
        h5py.h5d.create(file.id, b"data", h5py.h5t.NATIVE_UINT16, space, plist)
    with pytest.raises(FormatError, match="32999"):
        frames_of(tmp_path / "a.h5", "data")


def write_virtual(folder, counts):
    """`all.h5` maps two files of half the frames each."""
    layout = h5py.VirtualLayout(shape=counts.shape, dtype=counts.dtype)
    half = len(counts) // 2
    for name, part in (("a.h5", slice(0, half)), ("b.h5", slice(half, None))):
        with h5py.File(folder / name, "w") as file:
            file.create_dataset("data", data=counts[part], chunks=(2, 3, 8))
        layout[part] = h5py.VirtualSource(name, "data", shape=counts[part].shape)
    with h5py.File(folder / "all.h5", "w") as file:
        file.create_virtual_dataset("data", layout)
    return folder / "all.h5"


def test_a_virtual_dataset_has_the_chunks_and_files_of_its_sources(tmp_path, counts):
    frames = frames_of(write_virtual(tmp_path, counts), "data")
    assert frames.chunk_shape == (2, 3, 8)
    assert {file.name for file in frames.files} == {"all.h5", "a.h5", "b.h5"}
    np.testing.assert_array_equal(frames.read(slice(4, 9), EVERYTHING), counts[4:9])


def test_a_missing_source_of_a_virtual_dataset_is_not_read_as_zeros(tmp_path, counts):
    path = write_virtual(tmp_path, counts)
    (tmp_path / "b.h5").unlink()
    with pytest.raises(MissingInputError, match=r"b\.h5"):
        frames_of(path, "data")


def test_a_truncated_file_says_how_much_of_it_is_missing(write_dxchange, counts):
    path = write_dxchange(counts)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(
        FormatError, match=rf"eof = {len(content) // 2}.*stored_eof = {len(content)}"
    ):
        open_hdf5(path)


def test_a_chunk_that_cannot_be_decoded_says_which_frames_were_read(write_dxchange, counts):
    path = write_dxchange(counts, chunks=(4, 6, 8), compression="gzip")
    frames = frames_of(path)
    with h5py.File(path) as file:
        place = file["exchange/data"].id.get_chunk_info(1)
    content = bytearray(path.read_bytes())
    content[place.byte_offset : place.byte_offset + place.size] = bytes(place.size)
    path.write_bytes(content)
    np.testing.assert_array_equal(frames.read(slice(0, 4), EVERYTHING), counts[:4])
    with pytest.raises(OSError, match="filter") as caught:
        frames.read(slice(2, 6), EVERYTHING)
    assert "frames 2:6" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "empty"),
        (b"II*\0" + bytes(100), "a TIFF"),
        (b"0.0\n0.5\n", r"text that begins '0\.0"),
        (b"\x00\x01\x02\xff", "00 01 02 ff"),
        (b"\xd0\xcf\x11\xe0", "Xradia"),
    ],
)
def test_a_file_that_is_no_hdf5_is_called_what_it_looks_like(tmp_path, content, what):
    (tmp_path / "scan.h5").write_bytes(content)
    with pytest.raises(FormatError, match=what):
        open_hdf5(tmp_path / "scan.h5")


def test_a_file_that_is_being_written_is_told_from_a_broken_one(write_dxchange, counts):
    path = write_dxchange(counts)
    program = f"""
import h5py, sys
file = h5py.File({str(path)!r}, "a")
print("open", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        writer.stdout.readline()
        try:
            with pytest.raises(InputError, match="locked"):
                open_hdf5(path)
        finally:
            writer.stdin.close()


def test_a_missing_file_is_named_with_its_nearest_neighbour(write_dxchange, counts, tmp_path):
    write_dxchange(counts, name="tooth.h5")
    with pytest.raises(MissingInputError, match=r"toth\.h5.*did you mean .*tooth\.h5"):
        open_hdf5(tmp_path / "toth.h5")
    with pytest.raises(MissingInputError, match="no folder"):
        open_hdf5(tmp_path / "nowhere" / "tooth.h5")


def test_a_reference_splits_at_the_dataset_unless_it_is_a_file(tmp_path):
    assert split_reference("a/b.h5:/x/y") == (tmp_path.__class__("a/b.h5"), "/x/y")
    assert split_reference("a/b.h5") == (tmp_path.__class__("a/b.h5"), None)
    odd = tmp_path / "scan:" / "b.h5"
    odd.parent.mkdir()
    odd.touch()
    assert split_reference(str(odd)) == (odd, None)
    shutil.rmtree(odd.parent)
    assert split_reference(str(odd)) == (tmp_path / "scan", "/b.h5")
