"""Flat-field correction: raw counts become the transmission of the sample."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from tomodask import arrays
from tomodask.errors import FlatfieldError, RecipeError
from tomodask.geometry import ParallelBeam
from tomodask.preprocess import kernels
from tomodask.preprocess.lines import Lines, result_bytes, result_of, view_runs
from tomodask.projections import Projections
from tomodask.threads import share

# Of each pixel while result and beams are in memory: the dark, beams of eight sets, 20 for gaps.
FRAME_BYTES = 4 * (1 + 8 + 5)


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
    in_place: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.statistic not in ("mean", "median"):
            raise RecipeError(f"statistic {self.statistic!r}: 'mean' or 'median' is expected")

    def halo(self, geometry: ParallelBeam) -> int:
        """No row needs another."""
        return 0

    def working_bytes(self, shape: tuple[int, int, int], threads: int = 1) -> int:
        """The result, the dark and the beams of up to eight sets of flats, and the gaps."""
        return result_bytes(shape, threads) + FRAME_BYTES * math.prod(shape[1:])

    def __call__(
        self, block: Projections, threads: int = 1, out: np.ndarray | None = None
    ) -> Projections:
        """Transmission, or counts above dark of an emission signal, float32."""
        return self._correct(block, threads, out, floor=0.0)[0]

    def with_minus_log(
        self, floor: float, block: Projections, threads: int = 1, out: np.ndarray | None = None
    ) -> Projections:
        """What `MinusLog(floor)` makes of the transmission, to the byte, in one pass."""
        corrected, floored = self._correct(block, threads, out, floor)
        return corrected.count(floored_pixels=floored)

    def _correct(
        self, block: Projections, threads: int, out: np.ndarray | None, floor: float
    ) -> tuple[Projections, int]:
        """The block corrected, with -log where a floor is given, and the number of pixels below."""
        dark = self._dark(block)
        noted = block.count(no_darks=1) if block.darks is None else block
        if block.signal == "emission":
            return noted.replace(data=_above_dark(block.data, dark, threads, out)), 0
        beams, positions = self._open_beam(block, dark)
        dead = ~(np.isfinite(beams) & (beams > 0)).all(axis=0)
        beams[:, dead] = 1  # anything that can be divided by: these pixels are filled
        gaps = RowGaps.of(dead)
        if self.half_count and block.gain is not None:
            dark = dark - np.float32(0.5 * block.gain)
        result = result_of(block.data, out)
        fills, ends, empty = gaps.by_row(len(dead))
        sets = positions.astype(np.int64)
        shares = (positions - sets).astype(np.float32)
        runs = view_runs(result.shape)
        floored = np.zeros(len(runs), dtype=np.int64)

        def correct(number: int) -> None:
            run = runs[number]
            lines = Lines.of(block.data[run])
            floored[number] = kernels.transmission.flatfield_views(
                lines.stretch, lines.view_step, lines.row_step, dark, beams, sets[run],
                shares[run], fills, ends, empty, np.float32(floor), result[run],
                result is block.data,
            )  # fmt: skip

        share(correct, len(runs), threads)
        return noted.replace(data=result).count(filled_pixels=gaps.size), int(floored.sum())

    def _dark(self, block: Projections) -> np.ndarray:
        """(rows, columns) float32: the average of the darks, or 0."""
        if block.darks is None:
            return np.zeros(block.data.shape[1:], dtype=np.float32)
        check_frames("darks", block.darks, block)
        return self._average(block.darks, range(len(block.darks))).astype(np.float32)

    def _open_beam(self, block: Projections, dark: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Beam above dark of each set of flats, and where among the sets each projection lies.

        (sets, rows, columns) float32, and (num_angles,): 1.25 is a quarter of the way from set 1
        to set 2.
        """
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
        beams = arrays.empty((int(set_of.max()) + 1, *dark.shape), dtype=np.float32)
        for number, beam in enumerate(beams):
            flat = self._average(block.flats, np.flatnonzero(set_of == number))
            check_brighter(flat, dark)
            np.subtract(flat, dark, out=beam, casting="same_kind")
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


def _above_dark(
    data: np.ndarray, dark: np.ndarray, threads: int, out: np.ndarray | None
) -> np.ndarray:
    """Counts less the dark signal, float32."""
    result = result_of(data, out)
    runs = view_runs(result.shape)

    def subtract(number: int) -> None:
        lines = Lines.of(data[runs[number]])
        kernels.transmission.subtract_views(
            lines.stretch, lines.view_step, lines.row_step, dark, result[runs[number]],
            result is data,
        )  # fmt: skip

    share(subtract, len(runs), threads)
    return result


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

    def by_row(
        self, rows: int
    ) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray, np.ndarray]:
        """For loops over rows: (column, left, right, share), where each row's begin, who's empty.

        The second is (rows + 1,), the third a (rows,) mask.
        """
        ends = np.searchsorted(self.row, np.arange(rows + 1))
        empty = np.zeros(rows, dtype=np.bool_)
        empty[self.empty_rows] = True
        return (self.column, self.left, self.right, self.share), ends, empty

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
