"""Whether the methods that looked for the rotation axis can be believed.

A method has a vote if its peak stands clear of chance, of other peaks and of the search's ends. Two
votes must agree; a single one must be strong, with nothing against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tomodask.calibrate.mirror import AxisPeak

MIN_SIGMAS = 6.0  # for a vote: chance reaches 4.5 among a few hundred candidates
ALONE_SIGMAS = 8.0  # for a method that no other confirms
FAINT_SIGMAS = 4.5  # for a doubt
MAX_RIVAL = 0.8  # height of the next peak over the highest
AGREEMENT = 0.5  # detector columns within which two methods agree
MAX_UNCERTAINTY = 0.5  # detector columns


@dataclass(frozen=True, eq=False)
class Finding:
    """A method's peak, and how it may be used.

    weakness : why it needs another method beside it, None if it doesn't.
    whole_turn : it is made of many real pairs.
    """

    peak: AxisPeak
    weakness: str | None
    whole_turn: bool = False


@dataclass(frozen=True)
class Verdict:
    """The axis in detector columns, and whether to believe it.

    best : the method to show. method : the one, or both, that `center` is from. reason : in words.
    """

    best: str
    center: float
    uncertainty: float
    method: str
    confident: bool
    reason: str


def judge(found: Mapping[str, Finding], search: tuple[float, float]) -> Verdict:
    """Weigh what the methods found, and say in words whether it can be trusted."""
    doubts = {name: _doubt(finding.peak, search) for name, finding in found.items()}
    votes = [name for name, doubt in doubts.items() if doubt is None]
    # pairs all around assume nothing; otherwise the one that stands out most
    best = max(votes or found, key=lambda n: (found[n].whole_turn, found[n].peak.sigmas))
    if len(votes) == 2:
        return _together(best, found)
    if len(votes) == 1:
        return _alone(best, found, search)
    anywhere = (search[1] - search[0]) / float(np.sqrt(12))  # the spread of a uniform distribution
    return Verdict(
        best, found[best].peak.center, anywhere, best, False, f"{best} can't tell, {doubts[best]}"
    )


def _doubt(peak: AxisPeak, search: tuple[float, float]) -> str | None:
    """Why a method's peak can't be taken for the axis; None if it can."""
    if peak.sigmas < MIN_SIGMAS:
        return f"its peak stands {peak.sigmas:.1f} sigmas over chance, {MIN_SIGMAS:g} are needed"
    if peak.rival > MAX_RIVAL * peak.sigmas:
        return f"its next peak is {peak.rival / peak.sigmas:.0%} as high as the highest"
    edge = min(1.0, 0.05 * (search[1] - search[0]))
    if not search[0] + edge <= peak.center <= search[1] - edge:
        return f"its peak lies at the end of the search, columns {search[0]:.0f} to {search[1]:.0f}"
    return None


def _alone(name: str, found: Mapping[str, Finding], search: tuple[float, float]) -> Verdict:
    """One method stands clear of chance: it must do so well, and no other may point elsewhere."""
    peak, weakness = found[name].peak, found[name].weakness
    uncertainty = peak.standard_error
    reason = f"{name} {peak.center:.2f}, {peak.sigmas:.0f} sigmas over chance"
    contradicted = False
    for other in found.keys() - {name}:
        faint = found[other].peak
        apart = abs(faint.center - peak.center)
        if apart <= min(1.0, 0.01 * (search[1] - search[0])):
            # that a peak lies so near by chance has odds of a few in a hundred
            weakness = None
            reason += f"; {other} agrees faintly"
        elif faint.sigmas > max(FAINT_SIGMAS, peak.sigmas / 3) and apart > max(
            1.0, 3 * faint.standard_error
        ):
            contradicted, uncertainty = True, max(apart, uncertainty)
            reason += f"; {other} has a faint peak {apart:.1f} columns away"
    if weakness is None and peak.per_row.size < 2:
        weakness = "as a single row has no other to agree with"
    sure = peak.sigmas >= ALONE_SIGMAS and peak.standard_error <= MAX_UNCERTAINTY
    if weakness or not sure:
        reason += f"; uncertain by {peak.standard_error:.1f} columns, it is not enough"
        reason += f" alone, {weakness}" if weakness else ""
    confident = sure and weakness is None and not contradicted
    return Verdict(name, peak.center, uncertainty, name, confident, reason)


def _together(best: str, found: Mapping[str, Finding]) -> Verdict:
    """Both methods stand clear of chance: they must agree, and then count by their certainty."""
    vo, pairs = found["vo"].peak, found["pairs"].peak
    apart = abs(vo.center - pairs.center)
    spread = float(np.hypot(vo.standard_error, pairs.standard_error))
    reason = f"vo {vo.center:.2f} and pairs {pairs.center:.2f}"
    # a whole turn of pairs is sure of itself, even where half a turn of a cut-off object is vague
    allowed = min(3 * spread, 5.0) if found["pairs"].whole_turn else min(2 * spread, 1.0)
    if apart > max(AGREEMENT, allowed):
        reason += f" are {apart:.1f} columns apart; {best} is the more reliable"
        center, uncertainty = found[best].peak.center, max(apart, spread)
        return Verdict(best, center, uncertainty, best, False, reason)
    centers = np.array([vo.center, pairs.center])
    weights = np.array([vo.standard_error, pairs.standard_error]) ** -2.0
    center = float(np.average(centers, weights=weights))
    scatter = float(np.average((centers - center) ** 2, weights=weights))
    uncertainty = float(np.sqrt(1 / weights.sum() + scatter))
    confident = uncertainty <= MAX_UNCERTAINTY
    reason += " agree" if confident else f" agree, but only within {uncertainty:.1f} columns"
    return Verdict(best, center, uncertainty, "vo and pairs", confident, reason)
