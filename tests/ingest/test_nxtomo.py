import pickle

import h5py
import numpy as np
import pytest

from tomodask.errors import AnglesError, FormatError, MissingInputError
from tomodask.ingest import SourceOptions, open_source

KEY = np.array([1, 1, 0, 0, 0, 1, 0, 0, 3, 0, 2, 2])  # flats in the middle, one invalid frame
PROJECTIONS = np.flatnonzero(KEY == 0)
ANGLES = np.arange(12) * 15.0


@pytest.mark.parametrize("key_type", [np.int32, np.float64, np.uint8])
def test_image_key_tells_projections_flats_and_darks_apart(write_nxtomo, counts, key_type):
    source = open_source(write_nxtomo(counts, KEY.astype(key_type), ANGLES, chunks=(4, 3, 8)))
    assert source.description == "NXtomo HDF5"
    np.testing.assert_array_equal(source.read(slice(None), slice(None)), counts[KEY == 0])
    np.testing.assert_array_equal(source.read(slice(2, 5), slice(1, 4)), counts[[4, 6, 7], 1:4])
    np.testing.assert_array_equal(source.flats(), counts[KEY == 1])
    np.testing.assert_array_equal(source.darks(), counts[KEY == 2])
    np.testing.assert_allclose(np.rad2deg(source.angles), ANGLES[KEY == 0])
    assert source.first_index == -1


def test_times_are_frame_numbers_on_one_clock(write_nxtomo, counts):
    source = open_source(write_nxtomo(counts, KEY, ANGLES))
    np.testing.assert_array_equal(source.timestamps, PROJECTIONS)
    np.testing.assert_array_equal(source.flat_times, [0, 1, 5])
    np.testing.assert_array_equal(source.dark_times, [10, 11])


def test_projections_in_one_run_say_where_it_begins(write_nxtomo, counts):
    key = np.array([1, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1])
    assert open_source(write_nxtomo(counts, key, ANGLES)).first_index == 3


def test_angles_of_the_projections_alone_are_taken_as_they_are(write_nxtomo, counts):
    all_frames = open_source(write_nxtomo(counts, KEY, ANGLES))
    alone = open_source(write_nxtomo(counts, KEY, ANGLES[KEY == 0], name="alone.nxs"))
    np.testing.assert_array_equal(all_frames.angles, alone.angles)


def test_other_numbers_of_angles_name_both_counts(write_nxtomo, counts):
    with pytest.raises(AnglesError, match=r"10 angles for 6 projections.*12 frames"):
        open_source(write_nxtomo(counts, KEY, ANGLES[:10]))


def test_radians_are_read_as_radians(write_nxtomo, counts):
    source = open_source(write_nxtomo(counts, KEY, np.deg2rad(ANGLES), units="rad"))
    np.testing.assert_allclose(np.rad2deg(source.angles), ANGLES[KEY == 0])


def test_frames_taken_after_the_scan_for_alignment_are_no_projections(write_nxtomo, counts):
    path = write_nxtomo(counts, np.zeros(12, int), ANGLES)
    control = np.zeros(12, int)
    control[-2:] = -1
    with h5py.File(path, "a") as file:
        file["entry/instrument/camera/image_key_control"] = control
    assert open_source(path).shape == (10, 6, 8)


def test_without_an_image_key_all_frames_are_projections(write_nxtomo, counts):
    source = open_source(write_nxtomo(counts, None, ANGLES))
    assert source.shape == counts.shape
    assert source.flats() is None


def test_flats_may_be_the_marked_frames_of_another_scan(write_nxtomo, counts):
    path = write_nxtomo(counts, KEY, ANGLES)
    other = write_nxtomo(counts[::-1], KEY, ANGLES, name="flats.nxs")
    source = open_source(path, SourceOptions(flats=str(other), darks=str(other)))
    np.testing.assert_array_equal(source.flats(), counts[::-1][KEY == 1])
    np.testing.assert_array_equal(source.darks(), counts[::-1][KEY == 2])
    assert source.flat_times is None  # another scan, another clock


@pytest.mark.parametrize(
    ("key", "message"),
    [(KEY[:10], "10 entries for the 12 frames"), (KEY + 4, "4, 5, 6, 7"), (KEY * 0 + 1, "none of")],
)
def test_an_image_key_that_does_not_fit_is_refused(write_nxtomo, counts, key, message):
    with pytest.raises(FormatError, match=message):
        open_source(write_nxtomo(counts, key, ANGLES))


