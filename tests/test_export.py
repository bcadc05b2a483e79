"""Exports show equal values as equal greys, say which, and replace nothing that isn't theirs."""

import json

import h5py
import numpy as np
import pytest
import tifffile

from tomodask.errors import InputError, OutputExistsError
from tomodask.export import export_volume, parse_grey_range
from tomodask.volumestore import VolumeSpec, create_volume

SHAPE = (20, 70, 60)


def make_volume(path, values, levels=2, **spec):
    spec = {"voxel_size_um": 2.0, "value_unit": "1/mm"} | spec
    volume = create_volume(path, VolumeSpec(values.shape, chunk_rows=8, levels=levels, **spec), {})
    volume.write(0, values)
    return volume.finish()


@pytest.fixture
def values(rng):
    return rng.normal(1, 0.2, SHAPE).astype(np.float32)


@pytest.fixture
def volume(tmp_path, values):
    make_volume(tmp_path / "v.zarr", values)
    return tmp_path / "v.zarr"


def test_a_tiff_stack_holds_every_slice_under_its_row(volume, values, tmp_path):
    report = export_volume(volume, tmp_path / "out", dtype="float32", rows=(5, 12))
    files = sorted((tmp_path / "out").glob("*.tif"))
    assert [file.name for file in files] == [f"slice_{row:05}.tif" for row in range(5, 12)]
    stack = np.stack([tifffile.imread(file) for file in files])
    np.testing.assert_array_equal(stack, values[5:12])
    assert report["grey_range"] is None
    assert report["shape"] == [7, 70, 60]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("compression", [False, True])
def test_greys_turn_back_into_values_with_the_range_that_is_written(
    volume, values, tmp_path, dtype, compression
):
    report = export_volume(
        volume, tmp_path / "out", dtype=dtype, grey_range=(0.5, 1.5), compression=compression
    )
    stack = np.stack([tifffile.imread(f) for f in sorted((tmp_path / "out").glob("*.tif"))])
    assert stack.dtype == dtype
    step = 1 / np.iinfo(dtype).max
    # half a grey level, and float32's rounding of the scaled value
    assert 0.5 + stack * step == pytest.approx(np.clip(values, 0.5, 1.5), abs=0.51 * step)
    assert report["below_range"] == (values < 0.5).sum()
    assert report["above_range"] == (values > 1.5).sum()
    assert report == json.loads((tmp_path / "out/export.json").read_text())


def test_every_tiff_states_range_unit_and_voxel_size(volume, tmp_path):
    report = export_volume(volume, tmp_path / "out", level=1)
    with tifffile.TiffFile(tmp_path / "out/slice_00003.tif") as file:
        page = file.pages[0]
        described = json.loads(page.description)
        per_cm = [page.tags[name].value for name in ("XResolution", "YResolution")]
        assert page.tags["ResolutionUnit"].value == tifffile.RESUNIT.CENTIMETER
    assert described["grey_range"] == report["grey_range"]
    assert (described["value_unit"], described["voxel_unit"]) == ("1/mm", "micrometer")
    assert described["voxel_size"] == [4, 4, 4]
    assert [a / b for a, b in per_cm] == pytest.approx([2500, 2500])


def test_the_automatic_range_is_that_of_the_whole_volume_whatever_is_exported(
    volume, values, tmp_path
):
    part = export_volume(volume, tmp_path / "part", rows=(0, 1))
    whole = export_volume(volume, tmp_path / "whole", grey_range=None)
    assert part["grey_range"] == whole["grey_range"]
    # the finest level is small enough to be taken whole
    assert whole["grey_range"] == pytest.approx(list(np.percentile(values, (0.1, 99.9))))


