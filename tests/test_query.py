"""xarray sees volumes and scans lazily, in physical coordinates, and reads no chunk too many."""

import json
import pickle

import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.storage import LocalStore

from tomodask.errors import FormatError, InputError, MissingInputError, UnfinishedError
from tomodask.query import TomodaskBackend, open_levels, open_scan, open_volume
from tomodask.volumestore import VolumeSpec, create_volume

SHAPE = (40, 200, 150)
ATTRIBUTES = {
    "signal": "transmission",
    "recipe": {"filter": "ramp", "rows": None},
    "center": None,
    "input_digest": "abc",
}


def make_volume(path, rng, finished=True, attributes=ATTRIBUTES, **spec):
    spec = {"voxel_size_um": 2.0, "value_unit": "1/mm", "chunk_rows": 8, "levels": 3} | spec
    values = rng.normal(size=spec.get("shape", SHAPE)).astype(np.float32)
    volume = create_volume(path, VolumeSpec(**{"shape": SHAPE} | spec), attributes)
    volume.write(0, values)
    if finished:
        volume.finish()
    return values


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    """Path of a finished volume, and its values."""
    path = tmp_path_factory.mktemp("query") / "v.zarr"
    return path, make_volume(path, np.random.default_rng(0))


@pytest.fixture
def bytes_read(monkeypatch):
    """(key, bytes) of everything that is read from local stores."""
    found = []
    get = LocalStore.get

    async def counted(self, key, prototype=None, byte_range=None):
        buffer = await get(self, key, prototype, byte_range)
        if buffer is not None:
            found.append((key, len(buffer)))
        return buffer

    monkeypatch.setattr(LocalStore, "get", counted)
    return found


def test_xarray_finds_the_engine_and_the_values(volume):
    path, values = volume
    for dataset in (xr.open_dataset(path, engine="tomodask"), xr.open_dataset(path)):
        assert dataset.attenuation.dims == ("z", "y", "x")  # no time, no channel: there is one
        np.testing.assert_array_equal(dataset.attenuation.values, values)
    assert open_volume(str(path)).identical(dataset)


def test_a_selection_reads_only_the_inner_chunks_that_meet_it(volume, bytes_read):
    path, values = volume
    array = zarr.open_array(path / "0", mode="r")
    chunk_bytes = int(np.prod(array.chunks)) * 4
    dataset = open_volume(path)
    bytes_read.clear()
    patch = dataset.attenuation.sel(z=slice(20, 26), y=slice(10, 20), x=slice(0, 8)).to_numpy()
    np.testing.assert_array_equal(patch, values[10:14, 5:11, 0:5])
    chunks = [size for _, size in bytes_read if size >= chunk_bytes]
    # rows 10 to 13 lie in one chunk row; the rest is the shard's index and no metadata
    assert chunks == [chunk_bytes]
    assert sum(size for _, size in bytes_read) < 1.1 * chunk_bytes


def test_opening_and_looking_reads_no_voxel(volume, bytes_read):
    path, _ = volume
    dataset = xr.open_dataset(path, engine="tomodask")
    assert "attenuation" in repr(dataset)
    dataset.attenuation.isel(z=slice(0, 3)).sel(x=slice(0, 5))
    assert {key.rpartition("/")[2] for key, _ in bytes_read} <= {"zarr.json"}


def test_coordinates_are_the_middles_of_the_voxels_on_every_level(volume):
    path, _ = volume
    for level, dataset in enumerate(open_levels(path)):
        first = 2.0 * (2**level - 1) / 2  # the middle of the first 2**level voxels of 2 um
        assert dataset.x.values == pytest.approx(
            first + 2.0 * 2**level * np.arange(dataset.sizes["x"])
        )
        assert dataset.x.dtype == np.float64
        assert dataset.x.attrs["units"] == "micrometer"
        assert dataset.attrs["level"] == level
    assert dataset.attenuation.attrs["units"] == "1/mm"