def test_frames_behind_an_external_link_are_read_from_their_file(write_nxtomo, counts, tmp_path):
    path = write_nxtomo(None, KEY, ANGLES)
    (tmp_path / "raw").mkdir()
    with h5py.File(tmp_path / "raw" / "camera.h5", "w") as file:
        file.create_dataset("images", data=counts, chunks=(1, 6, 8))
    with h5py.File(path, "a") as file:
        file["entry/instrument/camera/data"] = h5py.ExternalLink("raw/camera.h5", "/images")
    source = pickle.loads(pickle.dumps(open_source(path)))
    np.testing.assert_array_equal(source.read(slice(None), slice(None)), counts[KEY == 0])
    assert {file.name for file in source.projections.files} == {"scan.nxs", "camera.h5"}


def test_a_link_to_nothing_names_link_file_and_path(write_nxtomo):
    path = write_nxtomo(None, KEY, ANGLES)
    with h5py.File(path, "a") as file:
        file["entry/instrument/camera/data"] = h5py.ExternalLink("lost.h5", "/images")
    with pytest.raises(MissingInputError) as caught:
        open_source(path)
    for fact in ("/entry/instrument/camera/data", "lost.h5", "/images"):
        assert fact in str(caught.value)


def add_detector(path, name, **members):
    with h5py.File(path, "a") as file:
        group = file["entry/instrument"].create_group(name)
        group.attrs["NX_class"] = "NXdetector"
        for member, values in members.items():
            group[member] = values


def test_of_several_detectors_the_one_with_frames_is_taken(write_nxtomo, counts):
    path = write_nxtomo(counts, KEY, ANGLES)
    add_detector(path, "a_current", data=np.zeros(12), image_key=KEY)
    add_detector(path, "b_lost", data=h5py.ExternalLink("lost.h5", "/x"), image_key=KEY)
    np.testing.assert_array_equal(open_source(path).flats(), counts[KEY == 1])


def test_a_camera_without_image_key_is_not_the_detector(write_nxtomo, counts):
    path = write_nxtomo(counts, KEY, ANGLES)
    add_detector(path, "a_webcam", data=counts[:3])
    np.testing.assert_array_equal(open_source(path).flats(), counts[KEY == 1])


def test_another_camera_does_not_stand_in_for_lost_frames(write_nxtomo, counts):
    path = write_nxtomo(None, KEY, ANGLES)
    with h5py.File(path, "a") as file:
        file["entry/instrument/camera/data"] = h5py.ExternalLink("lost.h5", "/images")
        other = file.create_group("other")
        other.attrs["NX_class"] = "NXentry"
        camera = other.create_group("camera")
        camera.attrs["NX_class"] = "NXdetector"
        camera["data"], camera["image_key"] = counts, KEY
    with pytest.raises(MissingInputError, match="lost"):
        open_source(path)


def test_groups_of_an_nxtomo_entry_need_no_class(write_nxtomo, counts):
    path = write_nxtomo(counts, KEY, ANGLES)
    with h5py.File(path, "a") as file:
        for name in ("instrument", "instrument/camera", "sample"):
            file["entry"][name].attrs["NX_class"] = ""
    source = open_source(path)
    assert source.description == "NXtomo HDF5"
    np.testing.assert_array_equal(source.flats(), counts[KEY == 1])


def test_two_detectors_with_frames_are_asked_about(write_nxtomo, counts):
    path = write_nxtomo(counts, KEY, ANGLES)
    add_detector(path, "other", data=counts[:, ::-1], image_key=KEY)
    with pytest.raises(FormatError, match=r"--data.*/entry/instrument/other/data"):
        open_source(path)
    source = open_source(path, SourceOptions(data="/entry/instrument/other/data"))
    np.testing.assert_array_equal(source.flats(), counts[KEY == 1, ::-1])


def test_the_same_frames_linked_twice_are_one_detector(write_nxtomo, counts):
    path = write_nxtomo(counts, KEY, ANGLES)
    with h5py.File(path, "a") as file:
        file["entry/instrument/again"] = h5py.SoftLink("/entry/instrument/camera")
    assert open_source(path).shape == (6, 6, 8)


def add_plot(path, **fields):
    with h5py.File(path, "a") as file:
        group = file["entry"].create_group("plot")
        group.attrs["NX_class"] = "NXdata"
        group.attrs["signal"] = "data"
        group["data"] = h5py.SoftLink("/entry/instrument/camera/data")
        for name, values in fields.items():
            group[name] = values


