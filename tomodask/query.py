"""Volumes and scans as xarray: opened lazily, addressed by micrometres, read chunk by chunk.

`xarray.open_dataset(path, engine="tomodask")` works without importing tomodask; `open_volume` and
`open_scan` are the same with one name less to remember. Only the inner chunks that meet a selection
are read; with `chunks={}` Dask gets whole shards, the unit in which they were written.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import xarray as xr
import zarr
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.core import indexing

from tomodask.errors import FormatError, InputError, MissingInputError
from tomodask.scan import Scan
from tomodask.volumestore import volume_metadata


class TomodaskBackend(BackendEntrypoint):
    """The xarray engine "tomodask": volumes (with `level`) and scan stores."""

    description: ClassVar[str] = "Volumes (OME-Zarr) and scans that tomodask wrote"
    open_dataset_parameters: ClassVar[tuple[str, ...]] = (
        "filename_or_obj",
        "drop_variables",
        "level",
    )
    supports_groups: ClassVar[bool] = True

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Only folders whose `zarr.json` bears our mark, so that no other engine loses its own."""
        return (
            isinstance(filename_or_obj, str | os.PathLike)
            and _kind_of(Path(filename_or_obj)) is not None
        )

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        level: int = 0,
    ) -> xr.Dataset:
        """One level of a volume, or a scan; see `open_volume` and `open_scan`."""
        path = Path(filename_or_obj)
        if _kind_of(path) == "volume":
            dataset = _VolumeStore(path).dataset(level)
        elif level == 0:
            dataset = _scan_dataset(path)
        else:
            raise InputError(f"{path} is a scan and has no pyramid: level {level} asked")
        return _without(dataset, drop_variables)

    def open_datatree(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        **decoders: Any,  # xarray hands over its CF switches; nothing here is CF-encoded
    ) -> xr.DataTree:
        """All levels of a volume, under their names in the store: "0" is the finest."""
        groups = self.open_groups_as_dict(filename_or_obj, drop_variables=drop_variables)
        return xr.DataTree.from_dict(groups)

    def open_groups_as_dict(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        **decoders: Any,
    ) -> dict[str, xr.Dataset]:
        """{"/": the attributes, "/0": the finest level, "/1": ...}."""
        path = Path(filename_or_obj)
        if _kind_of(path) != "volume":
            return {"/": self.open_dataset(path, drop_variables=drop_variables)}
        store = _VolumeStore(path)
        groups = {"/": xr.Dataset(attrs=store.attributes())}
        for level, name in enumerate(store.names):
            dataset = _without(store.dataset(level), drop_variables)
            dataset.attrs = {"level": level}  # all else stands at the root
            groups[f"/{name}"] = dataset
        return groups


def open_volume(path: Path | str, level: int = 0) -> xr.Dataset:
    """A volume as a lazy dataset with coordinates of its voxels' middles.

    The variable is `attenuation`, or `intensity` where the scan is of emission, float32 with NaN
    where nothing was written. z, y and x are in micrometres, or in pixels where their size is
    unknown; time and channel are there only where the volume has several. `level` n is 2**n times
    coarser, in the same coordinates.

        open_volume("v.zarr").attenuation.sel(z=120.0, method="nearest").sel(x=slice(-50, 50))

    Raises
    ------
    MissingInputError : nothing is there.
    FormatError : not a volume of tomodask, or one of a newer version.
    InputError : a level that the volume doesn't have.
    """
    return _VolumeStore(Path(path)).dataset(level)


def open_levels(path: Path | str) -> list[xr.Dataset]:
    """All levels of a volume, the finest first; see `open_volume`."""
    store = _VolumeStore(Path(path))
    return [store.dataset(level) for level in range(len(store.names))]


def open_scan(path: Path | str) -> xr.Dataset:
    """A scan store, or another Zarr stack that `Scan.open` takes, as a lazy dataset.

    `projections` (frame, row, column) are raw counts of the good frames; `angle` (frame) is in
    degrees, `timestamp` (frame) and `flats`, `darks` (flat or dark, row, column) are there where
    the scan has them. The coordinate `frame` is the position along the stored frames.
    """
    return _scan_dataset(Path(path))


class _ZarrArray(BackendArray):
    """An array of a store that xarray indexes as it needs; axes of length 1 may be left out."""

    def __init__(self, array: zarr.Array[Any], kept_axes: tuple[int, ...]) -> None:
        self.array = array
        self.kept_axes = kept_axes
        self.shape = tuple(array.shape[axis] for axis in kept_axes)
        self.dtype = array.dtype.newbyteorder("=")

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._read
        )

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        full: list[Any] = [0] * self.array.ndim
        for axis, wanted in zip(self.kept_axes, key, strict=True):
            full[axis] = wanted
        return np.asarray(self.array.oindex[tuple(full)], dtype=self.dtype)


def _lazy(
    dims: Mapping[int, str], array: zarr.Array[Any], attributes: Mapping[str, Any]
) -> xr.Variable:
    """`dims` names the axes that are kept. Dask chunks are shards: inner ones would be millions."""
    axes = tuple(dims)
    shards = array.shards or array.chunks
    preferred = {dims[axis]: min(shards[axis], array.shape[axis]) for axis in axes}
    return xr.Variable(
        tuple(dims.values()),
        indexing.LazilyIndexedArray(_ZarrArray(array, axes)),
        attributes,
        encoding={"preferred_chunks": preferred},
    )


