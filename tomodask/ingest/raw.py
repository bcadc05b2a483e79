"""A raw source read like a scan store: for a look before, or without, an ingest."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tomodask.geometry import ParallelBeam
from tomodask.ingest.source import Source, turn_frames, turned_shape
from tomodask.projections import Projections, Signal


@dataclass(frozen=True)
class RawScan:
    """Rows of a raw file; every read goes through all its frames, so read few rows at a time."""

    source: Source
    rotate_detector: int = 0
    flip: bool = False

    @property
    def geometry(self) -> ParallelBeam:
        """The whole detector, its centre of rotation unknown."""
        _, rows, columns = turned_shape(self.source.shape, self.rotate_detector)
        return ParallelBeam(
            self.source.angles, rows, columns, pixel_size_um=self.source.pixel_size_um
        )

    @property
    def signal(self) -> Signal:
        return self.source.signal

    @property
    def energy_kev(self) -> float | None:
        return self.source.energy_kev

    @property
    def distance_mm(self) -> float | None:
        return self.source.distance_mm

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.source.dtype)

    def read(
        self,
        rows: tuple[int, int],
        columns: tuple[int, int] | None = None,
        views: slice = slice(None),
    ) -> Projections:
        """Raw counts of detector rows [start, stop), with flats and darks, as `Scan.read`."""
        block = self.read_rows(np.arange(*rows), columns, views)
        geometry = replace(block.geometry, row_start=rows[0])
        return block.replace(geometry=geometry)

    def read_rows(
        self, rows: np.ndarray, columns: tuple[int, int] | None = None, views: slice = slice(None)
    ) -> Projections:
        """Raw counts of any rows, in rising order: one pass through the frames taken."""
        first, last = columns or (0, self.geometry.det_count)
        frames = range(*views.indices(self.source.shape[0]))
        data = self._read_frames(frames, rows)
        geometry = replace(self.geometry.take_views(views), det_rows=rows.size)
        times = self.source.timestamps
        return Projections(
            data=data[:, :, first:last],
            geometry=geometry.take_columns(first, last),
            flats=self._images(self.source.flats(), rows, first, last),
            darks=self._images(self.source.darks(), rows, first, last),
            timestamps=None if times is None else times[views],
            flat_times=self.source.flat_times,
            dark_times=self.source.dark_times,
            signal=self.source.signal,
            gain=self.source.gain,
        )

    def _read_frames(self, frames: range, rows: np.ndarray) -> np.ndarray:
        """Some frames' rows, read a few frames at a time; a turned frame is read whole."""
        whole = self.rotate_detector != 0 or self.flip
        low, high = int(rows[0]), int(rows[-1]) + 1
        wanted = slice(None) if whole else slice(low, high)
        picked = rows if whole else rows - low
        step = max(1, self.source.chunk_shape[0]) if frames.step == 1 else 1
        if frames.step == 1 and not whole and high - low == rows.size:
            return self.source.read(slice(frames.start, frames.stop), wanted)
        parts = []
        for first in range(frames.start, frames.stop, frames.step * step):
            chunk = self.source.read(slice(first, min(first + step, frames.stop)), wanted)
            parts.append(self._turn(chunk)[:, picked])
        return np.concatenate(parts)

    def _images(
        self, images: np.ndarray | None, rows: np.ndarray, first: int, last: int
    ) -> np.ndarray | None:
        return None if images is None else self._turn(images)[:, rows, first:last]

    def _turn(self, frames: np.ndarray) -> np.ndarray:
        return turn_frames(frames, self.rotate_detector, self.flip)
