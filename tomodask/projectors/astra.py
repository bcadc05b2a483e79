"""ASTRA's CPU projector "linear" (Joseph's method), slice by slice. GPL-3.0: only when asked for.

van Aarle et al. 2016, doi:10.1364/OE.24.025129. ASTRA's y axis points up in an image, ours down its
rows; `_detector_vectors` turns one into the other.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import astra
import numpy as np

from tomodask.geometry import ParallelBeam
from tomodask.projectors import row_centers


class AstraBackend:
    """Line integrals by ASTRA, one slice a call; the threads take slices side by side."""

    def __init__(self, shape_yx: tuple[int, int], geometry: ParallelBeam, threads: int = 1) -> None:
        self.geometry = geometry
        self.threads = threads
        self.shape_yx = shape_yx
        self._volume = astra.create_vol_geom(*shape_yx)
        self._views = [
            astra.create_proj_geom("parallel_vec", geometry.det_count, vectors)
            for vectors in _detector_vectors(geometry)
        ]

    def forward(self, volume: np.ndarray) -> np.ndarray:
        """(z, y, x) -> (row, angle, column), lengths in pixels."""
        shape = (len(volume), self.geometry.num_angles, self.geometry.det_count)
        sinograms = np.empty(shape, np.float32)

        def project(row: int) -> None:
            self._run("FP", row, np.ascontiguousarray(volume[row]), sinograms[row])

        self._for_each_row(project)
        return sinograms

    def adjoint(self, sinograms: np.ndarray) -> np.ndarray:
        """(row, angle, column) -> (z, y, x), lengths in pixels."""
        volume = np.empty((len(sinograms), *self.shape_yx), np.float32)

        def back_project(row: int) -> None:
            self._run("BP", row, volume[row], np.ascontiguousarray(sinograms[row]))

        self._for_each_row(back_project)
        return volume

    def _run(self, algorithm: str, row: int, image: np.ndarray, sinogram: np.ndarray) -> None:
        """Let ASTRA read one of the two arrays and fill the other."""
        views = self._views[row]
        projector = astra.create_projector("linear", views, self._volume)
        image_id = astra.data2d.create("-vol", self._volume, image)
        sinogram_id = astra.data2d.create("-sino", views, sinogram)
        options = astra.astra_dict(algorithm)
        options["ProjectorId"] = projector
        options["ProjectionDataId"] = sinogram_id
        if algorithm == "FP":
            options["VolumeDataId"] = image_id
        else:
            options["ReconstructionDataId"] = image_id
        run = astra.algorithm.create(options)
        try:
            astra.algorithm.run(run)
            if algorithm == "FP":
                sinogram[:] = astra.data2d.get_shared(sinogram_id)
            else:
                image[:] = astra.data2d.get_shared(image_id)
        finally:
            astra.algorithm.delete(run)
            astra.data2d.delete([image_id, sinogram_id])
            astra.projector.delete(projector)

    def _for_each_row(self, do: Callable[[int], None]) -> None:
        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(do, range(self.geometry.det_rows)))

    @staticmethod
    def memory_bytes(
        num_angles: int, det_count: int, shape_yx: tuple[int, int], threads: int
    ) -> int:
        """A copy of a slice and a sinogram, 4 bytes a value, and a quarter for what ASTRA keeps."""
        return 5 * threads * (shape_yx[0] * shape_yx[1] + num_angles * det_count)

    @staticmethod
    def row_bytes(num_angles: int, det_count: int, shape_yx: tuple[int, int]) -> int:
        """The filtered copy of a sinogram, and the vectors of its views."""
        return 4 * num_angles * det_count + 6 * 8 * num_angles


def _detector_vectors(geometry: ParallelBeam) -> np.ndarray:
    """(det_rows, num_angles, 6): ray, middle of the detector, step to the next column; as X, Y.

    With X = x and Y = -y the detector's axis (cos, sin) is (cos, -sin) and its column u lies at
    distance u - c from the rotation axis.
    """
    cos, sin = np.cos(geometry.angles), np.sin(geometry.angles)
    centers = row_centers(geometry)[:, None] + geometry.shifts()
    middle = (geometry.det_count - 1) / 2 - centers
    vectors = np.empty((geometry.det_rows, geometry.num_angles, 6))
    vectors[:, :, 0], vectors[:, :, 1] = sin, cos
    vectors[:, :, 2], vectors[:, :, 3] = middle * cos, -middle * sin
    vectors[:, :, 4], vectors[:, :, 5] = cos, -sin
    return vectors
