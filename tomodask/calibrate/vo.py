"""The centre of rotation from the double wedge in the Fourier transform of a sinogram.

Vo, Drakopoulos, Atwood and Reinhard, "Reliable method for calculating the center of rotation in
parallel-beam tomography", Opt. Express 22, 19078 (2014), DOI 10.1364/OE.22.019078: half a turn of
views, followed by the same views mirrored about c, is a whole turn. Its two-dimensional transform
lies within a double wedge, |order| <= radius x |frequency|, only if c is the centre of rotation;
a wrong one shows outside.

Where we differ from the paper: what lies outside is measured by its energy, not by its mean
magnitude. That energy is the one of both halves, which c doesn't change, and twice their product,
which turns with c by one phase for each frequency: all candidates come out of one inverse
transform, at any fraction of a column, and no gap beside a shifted half has to be filled. Orders
and frequencies are weighted by signal over noise.
"""

from __future__ import annotations

import numpy as np
import scipy.fft

from tomodask.calibrate.mirror import (
    Correlation,
    Window,
    column_steps,
    matched_weights,
    smooth_frequencies,
)
from tomodask.calibrate.rows import spread

MARGIN = (
    2  # orders beside the wedge that are left out, into which the ends of the half turn smear it
)
OVERHANG = 1.5  # radius taken for an object that reaches beyond the detector, over the radius seen
ROWS_FOR_WEIGHTS = 8


def half_turn(sinograms: np.ndarray, angles: np.ndarray) -> np.ndarray | None:
    """The views of the first half turn at even angles, or None where they don't cover one.

    Views are interpolated only where the angles are uneven by more than a quarter of their step.

    Parameters
    ----------
    sinograms : (rows, views, columns) in a `ViewOrder`. angles : (views,), that it gives.

    Returns
    -------
    (rows, count, columns), at k pi / count after the first view, k = 0 .. count - 1.
    """
    step = float(np.median(np.diff(angles))) if angles.size > 1 else 0.0
    angles = angles[angles < np.pi - 0.25 * step]  # a view at half a turn repeats the first
    if angles.size < 4 or step <= 0:
        return None
    if np.pi - angles[-1] > 2.5 * step or np.diff(angles).max() > 8 * step:
        return None
    count = round(np.pi / step)
    even = np.arange(count) * (np.pi / count)
    if angles.size == count and np.abs(angles - even).max() <= 0.25 * step:
        return sinograms[:, :count]
    return _interpolate_views(sinograms[:, : angles.size], angles, even)


def _interpolate_views(views: np.ndarray, angles: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Views at `wanted` angles, linear between their neighbours; the last one is repeated."""
    right = np.clip(np.searchsorted(angles, wanted, side="right"), 1, len(angles) - 1)
    gap = np.maximum(angles[right] - angles[right - 1], 1e-12)
    share = np.clip((wanted - angles[right - 1]) / gap, 0, 1)[:, None].astype(np.float32)
    between: np.ndarray = (1 - share) * views[:, right - 1] + share * views[:, right]
    return between


class DoubleWedge:
    """Angular orders of half a turn: order n is (-1)^n times the mirror image of order -n."""

    def __init__(self, views: np.ndarray, binning: int) -> None:
        """views : (rows, views, columns) of a half turn at even angles."""
        steps = column_steps(views, binning)
        self.rows, num_views, self.columns = steps.shape
        self.binning = binning
        # what the wedge's edge leaves outside falls as 1/n^2: orders far beyond add noise alone
        top = min(num_views, 3 * self.columns + 16)
        quiet = np.unique(np.linspace(0.75 * num_views, num_views, 24).astype(int))
        self._n = np.arange(1, top + 1)
        self._orders = np.empty((self.rows, top, self.columns), np.complex64)
        self._noise_orders = np.empty((self.rows, quiet.size, self.columns), np.complex64)
        for row in range(self.rows):
            orders = scipy.fft.rfft(steps[row], 2 * num_views, axis=0)
            self._orders[row] = orders[1 : top + 1]
            self._noise_orders[row] = orders[quiet]

    def correlate(self, center: float, window: Window) -> Correlation:
        """The part of the energy outside the wedge that depends on the centre, its sign changed."""
        start, stop = window.span
        length = scipy.fft.next_fast_len(2 * (stop - start), real=True)
        weights, noise = self._weights(center, window, length)
        signed = weights * np.where(self._n % 2, -1, 1)[:, None].astype(np.float32)
        spectra = np.empty((self.rows, weights.shape[1]), np.complex64)
        variance = np.empty(self.rows)
        for row in range(self.rows):
            plus, minus = _transform(self._orders[row], window, length)
            product = signed * plus * minus.conj()
            spectra[row] = product.sum(axis=0)
            # padding to twice the length counts each independent frequency twice
            variance[row] = (np.abs(product) ** 2).sum()
        return Correlation(spectra, variance, self.rows * noise, length, start)

    def _weights(self, center: float, window: Window, length: int) -> tuple[np.ndarray, np.ndarray]:
        """(orders, frequencies) weights, and (frequencies,) noise power of a row's weighted sum.

        Weights are 0 inside the wedge, and outside by signal over noise. The signal there is due to
        the half turn's two ends, strength(frequency) / n^2, its strength fitted by least squares;
        the noise is read where n is highest.
        """
        frequency = 2 * np.pi * np.arange(length // 2 + 1) / length
        n = self._n[:, None]
        radius = max(center, self.columns - 1 - center) * (OVERHANG if window.fades else 1)
        outside = n > radius * (frequency + 0.5 * window.leakage) + MARGIN
        outside[:, 0] = False  # frequency 0 holds no place
        decay = np.where(outside, 1.0 / n**2, 0.0)
        noise = smooth_frequencies(self._power(self._noise_orders, window, length).mean(axis=0))
        noise = np.maximum(noise, 1e-12 * noise.max(initial=1e-30))
        excess = self._power(self._orders, window, length) - noise
        fitted = smooth_frequencies((excess * decay).sum(axis=0) / noise**2)
        certainty = smooth_frequencies((decay**2).sum(axis=0) / noise**2)
        certainty = np.maximum(certainty, 1e-30)
        # where the fit drowns in noise, a part of its own spread
        strength = np.maximum(fitted / certainty, 0.3 / np.sqrt(10 * self.rows * certainty))
        signal = strength * decay
        weights = matched_weights(signal, noise)
        # half a turn of noise nearly cancels in products of alternating sign
        noise_power = (weights**2 * (2 * signal * noise + 0.1 * noise**2)).sum(axis=0)
        return weights.astype(np.float32), noise_power

    def _power(self, orders: np.ndarray, window: Window, length: int) -> np.ndarray:
        """(orders, frequencies) mean power, over frequencies of both signs and some rows."""
        rows = spread(self.rows, ROWS_FOR_WEIGHTS)
        power = np.zeros((orders.shape[1], length // 2 + 1))
        for row in rows:
            plus, minus = _transform(orders[row], window, length)
            power += (np.abs(plus) ** 2 + np.abs(minus) ** 2) / (2 * len(rows))
        return power


def _transform(orders: np.ndarray, window: Window, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Transforms along the columns at frequencies +k and -k, k = 0 .. length // 2."""
    start, stop = window.span
    spectrum = scipy.fft.fft(orders[..., start:stop] * window.values(), length, axis=-1)
    k = np.arange(length // 2 + 1)
    return spectrum[..., k], spectrum[..., -k]
