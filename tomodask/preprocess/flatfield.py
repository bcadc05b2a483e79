"""Flat-field correction: raw counts become the transmission of the sample."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from tomodask.errors import FlatfieldError, RecipeError
from tomodask.geometry import ParallelBeam
from tomodask.projections import Projections


@dataclass(frozen=True)
class Flatfield:
    """Transmission = (counts - dark) / (flat - dark), the sample's share of the open beam.

    Flats between which a projection was taken belong to different sets. Each set is averaged, the
    open beam is linear in time between the sets' mean times and constant outside. Without time
    stamps, or with `interpolate` off, all flats are one set; all darks always are one.

    Where the gain g (counts a photon) is known, `half_count` adds g/2 to the counts: over the
    photons' noise the mean of -log is then right to 0.005 down to 5 photons, where the plain one is
    0.11 too high. Below about 2 photons it is too low.

    Pixels that are no brighter in the flats than in the darks are filled along their row from the
    nearest good columns, linearly between two, and counted as "filled_pixels"; a row without any
    good pixel gets transmission 1. Counts that are NaN stay NaN. Without darks the dark signal is
    taken as 0 and "no_darks" counted. From an emission signal only the darks are subtracted.

    Raises
    ------
    FlatfieldError : no flats for a transmission scan, frames or time stamps that don't fit the
        block, or flats clearly darker than the darks.
    """

    statistic: Literal["mean", "median"] = "mean"
    interpolate: bool = True
    half_count: bool = True

    mixes_angles: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.statistic not in ("mean", "median"):
            raise RecipeError(f"statistic {self.statistic!r}: 'mean' or 'median' is expected")

    def halo(self, geometry: ParallelBeam) -> int:
        """No row needs another."""
        return 0

    def working_bytes(self, shape: tuple[int, int, int]) -> int:
        """The result and 32 averaged frames: up to some 20 sets of flats and the arithmetic."""
        return 4 * math.prod(shape) + 32 * 4 * math.prod(shape[1:])

    def __call__(self, block: Projections) -> Projections:
        """Transmission, or counts above dark of an emission signal, float32."""
        result = np.empty(block.data.shape, dtype=np.float32)
        dark = self._dark(block)
        noted = block.count(no_darks=1) if block.darks is None else block
        if block.signal == "emission":
            for counts, above_dark in zip(block.data, result, strict=True):
                np.subtract(counts, dark, out=above_dark)
            return noted.replace(data=result)

        beams, positions = self._open_beam(block, dark)
        dead = np.zeros(dark.shape, dtype=bool)
        for beam in beams:
            dead |= ~(np.isfinite(beam) & (beam > 0))
        for beam in beams:
            beam[dead] = 1  # anything that can be divided by: these pixels are filled below
        gaps = RowGaps.of(dead)
        if self.half_count and block.gain is not None:
            dark = dark - np.float32(0.5 * block.gain)
        for counts, transmission, position in zip(block.data, result, positions, strict=True):
            np.subtract(counts, dark, out=transmission)
            np.divide(transmission, beam_at(beams, position), out=transmission)
            gaps.fill(transmission)
        return noted.replace(data=result).count(filled_pixels=gaps.size)

    def _dark(self, block: Projections) -> np.ndarray:
        """(rows, columns) float32: the average of the darks, or 0."""
        if block.darks is None:
            return np.zeros(block.data.shape[1:], dtype=np.float32)
        check_frames("darks", block.darks, block)
        return self._average(block.darks, range(len(block.darks))).astype(np.float32)

    def _open_beam(
        self, block: Projections, dark: np.ndarray
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """Beam above dark of each set of flats, and where among the sets each projection lies."""
        if block.flats is None:
            raise FlatfieldError(
                "the scan has no flats, so transmissions can't be told: name them with "
                "`--flats FILE`, or say `--signal emission` where the counts are the signal"
            )
        check_frames("flats", block.flats, block)
        num_angles = block.data.shape[0]
        set_of = np.zeros(len(block.flats), dtype=np.intp)
        positions = np.zeros(num_angles)
        if self.interpolate and block.timestamps is not None and block.flat_times is not None:
            times = check_times("timestamps", block.timestamps, num_angles)
            flat_times = check_times("flat_times", block.flat_times, len(block.flats))
            # flats are of one set where as many projections were taken before them
            earlier = np.searchsorted(np.sort(times), flat_times)
            _, set_of = np.unique(earlier, return_inverse=True)
            num_sets = int(set_of.max()) + 1
            set_times = [flat_times[set_of == number].mean() for number in range(num_sets)]
            positions = np.interp(times, set_times, np.arange(num_sets))
        beams = []
        for number in range(int(set_of.max()) + 1):
            flat = self._average(block.flats, np.flatnonzero(set_of == number))
            check_brighter(flat, dark)
            beams.append((flat - dark).astype(np.float32))
        return beams, positions

    def _average(self, frames: np.ndarray, members: Iterable[int]) -> np.ndarray:
        """(frames, rows, columns) -> (rows, columns) float64, over the frames that are members."""
        members = list(members)
        average: np.ndarray = np.zeros(frames.shape[1:])
        if self.statistic == "median":
            # row by row, as the median sorts a copy
            for row in range(frames.shape[1]):
                average[row] = np.median(frames[members, row], axis=0)
            return average
        for member in members:  # one order for every memory layout, which np.sum does not promise
            average += frames[member]
        average /= len(members)
        return average


def beam_at(beams: list[np.ndarray], position: float) -> np.ndarray:
    """The open beam at a place among the sets: 1.25 is a quarter of the way from set 1 to set 2."""
    number = int(position)
    share = float(position) - number
    if share == 0:
        return beams[number]
    between: np.ndarray = beams[number + 1] - beams[number]
    between *= share
    between += beams[number]
    return between


@dataclass(frozen=True, eq=False)
class RowGaps:
    """Pixels of a projection to be filled along their row from the nearest good columns.

    row, column : of each pixel with a good one in its row.
    left, right : its nearest good columns, the same one at the edge.
    share : weight of the right one.
    empty_rows : rows without any good pixel.
    size : number of bad pixels, those of empty rows too.
    """

    row: np.ndarray
    column: np.ndarray
    left: np.ndarray
    right: np.ndarray
    share: np.ndarray
    empty_rows: np.ndarray
    size: int

    @classmethod
    def of(cls, bad: np.ndarray) -> RowGaps:
        """From a (rows, columns) mask of the bad pixels."""
        columns = bad.shape[1]
        empty = np.logical_and.reduce(bad, axis=1)
        row, column = np.nonzero(bad & ~empty[:, None])
        index = np.arange(columns)
        left = np.maximum.accumulate(np.where(bad, -1, index), axis=1)[row, column]
        right = np.minimum.accumulate(np.where(bad, columns, index)[:, ::-1], axis=1)
        right = right[:, ::-1][row, column]
        left, right = np.where(left < 0, right, left), np.where(right == columns, left, right)
        share = (column - left) / np.maximum(right - left, 1)
        share[left == right] = 0
        return cls(
            row,
            column,
            left,
            right,
            share.astype(np.float32),
            np.flatnonzero(empty),
            int(np.count_nonzero(bad)),
        )

    def fill(self, projection: np.ndarray, empty: float = 1.0) -> None:
        """Fill a (rows, columns) projection in place; rows without a good pixel get `empty`."""
        if self.size == 0:
            return
        left, right = projection[self.row, self.left], projection[self.row, self.right]
        projection[self.row, self.column] = (1 - self.share) * left + self.share * right
        projection[self.empty_rows] = empty


def check_frames(name: str, frames: np.ndarray, block: Projections) -> None:
    """Raise FlatfieldError unless the frames are of the block's rows and columns."""
    if frames.ndim != 3 or frames.shape[0] == 0 or frames.shape[1:] != block.data.shape[1:]:
        raise FlatfieldError(
            f"{name} have shape {frames.shape}: at least one frame of the projections' "
            f"{block.data.shape[1]} rows x {block.data.shape[2]} columns is expected"
        )


def check_times(name: str, times: np.ndarray, expected: int) -> np.ndarray:
    """Time stamps as float64; raise FlatfieldError unless each of `expected` frames has one."""
    times = np.asarray(times, dtype=np.float64)
    if times.shape != (expected,) or not np.isfinite(times).all():
        raise FlatfieldError(
            f"{name} have shape {times.shape} with {np.count_nonzero(~np.isfinite(times))} values "
            f"that are not finite: one time for each of {expected} frames is expected; "
            "correct them, or set interpolate: false to average all flats"
        )
    return times


def check_brighter(flat: np.ndarray, dark: np.ndarray) -> None:
    """Raise FlatfieldError where the flats are darker than the darks all over.

    Rows outside the beam have flat = dark with noise, so a tenth less is required, of most pixels.
    """
    darker = np.count_nonzero(flat < 0.9 * dark)
    if 2 * darker > flat.size:
        raise FlatfieldError(
            f"{darker} of {flat.size} pixels are darker in the flats (median {np.median(flat):g}) "
            f"than in the darks (median {np.median(dark):g}): flats and darks swapped?"
        )
