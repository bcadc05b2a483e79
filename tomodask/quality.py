"""How good a volume is: against a truth, at edges that are known, or against a second measurement.

Every figure states the range it is relative to: a PSNR without its range means nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.fft import fftfreq, rfftfreq, rfftn
from scipy.ndimage import uniform_filter
from scipy.optimize import curve_fit
from scipy.signal.windows import tukey
from scipy.special import ndtr

from tomodask.errors import InputError

# where a normal distribution reaches 90 %: an edge blurred by sigma rises from 10 % in twice this
NINETY_PERCENT = 1.2815515655446004


def psnr(
    volume: np.ndarray,
    truth: np.ndarray,
    data_range: float | None = None,
    mask: np.ndarray | None = None,
) -> float:
    """Peak signal to noise in dB: 10 log10(data_range^2 / mean squared error).

    data_range : max - min of the truth (inside the mask) unless given: state which was used.
    mask : same shape or broadcast to it, True where the two are compared (the field of view).
    """
    values, expected = _compared(volume, truth, mask)
    error = float(np.mean((values - expected) ** 2))
    peak = _range(expected) if data_range is None else data_range
    return float("inf") if error == 0 else float(10 * np.log10(peak**2 / error))


def nrmse(volume: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Root of the mean squared error over the root mean square of the truth: no range is needed."""
    values, expected = _compared(volume, truth, mask)
    power = float(np.mean(expected**2))
    if power == 0:
        raise InputError("the truth is 0 everywhere that is compared: no relative error exists")
    return float(np.sqrt(np.mean((values - expected) ** 2) / power))


def ssim(
    volume: np.ndarray,
    truth: np.ndarray,
    data_range: float | None = None,
    mask: np.ndarray | None = None,
    window: int = 7,
) -> float:
    """Structural similarity, slice by slice with a flat window, averaged over all slices.

    Wang et al. 2004, doi:10.1109/TIP.2003.819861, with a `window` x `window` mean instead of their
    Gaussian and the sample covariance: what scikit-image computes by default for a slice. Pixels
    whose window leaves the slice are left out; the mask chooses among the windows' middles.

    data_range : max - min of the truth, over all slices, unless given.
    """
    values, expected = _as_pair(volume, truth)
    if values.ndim < 2 or min(values.shape[-2:]) < window:
        raise InputError(
            f"shape {values.shape} is smaller than the {window} x {window} window: give slices "
            "(..., y, x) of at least that size, or a smaller window"
        )
    if mask is None:
        _refuse_missing(values, expected)
    span = _range(expected) if data_range is None else data_range
    size = (1,) * (values.ndim - 2) + (window, window)

    def mean(image: np.ndarray) -> np.ndarray:
        return np.asarray(uniform_filter(image, size))

    sample = window**2 / (window**2 - 1)
    mean_v, mean_e = mean(values), mean(expected)
    variances = sample * (mean(values**2) - mean_v**2 + mean(expected**2) - mean_e**2)
    covariance = sample * (mean(values * expected) - mean_v * mean_e)
    floor_1, floor_2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    likeness = (2 * mean_v * mean_e + floor_1) * (2 * covariance + floor_2)
    likeness /= (mean_v**2 + mean_e**2 + floor_1) * (variances + floor_2)
    inner = np.zeros(values.shape, bool)
    edge = window // 2
    inner[..., edge : values.shape[-2] - edge, edge : values.shape[-1] - edge] = True
    if mask is not None:
        inner &= mask
    _refuse_missing(likeness[inner])
    return float(likeness[inner].mean())


@dataclass(frozen=True)
class EdgeFit:
    """An error function fitted across edges whose place is known.

    width : from 10 % to 90 % of the step, voxels; voxels that average an ideal edge have about 0.8.
    shift : how far outside the true radius the edge lies, voxels.
    inside, outside : the levels on both sides.
    """

    width: float
    shift: float
    inside: float
    outside: float
    num_samples: int


