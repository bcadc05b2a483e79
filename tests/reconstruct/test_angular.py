"""Weights of the views."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tomodask.reconstruct.angular import WEDGE_GAP, gap_weights, is_full_turn

GOLDEN = np.pi * (np.sqrt(5) - 1) / 2
some_angles = arrays(np.float64, st.integers(1, 40), elements=st.floats(-20, 20))


@given(angles=some_angles, period=st.sampled_from([np.pi, 2 * np.pi]))
def test_weights_sum_to_the_period_and_none_is_negative(angles: np.ndarray, period: float) -> None:
    weights = gap_weights(angles, period)
    assert weights.sum() == pytest.approx(period)
    assert (weights >= 0).all()


@given(angles=some_angles, seed=st.integers(0, 2**16))
def test_a_weight_goes_with_its_view_in_whatever_order(angles: np.ndarray, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(angles.size)
    np.testing.assert_allclose(gap_weights(angles[order]), gap_weights(angles)[order], atol=1e-9)


@pytest.mark.parametrize("turns", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("num_angles", [6, 7, 180, 181])
@pytest.mark.parametrize("start", [0.0, 1.0, -3.7])
def test_even_views_weigh_the_same(turns: float, num_angles: int, start: float) -> None:
    angles = start + np.arange(num_angles) * 2 * np.pi * turns / num_angles
    np.testing.assert_allclose(gap_weights(angles), np.pi / num_angles, rtol=1e-6)


@pytest.mark.parametrize("rounding", [0, 1e-7, -1e-7])  # radians: a motor's last digit
def test_the_two_end_views_of_a_closed_half_turn_share_one_weight(rounding: float) -> None:
    angles = np.linspace(0, np.pi, 91)
    angles[-1] += rounding
    weights = gap_weights(angles)
    np.testing.assert_allclose(weights[1:-1], np.pi / 90, rtol=1e-6)
    np.testing.assert_allclose(weights[[0, -1]], np.pi / 180, rtol=1e-4)


def test_views_of_one_direction_share_its_weight() -> None:
    angles = np.array([0.0, 1.0, 1.0, 1.0 + np.pi, 2.0, 2.5, np.pi, -np.pi])
    single = gap_weights(np.array([0.0, 1.0, 2.0, 2.5]))
    expected = single[[0, 1, 1, 1, 2, 3, 0, 0]] / [3, 3, 3, 3, 1, 1, 3, 3]
    np.testing.assert_allclose(gap_weights(angles), expected, rtol=1e-6)


def test_a_view_stands_for_half_of_both_gaps() -> None:
    degrees = np.array([0, 30, 40, 100, 150.0])
    expected = np.array([(30 + 30) / 2, (30 + 10) / 2, (10 + 60) / 2, (60 + 50) / 2, (50 + 30) / 2])
    np.testing.assert_allclose(gap_weights(np.deg2rad(degrees)), np.deg2rad(expected))


def test_golden_angles_weigh_at_most_twice_the_mean() -> None:
    weights = gap_weights(np.arange(100) * GOLDEN)
    assert weights.max() < 2 * np.pi / 100  # gaps of three lengths, the longest 2.6 the shortest
    assert weights.min() > 0.3 * np.pi / 100


def test_a_missing_wedge_is_shared_by_all_views() -> None:
    weights = gap_weights(np.deg2rad(np.arange(150.0)))
    assert weights.sum() == pytest.approx(np.pi)
    np.testing.assert_allclose(weights[1:-1], weights[1])
    np.testing.assert_allclose(weights[[0, -1]], (1 + WEDGE_GAP) / 2 * weights[1])


def test_one_view_stands_for_everything() -> None:
    np.testing.assert_array_equal(gap_weights(np.array([3.0])), [np.pi])
    np.testing.assert_allclose(gap_weights(np.array([3.0, 3.0, 3.0 + np.pi])), np.pi / 3)


@pytest.mark.parametrize(
    ("angles", "full"),
    [
        (np.arange(100) * 2 * np.pi / 100, True),
        (np.linspace(0, 2 * np.pi, 101), True),
        (np.arange(700) * 20 * np.pi / 700, True),  # ten turns of the same 70 views
        (np.arange(100) * GOLDEN * 2, True),
        (np.arange(100) * np.pi / 100, False),
        (np.linspace(0, np.pi, 181), False),
        (np.linspace(0, 1.5 * np.pi, 181), False),
        (np.array([0.0]), False),
    ],
)
def test_full_turns_are_told_from_others(angles: np.ndarray, full: bool) -> None:
    assert is_full_turn(angles) is full


@pytest.mark.parametrize("degrees", [200.0, 251.3, 340.0])
@pytest.mark.parametrize("gap", [False, True])
def test_each_line_counts_once_beyond_half_a_turn(degrees: float, gap: bool) -> None:
    """Views and their opposites weigh together as single ones do, though some are missing."""
    angles = np.deg2rad(np.arange(0, degrees, 0.5))
    if gap:  # of views that were seen from the other side too
        angles = np.delete(angles, np.s_[4:12:2])
    weights = gap_weights(angles)
    edges = np.deg2rad(np.arange(-0.25, 180, 15))
    found, _ = np.histogram(np.mod(angles + 1e-3, np.pi), edges, weights=weights)
    np.testing.assert_allclose(found, np.deg2rad(15), rtol=0.03)
