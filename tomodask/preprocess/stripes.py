"""Stripes in sinograms, which become rings in slices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

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
    tile: np.ndarray
    cells: np.ndarray
    passes: np.ndarray
    ends: np.ndarray
    windows: np.ndarray
    ring: np.ndarray

    @classmethod
    def of(cls, num_angles: int, columns: int, size: int) -> Scratch:
        return cls(*(np.empty(*made) for made in _arrays(num_angles, columns, size)))

    @staticmethod
    def bytes(num_angles: int, columns: int, size: int) -> int:
        arrays = _arrays(num_angles, columns, size)
        return sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in arrays)

    def filter(self, sinogram: np.ndarray, result: np.ndarray, row: int) -> bool:
        """(angles, 1, columns) into a row of `result`; False where it is passed on as it is."""
        lines, ranks = Lines.of(sinogram), kernels.ranks
        if not ranks.sort_columns(
            lines.stretch, lines.view_step, self.tile, self.cells, self.keys, self.order,
            self.passes, self.ends,
        ):  # fmt: skip
            ranks.copy_row(lines.stretch, lines.view_step, result, row)
            return False
        ranks.smooth_ranks(self.keys, len(self.ring), self.windows, self.ring)
        ranks.place_columns(self.keys, self.order, self.tile, result, row)
        return True


def _arrays(
    num_angles: int, columns: int, size: int
) -> tuple[tuple[tuple[int, ...], type[np.generic]], ...]:
    """Shape and type of each array of a `Scratch`, in the order of its fields."""
    ranks = kernels.ranks
    view: type[np.generic] = np.uint16 if num_angles <= 1 << 16 else np.uint32
    odd_lines = 16 * (num_angles // 16 + 1 | 1)  # 64 B each: no power of two, which is slow
    return (
        ((columns, num_angles), np.int32),
        ((columns, num_angles), view),
        ((ranks.BLOCK_COLUMNS, odd_lines), np.int32),
        ((num_angles,), np.uint32),
        ((2, num_angles), view),
        ((1 << ranks.DIGIT_BITS,), np.uint32),
        ((2, (3 * math.ceil(size / 3) + 2) * ranks.LANES), np.int32),
        ((size, ranks.LANES), np.int32),
    )
