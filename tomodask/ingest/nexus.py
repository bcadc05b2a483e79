"""Finding a tomography detector among the groups of a NeXus file, by NX_class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import h5py

from tomodask.errors import FormatError
from tomodask.ingest.hdf5_frames import attribute, find_dataset, text_of
from tomodask.ingest.links import Node, find_node, get_node

ENTRIES = ("NXentry", "NXsubentry")
IMAGE_KEYS = ("image_key_control", "image_key")  # the first tells alignment frames apart
DEPTH = 6  # groups deep that entries, instruments and detectors are looked for


@dataclass(frozen=True, eq=False)
class Detector:
    """An open detector group with its frames and the entries around it, the innermost first."""

    group: h5py.Group
    data: h5py.Dataset
    image_key: h5py.Dataset | None
    entries: tuple[h5py.Group, ...]


@dataclass(frozen=True, eq=False)
class _Candidate:
    group: h5py.Group
    entries: tuple[h5py.Group, ...]

    @property
    def is_tomography(self) -> bool:
        return bool(self.entries) and is_tomo_entry(self.entries[0])


def is_nexus(file: h5py.File) -> bool:
    """Whether an open file has an entry with a detector."""
    return next(_candidates(file["/"], ()), None) is not None


def find_detector(file: h5py.File, data: str | None) -> Detector:
    """The detector of the scan: that of `data`, or the only one with frames that can be read.

    Where an entry's definition is NXtomo, only its detectors count; where some have an image_key,
    only those.

    Raises
    ------
    MissingInputError : the data of every detector is a link that leads nowhere.
    FormatError : no detector, or several that show different frames.
    """
    if data is not None:
        return _named_detector(file, data)
    candidates = list(_candidates(file["/"], ()))
    candidates = [c for c in candidates if c.is_tomography] or candidates
    keyed = [c for c in candidates if _image_key(c.group, c.entries) is not None]
    candidates = keyed or candidates
    found: dict[h5py.Dataset, Detector] = {}  # the same frames may be linked from many places
    for candidate in candidates:
        node = get_node(candidate.group, "data")
        if isinstance(node, h5py.Dataset) and node.ndim == 3:
            key = _image_key(candidate.group, candidate.entries)
            detector = Detector(candidate.group, node, key, candidate.entries)
            found.setdefault(node, detector)
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        names = ", ".join(f"{d.group.name}/data {d.data.shape}" for d in found.values())
        raise FormatError(
            f"{file.filename} has {len(found)} detectors with frames: choose one with --data "
            f"({names})"
        )
    for candidate in candidates:
        find_node(candidate.group, "data")  # explains a link that leads nowhere
    names = ", ".join(c.group.name for c in candidates) or "none"
    raise FormatError(
        f"{file.filename} has no detector with (frames, rows, columns) in `data` "
        f"(detectors: {names}): name the dataset with --data"
    )


def data_groups(detector: Detector) -> list[h5py.Group]:
    """The NXdata groups of the entries around a detector, the innermost entry's first."""
    return [
        group
        for entry in detector.entries
        for group in [*members_of_class(entry, "NXdata"), get_node(entry, "data")]
        if isinstance(group, h5py.Group)
    ]


def members_of_class(group: h5py.Group, name: str) -> list[h5py.Group]:
    """The groups directly in `group` whose NX_class is `name`."""
    return [child for child in _groups(group) if nx_class(child) == name]


def shows(plot: h5py.Group, data: Node | None) -> bool:
    """Whether the signal of an NXdata group is this dataset."""
    node = get_node(plot, attribute(plot, "signal") or "data")
    return node is not None and node == data


def nx_class(group: h5py.Group) -> str:
    """NX_class of a group, "" if it has none."""
    return attribute(group, "NX_class") or ""


def is_tomo_entry(group: h5py.Group) -> bool:
    """Whether a group says that it follows the definition NXtomo."""
    return text_of(get_node(group, "definition")) == "NXtomo"


def _groups(group: h5py.Group) -> Iterator[h5py.Group]:
    for name in group:
        child = get_node(group, name)
        if isinstance(child, h5py.Group):
            yield child


def _candidates(
    group: h5py.Group, entries: tuple[h5py.Group, ...], depth: int = 0
) -> Iterator[_Candidate]:
    """Detector groups below `group`, depth first."""
    for child in _groups(group):
        kind = nx_class(child)
        has_data = child.id.links.exists(b"data")
        # Some files leave NX_class empty: a key beside the data then tells a detector
        keyed = any(child.id.links.exists(name.encode()) for name in IMAGE_KEYS)
        if kind == "NXdetector" or (kind == "" and has_data and keyed):
            if has_data:
                yield _Candidate(child, entries)
        elif depth < DEPTH and kind in (*ENTRIES, "NXinstrument", ""):
            is_entry = kind in ENTRIES or is_tomo_entry(child)
            yield from _candidates(child, (child, *entries) if is_entry else entries, depth + 1)


def _image_key(group: h5py.Group, entries: tuple[h5py.Group, ...]) -> h5py.Dataset | None:
    """The key of a detector: its own, else that of a device or of a plot of the same frames."""
    data = get_node(group, "data")
    places = [group]
    for entry in entries:
        places += [plot for plot in members_of_class(entry, "NXdata") if shows(plot, data)]
        for instrument in members_of_class(entry, "NXinstrument"):
            places += [child for child in _groups(instrument) if nx_class(child) != "NXdetector"]
    for place in places:
        for name in IMAGE_KEYS:
            node = get_node(place, name)
            if isinstance(node, h5py.Dataset):
                return node
    return None


def _named_detector(file: h5py.File, name: str) -> Detector:
    """The detector whose frames are at the path `name`, with the entries on that path."""
    data = find_dataset(file, name)
    parts = name.strip("/").split("/")[:-1]
    groups: list[h5py.Group] = []
    node = file["/"]
    for part in parts:
        node = find_node(node, part)
        groups.append(node)
    entries = tuple(g for g in reversed(groups) if nx_class(g) in ENTRIES or is_tomo_entry(g))
    group = groups[-1] if groups else file["/"]
    return Detector(group, data, _image_key(group, entries), entries)
