import h5py
import numpy as np
import pytest

from tomodask.errors import AnglesError, FormatError
from tomodask.ingest import SourceOptions, open_source


@pytest.fixture
def path(tmp_path, counts):
    with h5py.File(tmp_path / "any.h5", "w") as file:
        file["camera/images"] = counts
        file["motor/angle"] = np.arange(12) * 15.0
        file["motor/angle"].attrs["units"] = "deg"
    return tmp_path / "any.h5"


def test_the_only_stack_of_a_file_needs_no_name(path, counts):
    source = open_source(path, SourceOptions(angles="/motor/angle"))
    assert source.description == "HDF5"
    np.testing.assert_array_equal(source.read(slice(None), slice(None)), counts)
    np.testing.assert_allclose(np.rad2deg(source.angles), np.arange(12) * 15.0)
    ranged = open_source(path, SourceOptions(data="camera/images", angles="0:180:12"))
    np.testing.assert_allclose(ranged.angles, source.angles)


def test_angles_are_asked_for(path):
    with pytest.raises(AnglesError, match=r"12 frames.*--angles"):
        open_source(path)


def test_several_stacks_are_asked_about(path, counts):
    with h5py.File(path, "a") as file:
        file["camera/flats"] = counts[:2]
    options = SourceOptions(angles="0:180:12")
    with pytest.raises(FormatError, match=r"--data.*/camera/flats.*/camera/images"):
        open_source(path, options)
    options = SourceOptions(angles="0:180:12", data="/camera/images", flats=f"{path}:/camera/flats")
    np.testing.assert_array_equal(open_source(path, options).flats(), counts[:2])