def edge_width(
    volume: np.ndarray, centers: np.ndarray, radii: np.ndarray, reach: float = 4.0
) -> EdgeFit:
    """Sharpness at the edges of discs (y, x) or spheres (z, y, x) of equal contrast.

    centers : (num_edges, ndim) in the order of the axes, in voxels from the middle of the first.
    radii : (num_edges,) voxels.
    reach : samples farther from the edge are left out, voxels; keep it below the walls' width.

    The radial profiles of all edges are pooled and fitted at once, so that their many sub-voxel
    positions sample the edge finely.
    """
    distances, values = _radial_samples(np.asarray(volume), np.asarray(centers), radii, reach)
    if values.size < 20 or not ((distances < 0).any() and (distances > 0).any()):
        raise InputError(
            f"{values.size} voxels lie within {reach:g} of the {len(radii)} edges: at least 20 on "
            "both sides are needed; are the centres in voxels, in the order of the axes?"
        )
    _refuse_missing(values)

    def profile(
        d: np.ndarray, inside: float, outside: float, shift: float, sigma: float
    ) -> np.ndarray:
        return np.asarray(inside + (outside - inside) * ndtr((d - shift) / sigma))

    start = (np.median(values[distances < 0]), np.median(values[distances > 0]), 0.0, reach / 4)
    lowest = (-np.inf, -np.inf, -reach, 1e-3)
    highest = (np.inf, np.inf, reach, 2 * reach)
    scale = float(np.ptp(values)) or 1.0  # attenuation may be 1e-4: the fit is made near 1
    start = (start[0] / scale, start[1] / scale, start[2], start[3])
    fitted, _ = curve_fit(profile, distances, values / scale, start, bounds=(lowest, highest))
    inside, outside, shift, sigma = (float(value) for value in fitted)
    return EdgeFit(
        2 * NINETY_PERCENT * sigma, shift, inside * scale, outside * scale, int(values.size)
    )


@dataclass(frozen=True, eq=False)
class ShellCorrelation:
    """Fourier shell (3-D) or ring (2-D) correlation of two independent measurements.

    frequency : (num_shells,) cycles per unit of the spacing, up to Nyquist.
    correlation : (num_shells,) 1 where the two agree, 0 where they are independent.
    num_independent : (num_shells,) coefficients that are independent of each other: half of the
        shell's (a real image has each twice), less what the window ties together.
    """

    frequency: np.ndarray
    correlation: np.ndarray
    num_independent: np.ndarray

    @property
    def half_bit(self) -> np.ndarray:
        """Half-bit threshold, (num_shells,); van Heel & Schatz 2005, 10.1016/j.jsb.2005.05.009."""
        root = np.sqrt(np.maximum(self.num_independent, 1))
        return np.asarray((0.2071 + 1.9102 / root) / (1.2071 + 0.9102 / root))

    @property
    def full(self) -> np.ndarray:
        """Expected correlation of the whole data with the truth's, squared: 2 F / (1 + F)."""
        positive = np.maximum(self.correlation, 0)
        return np.asarray(2 * positive / (1 + positive))

    def resolution(self, threshold: float | Literal["half-bit"] = 1 / 7) -> float | None:
        """Length, in units of the spacing, where the correlation first falls below the threshold.

        1/7 suits halves of one data set (Rosenthal & Henderson 2003, 10.1016/j.jmb.2003.07.013).
        None where it stays above up to Nyquist. The first two shells hold too few coefficients to
        tell and are passed over.
        """
        limit = (
            self.half_bit if threshold == "half-bit" else np.full_like(self.frequency, threshold)
        )
        margin = self.correlation - limit
        below = np.flatnonzero(margin[2:] < 0)
        if below.size == 0:
            return None
        stop = int(below[0]) + 2
        left, right = margin[stop - 1], margin[stop]
        part = left / (left - right) if left > 0 else 1.0
        step = self.frequency[stop] - self.frequency[stop - 1]
        return float(1 / (self.frequency[stop - 1] + part * step))


