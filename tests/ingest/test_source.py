import os
import shutil
import subprocess
import sys
from typing import get_args, get_type_hints

import numpy as np
import pytest

from tomodask.errors import FormatError, MissingInputError
from tomodask.ingest import FORMATS, SourceOptions, describe, open_source
from tomodask.ingest.quantities import energy_kev, length_um
from tomodask.ingest.source import bounds, turn_frames, turned_shape

THETA = np.arange(12) * 15.0


@pytest.fixture
def path(write_dxchange, counts):
    return write_dxchange(counts, THETA, images={"data_white": counts[:2]})


def test_the_fingerprint_follows_content_not_place(path, tmp_path):
    before = open_source(path).fingerprint()
    assert open_source(path).fingerprint() == before
    (tmp_path / "moved").mkdir()
    moved = shutil.copy2(path, tmp_path / "moved")  # keeps the time stamp
    assert open_source(moved).fingerprint() == before


@pytest.mark.parametrize(
    "options",
    [
        {"angles": "0:180:12:closed"},
        {"gain": 2.0},
        {"signal": "emission"},
        {"pixel_size_um": 1.0},
        {"flats": "{path}:/exchange/data"},
    ],
)
def test_the_fingerprint_changes_with_every_option_that_matters(path, options):
    options = {k: v.format(path=path) if isinstance(v, str) else v for k, v in options.items()}
    changed = open_source(path, SourceOptions(**options)).fingerprint()
    assert changed != open_source(path).fingerprint()


def test_the_fingerprint_changes_when_the_file_is_written_again(path):
    before = open_source(path).fingerprint()
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert open_source(path).fingerprint() != before


def test_a_description_tells_what_is_there_and_what_is_not(path):
    facts = dict(describe(open_source(path, SourceOptions(pixel_size_um=1.5))))
    assert facts["projections"].startswith("12 x 6 x 8 uint16")
    assert facts["angles"] == "0 .. 165 degrees, 12, step 15"
    assert facts["flats"] == "2 x 6 x 8 uint16"
    assert facts["darks"] == "none"
    assert facts["pixel size"] == "1.5 um"
    assert facts["energy"] == "unknown"


def test_uneven_steps_are_told_with_their_range(write_dxchange, counts):
    facts = dict(describe(open_source(write_dxchange(counts, THETA**1.1))))
    assert "steps" in facts["angles"]


def test_a_format_that_is_named_is_not_guessed(path):
    source = open_source(path, SourceOptions(format="hdf5", data="exchange/data", angles="0:9:12"))
    assert source.description == "HDF5"
    with pytest.raises(FormatError, match=r"scan\.h5 is no TIFF: it is an HDF5 file"):
        open_source(path, SourceOptions(format="tiff"))


def test_every_format_of_the_table_can_be_named():
    names = get_args(get_type_hints(SourceOptions)["format"])
    assert set(names) == {"auto", *FORMATS}


def test_what_is_no_scan_is_refused_by_its_looks(tmp_path):
    (tmp_path / "scan.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(FormatError, match="NumPy"):
        open_source(tmp_path / "scan.npy")


def test_missing_input_names_its_neighbour(path):
    with pytest.raises(MissingInputError, match=r"did you mean .*scan\.h5"):
        open_source(path.with_name("scn.h5"))
    with pytest.raises(MissingInputError, match=r"--flats .*did you mean .*scan\.h5"):
        open_source(path, SourceOptions(flats=str(path.with_name("scn.h5"))))


def test_a_name_with_brackets_is_a_file_where_it_exists(path):
    odd = path.rename(path.with_name("scan[1].h5"))
    assert open_source(odd).shape == (12, 6, 8)


def test_a_symbolic_link_to_nothing_is_told_as_such(tmp_path):
    (tmp_path / "scan.h5").symlink_to("/raw/gone.h5")
    with pytest.raises(MissingInputError, match=r"link to /raw/gone\.h5"):
        open_source(tmp_path / "scan.h5")


def test_a_recipe_loads_no_reader():
    program = """
import sys, tomodask.ingest.source
assert not {"h5py", "zarr", "tifffile"} & set(sys.modules)
from tomodask.ingest import open_source
assert {"h5py", "zarr", "tifffile"} <= set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_relative_paths_hold_wherever_the_worker_runs(path, monkeypatch, tmp_path):
    monkeypatch.chdir(path.parent)
    source = open_source(path.name, SourceOptions(flats=f"{path.name}:/exchange/data_white"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert source.flats() is not None
    assert source.read(slice(0, 1), slice(None)).shape == (1, 6, 8)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("flip", [False, True])
def test_turning_keeps_every_pixel_and_four_turns_do_nothing(counts, degrees, flip):
    turned = turn_frames(counts, degrees, flip)
    assert turned.shape == turned_shape(counts.shape, degrees)
    back = turned[:, :, ::-1] if flip else turned
    np.testing.assert_array_equal(turn_frames(back, (360 - degrees) % 360, False), counts)


def test_a_quarter_turn_is_counter_clockwise():
    frame = np.array([[[0, 1], [0, 0]]])  # the upper right corner goes to the upper left
    np.testing.assert_array_equal(turn_frames(frame, 90, False), [[[1, 0], [0, 0]]])


def test_steps_are_refused_and_ranges_are_cut():
    assert bounds(slice(2, 99), 10) == (2, 10)
    assert bounds(slice(5, 2), 10) == (5, 5)
    with pytest.raises(ValueError, match="step 2"):
        bounds(slice(0, 10, 2), 10)


def test_lengths_and_energies_convert_and_what_is_unknown_is_none():
    assert length_um(0.5, "mm") == pytest.approx(500)
    assert length_um(1.2, "microns") == pytest.approx(1.2)
    assert energy_kev(27400, "eV") == pytest.approx(27.4)
    assert energy_kev(3.0, "GeV") is None
    for value, unit in ((None, "mm"), (1.0, None), (1.0, "furlong"), (np.nan, "mm"), (-1.0, "mm")):
        assert length_um(value, unit) is None
