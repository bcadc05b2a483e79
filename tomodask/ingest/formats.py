"""Which reader a path needs, told by content, and options in place of what the files say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tomodask.errors import FlatfieldError, FormatError, MissingInputError
from tomodask.ingest.dxchange import is_dxchange, open_dxchange
from tomodask.ingest.hdf5 import only_stack, open_hdf5_stack
from tomodask.ingest.hdf5_frames import find_dataset, hdf5_frames, open_hdf5, split_reference
from tomodask.ingest.links import get_node
from tomodask.ingest.nexus import is_nexus
from tomodask.ingest.nxtomo import DARK, FLAT, frames_of_kind, open_nxtomo
from tomodask.ingest.signatures import is_hdf5, is_tiff, looks_like
from tomodask.ingest.source import (
    Frames,
    Source,
    SourceOptions,
    is_glob,
    require_path,
)
from tomodask.ingest.tiff import open_tiff, tiff_frames
from tomodask.ingest.zarr_stack import is_zarr, open_zarr, zarr_frames

FORMATS: dict[str, Callable[[Path, SourceOptions], Source]] = {
    "dxchange": open_dxchange,
    "nxtomo": open_nxtomo,
    "tiff": open_tiff,
    "hdf5": open_hdf5_stack,
    "zarr": open_zarr,
}


def open_source(path: Path | str, options: SourceOptions | None = None) -> Source:
    """A scan in any of the formats, checked as far as it can be without reading its frames.

    Raises
    ------
    MissingInputError : a file, link or dataset does not exist.
    FormatError : a file is not what it should be, or ends too early.
    AnglesError : the angles don't match the projections.
    FlatfieldError : flats or darks of another size than the projections.
    """
    options = options or SourceOptions()
    path = Path(path).absolute()  # workers may run in another folder
    name = recognise(path) if options.format == "auto" else options.format
    if not is_glob(path):
        require_path(path)
    source = FORMATS[name](path, options)
    stated = ("signal", "gain", "pixel_size_um", "energy_kev", "distance_mm")
    given = {name: getattr(options, name) for name in stated if getattr(options, name) is not None}
    source = replace(source, **given)
    if options.flats is not None:
        source = replace(source, flat_frames=_given_frames(options.flats, "flats"), flat_times=None)
    if options.darks is not None:
        source = replace(source, dark_frames=_given_frames(options.darks, "darks"), dark_times=None)
    for kind, frames in source.stacks().items():
        if frames.shape[1:] != source.shape[1:]:
            raise FlatfieldError(
                f"the {kind} ({frames.label}) have {frames.shape[1]} x {frames.shape[2]} pixels, "
                f"the projections {source.shape[1]} x {source.shape[2]}: name others with --{kind}"
            )
    return source


def recognise(path: Path) -> str:
    """The name of the format in FORMATS, judged by content.

    Raises
    ------
    MissingInputError : nothing there.
    FormatError : none of the formats; says what it seems to be.
    """
    if is_glob(path):
        return "tiff"
    require_path(path)
    if path.is_dir():
        return "zarr" if is_zarr(path) else "tiff"
    if is_tiff(path):
        return "tiff"
    if is_hdf5(path):
        with open_hdf5(path) as file:
            if is_dxchange(file):
                return "dxchange"
            return "nxtomo" if is_nexus(file) else "hdf5"
    raise FormatError(
        f"{path} is {looks_like(path)}; tomodask reads HDF5 (DXchange, NXtomo or other), TIFF and "
        "Zarr"
    )


def _given_frames(reference: str, role: str) -> Frames:
    """The flats or darks that an option names: FILE[:/dataset], or a TIFF folder, file or glob."""
    path, dataset = split_reference(reference)
    path = path.absolute()
    try:
        if is_glob(path):
            return tiff_frames(path)
        if is_zarr(require_path(path)):
            return zarr_frames(path)
    except MissingInputError as error:
        raise MissingInputError(f"--{role} {reference}: {error}") from error
    if path.is_dir() or is_tiff(path):
        return tiff_frames(path)
    with open_hdf5(path) as file:
        if dataset is not None:
            return hdf5_frames(find_dataset(file, dataset))
        own = get_node(file, "exchange/data_white" if role == "flats" else "exchange/data_dark")
        if own is not None and 0 not in own.shape:
            return hdf5_frames(own)
        if is_nexus(file):
            marked = frames_of_kind(file, path, FLAT if role == "flats" else DARK)
            if marked is not None:
                return marked
        return hdf5_frames(only_stack(file, f"--{role} {path}:/DATASET"))
