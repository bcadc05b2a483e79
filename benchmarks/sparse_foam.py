"""Foams seen in few views with few photons: the data of the quality benchmark, and its score."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from accuracy import FIELD_OF_VIEW

from tomodask.geometry import Box, ParallelBeam
from tomodask.phantom import Foam, foam
from tomodask.projectors import Projector, make_projector

VIEWS = 64
PHOTONS = 1000.0  # in each pixel of the open beam
WIDTH = 0.9  # of the columns, the cylinder's
PEAK = 3.0  # attenuation of the solid along the diameter; of the foam about 2, the best for noise


@dataclass(frozen=True)
class Recipe:
    """Which foam: radii in parts of the cylinder's, as many spheres as nearly fill it."""

    seed: int
    sphere_radii: tuple[float, float]
    num_spheres: int

    def make(self, columns: int) -> Foam:
        """The same foam at any number of columns, but for the trial points' luck."""
        radius = WIDTH / 2 * columns
        smallest, largest = self.sphere_radii
        return foam(
            radius, columns // 2, self.num_spheres, self.seed, attenuation=PEAK / 2 / radius,
            sphere_radii=(smallest * radius, largest * radius), wall=radius / 200,
        )  # fmt: skip


TUNED_ON = Recipe(seed=2, sphere_radii=(0.05, 0.25), num_spheres=380)
TESTED_ON = Recipe(seed=1, sphere_radii=(0.06, 0.3), num_spheres=240)


@dataclass(frozen=True, eq=False)
class Case:
    """What a method gets: y (row, angle, column), -log of noisy counts, and the views.

    solid : the solid's attenuation, which whoever scans a foam of a known material knows.
    truth : (z, y, x), which only `psnr` and `rmse` look at.
    """

    y: np.ndarray
    angles: np.ndarray
    truth: np.ndarray
    solid: float
    threads: int

    @property
    def geometry(self) -> ParallelBeam:
        """Of all the views; the axis is in the detector's middle."""
        rows, _, columns = self.y.shape
        return ParallelBeam(self.angles, rows, columns, center_of_rotation=(columns - 1) / 2)

    @cached_property
    def fourier(self) -> Projector:
        """A for FBP, which is what it has by default."""
        return self._projector("fourier")

    @cached_property
    def joseph(self) -> Projector:
        """A for what iterates: local weights, that are never negative."""
        return self._projector("numba_cpu")

    def rmse(self, volume: np.ndarray) -> float:
        """In parts of the solid's attenuation, within the field of view."""
        columns = self.truth.shape[-1]
        y, x = np.mgrid[:columns, :columns] - (columns - 1) / 2
        error = (volume - self.truth)[:, np.hypot(y, x) < FIELD_OF_VIEW * columns]
        return float(np.sqrt(np.mean(error.astype(np.float64) ** 2))) / self.solid

    def psnr(self, volume: np.ndarray) -> float:
        """dB, relative to the solid's attenuation."""
        return float(-20 * np.log10(self.rmse(volume)))

    def _projector(self, backend: str) -> Projector:
        box = Box((0, 0, 0), self.truth.shape)
        return make_projector(box, self.geometry, backend, threads=self.threads)


def make_case(recipe: Recipe, columns: int, rows: int, threads: int) -> Case:
    """Counts by Poisson's law, and -log((counts + 1/2) / photons), as `Flatfield` has it."""
    sample = recipe.make(columns)
    first_row = (sample.height - rows) // 2
    angles = np.arange(VIEWS) * np.pi / VIEWS
    exact = sample.project(angles, rows, columns, first_row=first_row)
    counts = np.random.default_rng(recipe.seed).poisson(PHOTONS * np.exp(-exact))
    y = -np.log((counts + 0.5) / PHOTONS).astype(np.float32)
    truth = sample.volume(rows, columns, columns, first_row=first_row)
    y = np.ascontiguousarray(y.swapaxes(0, 1))  # (angle, row, column) -> (row, angle, column)
    return Case(y, angles, truth, sample.attenuation, threads)