def test_without_a_pixel_size_positions_are_pixels(tmp_path, rng):
    make_volume(
        tmp_path / "v.zarr", rng, voxel_size_um=None, value_unit="1/pixel", shape=(8, 20, 20)
    )
    dataset = open_volume(tmp_path / "v.zarr")
    assert dataset.z.attrs["units"] == "pixel"
    assert dataset.z.values == pytest.approx(np.arange(8))


@pytest.mark.parametrize(
    "key",
    [
        {"z": 3, "y": slice(180, 20, -7), "x": slice(None, None, 40)},
        {"z": [30, 2, 2], "x": np.array([5, 149, 0])},
        {"y": -1, "z": slice(-3, None)},
        {"z": xr.DataArray([1, 30], dims="p"), "y": xr.DataArray([2, 199], dims="p"), "x": 4},
        {"z": slice(5, 5)},
    ],
)
def test_every_way_of_indexing_gives_what_numpy_gives(volume, key):
    path, values = volume
    lazy = open_volume(path).attenuation
    eager = xr.DataArray(values, dims=("z", "y", "x"))
    np.testing.assert_array_equal(lazy.isel(key).values, eager.isel(key).values)


def test_dask_gets_whole_shards(volume):
    path, values = volume
    dataset = xr.open_dataset(path, engine="tomodask", chunks={})
    shard = zarr.open_array(path / "0", mode="r").shards[2:]
    assert dataset.attenuation.data.chunksize == shard
    part = dataset.attenuation[3:9, 50:60, 7]
    np.testing.assert_array_equal(part.compute(scheduler="synchronous"), values[3:9, 50:60, 7])


def test_a_dataset_can_be_sent_to_a_worker(volume):
    path, values = volume
    again = pickle.loads(pickle.dumps(open_volume(path)))
    assert again.attenuation[3, 4, 5] == values[3, 4, 5]


def test_attributes_say_what_made_the_volume_in_numbers_and_texts(volume):
    attributes = open_volume(volume[0]).attrs
    assert json.loads(attributes["recipe"]) == {"filter": "ramp", "rows": None}
    assert attributes["complete"] == 1
    assert attributes["input_digest"] == "abc"
    assert "center" not in attributes  # unknown: netCDF holds no None
    assert all(type(value) in (str, int, float) for value in attributes.values())


def test_an_unfinished_volume_opens_with_a_warning_and_says_so(tmp_path, rng):
    path = tmp_path / "v.zarr"
    create_volume(path, VolumeSpec((8, 20, 20), chunk_rows=8), {})
    with pytest.warns(UserWarning, match="is not complete"):
        dataset = xr.open_dataset(path, engine="tomodask")
    assert dataset.attrs["complete"] == 0
    assert np.isnan(dataset.attenuation).all()


def test_emission_is_called_intensity(tmp_path, rng):
    make_volume(tmp_path / "v.zarr", rng, attributes={"signal": "emission"}, shape=(8, 20, 20))
    assert list(open_volume(tmp_path / "v.zarr").data_vars) == ["intensity"]


def test_a_tree_holds_every_level(volume):
    path, values = volume
    tree = xr.open_datatree(path, engine="tomodask")
    assert sorted(tree.children) == ["0", "1", "2"]
    assert tree.attrs["input_digest"] == "abc"
    np.testing.assert_array_equal(tree["0/attenuation"].values, values)
    coarse = values[:8].reshape(4, 2, 100, 2, 75, 2).mean(axis=(1, 3, 5))
    assert tree["1/attenuation"][:4].values == pytest.approx(coarse, abs=1e-6)


def test_variables_that_are_not_wanted_are_dropped(volume):
    path, _ = volume
    dataset = xr.open_dataset(path, engine="tomodask", drop_variables=["attenuation", "y"])
    assert not dataset.data_vars
    assert set(dataset.coords) == {"z", "x"}
    tree = xr.open_datatree(path, engine="tomodask", drop_variables="attenuation")
    assert not tree["1"].data_vars


