import pickle

import numpy as np
import pytest
import tifffile

from tomodask.errors import AnglesError, FormatError, MissingInputError
from tomodask.ingest import SourceOptions, open_source
from tomodask.ingest.tiff import natural_key, tiff_frames

EVERYTHING = slice(None)


@pytest.fixture
def folder(tmp_path, counts):
    """One frame a file, numbered without leading zeros."""
    folder = tmp_path / "tiffs"
    folder.mkdir()
    for number, frame in enumerate(counts):
        tifffile.imwrite(folder / f"raw_{number}.tif", frame)
    (folder / "notes.txt").write_text("not a frame")
    return folder


def test_a_folder_is_read_in_the_order_of_its_numbers(folder, counts):
    source = open_source(folder, SourceOptions(angles="0:180:12"))
    source = pickle.loads(pickle.dumps(source))
    assert source.description == "TIFF stack"
    assert source.chunk_shape == (1, 6, 8)
    np.testing.assert_array_equal(source.read(EVERYTHING, EVERYTHING), counts)
    np.testing.assert_array_equal(source.read(slice(9, 11), slice(2, 5)), counts[9:11, 2:5])
    assert source.flats() is None


def test_a_glob_takes_the_files_that_fit(folder, counts):
    frames = tiff_frames(folder / "raw_?.tif")
    np.testing.assert_array_equal(frames.read(EVERYTHING, EVERYTHING), counts[:10])
    assert open_source(folder / "raw_1*.tif", SourceOptions(angles="0:180:3")).shape[0] == 3


def write_pages(path, counts, byteorder="<", **how):
    with tifffile.TiffWriter(path, byteorder=byteorder) as tiff:
        for frame in counts:
            tiff.write(frame, contiguous=False, metadata=None, **how)


@pytest.mark.parametrize(
    "write",
    [
        lambda path, counts: tifffile.imwrite(path, counts),
        lambda path, counts: tifffile.imwrite(path, counts, bigtiff=True),
        lambda path, counts: tifffile.imwrite(path, counts, byteorder=">"),
        lambda path, counts: tifffile.imwrite(path, counts, imagej=True),
        lambda path, counts: tifffile.imwrite(path, counts, truncate=True),
        lambda path, counts: tifffile.imwrite(path, counts, compression="zlib"),
        lambda path, counts: tifffile.imwrite(path, counts, rowsperstrip=2),
        lambda path, counts: tifffile.imwrite(path, counts.astype(np.float32)),
        write_pages,
        lambda path, counts: write_pages(path, counts, byteorder=">"),
        lambda path, counts: write_pages(path, counts, compression="zlib"),
    ],
    ids=[
        "classic", "big", "big-endian", "imagej", "one-header", "zlib", "strips", "float",
        "pages", "pages-big-endian", "pages-zlib",
    ],
)  # fmt: skip
def test_every_way_to_store_many_pages_gives_the_same_counts(tmp_path, counts, write):
    write(tmp_path / "stack.tif", counts)
    frames = tiff_frames(tmp_path / "stack.tif")
    assert frames.shape == counts.shape
    assert frames.dtype.isnative
    np.testing.assert_array_equal(frames.read(EVERYTHING, EVERYTHING), counts)
    np.testing.assert_array_equal(frames.read(slice(1, 3), slice(3, 5)), counts[1:3, 3:5])


def test_of_uncompressed_frames_only_the_rows_asked_for_are_read(tmp_path, monkeypatch):
    for number in range(5):
        tifffile.imwrite(tmp_path / f"{number}.tif", np.zeros((200, 300), "u2"))
    frames = tiff_frames(tmp_path)
    taken = []
    read = tifffile.FileHandle.read
    monkeypatch.setattr(
        tifffile.FileHandle,
        "read",
        lambda self, size=-1: taken.append(size) or read(self, size),
    )
    frames.read(slice(3, 5), slice(2, 4))
    row_bytes = 300 * 2
    assert taken.count(2 * row_bytes) == 2  # once from each of the two files
    assert sum(taken) < 4 * row_bytes + 2 * 5000  # headers are smaller than 5000 bytes


def test_flats_may_be_a_file_a_folder_or_a_glob(folder, counts):
    for flats, truth in (
        (folder / "raw_3.tif", counts[3:4]),
        (folder, counts),
        (folder / "raw_?.tif", counts[:10]),
    ):
        options = SourceOptions(angles="0:180:12", flats=str(flats), darks=str(flats))
        source = open_source(folder, options)
        np.testing.assert_array_equal(source.flats(), truth)
        np.testing.assert_array_equal(source.darks(), truth)


