"""Scans whose centre of rotation is known: foams, exact but for the photons that are counted."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from tomodask.geometry import ParallelBeam
from tomodask.phantom import Discs


@dataclass(frozen=True)
class KnownScan:
    sinograms: np.ndarray  # (rows, angles, columns) attenuation
    geometry: ParallelBeam
    center: float


def foam(rng: np.random.Generator, radius: float, attenuation: float, num_holes: int) -> Discs:
    """A disc of `radius` with holes, its middle ray attenuated by about `attenuation`."""
    size = radius * np.exp(rng.uniform(np.log(0.03), np.log(0.2), num_holes))
    distance = (radius - size) * np.sqrt(rng.uniform(size=num_holes))
    bearing = rng.uniform(0, 2 * np.pi, num_holes)
    value = attenuation / (2 * radius)
    return Discs(
        np.append(0.0, distance * np.cos(bearing)),
        np.append(0.0, distance * np.sin(bearing)),
        np.append(radius, size),
        np.append(value, -value * rng.uniform(0.5, 1, num_holes)),
    )


def make_scan(
    center: float,
    *,
    columns: int = 160,
    views: int = 150,
    degrees: float = 180.0,
    last_view: bool = False,
    rows: int = 4,
    radius: float = 58.0,
    photons: float = 1000.0,
    seed: int = 0,
) -> KnownScan:
    """A foam in each row. `last_view` adds the view at `degrees`, `photons` may be infinite."""
    rng = np.random.default_rng(seed)
    angles = np.deg2rad(degrees) * np.arange(views + last_view) / views
    sinograms = np.stack(
        [foam(rng, radius, 2.0, 12).sinogram(angles, columns, center) for _ in range(rows)]
    )
    if np.isfinite(photons):
        counts = rng.poisson(photons * np.exp(-sinograms.astype(np.float64)))
        sinograms = -np.log((counts + 0.5) / photons).astype(np.float32)
    return KnownScan(sinograms, ParallelBeam(angles, rows, columns), center)


@pytest.fixture(name="make_scan", scope="session")
def _make_scan() -> Callable[..., KnownScan]:
    return make_scan
