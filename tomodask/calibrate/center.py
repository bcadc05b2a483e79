"""The centre of rotation, found without a reconstruction, and how far it can be trusted.

Two methods that fail differently look at the same rows: `vo` at what a wrong centre leaves outside
the double wedge of half a turn, `pairs` at single views half a turn apart. The estimate is
confident where both stand clear of chance and agree; the residual of a fit can't tell that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from tomodask.calibrate.mirror import (
    AxisPeak,
    MirrorLines,
    binned_column,
    find_axis,
    unbinned_column,
)
from tomodask.calibrate.pairs import MirroredPairs, mirrored_pairs
from tomodask.calibrate.rows import SignalRows, ViewOrder, signal_rows
from tomodask.calibrate.verdict import Finding, judge
from tomodask.calibrate.vo import DoubleWedge, half_turn
from tomodask.errors import AnglesError, InputError
from tomodask.geometry import ParallelBeam

Method = Literal["auto", "vo", "pairs"]

MAX_ROWS = 32
MANY_PAIRS = 8
ADVICE = (
    "Look at slices with centres around it, then set the centre by hand or narrow the search; or "
    "give more rows that cross the object"
)


@dataclass(frozen=True, eq=False)
class CenterEstimate:
    """Where the rotation axis is, and why to believe it.

    center : detector column, 0 the middle of the first pixel.
    uncertainty : columns, from the scatter of the rows and from how far the methods are apart.
    method : "vo", "pairs", "vo and pairs", or "none" where nothing could be told.
    rows : (used,) which of the given rows were used.
    per_row : (used,) the centre by each of them alone, within a few columns of the best method's.
    candidates, metric : columns searched, and the correlation there in sigmas over chance; high is
        good. Those of the best method.
    confident : whether to go on without looking.
    message : why; or what is wrong, and what to do.
    methods : the centre by each method that the angles allow.
    """

    center: float
    uncertainty: float
    method: str
    rows: np.ndarray
    per_row: np.ndarray
    candidates: np.ndarray
    metric: np.ndarray
    confident: bool
    message: str
    methods: Mapping[str, float]

    def shifted(self, columns: float) -> CenterEstimate:
        """The same estimate counted from another column: of the detector that a crop lay on."""
        return replace(
            self,
            center=self.center + columns,
            per_row=self.per_row + columns,
            candidates=self.candidates + columns,
            methods={name: value + columns for name, value in self.methods.items()},
        )

    def as_dict(self) -> dict[str, object]:
        """What is kept with a volume and printed as JSON; the search curve is left out."""
        return {
            "center": round(self.center, 4),
            "uncertainty": round(self.uncertainty, 4),
            "method": self.method,
            "confident": self.confident,
            "message": self.message,
            "rows": int(self.rows.size),
            "methods": {name: round(value, 4) for name, value in self.methods.items()},
        }


def find_center(
    sinograms: np.ndarray,
    geometry: ParallelBeam,
    *,
    search: tuple[float, float] | None = None,
    method: Method = "auto",
) -> CenterEstimate:
    """Find the column of the rotation axis from a few rows spread over the detector.

    Parameters
    ----------
    sinograms : (rows, num_angles, columns) attenuation, after -log. Rows that hold nothing are
        passed over; of more than 32 good ones, 32 evenly spread are used.
    geometry : its angles are those of the sinograms, in any order and range; its rows don't matter.
    search : first and last detector column that the axis may have; unless given, all but a tenth of
        the columns at each edge, or a twentieth where the views go all around.
    method : "auto" weighs all methods that the angles allow; a name takes that one alone.

    Raises
    ------
    AnglesError : there are not as many angles as views.
    InputError : the array, the search or the method can't be used.
    """
    _check_input(sinograms, geometry, method)
    columns = sinograms.shape[-1]
    views = ViewOrder.around(geometry.angles)
    span = _search_span(columns, views.angles, search)
    signal = signal_rows(sinograms, views, MAX_ROWS)
    if not signal.rows.size:
        return _nothing(
            columns,
            f"none of the {len(sinograms)} rows holds a signal: give rows that cross the object, "
            "or set the centre by hand",
        )
    found = _find_axes(signal, views.angles, span, method)
    if not found:
        return _nothing(
            columns,
            f"{views.angles.size} views over {_degrees(views.angles):.1f} degrees don't make half "
            "a turn, so the axis can't be told: set the centre by hand",
        )
    verdict = judge(found, span)
    shown = found[verdict.best].peak
    used = f"{signal.rows.size} of {len(sinograms)} rows used"
    return CenterEstimate(
        center=verdict.center,
        uncertainty=verdict.uncertainty,
        method=verdict.method,
        rows=signal.rows,
        per_row=shown.per_row,
        candidates=shown.candidates,
        metric=shown.metric,
        confident=verdict.confident,
        message=f"{verdict.reason}; {used}" + ("" if verdict.confident else f". {ADVICE}"),
        methods={name: finding.peak.center for name, finding in found.items()},
    )


def _check_input(sinograms: np.ndarray, geometry: ParallelBeam, method: str) -> None:
    if sinograms.ndim != 3 or sinograms.shape[-1] < 8:
        raise InputError(
            f"sinograms of shape {sinograms.shape}: (row, angle, column) needed, 8 columns or more"
        )
    if sinograms.shape[1] != geometry.num_angles:
        raise AnglesError(
            f"{geometry.num_angles} angles for {sinograms.shape[1]} views: sinograms are "
            "(row, angle, column), with one angle for each view"
        )
    if method not in ("auto", "vo", "pairs"):
        raise InputError(f"method {method!r} is unknown: take 'auto', 'vo' or 'pairs'")


def _search_span(
    columns: int, angles: np.ndarray, search: tuple[float, float] | None
) -> tuple[float, float]:
    last = columns - 1
    if search is None:
        edge = (0.05 if _degrees(angles) > 270 else 0.1) * last
        return edge, last - edge
    low, high = float(search[0]), float(search[1])
    if not 0 <= low < high <= last:
        raise InputError(
            f"search from column {low:g} to {high:g}: give 0 <= first < last <= {last}"
        )
    # a window needs a few columns on both sides of the axis
    return min(max(low, 0.02 * last), 0.96 * last), max(min(high, 0.98 * last), 0.04 * last)


def _degrees(angles: np.ndarray) -> float:
    return float(np.degrees(angles[-1] - angles[0]))


def _nothing(columns: int, reason: str) -> CenterEstimate:
    """The detector's middle, for want of anything better."""
    empty = np.empty(0)
    return CenterEstimate(
        center=(columns - 1) / 2,
        uncertainty=columns / float(np.sqrt(12)),
        method="none",
        rows=np.empty(0, np.intp),
        per_row=empty,
        candidates=empty,
        metric=empty,
        confident=False,
        message=reason,
        methods={},
    )