def fsc(
    first: np.ndarray, second: np.ndarray, spacing: float = 1.0, taper: float = 0.5
) -> ShellCorrelation:
    """Correlation of two volumes (z, y, x) or slices (y, x) by spatial frequency.

    Harauz & van Heel 1986, Optik 73, 146-156. Both must be independent measurements of the same
    object: two results of one network, or of views with shared flats, correlate by themselves
    and look better resolved than they are.

    spacing : voxel size, in any unit; the same along all axes.
    taper : part of each axis that a Tukey window rounds off, half of it at either end, so that
        the borders don't correlate.
    """
    first, second = _as_pair(first, second)
    _refuse_missing(first, second)
    window = np.ones(())
    for length in first.shape:
        window = window[..., None] * tukey(length, taper)
    spectra = [rfftn((image - image.mean()) * window) for image in (first, second)]
    shell, weight = _shells(first.shape)
    num_shells = max(first.shape) // 2 + 1
    inside = shell < num_shells
    shell, weight = shell[inside], weight[inside]

    def shell_sum(values: np.ndarray) -> np.ndarray:
        return np.bincount(shell, weight * values, minlength=num_shells)

    one, two = spectra[0][inside], spectra[1][inside]
    cross = shell_sum((one * two.conj()).real)
    power = np.sqrt(shell_sum(np.abs(one) ** 2) * shell_sum(np.abs(two) ** 2))
    correlation = np.divide(cross, power, out=np.zeros_like(cross), where=power > 0)
    kept = (window**2).sum() ** 2 / (window.size * (window**4).sum())
    num_independent = shell_sum(np.ones(shell.size)) * kept / 2
    frequency = np.arange(num_shells) / (max(first.shape) * spacing)
    return ShellCorrelation(frequency, correlation, num_independent)


def _shells(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Shell of each coefficient of `rfftn`, and how often it stands in the whole spectrum."""
    squared = np.zeros(())
    for length in shape[:-1]:
        squared = squared[..., None] + fftfreq(length) ** 2
    last = rfftfreq(shape[-1])
    squared = squared[..., None] + last**2
    twice = (last > 0) & (last < 0.5)
    shell = np.rint(np.sqrt(squared) * max(shape)).astype(np.intp)
    return shell, np.broadcast_to(np.where(twice, 2.0, 1.0), shell.shape)


def _radial_samples(
    volume: np.ndarray, centers: np.ndarray, radii: np.ndarray, reach: float
) -> tuple[np.ndarray, np.ndarray]:
    """Distance from the nearest edge, outward, and value of the voxels within reach of one."""
    if centers.shape != (len(radii), volume.ndim):
        raise InputError(
            f"centers must be ({len(radii)}, {volume.ndim}) for {len(radii)} radii and a volume of "
            f"{volume.ndim} axes, got {centers.shape}"
        )
    distances, values = [np.empty(0)], [np.empty(0)]
    for center, radius in zip(centers, radii, strict=True):
        start = np.maximum(np.floor(center - radius - reach), 0).astype(int)
        stop = np.minimum(np.ceil(center + radius + reach) + 1, volume.shape).astype(int)
        if (start >= stop).any():
            continue
        box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        axes = np.ogrid[box]
        squared = sum((axis - middle) ** 2 for axis, middle in zip(axes, center, strict=True))
        from_edge = np.sqrt(squared) - radius
        near = np.abs(from_edge) < min(reach, radius)
        distances.append(from_edge[near])
        values.append(volume[box][near].astype(np.float64))
    return np.concatenate(distances), np.concatenate(values)


def _as_pair(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.shape != second.shape or first.size == 0:
        raise InputError(f"shapes {first.shape} and {second.shape} can't be compared: crop to one")
    return first, second


def _compared(
    volume: np.ndarray, truth: np.ndarray, mask: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """The voxels inside the mask, both 1-D float64."""
    values, expected = _as_pair(volume, truth)
    inside = np.broadcast_to(True if mask is None else np.asarray(mask, bool), values.shape)
    if not inside.any():
        raise InputError(f"the mask leaves none of the {values.size} voxels")
    values, expected = values[inside], expected[inside]
    _refuse_missing(values, expected)
    return values, expected


def _range(truth: np.ndarray) -> float:
    span = float(np.ptp(truth))
    if not span > 0:
        raise InputError(f"the truth has a range of {span:g}: give data_range")
    return span


def _refuse_missing(*images: np.ndarray) -> None:
    for image in images:
        missing = np.count_nonzero(~np.isfinite(image))
        if missing:
            raise InputError(
                f"{missing} of {image.size} voxels are missing (NaN): give a mask of those present"
            )
