"""Angles: from an option, a text file or a dataset, checked against the frames, in radians.

Degrees become radians here and nowhere else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import h5py
import numpy as np

from tomodask.errors import AnglesError, FormatError, MissingInputError
from tomodask.ingest.hdf5_frames import (
    attribute,
    find_dataset,
    list_datasets,
    open_hdf5,
    split_reference,
)
from tomodask.ingest.signatures import is_hdf5
from tomodask.ingest.source import SourceOptions, require_path

AngleUnits = Literal["degrees", "radians"]

UNITS: dict[str, AngleUnits] = {
    "degrees": "degrees",
    "degree": "degrees",
    "deg": "degrees",
    "\u00b0": "degrees",
    "radians": "radians",
    "radian": "radians",
    "rad": "radians",
}
RANGE = re.compile(r"^([^:]+):([^:]+):([^:]+)(?::(\w+))?$")
WAYS = "--angles START:STOP:COUNT (degrees, STOP not included) or --angles FILE[:/DATASET]"


@dataclass(frozen=True, eq=False)
class Selection:
    """Which of the frames in a file are projections: `indices` (num_projections,) of `total`."""

    indices: np.ndarray
    total: int

    @property
    def count(self) -> int:
        """Number of projections."""
        return int(self.indices.size)


@dataclass(frozen=True, eq=False)
class AngleList:
    """Angles as a file gives them.

    values : (n,) in `units`; None where the file does not say.
    where : the file, for messages.
    """

    values: np.ndarray
    units: AngleUnits | None
    where: str

    def take_lines(self, lines: str) -> AngleList:
        """The entries "START:STOP", counted from 0, STOP not included."""
        parts = re.fullmatch(r"(\d*):(\d*)", lines.strip())
        if parts is None:
            raise AnglesError(f"--angles-lines {lines}: START:STOP expected, for example 10:101")
        start = int(parts[1] or 0)
        stop = int(parts[2] or self.values.size)
        if not start < stop <= self.values.size:
            raise AnglesError(
                f"--angles-lines {lines}: {self.where} has {self.values.size} angles, so "
                f"0 <= START < STOP <= {self.values.size}"
            )
        return AngleList(self.values[start:stop], self.units, f"{self.where}, lines {lines}")

    def for_projections(self, selection: Selection) -> np.ndarray:
        """(num_projections,) radians; one angle a projection, or one a frame of the file.

        Raises
        ------
        AnglesError : another number of angles, angles that aren't finite, or units that can't be
            told: without units degrees are taken, unless all lie within 2 pi of each other.
        """
        values = self.values
        if values.size == selection.total and values.size != selection.count:
            values = values[selection.indices]
        if values.size != selection.count:
            raise AnglesError(self._explain_count(selection))
        finite = np.isfinite(values)
        if not finite.all():
            raise AnglesError(
                f"{self.where}: angle {int(np.argmin(finite))} is {values[~finite][0]}: mend it, "
                f"or give the angles with {WAYS}"
            )
        return np.deg2rad(values) if self._resolve_units() == "degrees" else values

    def _resolve_units(self) -> AngleUnits:
        if self.units is not None:
            return self.units
        span = float(np.ptp(self.values))
        # 2 pi and one step: a full turn in radians, its end included
        if 0 < span <= 2.02 * np.pi:
            raise AnglesError(
                f"{self.where} does not say its units, and its angles span only {span:.4g}: say "
                "--angle-units radians or --angle-units degrees"
            )
        return "degrees"

    def _explain_count(self, selection: Selection) -> str:
        size, count = self.values.size, selection.count
        other = "" if selection.total == count else f" (among {selection.total} frames in all)"
        facts = f"{self.where} has {size} angles for {count} projections{other}: "
        if size < count:
            return facts + f"was the scan or the copy cut short? Give the angles with {WAYS}"
        start = _padding(self.values, size - count)
        return facts + (
            "say which of them belong to the projections with --angles-lines START:STOP (counted "
            f"from 0, STOP not included), for example --angles-lines {start}:{start + count}, or "
            "give --angles START:STOP:COUNT"
        )


def _padding(values: np.ndarray, surplus: int) -> int:
    """How many of the surplus entries come first, to judge by where the motor stood still."""
    steps = np.abs(np.diff(values))
    moves = np.flatnonzero(steps > 0.1 * np.median(steps))  # encoders tremble by less than a tenth
    if moves.size == 0:
        return 0
    before, after = int(moves[0]), int(values.size - 2 - moves[-1])
    return before if before + after == surplus else 0


def parse_range(text: str) -> np.ndarray | None:
    """Radians of "START:STOP:COUNT[:closed]" in degrees, None if the text is no such range.

    STOP is not included, so that 0:180:180 has steps of one degree; "closed" includes it.
    """
    match = RANGE.match(text.strip())
    if match is None:
        return None
    try:
        start, stop, count = float(match[1]), float(match[2]), int(match[3])
    except ValueError:
        return None
    if match[4] not in (None, "closed") or count < 1 or not np.isfinite([start, stop]).all():
        raise AnglesError(
            f"--angles {text}: START:STOP:COUNT in degrees, COUNT at least 1, STOP not included; "
            "START:STOP:COUNT:closed includes it"
        )
    return np.deg2rad(np.linspace(start, stop, count, endpoint=match[4] == "closed"))


def angle_units(text: str | None, where: str) -> AngleUnits | None:
    """The units that an attribute names; None where there is none or it says nothing."""
    name = (text or "").strip().lower()
    if name in ("", "undefined", "unknown", "none"):
        return None
    if name not in UNITS:
        raise AnglesError(
            f"{where} gives its angles in {text!r}: degrees or radians expected; say "
            "--angle-units degrees or --angle-units radians"
        )
    return UNITS[name]


def read_angle_file(path: Path) -> AngleList:
    """One angle a line; empty lines and what follows a # are left out."""
    values = []
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(f"{path} is no text file: one angle a line expected") from error
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].replace(",", " ").split()
        if not words:
            continue
        try:
            (word,) = words
            values.append(float(word))
        except ValueError as error:
            raise FormatError(
                f"{path}, line {number}: one angle a line expected, found {line.strip()[:60]!r}"
            ) from error
    return AngleList(np.array(values), None, str(path))


