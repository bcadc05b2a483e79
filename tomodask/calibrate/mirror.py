"""Where the mirror stands: the correlation that every search for the rotation axis ends in.

A view and the one half a turn later are mirror images: q(u) = p(2c - u), c the centre of rotation.
Whatever lines p and q are made of the views, the product of their Fourier transforms turns with the
frequency w as exp(-2i w c), so one inverse transform shows the correlation for every c at once.
Lines are differences of neighbouring columns: a background, or a drift of the beam, weighs nothing.

Correlations are in units of their spread by chance, "sigmas", so that windows of different widths
can be compared, and methods that see different parts of the scan.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy.fft
from scipy import ndimage

UPSAMPLING = 8  # samples of a correlation per column: a parabola then finds its peak to 0.01
FINEST = 0.003  # columns: what parabola and float32 leave of a peak without noise
REACH = 3  # columns of the lines within which a peak is followed
SMOOTHING = 1.5  # frequencies; more would drown a signal that has only the lowest few
COARSE_COLUMNS = 128  # of the lines that the whole search is done on


@dataclass(frozen=True)
class Window:
    """The columns that are compared, faded out towards the ends of [middle -+ half_width].

    A truncated view must be cut to columns whose mirror images were seen as well, so its window is
    symmetric about the assumed axis and fades slowly; one that ends in plain background needs none.
    """

    columns: int
    middle: float
    half_width: float
    taper: float  # share of the half width that fades

    @classmethod
    def symmetric(cls, columns: int, center: float) -> Window:
        """As wide as fits around `center`, faded throughout (Hann)."""
        return cls(columns, center, min(center + 0.5, columns - 0.5 - center), 1.0)

    @classmethod
    def whole(cls, columns: int) -> Window:
        """All columns; the outermost fade because a transform is periodic."""
        return cls(columns, (columns - 1) / 2, columns / 2, 0.04)

    @property
    def span(self) -> tuple[int, int]:
        """First and last-plus-one column that is not faded to 0."""
        first = int(np.ceil(self.middle - self.half_width))
        last = int(np.floor(self.middle + self.half_width))
        return max(0, first), min(self.columns, last + 1)

    @property
    def leakage(self) -> float:
        """Radians per column by which fading smears a spectrum."""
        return np.pi / self.half_width if self.fades else 0.0

    @property
    def fades(self) -> bool:
        """Whether this is the window for a truncated object."""
        return self.taper == 1.0

    def values(self) -> np.ndarray:
        """Weights of the columns in `span`."""
        start, stop = self.span
        depth = 1 - np.abs(np.arange(start, stop) - self.middle) / self.half_width
        rise = np.clip(depth / self.taper, 0, 1)
        return np.asarray(0.5 - 0.5 * np.cos(np.pi * rise), np.float32)


@dataclass(frozen=True, eq=False)
class Correlation:
    """Correlation of lines with their mirrored partners, as spectra, for any centre.

    spectra : (rows, frequencies) complex, weighted products of the partners' transforms.
    variance : (rows,) variance of the correlation by chance: what unlike lines would show.
    noise : (frequencies,) power in the rows' summed spectra that comes from noise.
    length : columns that the transforms span.
    first : column at which the lines begin.
    """

    spectra: np.ndarray
    variance: np.ndarray
    noise: np.ndarray
    length: int
    first: int

    def curve(self, rows: np.ndarray | slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """Centres, in columns, and the correlation of all `rows` together there, in sigmas."""
        fine = self.length * UPSAMPLING
        correlation = scipy.fft.irfft(self.spectra[rows].sum(axis=0), fine) * (fine / 2)
        spread = np.sqrt(self.variance[rows].sum())
        centers = self.first + np.arange(fine) / (2 * UPSAMPLING)
        return centers, correlation / max(spread, np.finfo(np.float32).tiny)

    def peak(
        self, near: float, reach: float, rows: np.ndarray | slice = slice(None)
    ) -> tuple[float, float]:
        """Centre with the highest correlation within `reach` columns of `near`, and its sigmas."""
        centers, sigmas = self.curve(rows)
        near = float(np.clip(near, centers[0], centers[-1]))  # a narrow window may end before it
        inside = np.flatnonzero(np.abs(centers - near) <= reach)
        best = int(inside[sigmas[inside].argmax()])
        return parabola_peak(centers, sigmas, best), float(sigmas[best])


class MirrorLines(Protocol):
    """Lines and their mirrored partners, made of the views by one method.

    columns : how many the lines have. binning : columns of the views in each.
    """

    rows: int
    columns: int
    binning: int

    def correlate(self, center: float, window: Window) -> Correlation:
        """Correlate inside `window`; `center` is the column that the axis is taken to be at."""
        ...


def bin_columns(views: np.ndarray, binning: int) -> np.ndarray:
    """Means of `binning` neighbouring columns; what is left over at the end is dropped."""
    if binning == 1:
        return views
    whole = views.shape[-1] // binning * binning
    parts = views[..., :whole].reshape(*views.shape[:-1], whole // binning, binning)
    return np.asarray(parts.mean(axis=-1, dtype=np.float32))


def column_steps(views: np.ndarray, binning: int) -> np.ndarray:
    """Differences of neighbouring bins: column k of such lines lies between bins k and k + 1."""
    return np.diff(bin_columns(views, binning), axis=-1)


def unbinned_column(column: float, binning: int) -> float:
    """Column before `bin_columns` at a column, or its fraction, after it."""
    return binning * column + (binning - 1) / 2


def binned_column(column: float, binning: int) -> float:
    """Column after `bin_columns` at a column before it."""
    return (column - (binning - 1) / 2) / binning


def views_column(column: float, binning: int) -> float:
    """Column of the views at a column of their `column_steps`."""
    return unbinned_column(column + 0.5, binning)


def line_column(column: float, binning: int) -> float:
    """Column of the `column_steps` at a column of the views."""
    return binned_column(column, binning) - 0.5


def noise_of_product(signal: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Power that noise brings to the product of two spectra with these powers."""
    return np.asarray(2 * signal * noise + noise**2)


