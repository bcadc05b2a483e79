"""What travels through the corrections: a block of projections and all that is known about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from tomodask.geometry import ParallelBeam

Signal = Literal["transmission", "emission"]


@dataclass(frozen=True, eq=False)
class Projections:
    """A block of projections with its geometry, flats and darks.

    data : (num_angles, det_rows, det_count), raw counts at first, float32 once corrected.
    geometry : of exactly these rows and columns; `geometry.row_start` says where they lie.
    flats, darks : (num_frames, det_rows, det_count) on the same rows and columns, or None.
    timestamps, flat_times, dark_times : seconds (or frame numbers, on one clock), or None.
    signal : "transmission" is turned into attenuation by -log; "emission" is not.
    gain : detector counts a photon, None where unknown.
    counts : what the corrections found, for the report ("filled_pixels", "zingers", ...).
    """

    data: np.ndarray
    geometry: ParallelBeam
    flats: np.ndarray | None = None
    darks: np.ndarray | None = None
    timestamps: np.ndarray | None = None
    flat_times: np.ndarray | None = None
    dark_times: np.ndarray | None = None
    signal: Signal = "transmission"
    gain: float | None = None
    counts: Mapping[str, int] = field(default_factory=dict)

    def replace(self, **changes: Any) -> Projections:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def count(self, **found: int) -> Projections:
        """A copy with numbers added to `counts`."""
        total = dict(self.counts)
        for name, number in found.items():
            total[name] = total.get(name, 0) + int(number)
        return replace(self, counts=total)

    def trim_rows(self, start: int, stop: int) -> Projections:
        """Keep detector rows [start, stop), counted on the whole detector: cuts the halo off."""
        a, b = start - self.geometry.row_start, stop - self.geometry.row_start
        return replace(
            self,
            data=self.data[:, a:b],
            geometry=self.geometry.take_rows(a, b),
            flats=None if self.flats is None else self.flats[:, a:b],
            darks=None if self.darks is None else self.darks[:, a:b],
        )

    def sinograms(self) -> np.ndarray:
        """(det_rows, num_angles, det_count), a view: (angle, row, column) with its axes swapped."""
        return np.swapaxes(self.data, 0, 1)
