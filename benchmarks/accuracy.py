"""What the benchmarks compare before they time anything: how right a slice is, and how sharp."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import curve_fit
from scipy.special import erf

from tomodask.phantom import Discs, disc_sinogram, foam

FIELD_OF_VIEW = 0.48  # of the columns: RMSE is taken within this radius
GREATEST_RMSE = 0.15  # of the solid's value; a mirrored slice has about 0.5


def half_turn(columns: int) -> np.ndarray:
    """round(1.57 x columns) views, radians: what a slice of that width needs."""
    num_angles = round(1.57 * columns)
    return np.arange(num_angles) * np.pi / num_angles


def foam_slices(columns: int, num_slices: int) -> list[Discs]:
    """Slices of value 1 with about 110 voids each, nine tenths as wide as the field of view."""
    height = columns // 4
    sample = foam(0.45 * columns, height, num_spheres=1000, seed=1, attenuation=1.0)
    heights = np.linspace(0.1, 0.9, num_slices) * height
    return [sample.discs(z) for z in heights]


def truths(discs: list[Discs], columns: int) -> list[np.ndarray]:
    """The slices' averages over each pixel; one of 2048 columns takes ten seconds."""
    return [one.image(columns, columns) for one in discs]


def rmse(volume: np.ndarray, images: list[np.ndarray]) -> float:
    """Against the truths, within the field of view; the solid has value 1."""
    columns = volume.shape[-1]
    y, x = np.mgrid[:columns, :columns] - (columns - 1) / 2
    inside = np.hypot(x, y) < FIELD_OF_VIEW * columns
    errors = [(found - image)[inside] for found, image in zip(volume, images, strict=True)]
    return float(np.sqrt(np.mean(np.square(errors))))


def edge_width(
    reconstruct: Callable[[np.ndarray], np.ndarray], angles: np.ndarray, columns: int
) -> float:
    """Pixels over which the edge of a disc rises from 10 to 90 %, by a fit of an error function."""
    radius, x0, y0 = 0.3 * columns, 0.05 * columns + 0.3, -0.04 * columns + 0.2
    image = reconstruct(disc_sinogram(angles, columns, None, radius, x0, y0)[None])[0]
    y, x = np.mgrid[:columns, :columns] - (columns - 1) / 2
    outward = np.hypot(x - x0, y - y0) - radius
    near = np.abs(outward) < 6

    def edge(distance: np.ndarray, height: float, place: float, sigma: float) -> np.ndarray:
        return np.asarray(height / 2 * (1 - erf((distance - place) / (np.sqrt(2) * sigma))))

    (_, _, sigma), _ = curve_fit(edge, outward[near], image[near], p0=(1.0, 0.0, 0.5))
    return float(2.563 * abs(sigma))  # from the 10 % to the 90 % point of a normal distribution
