"""Corrections: what happens to a block of projections before it is reconstructed, one a file.

The order that suits most scans is the order of the table. Each correction is a frozen dataclass
whose fields are its parameters: it can be stored with the result, compared and sent to a worker.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Protocol

from tomodask.geometry import ParallelBeam
from tomodask.preprocess.flatfield import Flatfield
from tomodask.preprocess.normalise import MinusLog
from tomodask.preprocess.outliers import Outliers
from tomodask.preprocess.phase import Paganin
from tomodask.preprocess.stripes import Stripes
from tomodask.projections import Projections

__all__ = ["CORRECTIONS", "Correction", "Flatfield", "MinusLog", "Outliers", "Paganin", "Stripes"]


class Correction(Protocol):
    """What every entry of `CORRECTIONS` promises, and `tests/contracts` holds.

    The result is a new block whose data are float32 of the same shape: the block given is never
    written to, not even where it is float32 already. A row of the result depends on the rows within
    the halo alone, by arithmetic that its absolute row number fixes: the same bytes come out
    whichever rows share its block. What was found is added to `Projections.counts`, for all rows of
    the block: the counts of blocks that share halo rows add up to more than those of the whole.
    """

    mixes_angles: ClassVar[bool]
    """Whether one view changes another: such a step may not follow a split of the views."""

    def halo(self, geometry: ParallelBeam) -> int:
        """Rows needed above and below those wanted; blocks are cut at the detector's edges."""
        ...

    def working_bytes(self, shape: tuple[int, int, int]) -> int:
        """Bytes that a call allocates at its peak for a block of (angles, rows, columns).

        The result counts, the block given does not.
        """
        ...

    def __call__(self, block: Projections) -> Projections: ...


CORRECTIONS: dict[str, type[Correction]] = {
    "outliers": Outliers,
    "flatfield": Flatfield,
    "paganin": Paganin,
    "minus_log": MinusLog,
    "stripes": Stripes,
}


def apply_corrections(
    corrections: Sequence[Correction], block: Projections, threads: int = 1
) -> Projections:
    """All corrections, one after the other."""
    for correct in corrections:
        block = correct(block)
    return block


def correction_bytes(
    corrections: Sequence[Correction], shape: tuple[int, int, int], itemsize: int, threads: int = 1
) -> int:
    """Memory that `apply_corrections` takes at its peak, beside the block of raw counts given.

    shape : (angles, rows, columns) of the block; itemsize : bytes of a raw count.
    """
    peak, before = 0, 0  # each correction makes a new block of what the one before it made
    for correct in corrections:
        peak = max(peak, before + correct.working_bytes(shape))
        before = 4 * math.prod(shape)
    return peak
