"""One foam with few photons: noisy and clean reconstructions, and K splits of the views."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tomodask.geometry import Box, ParallelBeam
from tomodask.phantom import foam
from tomodask.projectors import Projector, make_projector
from tomodask.quality import fsc, psnr, ssim
from tomodask.reconstruct import FBP
from tomodask.reconstruct.splits import reconstruct_splits
from tomodask.splitstore import SplitStore, create_splits
from tomodask.volumestore import VolumeSpec

WIDTH = 0.43  # radius of the cylinder, of the columns
SOLID = 0.7  # attenuation along the radius without voids: half of the beam passes on average
SEED = 1
NUM_SPLITS = 4
SLAB = 8  # rows


@dataclass(frozen=True, eq=False)
class NoisyFoam:
    """Slices (z, y, x) in 1/pixel: `full` of all views, `splits` (K, z, y, x), `clean` FBP.

    sinograms, A : (row, angle, column) noisy, after the half-count logarithm; their projector.
    """

    photons: float
    clean: np.ndarray
    full: np.ndarray
    splits: np.ndarray
    sinograms: np.ndarray
    A: Projector

    @property
    def peak(self) -> float:
        """The range of clean FBP, by which PSNR is told."""
        return float(self.clean.max() - self.clean.min())

    @property
    def disc(self) -> np.ndarray:
        """(y, x) within 0.98 of the field of view."""
        side = self.clean.shape[-1]
        x = np.arange(side) - (side - 1) / 2
        return np.asarray(np.hypot(x, x[:, None]) < 0.98 * side / 2)

    @property
    def radius(self) -> float:
        return self.clean.shape[-1] / 2

    def psnr(self, volume: np.ndarray, rows: slice = slice(None)) -> float:
        """Of some rows against clean FBP, dB."""
        return psnr(volume, self.clean[rows], self.peak, self.disc)

    def score(self, volume: np.ndarray) -> dict[str, float]:
        """PSNR (dB) and SSIM against clean FBP, and where the shell correlation falls to a half."""
        correlation = fsc(volume * self.disc, self.clean * self.disc)
        return {
            "psnr_db": self.psnr(volume),
            "ssim": ssim(volume, self.clean, self.peak, self.disc),
            "fsc_half": _first_below(correlation.frequency, correlation.correlation, 0.5),
        }


def make_foam(columns: int, views: int, rows: int, photons: float, threads: int) -> NoisyFoam:
    """The same for the same numbers, whatever the threads."""
    radius = WIDTH * columns
    sample = foam(radius, rows, round(9 * rows * columns / 256), SEED, attenuation=SOLID / radius)
    angles = np.arange(views) * np.pi / views
    center = (columns - 1) / 2
    integrals = sample.project(angles, rows, columns, center)
    counts = np.random.default_rng(SEED).poisson(photons * np.exp(-integrals))
    noisy = -np.log((counts + 0.5) / photons)
    geometry = ParallelBeam(
        angles=angles, det_rows=rows, det_count=columns, center_of_rotation=center
    )
    A = make_projector(Box((0, 0, 0), (rows, columns, columns)), geometry, threads=threads)
    sinograms, clean = (
        np.ascontiguousarray(np.swapaxes(y, 0, 1), np.float32) for y in (noisy, integrals)
    )
    views_of = [np.arange(k, views, NUM_SPLITS) for k in range(NUM_SPLITS)]
    made = reconstruct_splits(FBP(), sinograms, A, views_of)
    assert made.full is not None
    return NoisyFoam(photons, FBP()(clean, A), made.full, made.splits, sinograms, A)


def store_of(path: Path, splits: np.ndarray, full: np.ndarray) -> SplitStore:
    """Splits as a training finds them; every eighth slab is held out, one at least."""
    rows, *shape = full.shape
    slabs = [(z, min(rows, z + SLAB)) for z in range(0, rows, SLAB)]
    held_out = slabs[len(slabs) // 2 :: 8] if len(slabs) > 1 else []
    store = create_splits(
        path,
        VolumeSpec((rows, *shape), chunk_rows=SLAB, levels=1),
        digest="benchmark",
        weights=[1 / len(splits)] * len(splits),
        training=[slab for slab in slabs if slab not in held_out],
        held_out=held_out,
        attributes={},
    )
    for start, stop in slabs:
        store.write(start, splits[:, start:stop], full[start:stop])
    return store


def _first_below(frequency: np.ndarray, correlation: np.ndarray, level: float) -> float:
    """Cycles a pixel at which a curve first falls below a level, by straight lines."""
    (below,) = np.nonzero(correlation < level)
    if below.size == 0 or below[0] == 0:
        return float(frequency[-1 if below.size == 0 else 0])
    i = below[0]
    return float(np.interp(-level, -correlation[i - 1 : i + 1], frequency[i - 1 : i + 1]))
