"""The reference projector: Joseph's method in plain NumPy. Slow; read it to know what A is.

A ray is followed along the axis, x or y, that it runs closest to: at each row of pixels it crosses,
the two nearest pixels are interpolated, and a row counts for the length of ray within it
(Joseph 1982, doi:10.1109/TMI.1982.4307572). The back-projection is the exact transpose.
"""

from __future__ import annotations

import numpy as np

from tomodask.geometry import ParallelBeam
from tomodask.projectors import row_centers


class ReferenceBackend:
    """Joseph's projector and its transpose, in float64 within; `threads` are not used."""

    def __init__(self, shape_yx: tuple[int, int], geometry: ParallelBeam, threads: int = 1) -> None:
        self.shape_yx = shape_yx
        self.angles = geometry.angles
        self.det_count = geometry.det_count
        self.centers = row_centers(geometry)[:, None] + geometry.shifts()  # (row, angle)

    def forward(self, volume: np.ndarray) -> np.ndarray:
        """(z, y, x) -> (row, angle, column), lengths in pixels."""
        sinograms = np.empty((len(volume), self.angles.size, self.det_count), np.float32)
        for row, image in enumerate(volume):
            for view, angle in enumerate(self.angles):
                sinograms[row, view] = self._project(image, angle, self.centers[row, view])
        return sinograms

    def adjoint(self, sinograms: np.ndarray) -> np.ndarray:
        """(row, angle, column) -> (z, y, x), lengths in pixels."""
        volume = np.empty((len(sinograms), *self.shape_yx), np.float32)
        for row, sinogram in enumerate(sinograms):
            image = np.zeros(self.shape_yx)
            for view, angle in enumerate(self.angles):
                image += self._back_project(sinogram[view], angle, self.centers[row, view])
            volume[row] = image
        return volume

    def _project(self, image: np.ndarray, angle: float, center: float) -> np.ndarray:
        """One view: for every column, the interpolated pixels of each row that its ray crosses."""
        across, along = np.cos(angle), np.sin(angle)  # s = x cos + y sin
        if abs(across) < abs(along):  # the ray runs closer to x: let x and y change places
            image, across, along = image.T, along, across
        rows, columns = image.shape
        s = np.arange(self.det_count) - center
        y = _from_middle(rows)[:, None]
        position = (s - y * along) / across + (columns - 1) / 2
        left = np.floor(position).astype(np.intp)
        fraction = position - left
        padded = np.pad(image.astype(np.float64), ((0, 0), (1, 1)))  # pixels outside are 0
        row = np.arange(rows)[:, None]
        values = (1 - fraction) * padded[row, np.clip(left + 1, 0, columns + 1)]
        values += fraction * padded[row, np.clip(left + 2, 0, columns + 1)]
        return np.asarray(values.sum(axis=0) / abs(across))

    def _back_project(self, projection: np.ndarray, angle: float, center: float) -> np.ndarray:
        """One view: every pixel gathers the columns whose rays were interpolated from it.

        A ray at distance |u - s| < w from the pixel, w = max(|cos|, |sin|), met it with weight
        (1 - |u - s| / w) / w; as w <= 1, these are the two columns around u at most.
        """
        cos, sin = np.cos(angle), np.sin(angle)
        width = max(abs(cos), abs(sin))
        ny, nx = self.shape_yx
        u = _from_middle(nx) * cos + _from_middle(ny)[:, None] * sin + center
        left = np.floor(u).astype(np.intp)
        padded = np.pad(projection.astype(np.float64), 1)  # columns outside are 0
        gathered = np.zeros(self.shape_yx)
        for column in (left, left + 1):
            weight = np.maximum(0, 1 - np.abs(column - u) / width) / width
            gathered += weight * padded[np.clip(column + 1, 0, self.det_count + 1)]
        return gathered

    @staticmethod
    def memory_bytes(
        num_angles: int, det_count: int, shape_yx: tuple[int, int], threads: int
    ) -> int:
        """Float64 temporaries of one view."""
        return 8 * 9 * max(shape_yx[0] * shape_yx[1], max(shape_yx) * det_count)

    @staticmethod
    def row_bytes(num_angles: int, det_count: int, shape_yx: tuple[int, int]) -> int:
        """The filtered copy of a sinogram."""
        return 4 * num_angles * det_count


def _from_middle(count: int) -> np.ndarray:
    return np.arange(count) - (count - 1) / 2