def test_a_large_volume_gives_its_range_from_a_coarse_level(volume, values, tmp_path, monkeypatch):
    monkeypatch.setattr("tomodask.export.SAMPLE_VOXELS", 10 * 35 * 30)
    report = export_volume(volume, tmp_path / "out")
    coarse = values.reshape(10, 2, 35, 2, 30, 2).mean(axis=(1, 3, 5))
    assert report["grey_range"] == pytest.approx(list(np.percentile(coarse, (0.1, 99.9))), rel=1e-5)
    monkeypatch.setattr("tomodask.export.SAMPLE_VOXELS", 3 * 35 * 30)
    report = export_volume(volume, tmp_path / "again")
    thinned = np.percentile(coarse[::4], (0.1, 99.9))  # ceil(10 / 3)
    assert report["grey_range"] == pytest.approx(list(thinned), rel=1e-5)


def test_slabs_of_any_height_give_the_same_export(volume, tmp_path, monkeypatch):
    export_volume(volume, tmp_path / "whole")
    monkeypatch.setattr("tomodask.export.SLAB_BYTES", 3 * 70 * 60 * 4)
    calls = []
    export_volume(
        volume, tmp_path / "thin", progress=lambda done, total: calls.append((done, total))
    )
    for file in (tmp_path / "whole").glob("*.tif"):
        assert file.read_bytes() == (tmp_path / "thin" / file.name).read_bytes()
    assert calls[0] == (3, 20)
    assert calls[-1] == (20, 20)


def test_hdf5_holds_one_dataset_with_units_and_range(volume, values, tmp_path):
    report = export_volume(
        volume, tmp_path / "v.h5", format="hdf5", grey_range=(0, 2), rows=(3, 17), compression=True
    )
    with h5py.File(tmp_path / "v.h5") as file:
        dataset = file["volume"]
        assert [axis.label for axis in dataset.dims] == ["z", "y", "x"]
        assert dataset.attrs["units"] == "1/mm"
        assert list(dataset.attrs["grey_range"]) == [0, 2]
        assert list(dataset.attrs["element_size_um"]) == [2, 2, 2]
        assert dataset.chunks is not None
        restored = dataset[:] * (2 / 65535)
        assert json.loads(file.attrs["tomodask export"]) == report
    assert restored == pytest.approx(np.clip(values[3:17], 0, 2), abs=0.51 * 2 / 65535)
    assert [file.name for file in tmp_path.iterdir() if file.suffix == ".partial"] == []


def test_hdf5_as_float_holds_the_values_themselves(volume, values, tmp_path):
    export_volume(volume, tmp_path / "v.h5", format="hdf5", dtype="float32")
    with h5py.File(tmp_path / "v.h5") as file:
        np.testing.assert_array_equal(file["volume"][:], values)
        assert "grey_range" not in file["volume"].attrs


def test_missing_voxels_are_counted_and_have_the_lowest_grey(tmp_path, values):
    values[2, 3, 4:9] = np.nan
    make_volume(tmp_path / "v.zarr", values)
    report = export_volume(tmp_path / "v.zarr", tmp_path / "out", dtype="uint8")
    assert report["missing_voxels"] == 5
    assert not tifffile.imread(tmp_path / "out/slice_00002.tif")[3, 4:9].any()
    report = export_volume(tmp_path / "v.zarr", tmp_path / "raw", dtype="float32")
    assert report["missing_voxels"] == 5
    assert np.isnan(tifffile.imread(tmp_path / "raw/slice_00002.tif")[3, 4:9]).all()


def test_an_unfinished_volume_is_exported_with_a_warning(tmp_path, values):
    volume = create_volume(tmp_path / "v.zarr", VolumeSpec(SHAPE, chunk_rows=8, levels=1), {})
    with pytest.raises(InputError, match="no values yet"), pytest.warns(match="not complete"):
        export_volume(tmp_path / "v.zarr", tmp_path / "out")
    volume.write(0, values[:8])
    with pytest.warns(UserWarning, match="not complete"):
        report = export_volume(tmp_path / "v.zarr", tmp_path / "out")
    assert report["missing_voxels"] == 12 * 70 * 60
    assert report["voxel_unit"] == "pixel"
    with tifffile.TiffFile(tmp_path / "out/slice_00000.tif") as file:
        assert file.pages[0].tags["ResolutionUnit"].value == tifffile.RESUNIT.NONE