def test_angles_are_asked_for(folder):
    with pytest.raises(AnglesError, match=r"12 TIFF frames.*--angles"):
        open_source(folder)


def test_files_of_both_byte_orders_may_be_mixed(folder, counts):
    tifffile.imwrite(folder / "raw_7.tif", counts[7], byteorder=">")
    np.testing.assert_array_equal(tiff_frames(folder).read(EVERYTHING, EVERYTHING), counts)


@pytest.mark.parametrize("odd", [np.zeros((6, 9), "u2"), np.zeros((6, 8), "f4")])
def test_a_frame_of_another_shape_or_type_is_named(folder, odd):
    tifffile.imwrite(folder / "raw_7.tif", odd)
    with pytest.raises(FormatError, match=r"raw_7\.tif"):
        tiff_frames(folder)


def test_a_file_of_many_pages_in_a_stack_is_named(folder, counts):
    tifffile.imwrite(folder / "raw_7.tif", counts)
    with pytest.raises(FormatError, match=r"raw_7\.tif has 12 pages"):
        tiff_frames(folder)


def test_pages_that_differ_are_named(tmp_path, counts):
    with tifffile.TiffWriter(tmp_path / "stack.tif") as tiff:
        tiff.write(counts[0], metadata=None)
        tiff.write(counts[1, :4], metadata=None)
    with pytest.raises(FormatError, match="page 1"):
        tiff_frames(tmp_path / "stack.tif")


def test_colours_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((6, 8, 3), "u1"), photometric="rgb")
    with pytest.raises(FormatError, match=r"a\.tif.*colours"):
        tiff_frames(tmp_path / "a.tif")


@pytest.mark.parametrize("keep", [0, 6, 200, -20])
def test_a_broken_or_truncated_file_is_named(folder, keep):
    path = folder / "raw_7.tif"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(FormatError, match=r"raw_7\.tif"):
        tiff_frames(folder)


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
@pytest.mark.parametrize(
    ("write", "how"),
    [
        (tifffile.imwrite, {}),
        (tifffile.imwrite, {"truncate": True}),
        (tifffile.imwrite, {"compression": "zlib"}),
        (write_pages, {}),
        (write_pages, {"compression": "zlib"}),
    ],
    ids=["block", "one-header", "zlib", "pages", "pages-zlib"],
)
def test_a_truncated_stack_is_refused(tmp_path, counts, write, how, keep):
    path = tmp_path / "stack.tif"
    write(path, counts, **how)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(FormatError, match=r"stack\.tif"):
        tiff_frames(path)


def test_a_folder_or_glob_without_frames_is_named(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(MissingInputError, match=r"notes\.txt"):
        tiff_frames(tmp_path)
    with pytest.raises(MissingInputError, match="no file fits"):
        tiff_frames(tmp_path / "*.tif")


def test_numbers_sort_as_numbers(tmp_path):
    names = ["a_2.tif", "a_10.tif", "a_010.tif", "a_1.tif", "b.tif"]
    ordered = sorted((tmp_path / name for name in names), key=natural_key)
    assert [path.name for path in ordered] == [
        "a_1.tif", "a_2.tif", "a_010.tif", "a_10.tif", "b.tif",
    ]  # fmt: skip


@pytest.mark.real
def test_tiffs_and_hdf5_of_the_same_scan_are_the_same(data_dir):
    folder = data_dir / "i12_24737"
    options = SourceOptions(
        angles=str(folder / "angles.txt"),
        angles_lines="10:101",
        flats=str(folder / "flat_00001.tiff"),
        darks=str(folder / "dark_00001.tiff"),
    )
    tiffs = open_source(folder / "tiffs", options)
    hdf5 = open_source(folder / "i12_24737.h5")
    assert (tiffs.shape, tiffs.dtype) == (hdf5.shape, hdf5.dtype) == ((91, 135, 160), np.uint16)
    np.testing.assert_array_equal(
        tiffs.read(EVERYTHING, EVERYTHING), hdf5.read(EVERYTHING, EVERYTHING)
    )
    np.testing.assert_array_equal(tiffs.flats(), hdf5.flats())
    np.testing.assert_array_equal(tiffs.darks(), hdf5.darks())
    np.testing.assert_array_equal(tiffs.angles, hdf5.angles)


@pytest.mark.real
def test_the_longer_angle_file_of_i12_is_asked_about_with_the_right_lines(data_dir):
    folder = data_dir / "i12_24737"
    with pytest.raises(AnglesError, match=r"111 angles for 91 projections.*--angles-lines 10:101"):
        open_source(folder / "tiffs", SourceOptions(angles=str(folder / "angles.txt")))
