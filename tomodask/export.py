"""A volume for other programs: a stack of TIFF files or one HDF5 dataset, with one grey range.

All slices share the range, so that equal attenuation is equal grey everywhere. It is written beside
them: value = low + grey / largest grey * (high - low).
"""

from __future__ import annotations

import json
import math
import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import tifffile
import xarray as xr

from tomodask.errors import InputError, OutputExistsError
from tomodask.query import open_levels, open_volume

Format = Literal["tiff", "hdf5"]
Dtype = Literal["uint8", "uint16", "float32"]
GreyRange = tuple[float, float]
Slabs = Iterator[tuple[int, np.ndarray]]  # first row, (rows, y, x)

SLAB_BYTES = 256 * 2**20  # of float32 voxels read at a time, but at least one slice
SAMPLE_VOXELS = 16_000_000  # that the automatic grey range is taken from
PERCENTILES = (0.1, 99.9)  # a few hot voxels must not flatten all others
CHUNK = (16, 128, 128)  # of HDF5: cuts along any axis read little
REPORT = "export.json"
MADE_BY = "tomodask export"


def export_volume(
    path: Path | str,
    output: Path | str,
    *,
    format: Format = "tiff",
    dtype: Dtype = "uint16",
    grey_range: GreyRange | Literal["auto"] | None = "auto",
    level: int = 0,
    rows: tuple[int, int] | None = None,
    compression: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write a volume, slab by slab in bounded memory, and say what was written.

    Parameters
    ----------
    output : a folder, for TIFF a file a slice named by its row, or a file, for HDF5 the dataset
        `volume` (z, y, x). An earlier export of the same volume is replaced, nothing else.
    dtype : integers show the grey range, "float32" the values as they are.
    grey_range : values of the lowest and the greatest grey; "auto" (or None) takes the percentiles
        0.1 and 99.9 of a coarse level of the whole volume, whatever `rows` are exported.
    level, rows : pyramid level, and its rows (first, last plus one); all unless given.
    compression : lossless deflate.
    progress : called with the rows done and the rows in all.

    Returns
    -------
    What `export.json` beside the TIFF files or the attributes in the HDF5 file say too: among
    others `grey_range`, `missing_voxels` (NaN, written as the lowest grey) and `below_range`,
    `above_range`, the voxels shown as the range's ends.

    Raises
    ------
    OutputExistsError : the output holds anything but an earlier export of this volume.
    InputError : level, rows or grey range that can't be; UserWarning if the volume is not complete.
    """
    path, output = Path(path), Path(output)
    volume = _space_only(open_volume(path, level), path)
    start, stop = _within(rows, volume.sizes["z"])
    largest = None if dtype == "float32" else int(np.iinfo(dtype).max)
    limits = _grey_limits(path, grey_range, largest)
    report: dict[str, Any] = {
        "made_by": MADE_BY,
        "complete": False,
        "volume": str(path.resolve()),
        "level": level,
        "rows": [start, stop],
        "shape": [stop - start, volume.sizes["y"], volume.sizes["x"]],
        "dtype": dtype,
        "grey_range": None if limits is None else list(limits),
        "value_unit": volume.attrs["units"],
        "voxel_size": [_spacing(volume[axis]) for axis in "zyx"],
        "voxel_unit": volume["z"].attrs["units"],
    }
    counts: Counter[str] = Counter(missing_voxels=0, below_range=0, above_range=0)

    def slabs() -> Slabs:
        for first, values in _read_slabs(volume, start, stop):
            counts["missing_voxels"] += int(np.isnan(values).sum())
            if limits is None or largest is None:
                yield first, values
            else:
                yield first, _to_grey(values, limits, np.dtype(dtype), counts)
            if progress is not None:
                progress(first + len(values) - start, stop - start)

    write = _write_tiff if format == "tiff" else _write_hdf5
    write(output, slabs(), report, counts, compression)
    return report


def parse_grey_range(text: str | None) -> GreyRange | Literal["auto"]:
    """(low, high) from "LOW:HIGH"; "auto" from that word or None.

    Raises
    ------
    InputError : not two numbers with the lower first.
    """
    if text is None or text == "auto":
        return "auto"
    try:
        low, high = (float(part) for part in text.split(":"))
    except ValueError:
        raise InputError(
            f"a grey range is LOW:HIGH, such as 0:0.05, or auto, not {text!r}"
        ) from None
    return _checked_range(low, high)


def _checked_range(low: float, high: float) -> GreyRange:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(f"grey range {low:g}:{high:g}: two finite values, the lower first")
    return float(low), float(high)


def _grey_limits(
    path: Path, asked: GreyRange | Literal["auto"] | None, largest: int | None
) -> GreyRange | None:
    """Values of the lowest and greatest grey; None where values are written as they are."""
    is_auto = asked is None or asked == "auto"
    if largest is None:
        if not is_auto:
            raise InputError(
                f"grey range {asked} with float32, which keeps the values: take uint8 or uint16"
            )
        return None
    if not is_auto:
        return _checked_range(*asked)  # type: ignore[misc]
    sample = _coarse_values(path)
    if sample.size == 0:
        raise InputError(f"{path} holds no values yet: there is no range to take, give one")
    low, high = (float(value) for value in np.percentile(sample, PERCENTILES))
    return (low, high) if low < high else (low, low + 1)  # one value only: shown as the lowest


def _coarse_values(path: Path) -> np.ndarray:
    """Values spread over the whole volume, those missing left out: coarse, or every n-th slice."""
    levels = [_space_only(level, path) for level in open_levels(path)]
    small = [level for level in levels if level.size <= SAMPLE_VOXELS]
    coarse = small[0] if small else levels[-1]
    values = coarse[:: math.ceil(coarse.size / SAMPLE_VOXELS)].to_numpy()
    return np.asarray(values[np.isfinite(values)])


def _space_only(dataset: xr.Dataset, path: Path) -> xr.DataArray:
    (volume,) = dataset.data_vars.values()
    if volume.dims != ("z", "y", "x"):
        raise InputError(
            f"{path} has the axes {volume.dims}: select one step with tomodask.open_volume and "
            "write it from there"
        )
    return volume


def _within(rows: tuple[int, int] | None, num_rows: int) -> tuple[int, int]:
    start, stop = rows or (0, num_rows)
    if not 0 <= start < stop <= num_rows:
        raise InputError(f"rows {start}:{stop} asked of a level with {num_rows}")
    return start, stop


def _spacing(coordinate: xr.DataArray) -> float:
    values = coordinate.to_numpy()
    return float((values[-1] - values[0]) / max(1, len(values) - 1))


def _read_slabs(volume: xr.DataArray, start: int, stop: int) -> Slabs:
    """Slabs of whole chunk rows, so that each is decoded once, unless memory allows fewer."""
    slice_bytes = 4 * volume.sizes["y"] * volume.sizes["x"]
    chunk_rows = volume.encoding["preferred_chunks"]["z"]
    step = max(1, min(chunk_rows, SLAB_BYTES // slice_bytes))
    first = start
    while first < stop:
        last = min(stop, first - first % step + step)
        yield first, volume.isel(z=slice(first, last)).to_numpy()
        first = last


def _to_grey(
    values: np.ndarray, limits: GreyRange, dtype: np.dtype, counts: Counter[str]
) -> np.ndarray:
    low, high = limits
    counts["below_range"] += int((values < low).sum())
    counts["above_range"] += int((values > high).sum())
    largest = np.iinfo(dtype).max
    grey = values - low
    grey *= largest / (high - low)
    np.clip(grey, 0, largest, out=grey)
    np.rint(np.nan_to_num(grey, copy=False, nan=0), out=grey)
    return grey.astype(dtype)


def _write_tiff(
    output: Path, slabs: Slabs, report: dict[str, Any], counts: Counter[str], compression: bool
) -> None:
    """The report is there from the start: a killed export is known as ours and can be repeated."""
    _require_parent(output)
    if output.exists():
        _refuse_foreign(output, report, _report_in_folder(output))
        for old in output.iterdir():
            if re.fullmatch(r"slice_\d+\.tif", old.name):
                old.unlink()
    output.mkdir(exist_ok=True)
    (output / REPORT).write_text(json.dumps(report, indent=1))
    digits = max(5, len(str(report["rows"][1] - 1)))
    described = {name: report[name] for name in ("grey_range", "value_unit", "voxel_size")}
    described["voxel_unit"] = report["voxel_unit"]
    for first, slab in slabs:
        for row, image in enumerate(slab, first):
            tifffile.imwrite(
                output / f"slice_{row:0{digits}}.tif",
                image,
                photometric="minisblack",
                compression="zlib" if compression else None,
                description=json.dumps(described),
                metadata=None,
                software="tomodask",
                **_resolution(report),
            )
    report |= counts | {"complete": True}
    (output / REPORT).write_text(json.dumps(report, indent=1))


def _resolution(report: Mapping[str, Any]) -> dict[str, Any]:
    """TIFF tags: pixels a centimetre, where the voxel size is known."""
    if report["voxel_unit"] != "micrometer":
        return {}
    _, y, x = report["voxel_size"]
    return {"resolution": (1e4 / x, 1e4 / y), "resolutionunit": "CENTIMETER"}


def _write_hdf5(
    output: Path, slabs: Slabs, report: dict[str, Any], counts: Counter[str], compression: bool
) -> None:
    _require_parent(output)
    if output.exists():
        _refuse_foreign(output, report, _report_in_hdf5(output))
    partial = output.with_name(f"{output.name}.{uuid.uuid4().hex}.partial")
    try:
        with h5py.File(partial, "x") as file:
            dataset = _create_dataset(file, report, compression)
            for first, slab in slabs:
                row = first - report["rows"][0]
                dataset[row : row + len(slab)] = slab
            report |= counts | {"complete": True}
            file.attrs[MADE_BY] = json.dumps(report)
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)


def _create_dataset(file: h5py.File, report: Mapping[str, Any], compression: bool) -> h5py.Dataset:
    shape = tuple(report["shape"])
    dataset = file.create_dataset(
        "volume",
        shape,
        report["dtype"],
        chunks=tuple(min(length, chunk) for length, chunk in zip(shape, CHUNK, strict=True)),
        compression="gzip" if compression else None,
        compression_opts=1 if compression else None,
        shuffle=compression,
    )
    for axis, name in enumerate("zyx"):
        dataset.dims[axis].label = name
    dataset.attrs["units"] = report["value_unit"]
    if report["voxel_unit"] == "micrometer":
        dataset.attrs["element_size_um"] = report["voxel_size"]  # what ImageJ's readers know
    if report["grey_range"] is not None:
        dataset.attrs["grey_range"] = report["grey_range"]
    return dataset


def _require_parent(output: Path) -> None:
    parent = output.resolve().parent
    if not parent.is_dir():
        raise InputError(f"there is no folder {parent} to make {output.name} in")


def _refuse_foreign(
    output: Path, report: Mapping[str, Any], earlier: Mapping[str, Any] | None
) -> None:
    """Only an earlier export of the same volume is replaced; an empty folder may be filled."""
    if output.is_dir() and not any(output.iterdir()):
        return
    if earlier is None or earlier.get("made_by") != MADE_BY:
        raise OutputExistsError(f"{output} exists and is no export of tomodask: choose another")
    if earlier["volume"] != report["volume"]:
        raise OutputExistsError(
            f"{output} holds an export of {earlier['volume']}: choose another place, or remove it"
        )


def _report_in_folder(folder: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((folder / REPORT).read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _report_in_hdf5(path: Path) -> dict[str, Any] | None:
    try:
        with h5py.File(path, "r") as file:
            found = json.loads(file.attrs[MADE_BY])
    except (OSError, KeyError, ValueError):
        return None
    return found if isinstance(found, dict) else None
