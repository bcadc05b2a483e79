import numpy as np
import pytest

from tomodask.calibrate.mirror import AxisPeak
from tomodask.calibrate.verdict import Finding, judge

SEARCH = (16.0, 143.0)


def finding(center, *, sigmas=20.0, rival=5.0, error=0.1, rows=8, weakness=None, turn=False):
    peak = AxisPeak(
        center=center,
        sigmas=sigmas,
        rival=rival,
        standard_error=error,
        per_row=np.full(rows, center),
        candidates=np.arange(160.0),
        metric=np.zeros(160),
    )
    return Finding(peak, weakness, turn)


def test_methods_that_agree_count_by_their_certainty():
    found = {"vo": finding(80.0, error=0.1), "pairs": finding(80.3, error=0.2)}
    verdict = judge(found, SEARCH)
    assert verdict.confident
    assert verdict.method == "vo and pairs"
    assert verdict.center == pytest.approx(80.06)  # weights 100 and 25
    assert 0.1 < verdict.uncertainty < 0.2


def test_methods_that_are_apart_are_not_averaged():
    found = {"vo": finding(80.0), "pairs": finding(83.0, sigmas=9.0)}
    verdict = judge(found, SEARCH)
    assert not verdict.confident
    assert (verdict.center, verdict.uncertainty) == (80.0, 3.0)
    assert "3.0 columns apart" in verdict.reason


def test_agreement_within_vague_errors_is_not_confidence():
    found = {"vo": finding(80.0, error=0.9), "pairs": finding(80.2, error=0.9)}
    assert not judge(found, SEARCH).confident


def test_many_pairs_outrank_half_a_turn():
    found = {"vo": finding(110.0, sigmas=90.0), "pairs": finding(80.0, turn=True)}
    verdict = judge(found, SEARCH)
    assert verdict.center == 80.0
    assert not verdict.confident


def test_many_pairs_are_not_held_up_by_a_vague_half_turn():
    found = {"vo": finding(82.0, error=1.0), "pairs": finding(80.0, error=0.02, turn=True)}
    verdict = judge(found, SEARCH)
    assert verdict.confident
    assert verdict.center == pytest.approx(80.0, abs=0.01)


@pytest.mark.parametrize(
    ("flaw", "words"),
    [
        ({"sigmas": 5.9}, "5.9 sigmas over chance"),
        ({"rival": 18.0}, "next peak is 90% as high"),
        ({"center": 16.5}, "end of the search"),
        ({"center": 142.5}, "end of the search"),
    ],
)
def test_a_peak_that_does_not_stand_clear_has_no_vote(flaw, words):
    verdict = judge({"vo": finding(**{"center": 80.0, **flaw})}, SEARCH)
    assert not verdict.confident
    assert words in verdict.reason
    assert verdict.uncertainty == pytest.approx(127 / np.sqrt(12))  # anywhere in the search


@pytest.mark.parametrize(
    ("flaw", "confident"),
    [
        ({}, True),
        ({"sigmas": 7.0}, False),
        ({"error": 0.6}, False),
        ({"rows": 1}, False),
        ({"weakness": "as it is cut off"}, False),
    ],
)
def test_a_single_vote_must_be_strong(flaw, confident):
    found = {"vo": finding(80.0, **flaw), "pairs": finding(120.0, sigmas=3.0, rival=2.9)}
    assert judge(found, SEARCH).confident == confident


def test_a_faint_peak_at_the_same_place_makes_up_for_a_weakness():
    vo = finding(80.0, weakness="as it is cut off")
    assert judge({"vo": vo, "pairs": finding(80.6, sigmas=3.0)}, SEARCH).confident
    assert not judge({"vo": vo, "pairs": finding(82.0, sigmas=3.0)}, SEARCH).confident


def test_a_faint_peak_elsewhere_is_a_doubt_unless_the_vote_is_far_above_it():
    faint = finding(100.0, sigmas=5.5)
    assert not judge({"vo": finding(80.0, sigmas=15.0), "pairs": faint}, SEARCH).confident
    assert judge({"vo": finding(80.0, sigmas=40.0), "pairs": faint}, SEARCH).confident
