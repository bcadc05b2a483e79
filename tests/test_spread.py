"""Rows far apart are the same rows as read one by one, from stores and from raw files."""

import numpy as np
import pytest

from tomodask import steps
from tomodask.ingest import SourceOptions, open_source
from tomodask.ingest.raw import RawScan
from tomodask.scan import Scan
from tomodask.spread import read_rows


@pytest.fixture(scope="module")
def stored(raw_file, one_worker, tmp_path_factory) -> Scan:
    path = tmp_path_factory.mktemp("spread") / "scan.zarr"
    return Scan.open(steps.ingest(raw_file.path, path, client=one_worker))


@pytest.mark.parametrize("columns", [None, (3, 40)])
@pytest.mark.parametrize("views", [slice(None), slice(None, None, 7), slice(5, 50, 3)])
def test_rows_are_those_of_the_file(raw_file, stored, columns, views):
    rows = np.array([0, 1, 5, 31, 32, 39])
    truth = raw_file.truth
    first, last = columns or (0, 48)
    for scan in (stored, RawScan(open_source(raw_file.path, SourceOptions()))):
        read = read_rows(scan, rows, columns, views)
        np.testing.assert_array_equal(read.data, truth.projections[views][:, rows, first:last])
        np.testing.assert_array_equal(read.flats, truth.flats[:, rows, first:last])
        np.testing.assert_array_equal(read.darks, truth.darks[:, rows, first:last])
        np.testing.assert_allclose(read.geometry.angles, truth.angles[views])
        assert read.geometry.det_rows == rows.size


@pytest.mark.parametrize(("rotate", "flip"), [(0, True), (90, False), (180, True), (270, True)])
def test_a_raw_file_reads_as_its_scan_store_would(raw_file, one_worker, tmp_path, rotate, flip):
    options = {"rotate_detector": rotate, "flip": flip}
    path = steps.ingest(raw_file.path, tmp_path / "s.zarr", client=one_worker, ingest=options)
    scan = Scan.open(path)
    raw = RawScan(open_source(raw_file.path, SourceOptions(**options)), rotate, flip)
    expected, found = scan.read((4, 11), (2, 30)), raw.read((4, 11), (2, 30))
    np.testing.assert_array_equal(found.data, expected.data)
    np.testing.assert_array_equal(found.flats, expected.flats)
    assert found.geometry.row_start == expected.geometry.row_start == 4
    assert found.geometry.det_count == expected.geometry.det_count == 28
