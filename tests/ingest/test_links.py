import h5py
import numpy as np
import pytest

from tomodask.errors import MissingInputError
from tomodask.ingest.links import find_node, get_node


@pytest.fixture
def file(tmp_path):
    with h5py.File(tmp_path / "target.h5", "w") as target:
        target["here"] = np.zeros(3)
        target["onward"] = h5py.ExternalLink("gone.h5", "/x")
    with h5py.File(tmp_path / "master.h5", "w") as file:
        file["entry/data"] = np.zeros(3)
        file["entry/good"] = h5py.ExternalLink("target.h5", "/here")
        file["entry/no_file"] = h5py.ExternalLink("/raw/2014/lost.hdf", "/entry/data")
        file["entry/no_node"] = h5py.ExternalLink("target.h5", "/there")
        file["entry/onward"] = h5py.ExternalLink("target.h5", "/onward")
        file["entry/soft"] = h5py.SoftLink("/entry/nothing")
        yield file


def test_a_good_external_link_is_followed(file):
    assert find_node(file, "/entry/good").file.filename.endswith("target.h5")


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("no_file", ["/entry/no_file", "/raw/2014/lost.hdf", "/entry/data", "does not exist"]),
        ("no_node", ["/entry/no_node", "target.h5", "/there"]),
        ("onward", ["/entry/onward", "target.h5", "/onward"]),
        ("soft", ["/entry/soft", "/entry/nothing"]),
        ("dat", ["/entry/dat", "did you mean data"]),
        ("zzz", ["no_file"]),  # no near name: what the group holds
        ("data/deeper", ["/entry/data is a dataset"]),
    ],
)
def test_a_path_that_leads_nowhere_is_explained(file, name, facts):
    assert get_node(file, f"entry/{name}") is None
    with pytest.raises(MissingInputError) as caught:
        find_node(file, f"/entry/{name}")
    for fact in facts:
        assert fact in str(caught.value)


def test_paths_are_relative_to_the_group_unless_they_begin_at_the_root(file):
    assert find_node(file["entry"], "data") == find_node(file["entry"], "/entry/data")