def matched_weights(signal: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Weights for products of spectra whose powers are `signal` and `noise`.

    Where noise rules this is the likelihood's weight for a delay between two noisy copies (Knapp
    and Carter 1976, DOI 10.1109/TASSP.1976.1162830). Where the signal rules all frequencies weigh
    alike: what then differs between the copies is the method's own error, which grows with the
    signal. The largest weight is 1.
    """
    signal, noise = np.asarray(signal, np.float64), np.asarray(noise, np.float64)
    spread = noise_of_product(signal, noise) + 0.1 * signal**2
    floor = max(1e-12 * float(np.max(spread, initial=0)), 1e-100)
    weights = signal / np.maximum(spread, floor)
    return np.asarray(weights / max(float(np.max(weights, initial=0)), 1e-100))


def smooth_frequencies(power: np.ndarray) -> np.ndarray:
    """A power spectrum without its speckle."""
    return np.asarray(ndimage.gaussian_filter1d(power, SMOOTHING, mode="nearest"))


def parabola_peak(x: np.ndarray, y: np.ndarray, best: int) -> float:
    """Where the parabola through the samples around `best` is highest."""
    if not 0 < best < len(y) - 1:
        return float(x[best])
    bend = y[best - 1] - 2 * y[best] + y[best + 1]
    shift = 0.5 * (y[best - 1] - y[best + 1]) / bend if bend < 0 else 0.0
    return float(x[best] + shift * (x[best + 1] - x[best]))


@dataclass(frozen=True, eq=False)
class AxisPeak:
    """What one method found, in columns of the views.

    center : the axis.
    sigmas, rival : height of its peak over chance, and of the next peak (half of its own at least).
    standard_error : of `center`.
    per_row : (rows,) the axis by each row alone, within a few columns of `center`.
    candidates, metric : the correlation over the whole search, in sigmas; high is good.
    """

    center: float
    sigmas: float
    rival: float
    standard_error: float
    per_row: np.ndarray
    candidates: np.ndarray
    metric: np.ndarray


def find_axis(
    make_lines: Callable[[int], MirrorLines],
    columns: int,
    search: tuple[float, float],
    truncated: bool,
) -> AxisPeak:
    """Search all of `search` on binned columns, then refine on all columns.

    make_lines : gives a method's lines of the views, for a binning.
    columns : of the views. search : the first and the last that the axis may have.
    truncated : the object reaches beyond the views, so that windows must be symmetric.
    """
    coarse = make_lines(max(1, round(columns / COARSE_COLUMNS)))
    candidates, metric = _scan(coarse, search, truncated)
    best = int(metric.argmax())
    center, _ = _settle(coarse, float(candidates[best]), search, truncated, rounds=6)
    center, correlation = _settle(make_lines(1), center, search, truncated, rounds=3)
    at, sigmas = correlation.peak(line_column(center, 1), 1)
    rows = range(len(correlation.variance))
    alone = [correlation.peak(at, REACH, np.array([row]))[0] for row in rows]
    return AxisPeak(
        center=views_column(at, 1),
        sigmas=sigmas,
        rival=_rival(metric, best) / max(float(metric[best]), 1e-9) * sigmas,
        standard_error=_standard_error(correlation, at),
        per_row=np.array([views_column(peak, 1) for peak in alone]),
        candidates=candidates,
        metric=metric,
    )


def _window(lines: MirrorLines, center: float, truncated: bool) -> Window:
    return Window.symmetric(lines.columns, center) if truncated else Window.whole(lines.columns)


def _scan(
    lines: MirrorLines, search: tuple[float, float], truncated: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The correlation over the search: each piece of it by the window around that piece."""
    low, high = (line_column(column, lines.binning) for column in search)
    edges = np.linspace(low, high, (48 if truncated else 8) + 1)
    pieces: list[tuple[np.ndarray, np.ndarray]] = []
    for start, stop in itertools.pairwise(edges):
        middle = (start + stop) / 2
        centers, sigmas = lines.correlate(middle, _window(lines, middle, truncated)).curve()
        inside = (centers >= start) & (centers < stop)
        pieces.append((centers[inside], sigmas[inside]))
    centers, sigmas = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
    if not centers.size:  # a search narrower than the samples
        centers, sigmas = np.array([(low + high) / 2]), np.array([0.0])
    return np.array([views_column(at, lines.binning) for at in centers]), sigmas


