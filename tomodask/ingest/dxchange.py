"""DXchange, the HDF5 layout of the Advanced Photon Source.

/exchange/data, data_white, data_dark (frame, row, column) and theta; what is known about the sample
and the instrument lies under /measurement. De Carlo et al., "Scientific data exchange: a schema for
HDF5-based storage of raw and analyzed data", https://doi.org/10.1107/S160057751401604X
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from tomodask.errors import AnglesError
from tomodask.ingest.angles import WAYS, Selection, angle_list, chosen_angles, given_angles
from tomodask.ingest.hdf5_frames import (
    Hdf5Frames,
    attribute,
    find_dataset,
    hdf5_frames,
    number_of,
    open_hdf5,
    text_of,
)
from tomodask.ingest.links import get_node
from tomodask.ingest.quantities import energy_kev, length_mm, length_um
from tomodask.ingest.source import Source, SourceOptions

Convert = Callable[[float | None, str | None], float | None]

INSTRUMENT = ("measurement/instrument", "instrument")
TEXTS = {
    "title": ("exchange/title", "measurement/sample/experiment/title", "title"),
    "sample": ("measurement/sample/name", "sample/name"),
    "date": ("file_creation_datetime", "process/acquisition/start_date"),
    "instrument": tuple(f"{place}/name" for place in INSTRUMENT),
    "beamline": tuple(f"{place}/source/beamline" for place in INSTRUMENT),
}


def is_dxchange(file: h5py.File) -> bool:
    """Whether an open file is laid out as DXchange."""
    return _exists(file, "/exchange/data")


def open_dxchange(path: Path, options: SourceOptions) -> Source:
    """A DXchange file as a source; flats and darks of no frames count as none.

    Raises
    ------
    MissingInputError : no /exchange/data.
    AnglesError : no theta and no option `angles`, or another number of angles than projections.
    FormatError : datasets of other shapes or types than frames.
    """
    with open_hdf5(path) as file:
        dataset = find_dataset(file, options.data or "/exchange/data")
        projections = hdf5_frames(dataset, files=(path,))
        metadata = {
            name: text
            for name, places in TEXTS.items()
            if (text := next(filter(None, (text_of(get_node(file, p)) for p in places)), None))
        }
        units = attribute(dataset, "units")
        return Source(
            path=path,
            description="DXchange HDF5",
            projections=projections,
            angles=_angles(file, path, options, projections.shape[0]),
            flat_frames=_frames(file, path, "/exchange/data_white"),
            dark_frames=_frames(file, path, "/exchange/data_dark"),
            pixel_size_um=_pixel_size_um(file),
            energy_kev=_first(file, energy_kev, ("monochromator/energy",)),
            distance_mm=_first(
                file,
                length_mm,
                (
                    "camera_motor_stack/setup/camera_distance",
                    "detector_motor_stack/setup/camera_distance",
                    "detector_motor_stack/setup/detector_distance",
                ),
            ),
            metadata=metadata | ({"units": units} if units else {}),
        )


def _frames(file: h5py.File, path: Path, name: str) -> Hdf5Frames | None:
    if not _exists(file, name):
        return None
    dataset = find_dataset(file, name)
    return None if 0 in dataset.shape else hdf5_frames(dataset, files=(path,))


def _exists(file: h5py.File, name: str) -> bool:
    """Whether there is a node or a link of this name, even one that leads nowhere."""
    group, _, member = name.rpartition("/")
    parent = get_node(file, group)
    return isinstance(parent, h5py.Group) and bool(parent.id.links.exists(member.encode()))


def _angles(
    file: h5py.File, path: Path, options: SourceOptions, num_projections: int
) -> np.ndarray:
    selection = Selection(np.arange(num_projections), num_projections)
    angles = given_angles(options, selection, inside=path)
    if angles is not None:
        return angles
    if not _exists(file, "/exchange/theta"):
        raise AnglesError(
            f"{path} has no /exchange/theta for its {num_projections} projections"
            f"{_planned_rotation(file)}: give {WAYS}"
        )
    theta = find_dataset(file, "/exchange/theta")
    return chosen_angles(angle_list(theta, options.angle_units), options, selection)


def _planned_rotation(file: h5py.File) -> str:
    """What the scan was set to do, which need not be what it did: a hint for people only."""
    names = ("rotation_start", "rotation_step", "num_angles")
    values = [number_of(get_node(file, f"process/acquisition/rotation/{name}")) for name in names]
    if None in values:
        return ""
    start, step, count = values
    return f" (planned were {count:g} from {start:g} in steps of {step:g} degrees)"


def _pixel_size_um(file: h5py.File) -> float | None:
    """Pixel at the object: the objective's resolution, or camera pixel over magnification.

    The camera's pixel alone says nothing about the object, so it is not taken.
    """
    objective = "detection_system/objective"
    at_object = _first(file, length_um, (f"{objective}/resolution", "detector/actual_pixel_size"))
    if at_object is not None:
        return at_object
    camera = _first(file, length_um, ("detector/pixel_size_x", "detector/pixel_size"))
    for place in INSTRUMENT:
        magnification = number_of(get_node(file, f"{place}/{objective}/magnification"))
        if camera is not None and magnification is not None and magnification > 0:
            return camera / magnification
    return None


def _first(file: h5py.File, convert: Convert, names: tuple[str, ...]) -> float | None:
    """The first of some values under the instrument that has a unit we know."""
    for place in INSTRUMENT:
        for name in names:
            node = get_node(file, f"{place}/{name}")
            value = convert(number_of(node), attribute(node, "units"))
            if value is not None:
                return float(value)
    return None
