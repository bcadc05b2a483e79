"""Which rows show something, and what is taken out of them before the axis is looked for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from tomodask.calibrate.mirror import bin_columns, column_steps

COLUMN_BLOCKS = 64  # of the coarse look at a row: an object nearer to the edge than two is cut off
VIEW_BLOCKS = 48
MAX_COLUMNS = 400  # binned to about as many: a peak's place is found to a hundredth of a column


@dataclass(frozen=True, eq=False)
class ViewOrder:
    """The views in order around the circle, those at the same angle made one.

    order : (num_angles,) of the views as they were given.
    starts : (views,) where each group at the same angle begins in `order`.
    angles : (views,) radians from the first view, in [0, 2 pi), increasing.
    """

    order: np.ndarray
    starts: np.ndarray
    angles: np.ndarray

    @classmethod
    def around(cls, angles: np.ndarray) -> ViewOrder:
        """The first view is the one after the widest gap, so that half a turn stays in one piece.

        Angles that differ by whole turns are the same; so are those nearer than a tenth of the
        larger gaps, as in scans that go over the same angles again.
        """
        turn = 2 * np.pi
        turned = np.mod(angles, turn)
        turned[turn - turned < 1e-6] = 0  # a whole turn, rounded
        order = np.argsort(turned, kind="stable")
        gaps = np.diff(turned[order], append=turned[order[0]] + turn)
        within = np.sort(gaps)[:-1]
        within = within[within > 1e-6]
        typical = float(np.quantile(within, 0.9, method="lower")) if within.size else turn
        distinct = gaps > 0.1 * typical
        # evenly all around, no gap stands out: the smallest angle is the first
        widest = int(gaps.argmax()) if gaps.max() > 1.5 * typical else np.flatnonzero(distinct)[-1]
        order = np.roll(order, -(widest + 1))
        starts = np.flatnonzero(np.roll(distinct, -widest))
        from_first = np.mod(turned[order] - turned[order[0]] + 1e-12, turn)
        counts = np.diff(starts, append=order.size)
        return cls(order, starts, np.add.reduceat(from_first, starts) / counts)

    def take(self, sinogram: np.ndarray) -> np.ndarray:
        """(num_angles, columns) -> (views, columns) float32."""
        views = np.asarray(sinogram[self.order], np.float32)
        if self.starts.size == self.order.size:
            return views
        counts = np.diff(self.starts, append=self.order.size)
        mean: np.ndarray = np.add.reduceat(views, self.starts, axis=0) / counts[:, None]
        return mean.astype(np.float32)


@dataclass(frozen=True, eq=False)
class SignalRows:
    """Rows that hold a signal: cleaned, binned, their views in order around the circle.

    rows : (used,) their indices.
    sinograms : (used, views, columns // binning) float32, each row in units of its own noise.
    binning : detector columns in one of theirs.
    truncated : the object reaches beyond the detector's edge in some view.
    """

    rows: np.ndarray
    sinograms: np.ndarray
    binning: int
    truncated: bool


def signal_rows(sinograms: np.ndarray, views: ViewOrder, max_rows: int) -> SignalRows:
    """At most `max_rows` rows, evenly spread over those that have a signal; none may be left.

    sinograms : (rows, num_angles, columns).
    """
    binning = max(1, round(sinograms.shape[-1] / MAX_COLUMNS))
    usable = np.flatnonzero([_holds_values(sinogram) for sinogram in sinograms])
    usable = usable[spread(usable.size, 2 * max_rows)]
    cleaned = [bin_columns(_clean(views.take(sinograms[row])), binning) for row in usable]
    looks = [_structure(row) for row in cleaned]
    signal = np.array([structure.mean() for structure, _ in looks])
    chance = np.array([np.sqrt((noise**2).mean() / noise.size) for _, noise in looks])
    usual = float(np.quantile(signal, 0.9)) if signal.size else 0.0
    strong = np.flatnonzero(signal + 3 * chance > 0.02 * max(usual, 0.0))
    strong = strong[spread(strong.size, max_rows)]
    if not strong.size:
        return SignalRows(strong, np.empty((0, views.angles.size, 0), np.float32), binning, False)
    kept = np.stack([cleaned[row] for row in strong])
    truncated = _is_truncated([looks[row] for row in strong])
    return SignalRows(usable[strong], kept, binning, truncated)


def spread(count: int, most: int) -> np.ndarray:
    """Indices of at most `most` of `count` things, evenly spread."""
    if count == 0:
        return np.empty(0, np.intp)
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.intp))


def _holds_values(sinogram: np.ndarray) -> bool:
    finite = np.isfinite(sinogram)
    return bool(finite.mean() > 0.9) and float(np.ptp(sinogram[finite])) > 0


def _clean(sinogram: np.ndarray) -> np.ndarray:
    """Without missing values, spikes and stripes, and divided by the noise of its column steps."""
    row = _filled(sinogram)
    # stripes first, or a dead column would pass for spikes, by the median, which spikes don't move;
    # then by the mean, which is less noisy
    some = row[:: max(1, len(row) // 64)]
    row = _without_spikes(row - _stripes(np.median(some, axis=0)))
    row -= _stripes(row.mean(axis=0))
    steps = np.diff(row, axis=-1)
    bend = _view_bend(steps)
    noise = max(float(np.sqrt((bend**2).mean())), 1e-3 * float(steps.std()), 1e-12)
    return row / np.float32(noise)


def _view_bend(views: np.ndarray) -> np.ndarray:
    """Second differences between neighbouring views, as strong as the noise of one view."""
    if len(views) < 3:
        return np.zeros_like(views)
    bend: np.ndarray = (views[:-2] - 2 * views[1:-1] + views[2:]) / np.float32(np.sqrt(6))
    return bend


def _filled(sinogram: np.ndarray) -> np.ndarray:
    """Missing values as the mean of their column."""
    missing = ~np.isfinite(sinogram)
    if not missing.any():
        return sinogram
    known = np.maximum((~missing).sum(axis=0), 1)
    sinogram = np.where(missing, 0, sinogram)
    return np.where(missing, sinogram.sum(axis=0) / known, sinogram).astype(np.float32)


def _stripes(profile: np.ndarray) -> np.ndarray:
    """What a ring is made of stands still while the object turns, and is its own mirror image."""
    return np.asarray(profile - ndimage.median_filter(profile, 11, mode="nearest"))


def _without_spikes(sinogram: np.ndarray) -> np.ndarray:
    """Zingers and dead pixels, one or two columns wide, cut down to the level beside them.

    A spike stands out of the columns two to its left and right by a quarter of the row's range.
    """
    low, high = np.percentile(sinogram[:: max(1, len(sinogram) // 64)], [1, 99])
    beyond = np.float32(max(0.25 * (high - low), 1e-6))
    left, right = sinogram[:, :-4], sinogram[:, 4:]
    result = sinogram.copy()
    np.clip(
        sinogram[:, 2:-2],
        np.minimum(left, right) - beyond,
        np.maximum(left, right) + beyond,
        out=result[:, 2:-2],
    )
    return result


def _structure(sinogram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean square of the coarse column steps, less their noise, and how far chance moves that.

    Both (about COLUMN_BLOCKS,): the first and last tell whether the object reaches the edges.
    """
    steps = column_steps(sinogram, max(1, sinogram.shape[-1] // COLUMN_BLOCKS))
    together = max(1, len(steps) // VIEW_BLOCKS)
    noise = (_view_bend(steps) ** 2).sum(axis=0) / max(1, len(steps) - 2) / together
    coarse = bin_columns(steps.T, together).T
    return (coarse**2).mean(axis=0) - noise, noise * np.sqrt(2 / len(coarse))


def _is_truncated(looks: list[tuple[np.ndarray, np.ndarray]]) -> bool:
    structure = np.mean([structure for structure, _ in looks], axis=0)
    chance = np.sqrt(np.mean([chance**2 for _, chance in looks], axis=0) / len(looks))
    reaches = (structure > 0.02 * structure.mean()) & (structure > 4 * chance)
    return bool(reaches[0] or reaches[-1])