def _settle(
    lines: MirrorLines, center: float, search: tuple[float, float], truncated: bool, rounds: int
) -> tuple[float, Correlation]:
    """Centre the window on the peak that it shows, until both coincide."""
    low, high = (line_column(column, lines.binning) for column in search)
    at = line_column(center, lines.binning)
    for _ in range(rounds):
        correlation = lines.correlate(at, _window(lines, at, truncated))
        before = at
        at = float(np.clip(correlation.peak(at, REACH)[0], low, high))
        if abs(at - before) < 0.02:
            break
    return views_column(at, lines.binning), correlation


def _rival(metric: np.ndarray, best: int) -> float:
    """Height of the highest peak beyond where the one at `best` has fallen to its half."""
    low = high = best
    half = 0.5 * metric[best]
    while low > 0 and metric[low] > half:
        low -= 1
    while high < len(metric) - 1 and metric[high] > half:
        high += 1
    return float(np.concatenate([metric[:low], metric[high + 1 :]]).max(initial=0.0))


def _standard_error(correlation: Correlation, at: float) -> float:
    """Columns: the larger of what noise does to the peak and of what the rows' scatter tells.

    Noise moves a peak by its slope over the peak's curvature; the jackknife over the rows also sees
    where the method fails, but that of a few rows may be small by luck.
    """
    doubled = 4 * np.pi * np.arange(correlation.noise.size) / correlation.length
    turned = correlation.spectra.sum(axis=0) * np.exp(1j * doubled * (at - correlation.first))
    curvature = float((doubled**2 * turned.real).sum())
    # padding to twice the length counts each independent frequency twice
    slope = float(np.sqrt((doubled**2 * correlation.noise).sum()))
    by_noise = slope / curvature if curvature > 0 else float(correlation.length)
    by_noise = max(by_noise, FINEST)
    rows = len(correlation.variance)
    if rows < 2:
        return by_noise
    others = (np.delete(np.arange(rows), row) for row in range(rows))
    left_out = np.array([correlation.peak(at, REACH, keep)[0] for keep in others])
    return max(by_noise, float(np.sqrt((rows - 1) * left_out.var())))
