import h5py
import numpy as np
import pytest

from tomodask.errors import AnglesError, FormatError, MissingInputError
from tomodask.ingest.angles import AngleList, Selection, given_angles, parse_range, read_angle_file
from tomodask.ingest.source import SourceOptions


def all_of(count):
    return Selection(np.arange(count), count)


def angles_of(count, **options):
    return given_angles(SourceOptions(**options), all_of(count))


def test_a_range_leaves_out_its_stop_unless_it_is_closed():
    np.testing.assert_allclose(np.rad2deg(parse_range("0:180:4")), [0, 45, 90, 135])
    np.testing.assert_allclose(np.rad2deg(parse_range("0:180:4:closed")), [0, 60, 120, 180])
    np.testing.assert_allclose(np.rad2deg(parse_range("-90:-270:2")), [-90, -180])


def test_what_is_no_range_is_taken_for_a_file():
    assert parse_range("angles.txt") is None
    assert parse_range("scan.h5:/theta") is None


@pytest.mark.parametrize("text", ["0:180:0", "0:180:-3", "0:180:4:open", "0:inf:4"])
def test_a_range_that_makes_no_sense_is_refused(text):
    with pytest.raises(AnglesError, match="COUNT"):
        parse_range(text)


def test_a_range_must_have_as_many_angles_as_there_are_projections():
    with pytest.raises(AnglesError, match=r"90 angles.*91 projections"):
        angles_of(91, angles="0:180:90")


def test_lines_and_a_range_together_are_refused():
    with pytest.raises(AnglesError, match="one of them"):
        angles_of(4, angles="0:180:4", angles_lines="0:4")


def test_comments_and_empty_lines_of_an_angle_file_are_left_out(tmp_path):
    (tmp_path / "angles.txt").write_text("# degrees\n0\n\n 90.5 # half way\n1.8e2\n")
    angles = angles_of(3, angles=str(tmp_path / "angles.txt"))
    np.testing.assert_allclose(np.rad2deg(angles), [0, 90.5, 180])


@pytest.mark.parametrize("line", ["angle", "0 12.5", "1.2.3"])
def test_a_line_that_is_no_angle_is_named(tmp_path, line):
    (tmp_path / "angles.txt").write_text(f"0\n{line}\n")
    with pytest.raises(FormatError, match="line 2"):
        read_angle_file(tmp_path / "angles.txt")


def test_a_missing_angle_file_is_named(tmp_path):
    with pytest.raises(MissingInputError, match=r"START:STOP:COUNT.*angels\.txt"):
        angles_of(3, angles=str(tmp_path / "angels.txt"))


def padded(before, after):
    moving = np.arange(0, 180, 2.0)
    return np.concatenate([np.full(before, 0.0), moving, np.full(after, moving[-1])])


@pytest.mark.parametrize(("before", "after"), [(10, 10), (3, 0), (0, 7)])
def test_too_many_angles_are_asked_about_with_a_fitting_example(before, after):
    with pytest.raises(AnglesError) as caught:
        AngleList(padded(before, after), None, "angles.txt").for_projections(all_of(90))
    message = str(caught.value)
    assert f"{90 + before + after} angles for 90 projections" in message
    assert f"--angles-lines {before}:{before + 90}" in message


def test_lines_choose_the_angles_of_the_projections(tmp_path):
    (tmp_path / "angles.txt").write_text("\n".join(map(str, padded(10, 10))))
    angles = angles_of(90, angles=str(tmp_path / "angles.txt"), angles_lines="10:100")
    np.testing.assert_allclose(np.rad2deg(angles), np.arange(0, 180, 2.0))


@pytest.mark.parametrize("lines", ["10:1000", "5:5", "7", "a:b", "-3:4"])
def test_lines_outside_the_file_are_refused(lines):
    with pytest.raises(AnglesError, match="--angles-lines"):
        AngleList(padded(10, 10), None, "angles.txt").take_lines(lines)


def test_too_few_angles_name_both_counts():
    with pytest.raises(AnglesError, match=r"3 angles for 5 projections: was the scan .* cut short"):
        AngleList(np.array([0.0, 60, 120]), None, "here").for_projections(all_of(5))


def test_one_angle_a_frame_is_cut_to_the_projections():
    selection = Selection(np.array([1, 2, 4]), 6)
    per_frame = AngleList(np.arange(6) * 30.0, "degrees", "here").for_projections(selection)
    per_projection = AngleList(np.array([30.0, 60, 120]), "degrees", "here")
    np.testing.assert_array_equal(per_frame, per_projection.for_projections(selection))


def test_an_angle_that_is_not_finite_is_named():
    with pytest.raises(AnglesError, match="angle 1 is nan"):
        AngleList(np.array([0, np.nan, 90]), "degrees", "here").for_projections(all_of(3))


def test_radians_that_do_not_say_so_are_asked_about_not_guessed(tmp_path):
    (tmp_path / "angles.txt").write_text("\n".join(map(str, np.linspace(0, np.pi, 5))))
    with pytest.raises(AnglesError, match="--angle-units radians"):
        angles_of(5, angles=str(tmp_path / "angles.txt"))
    angles = angles_of(5, angles=str(tmp_path / "angles.txt"), angle_units="radians")
    np.testing.assert_allclose(angles, np.linspace(0, np.pi, 5))


@pytest.mark.parametrize(
    ("units", "factor"),
    [("degrees", 1), ("deg", 1), ("Degree", 1), ("rad", 180 / np.pi), (None, 1)],
)
def test_angles_in_an_hdf5_file_have_the_units_they_say(tmp_path, units, factor):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["motor/theta"] = np.array([0.0, 3.0, 100.0])
        file["motor/current"] = np.array([0.0, 3.0, 100.0])
        if units:
            file["motor/theta"].attrs["units"] = units
    for reference in (f"{tmp_path}/a.h5:/motor/theta", f"{tmp_path}/a.h5"):
        angles = angles_of(3, angles=reference)
        np.testing.assert_allclose(np.rad2deg(angles), np.array([0, 3, 100]) * factor)


def test_units_that_are_no_angle_are_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["theta"] = np.arange(3.0)
        file["theta"].attrs["units"] = "mm"
    with pytest.raises(AnglesError, match="'mm'"):
        angles_of(3, angles=f"{tmp_path}/a.h5:/theta")


def test_a_file_with_several_lists_is_asked_which(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["theta"], file["rotation"] = np.arange(3.0), np.arange(3.0)
    with pytest.raises(AnglesError, match="/rotation, /theta"):
        angles_of(3, angles=f"{tmp_path}/a.h5")
