"""Rows of a scan, corrected once, of which any split can be reconstructed.

Splits of views share their corrected projections. Splits of photons are dealt before the flat
field, so that each is corrected for itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tomodask.geometry import ViewRows
from tomodask.learn.options import SplitOptions
from tomodask.learn.splits import ViewSplits, split_views
from tomodask.learn.thinning import thin_counts
from tomodask.preprocess import apply_corrections
from tomodask.projections import Projections
from tomodask.reconstruct.splits import SplitSlices, reconstruct_splits
from tomodask.runplan import Job, corrected_rows, slices_of

GROUP_ROWS = 16  # reconstructed together: a batch of lanes


@dataclass(frozen=True)
class Splitting:
    """How a run's scan is divided into `num_splits`; small and picklable."""

    num_splits: int
    options: SplitOptions

    @property
    def is_thinning(self) -> bool:
        return self.options.kind == "thinning"

    @property
    def copies(self) -> int:
        """Of the corrected projections, which are in memory together."""
        return self.num_splits + 1 if self.is_thinning else 1

    def views(self, angles: np.ndarray) -> ViewSplits:
        """Which views each split has."""
        options = self.options
        return split_views(angles, self.num_splits, options.kind, options.block_views)


@dataclass(frozen=True, eq=False)
class SplitRows:
    """Corrected projections: of the whole scan (unless it isn't needed), and of each thinned share.

    start : first row, counted from the volume's.
    """

    job: Job
    splitting: Splitting
    whole: Projections
    shares: tuple[Projections, ...]
    start: int

    @property
    def counts(self) -> Mapping[str, int]:
        """What the corrections found."""
        return self.whole.counts

    def full(self, start: int, stop: int) -> np.ndarray:
        """(z, y, x) of all views and photons."""
        sinograms, A = slices_of(self.job, self.whole, start - self.start, stop - self.start)
        return self.job.algorithm(sinograms, A)

    def splits(self, start: int, stop: int, *, with_full: bool) -> SplitSlices:
        """All splits of some of the rows, and of all together."""
        low, high = start - self.start, stop - self.start
        if not self.shares:
            sinograms, A = slices_of(self.job, self.whole, low, high)
            views = self.splitting.views(self.job.scan.geometry.angles).views
            return reconstruct_splits(self.job.algorithm, sinograms, A, views, with_full=with_full)
        made = [self.job.algorithm(*slices_of(self.job, share, low, high)) for share in self.shares]
        weights = np.full(len(made), 1 / len(made))
        full = self.full(start, stop) if with_full else None
        return SplitSlices(np.stack(made), full, weights, is_weighted_sum=False)

    def slab(self, start: int, stop: int) -> SplitSlices:
        """The same of many rows, a batch of rows at a time."""
        made = [
            self.splits(low, min(stop, low + GROUP_ROWS), with_full=True)
            for low in range(start, stop, GROUP_ROWS)
        ]
        if len(made) == 1:
            return made[0]
        fulls = [part.full for part in made if part.full is not None]
        splits = np.concatenate([part.splits for part in made], axis=1)
        return SplitSlices(splits, np.concatenate(fulls), made[0].weights, made[0].is_weighted_sum)


def load_split_rows(
    job: Job,
    splitting: Splitting,
    read: ViewRows,
    needed: ViewRows,
    start: int,
    *,
    with_splits: bool = True,
) -> SplitRows:
    """Read and correct rows; their first is row `start` of the volume."""
    if not (splitting.is_thinning and with_splits):
        return SplitRows(job, splitting, corrected_rows(job, read, needed), (), start)
    raw = job.load(read.start, read.stop)
    shares: list[Projections] = []
    for share in thin_counts(raw, splitting.num_splits, splitting.options.seed):
        shares.append(_corrected(job, share, needed))
    return SplitRows(job, splitting, _corrected(job, raw, needed), tuple(shares), start)


def _corrected(job: Job, raw: Projections, needed: ViewRows) -> Projections:
    corrected = apply_corrections(job.corrections, raw, job.threads)
    return corrected.trim_rows(needed.start, needed.stop)


def together(parts: Sequence[np.ndarray]) -> bytes:
    """The views of all splits, for a digest."""
    return b"".join(part.tobytes() for part in parts)
