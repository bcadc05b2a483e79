"""Stripes in sinograms, which become rings in slices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tomodask import arrays
from tomodask.errors import RecipeError
from tomodask.geometry import ParallelBeam
from tomodask.preprocess import kernels
from tomodask.preprocess.lines import Lines, result_bytes, result_of
from tomodask.projections import Projections
from tomodask.threads import share


@dataclass(frozen=True)
class Stripes:
    """Removes stripes by sorting: algorithm 3 of Vo, Atwood and Drakopoulos (2018).

    The values of each detector column are sorted over the angles, a median over `size` neighbouring
    columns smooths each rank, and the values go back to the angles they came from: a column whose
    response differs from its neighbours' is brought to theirs, whatever the sample. Wide or dead
    stripes are left. Views with equal values keep their order, so the result is unique.

    A sinogram with a value that isn't finite has no order to sort by: it is passed on as it is, and
    its row counted as "unfiltered_rows".

    DOI 10.1364/OE.26.028396.
    """

    size: int = 21

    mixes_angles: ClassVar[bool] = True
    in_place: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.size < 3 or self.size % 2 == 0:
            raise RecipeError(
                f"size {self.size}: an odd number of detector columns, 3 or more, is expected; "
                "take about twice the width of the widest stripe"
            )

    def halo(self, geometry: ParallelBeam) -> int:
        """Each sinogram is filtered alone."""
        return 0

    def working_bytes(self, shape: tuple[int, int, int], threads: int = 1) -> int:
        """The result and each thread's scratch."""
        num_angles, rows, columns = shape
        scratch = Scratch.bytes(num_angles, columns, self.size)
        return result_bytes(shape, threads) + min(threads, rows) * scratch

    def __call__(
        self, block: Projections, threads: int = 1, out: np.ndarray | None = None
    ) -> Projections:
        """The block with each sinogram filtered; any float data, attenuation at best."""
        result = result_of(block.data, out)
        num_angles, rows, columns = result.shape
        unfiltered = np.zeros(rows, dtype=np.bool_)
        spare: list[Scratch] = []  # of threads that are between two rows

        def filter_row(row: int) -> None:
            scratch = spare.pop() if spare else Scratch.of(num_angles, columns, self.size)
            unfiltered[row] = not scratch.filter(block.data[:, row : row + 1], result, row)
            spare.append(scratch)

        share(filter_row, rows, threads)
        return block.replace(data=result).count(unfiltered_rows=int(unfiltered.sum()))


@dataclass(frozen=True, eq=False)
class Scratch:
    """What one thread filters a sinogram in; the arrays are described in `kernels.ranks`."""

    keys: np.ndarray
    order: np.ndarray
    strip: np.ndarray
    tile: np.ndarray
    packed: np.ndarray
    wide: np.ndarray
    window: np.ndarray
    ring: np.ndarray

    @classmethod
    def of(cls, num_angles: int, columns: int, size: int) -> Scratch:
        """In one piece of memory, each array on a line of the caches of its own."""
        memory = arrays.empty(cls.bytes(num_angles, columns, size), np.uint8)
        made, start = [], 0
        for shape, dtype in _arrays(num_angles, columns, size):
            number_of_bytes = math.prod(shape) * np.dtype(dtype).itemsize
            made.append(memory[start : start + number_of_bytes].view(dtype).reshape(shape))
            start += _whole_lines(number_of_bytes)
        return cls(*made)

    @staticmethod
    def bytes(num_angles: int, columns: int, size: int) -> int:
        return sum(
            _whole_lines(math.prod(shape) * np.dtype(dtype).itemsize)
            for shape, dtype in _arrays(num_angles, columns, size)
        )

    def filter(self, sinogram: np.ndarray, result: np.ndarray, row: int) -> bool:
        """(angles, 1, columns) into a row of `result`; False where it is passed on as it is."""
        lines, ranks = Lines.of(sinogram), kernels.ranks
        if not self.sort(lines):
            ranks.copy_row(lines.stretch, lines.view_step, result, row)
            return False
        ranks.smooth_ranks(self.keys, len(self.ring), self.window, self.ring)
        ranks.place_columns(self.keys, self.order, self.strip, self.tile, result, row)
        return True

    def sort(self, lines: Lines) -> bool:
        """Sort the columns of a row into `keys` and `order`; False where it has no order."""
        ranks = kernels.ranks
        columns, views = self.order.shape
        view_bits = max(1, (views - 1).bit_length())
        for begin in range(0, columns, ranks.BLOCK_COLUMNS):
            keys = self.keys[begin : begin + ranks.BLOCK_COLUMNS]
            order = self.order[begin : begin + ranks.BLOCK_COLUMNS]
            packed, wide = self.packed[: len(keys)], self.wide[: len(keys)]
            if not ranks.pack_columns(
                lines.stretch, lines.view_step, begin, view_bits, self.strip, self.tile, packed
            ):
                return False
            packed.sort()  # by NumPy, which has vectors for it
            if not ranks.unpack_columns(self.tile, packed, view_bits, keys, order):
                ranks.pack_exactly(self.tile, wide)
                wide.sort()
                ranks.unpack_exactly(wide, keys, order)
        return True


def _whole_lines(number_of_bytes: int) -> int:
    """Rounded up to lines of the caches: a vector that lies across two of them costs twice."""
    return -(-number_of_bytes // 64) * 64


def _arrays(
    num_angles: int, columns: int, size: int
) -> tuple[tuple[tuple[int, ...], type[np.generic]], ...]:
    """Shape and type of each array of a `Scratch`, in the order of its fields."""
    ranks = kernels.ranks
    view: type[np.generic] = np.uint16 if num_angles <= 1 << 16 else np.uint32
    odd_lines = 16 * (num_angles // 16 + 1 | 1)  # 64 B each: no power of two, which is slow
    return (
        ((columns, odd_lines), np.int32),
        ((columns, num_angles), view),
        ((ranks.SQUARE, ranks.BLOCK_COLUMNS), np.int32),
        ((ranks.BLOCK_COLUMNS, odd_lines), np.int32),
        ((ranks.BLOCK_COLUMNS, num_angles), np.uint32),
        ((ranks.BLOCK_COLUMNS, num_angles), np.uint64),
        ((size + 2, ranks.LANES), np.int32),
        ((size, ranks.LANES), np.int32),
    )
