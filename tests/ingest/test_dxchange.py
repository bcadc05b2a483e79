import h5py
import numpy as np
import pytest

from tomodask.errors import AnglesError, FlatfieldError, FormatError, MissingInputError
from tomodask.ingest import SourceOptions, open_source

THETA = np.arange(12) * 15.0


def test_a_complete_file_needs_no_option(write_dxchange, counts):
    images = {"data_white": counts[:3] + 1, "data_dark": counts[:2]}
    source = open_source(write_dxchange(counts, THETA, images=images))
    assert source.description == "DXchange HDF5"
    np.testing.assert_array_equal(source.read(slice(None), slice(None)), counts)
    np.testing.assert_array_equal(source.flats(), images["data_white"])
    np.testing.assert_array_equal(source.darks(), images["data_dark"])
    np.testing.assert_allclose(np.rad2deg(source.angles), THETA)


def test_theta_in_radians_stays_as_it_is(write_dxchange, counts):
    source = open_source(write_dxchange(counts, np.deg2rad(THETA), units="radians"))
    np.testing.assert_array_equal(source.angles, np.deg2rad(THETA))


def test_no_flats_and_flats_of_no_frames_are_both_none(write_dxchange, counts):
    source = open_source(write_dxchange(counts, THETA, images={"data_white": counts[:0]}))
    assert source.flats() is None
    assert source.darks() is None


def test_missing_theta_is_asked_for_with_what_was_planned(write_dxchange, counts):
    path = write_dxchange(counts)
    with h5py.File(path, "a") as file:
        rotation = file.create_group("process/acquisition/rotation")
        rotation["rotation_start"], rotation["rotation_step"] = [0.0], [15.0]
        rotation["num_angles"] = [24]
    with pytest.raises(AnglesError, match=r"24 from 0 in steps of 15 degrees.*--angles"):
        open_source(path)
    source = open_source(path, SourceOptions(angles="0:180:12"))
    np.testing.assert_allclose(np.rad2deg(source.angles), THETA)


def test_theta_of_a_scan_that_was_stopped_is_asked_about(write_dxchange, counts):
    path = write_dxchange(counts[:10], THETA)
    with pytest.raises(AnglesError, match=r"12 angles for 10 projections.*--angles-lines 0:10"):
        open_source(path)
    source = open_source(path, SourceOptions(angles_lines="0:10"))
    np.testing.assert_allclose(np.rad2deg(source.angles), THETA[:10])


def add_instrument(path, values):
    with h5py.File(path, "a") as file:
        for name, (value, units) in values.items():
            file[f"measurement/instrument/{name}"] = [value]
            file[f"measurement/instrument/{name}"].attrs["units"] = units


def test_lengths_and_energy_are_read_in_the_units_they_say(write_dxchange, counts):
    path = write_dxchange(counts, THETA)
    add_instrument(
        path,
        {
            "detection_system/objective/resolution": (1180.0, "nm"),
            "detector/pixel_size": (5.9, "microns"),  # of the camera, not at the object
            "monochromator/energy": (27400.0, "eV"),
            "camera_motor_stack/setup/camera_distance": (0.06, "m"),
        },
    )
    source = open_source(path)
    assert source.pixel_size_um == pytest.approx(1.18)
    assert source.energy_kev == pytest.approx(27.4)
    assert source.distance_mm == pytest.approx(60)


def test_the_camera_pixel_counts_only_with_the_magnification(write_dxchange, counts):
    path = write_dxchange(counts, THETA)
    add_instrument(path, {"detector/pixel_size": (5.0, "um")})
    assert open_source(path).pixel_size_um is None
    add_instrument(path, {"detection_system/objective/magnification": (10.0, "")})
    assert open_source(path).pixel_size_um == pytest.approx(0.5)


def test_a_length_without_units_is_not_guessed(write_dxchange, counts):
    path = write_dxchange(counts, THETA)
    add_instrument(path, {"detection_system/objective/resolution": (1.18, "")})
    assert open_source(path).pixel_size_um is None