def test_a_volume_of_one_value_is_shown_as_the_lowest_grey(tmp_path):
    make_volume(tmp_path / "v.zarr", np.full((8, 20, 20), 0.25, np.float32), levels=1)
    report = export_volume(tmp_path / "v.zarr", tmp_path / "out")
    assert report["grey_range"] == [0.25, 1.25]
    assert not tifffile.imread(tmp_path / "out/slice_00000.tif").any()


def test_an_earlier_export_of_the_same_volume_is_replaced_whole(volume, tmp_path):
    export_volume(volume, tmp_path / "out")
    export_volume(volume, tmp_path / "out", rows=(4, 6))
    assert len(list((tmp_path / "out").glob("*.tif"))) == 2
    export_volume(volume, tmp_path / "v.h5", format="hdf5")
    export_volume(volume, tmp_path / "v.h5", format="hdf5", rows=(4, 6))
    with h5py.File(tmp_path / "v.h5") as file:
        assert file["volume"].shape == (2, 70, 60)


def test_a_killed_export_can_be_repeated(volume, tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    for name, format in (("out", "tiff"), ("v.h5", "hdf5")):
        with pytest.raises(KeyboardInterrupt):
            export_volume(volume, tmp_path / name, format=format, progress=stop)
        assert not list(tmp_path.glob("*.partial"))
        assert export_volume(volume, tmp_path / name, format=format)["complete"]


@pytest.mark.parametrize("format", ["tiff", "hdf5"])
def test_nothing_foreign_is_replaced(volume, values, tmp_path, format):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/slice_00001.tif").write_bytes(b"measured")
    (tmp_path / "file").write_bytes(b"measured")
    with h5py.File(tmp_path / "h5", "w") as file:
        file["volume"] = [1]
    for name in ("folder", "file", "h5"):
        with pytest.raises(OutputExistsError, match="no export of tomodask"):
            export_volume(volume, tmp_path / name, format=format)
    assert (tmp_path / "folder/slice_00001.tif").read_bytes() == b"measured"
    make_volume(tmp_path / "other.zarr", values)
    export_volume(tmp_path / "other.zarr", tmp_path / "out", format=format)
    with pytest.raises(OutputExistsError, match=r"holds an export of .*other\.zarr"):
        export_volume(volume, tmp_path / "out", format=format)


def test_an_empty_folder_may_be_filled(volume, tmp_path):
    (tmp_path / "out").mkdir()
    assert export_volume(volume, tmp_path / "out")["complete"]


def test_what_can_not_be_exported_is_refused_before_anything_is_written(volume, tmp_path):
    cases = [
        ({"rows": (5, 21)}, "rows 5:21 asked of a level with 20"),
        ({"grey_range": (2, 1)}, "the lower first"),
        ({"grey_range": (0, np.inf)}, "two finite values"),
        ({"grey_range": (0, 1), "dtype": "float32"}, "keeps the values"),
        ({"level": 2}, "levels 0"),
    ]
    for arguments, message in cases:
        with pytest.raises(InputError, match=message):
            export_volume(volume, tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()
    for format in ("tiff", "hdf5"):
        with pytest.raises(InputError, match="there is no folder"):
            export_volume(volume, tmp_path / "none/out", format=format)


def test_grey_ranges_are_read_from_text():
    assert parse_grey_range(None) == parse_grey_range("auto") == "auto"
    assert parse_grey_range("-1e-3:0.05") == (-0.001, 0.05)
    for wrong in ("1", "a:b", "1:2:3", ""):
        with pytest.raises(InputError, match="LOW:HIGH"):
            parse_grey_range(wrong)
    with pytest.raises(InputError, match="the lower first"):
        parse_grey_range("2:1")
