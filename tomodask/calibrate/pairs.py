"""The centre of rotation from mirrored pairs: views half a turn apart.

Each pair shows c by itself, so a whole turn of views shows it hundreds of times, and nothing is
assumed of the object or its size: this holds for objects wider than the detector too. In half a
turn only its two ends make a pair, or nearly: where the last view falls short of half a turn by a
step, both ends are extrapolated to the middle of that step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft

from tomodask.calibrate.mirror import (
    Correlation,
    Window,
    column_steps,
    matched_weights,
    noise_of_product,
    smooth_frequencies,
)
from tomodask.calibrate.rows import spread

MAX_PAIRS = 256  # spread over the turn; more cost time and add little


@dataclass(frozen=True, eq=False)
class MirroredViews:
    """Views, and those half a turn later.

    direct, mirrored : (rows, pairs, columns).
    noise : (rows, some views, columns), as strong as the noise of one of them.
    extrapolated : the scan has no real pair, this is a made one.
    """

    direct: np.ndarray
    mirrored: np.ndarray
    noise: np.ndarray
    extrapolated: bool


def mirrored_pairs(sinograms: np.ndarray, angles: np.ndarray) -> MirroredViews | None:
    """Pairs of views half a turn apart, at most 256 of them; None where there are none.

    A partner is a view within a twentieth of an angular step, or is interpolated between the two
    views around the wanted angle.

    sinograms : (rows, views, columns) in a `ViewOrder`. angles : (views,), that it gives.
    """
    if angles.size < 4:
        return None
    step = float(np.median(np.diff(angles)))
    direct, left, share = _find_pairs(angles, step)
    if direct.size:
        keep = spread(direct.size, MAX_PAIRS)
        mirrored = _between(sinograms, left[keep], share[keep])
        return MirroredViews(sinograms[:, direct[keep]], mirrored, _view_noise(sinograms), False)
    shortfall = np.pi - angles[-1]
    if not 0 < shortfall < 1.6 * step:
        return None
    beyond = shortfall / 2 / step
    begin = _extrapolate(sinograms[:, 0], sinograms[:, 1], beyond)
    end = _extrapolate(sinograms[:, -1], sinograms[:, -2], beyond)
    noise = np.float32(np.hypot(1 + beyond, beyond)) * _view_noise(sinograms)
    return MirroredViews(begin[:, None], end[:, None], noise, True)


def _find_pairs(angles: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Views that have a partner; the view before it, and how far on to the next view it lies."""
    direct = np.flatnonzero(angles < np.pi - 0.25 * step)
    wanted = angles[direct] + np.pi
    around = np.append(angles, angles[0] + 2 * np.pi)
    left = np.clip(np.searchsorted(around, wanted, side="right") - 1, 0, angles.size - 1)
    gap = np.maximum(around[left + 1] - around[left], 1e-12)
    share = (wanted - around[left]) / gap
    near = 0.05 * step / gap
    share = np.where(share < near, 0.0, np.where(share > 1 - near, 1.0, share))
    found = (gap < 1.6 * step) | (share == 0) | (share == 1)
    return direct[found], left[found], share[found]


def _between(views: np.ndarray, left: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Views `share` of the way from `left` to the next one around."""
    right = (left + 1) % views.shape[1]
    if np.isin(share, (0, 1)).all():
        return views[:, np.where(share == 0, left, right)]
    part = share[:, None].astype(np.float32)
    between: np.ndarray = (1 - part) * views[:, left] + part * views[:, right]
    return between


def _extrapolate(last: np.ndarray, before: np.ndarray, beyond: float) -> np.ndarray:
    """The view `beyond` steps after the last one, on the line through the last two."""
    view: np.ndarray = np.float32(1 + beyond) * last - np.float32(beyond) * before
    return view


def _view_noise(views: np.ndarray) -> np.ndarray:
    """Second differences of neighbours: noise, and what of the object turns away between views.

    Both make a partner unlike its mirror image, and both are scaled to one view's noise.
    """
    middle = 1 + spread(views.shape[1] - 2, 32)
    bend: np.ndarray = views[:, middle - 1] - 2 * views[:, middle] + views[:, middle + 1]
    return bend / np.float32(np.sqrt(6))


class MirroredPairs:
    """Lines of mirrored pairs: the steps along the columns of each view and of its partner."""

    def __init__(self, views: MirroredViews, binning: int) -> None:
        self._direct = column_steps(views.direct, binning)
        self._mirrored = column_steps(views.mirrored, binning)
        self._noise = column_steps(views.noise, binning)
        self.rows, _, self.columns = self._direct.shape
        self.binning = binning

    def correlate(self, center: float, window: Window) -> Correlation:
        """The sum of the pairs' correlations; nothing of it depends on `center` but the window."""
        start, stop = window.span
        length = scipy.fft.next_fast_len(2 * (stop - start), real=True)

        def transform(steps: np.ndarray) -> np.ndarray:
            return np.asarray(
                scipy.fft.rfft(steps[..., start:stop] * window.values(), length, axis=-1)
            )

        direct, mirrored = transform(self._direct), transform(self._mirrored)
        noise = smooth_frequencies((np.abs(transform(self._noise)) ** 2).mean(axis=(0, 1)))
        power = (np.abs(direct) ** 2 + np.abs(mirrored) ** 2).mean(axis=(0, 1)) / 2
        signal = np.maximum(smooth_frequencies(power - noise), 0)
        weights = matched_weights(signal, noise)
        weights[0] = 0  # frequency 0 holds no place
        product = weights.astype(np.float32) * direct * mirrored
        spectra = -product.sum(axis=1)  # the steps of a mirror image have the opposite sign
        # padding to twice the length counts each independent frequency twice
        variance = (np.abs(product) ** 2).sum(axis=(1, 2), dtype=np.float64)
        if window.fades:
            # under a window that moves, what all views share is one chance, not one for each pair
            pairs = product.shape[1]
            shared = weights * np.abs(direct.mean(axis=1) * mirrored.mean(axis=1))
            variance += pairs * (pairs - 1) * (shared**2).sum(axis=1)
        lines = product.shape[0] * product.shape[1]
        noise_power = lines * weights**2 * noise_of_product(signal, noise)
        return Correlation(spectra, variance, noise_power, length, start)
