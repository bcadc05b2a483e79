"""A foam seen in many views of few photons each: the data of the denoising benchmark, its score."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.optimize import brentq

from tomodask.geometry import Box, ParallelBeam
from tomodask.learn.splits import split_views
from tomodask.phantom import foam
from tomodask.projectors import Projector, make_projector
from tomodask.quality import fsc, psnr, ssim
from tomodask.reconstruct import FBP
from tomodask.reconstruct.splits import SplitSlices, reconstruct_splits

WIDTH = 0.9  # of the columns, the cylinder's
ABSORPTION = 0.5  # of the rays through the cylinder, on average
COMPARED = 0.98  # of the field of view's radius
NUM_SPLITS = 4
SPHERES_A_RADIUS = 2000  # in a cylinder as high as its radius: nearly as many as fit, 45 % pores
SPHERE_RADII = (0.02, 0.2)  # of the cylinder's


@dataclass(frozen=True, eq=False)
class NoisyScan:
    """What a method gets, and what `scores` holds it against.

    y : (row, angle, column) -log of noisy counts. exact : the line integrals behind it.
    solid : the solid's attenuation, 1/pixel; no method but total variation's box is told.
    """

    y: np.ndarray
    exact: np.ndarray
    angles: np.ndarray
    photons: float
    solid: float
    threads: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """(z, y, x) of the volume."""
        rows, _, columns = self.y.shape
        return rows, columns, columns

    @cached_property
    def fourier(self) -> Projector:
        """A for FBP, which is what it has by default."""
        return self._projector("fourier")

    @cached_property
    def joseph(self) -> Projector:
        """A for what iterates: local weights, that are never negative."""
        return self._projector("numba_cpu")

    @cached_property
    def clean(self) -> np.ndarray:
        """(z, y, x) FBP of the exact line integrals: the truth of all scores."""
        return np.asarray(FBP()(self.exact, self.fourier))

    @cached_property
    def splits(self) -> SplitSlices:
        """FBP of every fourth view, four times, and of all: what networks learn from."""
        views = split_views(self.angles, NUM_SPLITS).views
        return reconstruct_splits(FBP(), self.y, self.fourier, views)

    @property
    def full(self) -> np.ndarray:
        """(z, y, x) FBP of all noisy views."""
        assert self.splits.full is not None
        return self.splits.full

    @cached_property
    def mask(self) -> np.ndarray:
        """(y, x) True where volumes are compared."""
        columns = self.y.shape[2]
        y, x = np.mgrid[:columns, :columns] - (columns - 1) / 2
        return np.asarray(np.hypot(y, x) < COMPARED * columns / 2)

    @cached_property
    def data_range(self) -> float:
        """Largest less smallest value of the clean volume where it is compared."""
        return float(np.ptp(self.clean[:, self.mask]))

    def part(self, rows: slice) -> NoisyScan:
        """Some rows alone, to choose parameters on."""
        return replace(self, y=self.y[rows], exact=self.exact[rows])

    def views(self, some: slice) -> NoisyScan:
        """All rows of some views."""
        y, exact = (np.ascontiguousarray(each[:, some]) for each in (self.y, self.exact))
        return replace(self, y=y, exact=exact, angles=self.angles[some])

    def psnr(self, volume: np.ndarray) -> float:
        """dB, relative to the clean volume's range."""
        return psnr(volume, self.clean, self.data_range, self.mask)

    def scores(self, volume: np.ndarray) -> dict[str, Any]:
        """PSNR, SSIM, and the Fourier shell correlation with the clean volume."""
        shells = fsc(np.where(self.mask, volume, 0), np.where(self.mask, self.clean, 0))
        shown = np.linspace(0, 0.5, 21)[1:]
        return {
            "psnr_db": self.psnr(volume),
            "ssim": ssim(volume, self.clean, self.data_range, self.mask),
            "resolution_voxels": shells.resolution(0.5),
            "fsc": np.interp(shown, shells.frequency, shells.correlation).round(4).tolist(),
        }

    def _projector(self, backend: str) -> Projector:
        rows, _, columns = self.y.shape
        geometry = ParallelBeam(self.angles, rows, columns, center_of_rotation=(columns - 1) / 2)
        return make_projector(Box((0, 0, 0), self.shape), geometry, backend, threads=self.threads)


def make_scan(
    columns: int, rows: int, views: int, photons: float, seed: int, threads: int
) -> NoisyScan:
    """Counts by Poisson's law, and -log((counts + 1/2) / photons), as `Flatfield` has it."""
    radius = WIDTH / 2 * columns
    spheres = round(SPHERES_A_RADIUS * rows / radius)
    sample = foam(
        radius, rows, spheres, seed, attenuation=1 / radius,
        sphere_radii=(SPHERE_RADII[0] * radius, SPHERE_RADII[1] * radius), wall=radius / 200,
    )  # fmt: skip
    angles = np.arange(views) * np.pi / views
    exact = sample.project(angles, rows, columns).swapaxes(0, 1)  # -> (row, angle, column)
    factor = _for_absorption(exact)
    exact = np.ascontiguousarray(factor * exact, np.float32)
    counts = np.random.default_rng(seed).poisson(photons * np.exp(-exact))
    y = -np.log((counts + 0.5) / photons).astype(np.float32)
    return NoisyScan(y, exact, angles, photons, factor * sample.attenuation, threads)


def _for_absorption(exact: np.ndarray) -> float:
    """What to multiply the attenuation by, for a ray to lose half of its photons on average."""
    rays = exact[exact > 1e-6].astype(np.float64)
    found: float = brentq(lambda factor: 1 - np.exp(-factor * rays).mean() - ABSORPTION, 0.01, 100)
    return found