def angle_list(dataset: h5py.Dataset, units: AngleUnits | None = None) -> AngleList:
    """The angles in an open HDF5 dataset; `units` replaces what its attribute says."""
    where = f"{dataset.file.filename}:{dataset.name}"
    if dataset.dtype.kind not in "uif" or dataset.size != max(dataset.shape, default=0):
        raise FormatError(
            f"{where} is no list of angles: shape {dataset.shape}, {dataset.dtype}; "
            f"give one with {WAYS}"
        )
    values = np.asarray(dataset[()], dtype=np.float64).reshape(-1)
    if units is None:
        units = angle_units(attribute(dataset, "units"), where)
    return AngleList(values, units, where)


def given_angles(
    options: SourceOptions, selection: Selection, inside: Path | None = None
) -> np.ndarray | None:
    """(num_projections,) radians that the option `angles` asks for, None if it is not given.

    inside : an HDF5 file; `angles` may then be a dataset of it.

    Raises
    ------
    AnglesError : the angles don't match the frames.
    MissingInputError : there is no such file or dataset.
    """
    if options.angles is None:
        return None
    angles = parse_range(options.angles)
    if angles is None:
        return chosen_angles(_named_angles(options, inside), options, selection)
    if options.angles_lines is not None:
        raise AnglesError(
            f"--angles-lines {options.angles_lines} chooses from a file, but --angles "
            f"{options.angles} is a range: give one of them"
        )
    if angles.size != selection.count:
        raise AnglesError(
            f"--angles {options.angles} makes {angles.size} angles, but there are "
            f"{selection.count} projections: COUNT must be {selection.count}"
        )
    return angles


def chosen_angles(angles: AngleList, options: SourceOptions, selection: Selection) -> np.ndarray:
    """(num_projections,) radians of a list, after the options `angles_lines` and `angle_units`."""
    if options.angle_units is not None:
        angles = AngleList(angles.values, options.angle_units, angles.where)
    if options.angles_lines is not None:
        angles = angles.take_lines(options.angles_lines)
    return angles.for_projections(selection)


def _named_angles(options: SourceOptions, inside: Path | None) -> AngleList:
    reference = options.angles or ""
    path, name = split_reference(reference)
    if inside is not None and name is None and not path.exists():
        with open_hdf5(inside) as file:
            if reference in file:
                return angle_list(find_dataset(file, reference), options.angle_units)
    try:
        require_path(path)
    except MissingInputError as error:
        raise MissingInputError(
            f"--angles {reference} is neither START:STOP:COUNT (degrees) nor a file: {error}"
        ) from error
    if path.is_dir():
        raise FormatError(f"--angles {reference} is a folder: a text or HDF5 file expected")
    if not is_hdf5(path):
        return read_angle_file(path)
    with open_hdf5(path) as file:
        dataset = _only_list(file) if name is None else find_dataset(file, name)
        return angle_list(dataset, options.angle_units)


def _only_list(file: h5py.File) -> h5py.Dataset:
    """The only 1-D dataset of a file, or the only one whose name tells of an angle."""
    lists = list_datasets(file, ndim=1)
    angular = [dataset for dataset in lists if is_angular_name(dataset.name)]
    for found in (lists, angular):
        if len(found) == 1:
            return found[0]
    names = ", ".join(dataset.name for dataset in angular or lists[:8]) or "none"
    raise AnglesError(
        f"{file.filename} has no single list of angles: give --angles {file.filename}:/DATASET "
        f"(1-D datasets: {names})"
    )


def is_angular_name(path: str) -> bool:
    """Whether the name of a dataset tells of a rotation angle."""
    name = path.rpartition("/")[2].lower()
    return any(word in name for word in ("theta", "rot", "angle"))