def test_options_replace_what_the_file_says(write_dxchange, counts):
    options = SourceOptions(
        pixel_size_um=2, energy_kev=30, distance_mm=4, gain=1.5, signal="emission"
    )
    source = open_source(write_dxchange(counts, THETA), options)
    assert (source.pixel_size_um, source.energy_kev, source.distance_mm) == (2, 30, 4)
    assert (source.gain, source.signal) == (1.5, "emission")


def test_flats_of_another_file_replace_those_of_the_scan(write_dxchange, counts):
    path = write_dxchange(counts, THETA, images={"data_white": counts[:1]})
    other = write_dxchange(counts, name="flats.h5", images={"data_white": counts[4:6]})
    for reference, flats in (
        (f"{other}:/exchange/data", counts),
        (str(other), counts[4:6]),  # a DXchange file: its own flats
    ):
        np.testing.assert_array_equal(
            open_source(path, SourceOptions(flats=reference)).flats(), flats
        )


def test_flats_of_another_size_are_refused(write_dxchange, counts):
    path = write_dxchange(counts, THETA, images={"data_white": counts[:, :3]})
    with pytest.raises(FlatfieldError, match=r"3 x 8 pixels.*6 x 8"):
        open_source(path)


def test_a_dataset_that_is_not_there_is_named_with_its_neighbour(write_dxchange, counts):
    path = write_dxchange(counts, THETA)
    with pytest.raises(MissingInputError, match="did you mean data"):
        open_source(path, SourceOptions(data="/exchange/dta"))
    with pytest.raises(FormatError, match="is a group"):
        open_source(path, SourceOptions(data="/exchange"))


@pytest.mark.real
def test_the_tooth_of_the_aps_is_read_whole(data_dir):
    source = open_source(data_dir / "tooth_aps" / "tooth.h5")
    assert (source.shape, source.dtype) == ((181, 2, 640), np.float32)
    assert source.flats().shape == source.darks().shape == (10, 2, 640)
    # 181 steps of 180/181 degrees: 180 itself is not in
    np.testing.assert_allclose(np.rad2deg(source.angles), np.arange(181) * 180 / 181, atol=1e-4)
    assert source.metadata["sample"] == "Tooth"
    assert source.metadata["units"] == "counts"
    with h5py.File(source.path) as file:
        np.testing.assert_array_equal(
            source.read(slice(50, 60), slice(1, 2)), file["exchange/data"][50:60, 1:2]
        )


@pytest.mark.real
def test_the_metadata_of_the_aps_gives_the_pixel_at_the_object(data_dir):
    path = data_dir / "formats" / "aps_meta_mock.h5"
    with pytest.raises(AnglesError, match=r"6401 from 0 in steps of 0.05625"):
        open_source(path)
    source = open_source(path, SourceOptions(angles="0:180:11"))
    assert source.pixel_size_um == pytest.approx(1.18063734)  # 5.86 um is the camera's
    assert source.energy_kev is None  # a white beam
    assert source.metadata["beamline"] == "7-BM"
    assert source.metadata["sample"].startswith("Army Research Laboratory")
    assert source.metadata["date"].startswith("September 25, 2020")


@pytest.mark.real
@pytest.mark.parametrize("dataset", ["", ":/1-NoProcessPlugin-tomo/data"])
def test_flats_and_darks_in_files_of_their_own_are_read(write_dxchange, data_dir, rng, dataset):
    path = write_dxchange(rng.integers(0, 9, (12, 10, 192), dtype="u2"), THETA)
    flats = data_dir / "formats" / "i12_separate_flat_field.h5"
    darks = data_dir / "formats" / "i12_separate_dark_field.h5"
    options = SourceOptions(flats=f"{flats}{dataset}", darks=f"{darks}{dataset}")
    source = open_source(path, options)
    for found, file in ((source.flats(), flats), (source.darks(), darks)):
        with h5py.File(file) as stored:
            np.testing.assert_array_equal(found, stored["1-NoProcessPlugin-tomo/data"][()])
