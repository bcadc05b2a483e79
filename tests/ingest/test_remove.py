"""A scan store goes away whole, and takes nothing of anybody else's with it."""

import numpy as np
import pytest

from tomodask import steps
from tomodask.demo import write_dxchange
from tomodask.errors import OutputExistsError
from tomodask.ingest.remove import remove_scan
from tomodask.phantom import simulate_scan
from tomodask.scan import Scan


@pytest.fixture(scope="module")
def other_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("other") / "other.h5"
    write_dxchange(path, simulate_scan(8, 48, 20, seed=9, num_spheres=50))
    return path


def test_a_store_and_its_ledger_go_away_whole(raw_file, one_worker, tmp_path):
    path = steps.ingest(raw_file.path, tmp_path / "s.zarr", client=one_worker)
    assert remove_scan(path) == []
    assert [file.name for file in tmp_path.iterdir()] == ["s.zarr.run"]  # what was told of the copy


def test_files_of_others_stay_and_are_named(raw_file, one_worker, tmp_path):
    path = steps.ingest(raw_file.path, tmp_path / "s.zarr", client=one_worker)
    mine = [path / "notes.txt", path / "projections" / "c" / "0" / "mine.txt", path / "x" / "y"]
    for file in mine:
        file.parent.mkdir(exist_ok=True)
        file.write_text("mine")
    assert remove_scan(path) == sorted(mine)
    assert all(file.read_text() == "mine" for file in mine)
    assert {file for file in path.rglob("*") if file.is_file()} == set(mine)


def test_what_is_no_scan_store_is_refused(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(OutputExistsError, match="not a scan store"):
        remove_scan(tmp_path / "photos")


def test_overwrite_replaces_the_scan_of_another_source(raw_file, other_file, one_worker, tmp_path):
    path = tmp_path / "s.zarr"
    steps.ingest(raw_file.path, path, client=one_worker)
    with pytest.raises(OutputExistsError, match="another scan"):
        steps.ingest(other_file, path, client=one_worker)
    np.testing.assert_array_equal(Scan.open(path).stored_shape, (60, 40, 48))
    steps.ingest(other_file, path, client=one_worker, overwrite=True)
    assert Scan.open(path).stored_shape == (20, 8, 48)