def _find_axes(
    signal: SignalRows, angles: np.ndarray, search: tuple[float, float], method: Method
) -> dict[str, Finding]:
    """What each method that was asked for, and that the angles allow, finds."""
    sinograms, truncated = signal.sinograms, signal.truncated
    low, high = (binned_column(column, signal.binning) for column in search)

    def find(make_lines: Callable[[int], MirrorLines], doubt: float = 1.0) -> AxisPeak:
        peak = find_axis(make_lines, sinograms.shape[-1], (low, high), truncated)
        return _on_detector(peak, signal.binning, doubt)

    found = {}
    half = half_turn(sinograms, angles) if method in ("auto", "vo") else None
    pairs = mirrored_pairs(sinograms, angles) if method in ("auto", "pairs") else None
    many = pairs is not None and pairs.direct.shape[1] >= MANY_PAIRS
    if half is not None:
        weakness = "as the object reaches beyond the detector" if truncated else None
        weakness = "as pairs all around should show the axis too" if many else weakness
        found["vo"] = Finding(find(lambda binning: DoubleWedge(half, binning)), weakness)
    if pairs is not None:
        # extrapolation errs by about twice what noise and rows tell, over all kinds of scans
        doubt = 2.0 if pairs.extrapolated else 1.0
        weakness = "as they are extrapolated" if pairs.extrapolated else None
        peak = find(lambda binning: MirroredPairs(pairs, binning), doubt)
        found["pairs"] = Finding(peak, weakness, whole_turn=many)
    return found


def _on_detector(peak: AxisPeak, binning: int, doubt: float) -> AxisPeak:
    """In columns of the detector, and its error multiplied by `doubt`."""
    return replace(
        peak,
        center=unbinned_column(peak.center, binning),
        standard_error=doubt * binning * peak.standard_error,
        per_row=np.array([unbinned_column(column, binning) for column in peak.per_row]),
        candidates=np.array([unbinned_column(column, binning) for column in peak.candidates]),
    )
