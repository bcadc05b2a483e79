"""What one task owns and what it reads for it: boxes of voxels, runs of detector rows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Box:
    """Voxels from `start` up to, not including, `stop`, each (z, y, x), at time step `step`."""

    start: tuple[int, int, int]
    stop: tuple[int, int, int]
    step: int = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """(z, y, x) counts."""
        (z0, y0, x0), (z1, y1, x1) = self.start, self.stop
        return z1 - z0, y1 - y0, x1 - x0

    @property
    def rows(self) -> tuple[int, int]:
        """First and last-plus-one volume row (z)."""
        return self.start[0], self.stop[0]


@dataclass(frozen=True, slots=True)
class ViewRows:
    """The detector rows [start, stop) that every view must contribute."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def grow(self, halo: int, det_rows: int) -> ViewRows:
        """These rows and `halo` more on both sides, cut at the detector's edges."""
        return ViewRows(max(0, self.start - halo), min(det_rows, self.stop + halo))
