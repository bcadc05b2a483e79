"""Any HDF5 file with a stack of projections: `data` and `angles` name its datasets."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from tomodask.errors import AnglesError, FormatError
from tomodask.ingest.angles import WAYS, Selection, given_angles
from tomodask.ingest.hdf5_frames import (
    attribute,
    find_dataset,
    hdf5_frames,
    list_datasets,
    open_hdf5,
)
from tomodask.ingest.source import Source, SourceOptions


def open_hdf5_stack(path: Path, options: SourceOptions) -> Source:
    """The dataset that `options.data` names, or the only 3-D one, as a source.

    Raises
    ------
    FormatError : no dataset was named and there is not exactly one of three dimensions.
    AnglesError : no option `angles`, or another number of angles than frames.
    """
    with open_hdf5(path) as file:
        dataset = find_dataset(file, options.data) if options.data else only_stack(file, "--data")
        projections = hdf5_frames(dataset, files=(path,))
        units = attribute(dataset, "units")
    count = projections.shape[0]
    angles = given_angles(options, Selection(np.arange(count), count), inside=path)
    if angles is None:
        raise AnglesError(
            f"{projections.label} has {count} frames, but where their angles are is not known: "
            f"give {WAYS}"
        )
    return Source(
        path=path,
        description="HDF5",
        projections=projections,
        angles=angles,
        metadata={"units": units} if units else {},
    )


def only_stack(file: h5py.File, flag: str) -> h5py.Dataset:
    """The only dataset of an open file with three dimensions; `flag` is what names one."""
    stacks = list_datasets(file, ndim=3)
    if len(stacks) == 1:
        return stacks[0]
    names = ", ".join(f"{stack.name} {stack.shape}" for stack in stacks[:8]) or "none"
    raise FormatError(
        f"{file.filename} has {len(stacks)} datasets of (frames, rows, columns), one expected: "
        f"name it with {flag} (there are: {names})"
    )
