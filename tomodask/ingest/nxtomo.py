"""NXtomo, the NeXus application definition for tomography, and scans of Diamond that come near it.

Frames of all kinds lie in one dataset of an NXdetector; `image_key` tells them apart (0 projection,
1 flat, 2 dark, 3 invalid). https://manual.nexusformat.org/classes/applications/NXtomo.html

Groups are found by NX_class, not by name. Where the file has no NXsample/rotation_angle, the angles
are those of an NXdata field that looks like an angle.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from tomodask.errors import AnglesError, FormatError
from tomodask.ingest.angles import (
    WAYS,
    Selection,
    angle_list,
    chosen_angles,
    given_angles,
    is_angular_name,
)
from tomodask.ingest.hdf5_frames import (
    Hdf5Frames,
    attribute,
    hdf5_frames,
    number_of,
    open_hdf5,
    text_of,
)
from tomodask.ingest.links import get_node
from tomodask.ingest.nexus import Detector, data_groups, find_detector, members_of_class, shows
from tomodask.ingest.quantities import energy_kev, length_mm, length_um
from tomodask.ingest.source import Source, SourceOptions

PROJECTION, FLAT, DARK, INVALID = 0, 1, 2, 3
ALIGNMENT = -1  # in image_key_control: taken after the scan, to see whether the sample moved
ANGLE_UNITS = ("deg", "degree", "degrees", "rad", "radian", "radians")


def open_nxtomo(path: Path, options: SourceOptions) -> Source:
    """An NXtomo file as a source; timestamps are the numbers of the frames in their dataset.

    Raises
    ------
    MissingInputError : the detector's data is a link that leads nowhere.
    FormatError : no detector, several that differ, or an image_key that does not fit its data.
    AnglesError : no angles, or another number of them than frames or projections.
    """
    with open_hdf5(path) as file:
        detector = find_detector(file, options.data)
        frames = hdf5_frames(detector.data, files=(path,))
        key = _image_key(detector, frames.shape[0])
        positions = {kind: np.flatnonzero(key == kind) for kind in (PROJECTION, FLAT, DARK)}
        projections = frames.take(positions[PROJECTION])
        if projections is None:
            raise FormatError(
                f"{path}: image_key of {detector.group.name} marks none of {key.size} frames as a "
                "projection (0)"
            )
        times = {kind: found.astype(np.float64) for kind, found in positions.items() if found.size}
        selection = Selection(positions[PROJECTION], frames.shape[0])
        return Source(
            path=path,
            description="NXtomo HDF5",
            projections=projections,
            angles=_angles(detector, path, options, selection),
            flat_frames=frames.take(positions[FLAT]),
            dark_frames=frames.take(positions[DARK]),
            timestamps=times[PROJECTION],
            flat_times=times.get(FLAT),
            dark_times=times.get(DARK),
            pixel_size_um=_pixel_size_um(detector),
            energy_kev=_energy_kev(detector),
            distance_mm=length_mm(*_quantity(detector.group, "distance")),
            metadata=_metadata(detector, frames.label),
        )


def frames_of_kind(file: h5py.File, path: Path, kind: int) -> Hdf5Frames | None:
    """The flats or darks of an open NXtomo file, None if it marks none."""
    detector = find_detector(file, None)
    frames = hdf5_frames(detector.data, files=(path,))
    key = _image_key(detector, frames.shape[0])
    return frames.take(np.flatnonzero(key == kind))


def _image_key(detector: Detector, num_frames: int) -> np.ndarray:
    """(num_frames,) kinds; all projections where the file has no image_key."""
    node = detector.image_key
    if node is None:
        return np.zeros(num_frames, dtype=np.int8)
    where = f"{node.file.filename}:{node.name}"
    key = np.asarray(node[()]).reshape(-1)
    if key.size != num_frames:
        raise FormatError(
            f"{where} has {key.size} entries for the {num_frames} frames of {detector.data.name}: "
            "was the scan or the copy cut short?"
        )
    unknown = set(np.unique(key).tolist()) - {ALIGNMENT, PROJECTION, FLAT, DARK, INVALID}
    if unknown:
        raise FormatError(
            f"{where} holds {sorted(unknown)}: 0 (projection), 1 (flat), 2 (dark), 3 (invalid) "
            "expected"
        )
    return key


def _angles(
    detector: Detector, path: Path, options: SourceOptions, selection: Selection
) -> np.ndarray:
    angles = given_angles(options, selection, inside=path)
    if angles is not None:
        return angles
    dataset = _rotation_angle(detector) or _angular_field(detector, selection)
    if dataset is None:
        raise AnglesError(
            f"{path} has no rotation angle for its {selection.count} projections, neither in an "
            f"NXsample nor in an NXdata: give {WAYS}"
        )
    return chosen_angles(angle_list(dataset, options.angle_units), options, selection)


def _rotation_angle(detector: Detector) -> h5py.Dataset | None:
    for entry in detector.entries:
        samples = [*members_of_class(entry, "NXsample"), get_node(entry, "sample")]
        for sample in samples:
            if isinstance(sample, h5py.Group):
                node = get_node(sample, "rotation_angle")
                if isinstance(node, h5py.Dataset) and node.size > 1:
                    return node
    return None


def _angular_field(detector: Detector, selection: Selection) -> h5py.Dataset | None:
    """The field of the detector's NXdata, or else of any, that looks like its angles."""
    groups = data_groups(detector)
    own = [group for group in groups if shows(group, detector.data)]
    for some in (own, groups):
        fields: dict[h5py.Dataset, str] = {}  # the same field may be linked from many groups
        for group in some:
            for name in group:
                node = get_node(group, name)
                if isinstance(node, h5py.Dataset) and _looks_angular(name, node, selection):
                    fields.setdefault(node, name)
        # what the motor reached is truer than where it was sent ("..._set")
        reached = [node for node, name in fields.items() if not name.endswith("_set")]
        found = reached or list(fields)
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(f"{node.file.filename}:{node.name}" for node in found)
            raise AnglesError(f"several lists may be the angles: name one with --angles ({names})")
    return None