class _VolumeStore:
    """The OME-Zarr group of a volume, its metadata checked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            raise MissingInputError(f"{path} does not exist: give a volume, a folder of Zarr")
        metadata = volume_metadata(path)
        if metadata is None:
            raise FormatError(
                f"{path} is not a volume of tomodask: its zarr.json doesn't say so; scans are "
                "opened with open_scan, other OME-Zarr with packages made for it"
            )
        self.metadata: Mapping[str, Any] = metadata
        if not metadata["complete"]:
            warnings.warn(
                f"{path} is not complete: voxels that were not written yet are NaN", stacklevel=3
            )
        ome: Any = zarr.open_group(path, mode="r", use_consolidated=False).attrs["ome"]
        self.axes: list[Mapping[str, str]] = ome["multiscales"][0]["axes"]
        self.datasets: list[Mapping[str, Any]] = ome["multiscales"][0]["datasets"]

    @property
    def names(self) -> list[str]:
        """Of the levels' arrays, the finest first."""
        return [dataset["path"] for dataset in self.datasets]

    def dataset(self, level: int) -> xr.Dataset:
        if not 0 <= level < len(self.datasets):
            raise InputError(
                f"{self.path} has levels 0 (finest) to {len(self.datasets) - 1}: {level} asked"
            )
        array = zarr.open_array(self.path / self.names[level], mode="r")
        # A volume has a time or channel axis in xarray only if it has several of them.
        dims = {
            axis: described["name"]
            for axis, described in enumerate(self.axes)
            if described["name"] in "zyx" or array.shape[axis] > 1
        }
        name = "intensity" if self.metadata.get("signal") == "emission" else "attenuation"
        variable = _lazy(dims, array, {"long_name": name, "units": self.metadata["value_unit"]})
        coordinates = {dim: self._coordinate(level, axis, array) for axis, dim in dims.items()}
        return xr.Dataset({name: variable}, coordinates, self.attributes() | {"level": level})

    def _coordinate(self, level: int, axis: int, array: zarr.Array[Any]) -> xr.Variable:
        described = self.axes[axis]
        steps = {step["type"]: step for step in self.datasets[level]["coordinateTransformations"]}
        start = steps["translation"]["translation"][axis] if "translation" in steps else 0.0
        values = start + steps["scale"]["scale"][axis] * np.arange(array.shape[axis], dtype=float)
        unit = described.get("unit") or ("pixel" if described.get("type") == "space" else None)
        return xr.Variable(described["name"], values, {"units": unit} if unit else {})

    def attributes(self) -> dict[str, Any]:
        """What made the volume, flat, so that netCDF can hold it: nested parts are JSON texts."""
        return _flat_attributes(self.metadata)


def _scan_dataset(path: Path) -> xr.Dataset:
    scan = Scan.open(path)

    def images(kind: str, axis: str, long_name: str) -> xr.Variable:
        array = zarr.open_array(scan.path / scan.arrays[kind], mode="r")
        units = {"units": "count", "long_name": long_name}
        return _lazy({0: axis, 1: "row", 2: "column"}, array, units)

    projections = images("projections", "frame", "raw projections")
    if scan.frames.size < scan.stored_shape[0]:
        projections = projections.isel(frame=scan.frames)  # stays lazy
    variables = {"projections": projections}
    for kind, axis in (("flats", "flat"), ("darks", "dark")):
        if kind in scan.arrays:
            variables[kind] = images(kind, axis, kind)
    degrees = np.rad2deg(scan.geometry.angles)
    coordinates: dict[Hashable, Any] = {
        "frame": ("frame", scan.frames),
        "angle": ("frame", degrees, {"units": "degree", "long_name": "angle of the sample"}),
    }
    times = (("timestamp", "frame"), ("flat_timestamp", "flat"), ("dark_timestamp", "dark"))
    for (name, axis), values in zip(
        times, (scan.timestamps, scan.flat_times, scan.dark_times), strict=True
    ):
        if values is not None:
            coordinates[name] = (axis, values)
    known = {
        "signal": scan.signal,
        "gain": scan.gain,
        "pixel_size_um": scan.geometry.pixel_size_um,
        "energy_kev": scan.energy_kev,
        "distance_mm": scan.distance_mm,
        "input_digest": scan.input_digest,
        "metadata": scan.metadata,
    }
    return xr.Dataset(variables, coordinates, _flat_attributes(known))


def _flat_attributes(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers and texts as they are; truths 0 or 1; the rest JSON; what is unknown left out."""
    flat: dict[str, Any] = {}
    for name, value in metadata.items():
        if value is None:
            continue
        if isinstance(value, bool):
            flat[name] = int(value)
        elif isinstance(value, int | float | str):
            flat[name] = value
        else:
            flat[name] = json.dumps(value, default=dict)
    return flat


def _kind_of(path: Path) -> str | None:
    """Which store bears our mark here, "volume" or "scan"; reads one small file."""
    try:
        marked = json.loads((path / "zarr.json").read_text())["attributes"]["tomodask"]["kind"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return marked if marked in ("volume", "scan") else None


def _without(dataset: xr.Dataset, names: str | Iterable[str] | None) -> xr.Dataset:
    dropped = [names] if isinstance(names, str) else list(names or ())
    return dataset.drop_vars(dropped, errors="ignore")
