"""What every correction promises, whatever it does."""

from __future__ import annotations

from typing import ClassVar, Protocol

import numpy as np

from tomodask.geometry import ParallelBeam
from tomodask.projections import Projections


class Correction(Protocol):
    """What every entry of `CORRECTIONS` promises, and `tests/contracts` holds.

    The result is a block whose data are float32 of the same shape: the block given is not written
    to, unless `out` says so. A row of the result depends on the rows within the halo alone, by
    arithmetic that its absolute row number fixes: the same bytes come out whichever rows share its
    block, on any number of threads. What was found is added to `Projections.counts`, for all rows
    of the block: the counts of blocks that share halo rows add up to more than those of the whole.
    """

    mixes_angles: ClassVar[bool]
    """Whether one view changes another: such a step may not follow a split of the views."""

    in_place: ClassVar[bool]
    """Whether `out` may be the data of the block itself, where these are float32."""

    def halo(self, geometry: ParallelBeam) -> int:
        """Rows needed above and below those wanted; blocks are cut at the detector's edges."""
        ...

    def working_bytes(self, shape: tuple[int, int, int], threads: int = 1) -> int:
        """Bytes that a call allocates at its peak for a block of (angles, rows, columns).

        The result counts, also where it goes to `out`; the block given does not.
        """
        ...

    def __call__(
        self, block: Projections, threads: int = 1, out: np.ndarray | None = None
    ) -> Projections:
        """The corrected block, its data new or `out`, a C-contiguous float32 array."""
        ...