def _looks_angular(name: str, node: h5py.Dataset, selection: Selection) -> bool:
    if node.dtype.kind not in "uif" or node.ndim != 1:
        return False
    if node.size not in (selection.total, selection.count) or name == "image_key":
        return False
    units = (attribute(node, "units") or "").lower()
    return units in ANGLE_UNITS or is_angular_name(name)


def _quantity(group: h5py.Group, name: str) -> tuple[float | None, str | None]:
    node = get_node(group, name)
    return number_of(node), attribute(node, "units")


def _pixel_size_um(detector: Detector) -> float | None:
    """Pixel at the object where the file tells it from the camera's, else the detector's."""
    for entry in detector.entries:
        for sample in members_of_class(entry, "NXsample"):
            size = length_um(*_quantity(sample, "x_pixel_size"))
            if size is not None:
                return size
    for name in ("x_magnified_pixel_size", "x_pixel_size"):
        size = length_um(*_quantity(detector.group, name))
        if size is not None:
            return size
    return None


def _energy_kev(detector: Detector) -> float | None:
    """Photon energy of the beam or the monochromator; NXsource/energy is that of the ring."""
    for entry in detector.entries:
        for name in (
            "instrument/beam/incident_energy",
            "beam/incident_energy",
            "instrument/monochromator/energy",
        ):
            energy = energy_kev(*_quantity(entry, name))
            if energy is not None:
                return energy
    return None


def _metadata(detector: Detector, label: str) -> dict[str, str | float]:
    found: dict[str, str | float] = {}
    for entry in reversed(detector.entries):  # the innermost has the last word
        for key, name in (
            ("title", "title"),
            ("sample", "sample/name"),
            ("date", "start_time"),
            ("instrument", "instrument/name"),
        ):
            text = text_of(get_node(entry, name))
            if text:
                found[key] = text
    units = attribute(detector.data, "units")
    return found | ({"units": units} if units else {}) | {"dataset": label}
