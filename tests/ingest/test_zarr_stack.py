import pickle

import numpy as np
import pytest
import zarr

from tomodask.errors import AnglesError, FormatError, MissingInputError
from tomodask.ingest import SourceOptions, open_source

ANGLES = np.arange(12) * 15.0


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    "names",
    [
        ("projections", "angle", "flats", "darks"),
        ("data", "angles", "data_white", "data_dark"),
        ("exchange/data", "exchange/theta", "exchange/data_white", "exchange/data_dark"),
    ],
)
def test_a_group_of_another_program_needs_no_option(tmp_path, counts, zarr_format, names):
    group = zarr.create_group(tmp_path / "scan.zarr", zarr_format=zarr_format)
    for name, values in zip(names, (counts, ANGLES, counts[:2], counts[2:3]), strict=True):
        group.create_array(name, data=values)
    source = pickle.loads(pickle.dumps(open_source(tmp_path / "scan.zarr")))
    assert source.description == "Zarr"
    np.testing.assert_array_equal(source.read(slice(2, 7), slice(1, 4)), counts[2:7, 1:4])
    np.testing.assert_array_equal(source.flats(), counts[:2])
    np.testing.assert_array_equal(source.darks(), counts[2:3])
    np.testing.assert_allclose(np.rad2deg(source.angles), ANGLES)


def test_a_bare_array_needs_angles(tmp_path, counts):
    zarr.create_array(tmp_path / "a.zarr", data=counts, chunks=(2, 3, 8), shards=(4, 6, 8))
    with pytest.raises(AnglesError, match=r"12 projections.*--angles"):
        open_source(tmp_path / "a.zarr")
    options = SourceOptions(angles="0:180:12", flats=str(tmp_path / "a.zarr"))
    source = open_source(tmp_path / "a.zarr", options)
    assert source.chunk_shape == (2, 3, 8)
    np.testing.assert_array_equal(source.read(slice(None), slice(None)), counts)
    np.testing.assert_array_equal(source.flats(), counts)


def test_angles_in_radians_say_so(tmp_path, counts):
    group = zarr.create_group(tmp_path / "scan.zarr")
    group.create_array("data", data=counts)
    angle = group.create_array("angle", data=np.deg2rad(ANGLES))
    with pytest.raises(AnglesError, match="--angle-units"):
        open_source(tmp_path / "scan.zarr")
    angle.attrs["units"] = "radians"
    np.testing.assert_array_equal(open_source(tmp_path / "scan.zarr").angles, np.deg2rad(ANGLES))


def test_a_group_without_projections_is_refused_with_what_it_holds(tmp_path):
    zarr.create_group(tmp_path / "scan.zarr").create_array("volume", data=np.zeros((2, 3, 4)))
    with pytest.raises(MissingInputError, match="volume"):
        open_source(tmp_path / "scan.zarr")


def test_a_store_of_our_own_is_not_ingested_again(tmp_path):
    zarr.create_group(tmp_path / "scan.zarr", attributes={"tomodask": {"kind": "scan"}})
    with pytest.raises(FormatError, match="already"):
        open_source(tmp_path / "scan.zarr")


def test_the_fingerprint_changes_with_a_chunk(tmp_path, counts):
    group = zarr.create_group(tmp_path / "scan.zarr")
    array = group.create_array("data", data=counts, chunks=(4, 6, 8))
    group.create_array("angles", data=ANGLES)
    before = open_source(tmp_path / "scan.zarr").fingerprint()
    assert open_source(tmp_path / "scan.zarr").fingerprint() == before
    array[5] = 0
    assert open_source(tmp_path / "scan.zarr").fingerprint() != before