def test_without_a_rotation_angle_the_plotted_axis_is_taken(write_nxtomo, counts):
    path = write_nxtomo(counts, KEY)
    add_plot(path, ring_current=ANGLES + 1, gts_theta=ANGLES, gts_theta_set=ANGLES + 0.5)
    np.testing.assert_allclose(np.rad2deg(open_source(path).angles), ANGLES[KEY == 0])


def test_two_lists_that_may_be_angles_are_asked_about(write_nxtomo, counts):
    path = write_nxtomo(counts, KEY)
    add_plot(path, theta=ANGLES, rotation=ANGLES + 1)
    with pytest.raises(AnglesError, match=r"/entry/plot/rotation.*/entry/plot/theta"):
        open_source(path)
    source = open_source(path, SourceOptions(angles="/entry/plot/theta"))
    np.testing.assert_allclose(np.rad2deg(source.angles), ANGLES[KEY == 0])


def test_no_angle_anywhere_is_asked_for(write_nxtomo, counts):
    with pytest.raises(AnglesError, match=r"6 projections.*--angles"):
        open_source(write_nxtomo(counts, KEY))


def test_the_energy_is_the_beams_and_never_the_rings(write_nxtomo, counts):
    path = write_nxtomo(counts, KEY, ANGLES)
    with h5py.File(path, "a") as file:
        file["entry/instrument/source/energy"] = 3.0e9
        file["entry/instrument/source/energy"].attrs["units"] = "eV"
    assert open_source(path).energy_kev is None
    with h5py.File(path, "a") as file:
        file["entry/instrument/beam/incident_energy"] = 53.0
        file["entry/instrument/beam/incident_energy"].attrs["units"] = "keV"
        file["entry/instrument/camera/x_pixel_size"] = 6.5e-6
        file["entry/instrument/camera/x_pixel_size"].attrs["units"] = "m"
        file["entry/instrument/camera/distance"] = 0.25
        file["entry/instrument/camera/distance"].attrs["units"] = "m"
        file["entry/title"] = "a bone"
    source = open_source(path)
    assert source.energy_kev == pytest.approx(53)
    assert source.pixel_size_um == pytest.approx(6.5)
    assert source.distance_mm == pytest.approx(250)
    assert source.metadata["title"] == "a bone"
    assert source.metadata["dataset"] == "scan.nxs:/entry/instrument/camera/data"


def test_the_pixel_at_the_object_goes_before_the_cameras(write_nxtomo, counts):
    path = write_nxtomo(counts, KEY, ANGLES)
    with h5py.File(path, "a") as file:
        for name, size in (("x_pixel_size", 6.5), ("x_magnified_pixel_size", 0.65)):
            file[f"entry/instrument/camera/{name}"] = size
            file[f"entry/instrument/camera/{name}"].attrs["units"] = "um"
    assert open_source(path).pixel_size_um == pytest.approx(0.65)


@pytest.mark.real
def test_a_scan_of_diad_with_many_broken_links_needs_no_option(data_dir):
    folder = data_dir / "k11_diad"
    source = open_source(folder / "k11-18014.nxs")
    assert (source.shape, source.dtype) == ((3001, 22, 26), np.uint16)
    assert source.first_index == 100
    assert source.flats().shape == source.darks().shape == (100, 22, 26)
    with h5py.File(folder / "k11-18014" / "k11-18014-imaging.h5") as file:
        frames = file["entry/detector/detector"]
        np.testing.assert_array_equal(source.read(slice(7, 9), slice(2, 4)), frames[107:109, 2:4])
    degrees = np.rad2deg(source.angles)
    assert degrees[0] == pytest.approx(90, abs=0.06)  # half a turn from 90, in steps of 0.06
    assert degrees[-1] == pytest.approx(270, abs=0.06)
    assert (np.diff(degrees) > 0).all()


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "facts"),
    [
        (
            "i12_24737/24888_metadata_dangling_link.nxs",
            ["instrument/detector/data", "/dls/i13/data/2014/mt9396-1/raw/pco1-24888.hdf"],
        ),
        (
            "formats/i12_112482_360scan_dangling.nxs",
            ["instrument/detector/data", "pco1-112482.hdf"],
        ),
    ],
)
def test_a_scan_whose_frames_were_left_behind_says_where_they_should_be(data_dir, name, facts):
    with pytest.raises(MissingInputError) as caught:
        open_source(data_dir / name)
    for fact in facts:
        assert fact in str(caught.value)