def test_a_level_that_is_not_there_is_refused(volume):
    with pytest.raises(InputError, match=r"levels 0 \(finest\) to 2: 3 asked"):
        open_volume(volume[0], level=3)


def test_only_stores_with_our_mark_are_guessed(volume, tmp_path):
    backend = TomodaskBackend()
    assert backend.guess_can_open(str(volume[0]))
    zarr.create_group(tmp_path / "foreign.zarr", attributes={"tomodask": "x", "ome": {}})
    (tmp_path / "text").write_text("{")
    for other in (tmp_path / "foreign.zarr", tmp_path / "text", tmp_path, "https://x/y", 3, None):
        assert not backend.guess_can_open(other)


def test_what_is_no_volume_is_refused_by_name(tmp_path):
    with pytest.raises(MissingInputError, match="does not exist"):
        open_volume(tmp_path / "none.zarr")
    zarr.create_group(tmp_path / "foreign.zarr")
    with pytest.raises(FormatError, match="not a volume of tomodask"):
        open_volume(tmp_path / "foreign.zarr")


def make_scan(path, rng, **own):
    group = zarr.create_group(path, attributes={"tomodask": own} if own else {})
    counts = rng.integers(0, 1000, (6, 4, 10)).astype(np.uint16)
    group.create_array("projections", data=counts, chunks=(2, 2, 10), shards=(4, 4, 10))
    group.create_array("angle", data=np.linspace(0, np.pi, 6), attributes={"units": "radians"})
    group.create_array("quality", data=np.array([1, 1, 0, 1, 1, 1], np.uint8))
    group.create_array("timestamp", data=np.arange(6.0))
    group.create_array("flats", data=counts[:2])
    return counts


def test_a_scan_opens_with_angles_in_degrees_and_good_frames_only(tmp_path, rng, bytes_read):
    counts = make_scan(tmp_path / "s.zarr", rng)
    scan = open_scan(tmp_path / "s.zarr")
    # images are opened as stores of their own, coordinates are read from the group's
    assert not [key for key, _ in bytes_read if key.startswith(("c/", "projections/c"))]
    assert scan.projections.dims == ("frame", "row", "column")
    assert scan.projections.dtype == np.uint16
    np.testing.assert_array_equal(scan.frame, [0, 1, 3, 4, 5])
    assert scan.angle.values == pytest.approx([0, 36, 108, 144, 180])
    assert scan.angle.attrs["units"] == "degree"
    np.testing.assert_array_equal(scan.timestamp, [0, 1, 3, 4, 5])
    np.testing.assert_array_equal(scan.projections.values, counts[[0, 1, 3, 4, 5]])
    np.testing.assert_array_equal(scan.flats.values, counts[:2])
    assert "darks" not in scan


def test_the_engine_opens_scan_stores_too(tmp_path, rng):
    own = {"kind": "scan", "format_version": 1, "complete": True, "signal": "transmission"}
    own |= {"input_digest": "abc", "gain": 2.5, "metadata": {"title": "foam"}}
    counts = make_scan(tmp_path / "s.zarr", rng, **own)
    scan = xr.open_dataset(tmp_path / "s.zarr")  # guessed by its mark
    np.testing.assert_array_equal(scan.projections.isel(frame=2), counts[3])
    assert scan.attrs["gain"] == 2.5
    assert json.loads(scan.attrs["metadata"]) == {"title": "foam"}
    assert "energy_kev" not in scan.attrs
    tree = xr.open_datatree(tmp_path / "s.zarr", engine="tomodask")
    assert tree["projections"].shape == (5, 4, 10)
    with pytest.raises(InputError, match="no pyramid"):
        xr.open_dataset(tmp_path / "s.zarr", engine="tomodask", level=1)


def test_a_scan_whose_ingest_has_not_ended_is_refused(tmp_path, rng):
    make_scan(tmp_path / "s.zarr", rng, kind="scan", format_version=1, complete=False)
    with pytest.raises(UnfinishedError, match="not complete"):
        xr.open_dataset(tmp_path / "s.zarr", engine="tomodask")
