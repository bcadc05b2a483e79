"""Slices seen by a detector that is not aligned: resampling . A.

Roll of the detector, shifts in both directions, other pixels than voxels and a lens leave the rays
within their slices. So a projector of slices does the work, and one resampling the rest.
"""

from __future__ import annotations

import numpy as np

from tomodask.geometry import Box, ProjectionGeometry, VolumeGeometry
from tomodask.geometry.distortion import Distortion
from tomodask.geometry.slices import AlignedBeam
from tomodask.projectors import make_projector
from tomodask.projectors.resampling import Resampling


class AlignedPair:
    """Projection of a volume onto a detector that is not aligned, and its adjoint.

    A : the projector onto the aligned detector. `rectify` turns measured projections into those
        that it would give, so that `FBP()(pair.rectify(y), pair.A)` is the volume, per length of
        the world.
    resampling : from the aligned detector to the real one.
    """

    def __init__(
        self,
        volume: VolumeGeometry,
        projections: ProjectionGeometry,
        views: AlignedBeam,
        backend: str = "fourier",
        threads: int = 1,
        distortion: Distortion | None = None,
    ) -> None:
        box = Box((0, 0, 0), volume.shape)
        self.A = make_projector(box, views.beam, backend, threads)
        aligned_shape = views.beam.det_rows, views.beam.det_count
        self.resampling = Resampling(
            views.maps, distortion, projections.det_shape, aligned_shape, threads
        )

    def forward(self, volume: np.ndarray) -> np.ndarray:
        """(z, y, x) -> (row, angle, column)."""
        return self.resampling.forward(self.A(volume))

    def adjoint(self, projections: np.ndarray) -> np.ndarray:
        """(row, angle, column) -> (z, y, x)."""
        return self.A.T(self.resampling.adjoint(projections))

    def rectify(self, projections: np.ndarray) -> np.ndarray:
        """What the aligned detector would have seen, (row, angle, column) of `A`."""
        return self.resampling.rectify(projections)
