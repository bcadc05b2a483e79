"""Fans over less than a full turn: each line counts once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomodask.errors import GeometryError
from tomodask.reconstruct.short_scan import short_scan_weights, view_steps

FANS = np.linspace(-0.2, 0.2, 41)  # even, so that g and -g are both columns


def weights_along(span: float, start: float, angle: float, column: int) -> tuple[float, float]:
    """Weights of the two rays along one line, 0 for a ray that no view has."""
    found = []
    for a, g in ((angle, column), (angle + np.pi - 2 * FANS[column], FANS.size - 1 - column)):
        after = np.mod(a, 2 * np.pi)
        if after > span:
            found.append(0.0)
            continue
        angles = start + np.append(np.linspace(0, span, 721), after)
        found.append(float(short_scan_weights(angles, FANS)[-1, g]))
    return found[0], found[1]


@given(
    span=st.floats(np.pi + 0.4, 2 * np.pi - 0.1),
    start=st.floats(-7, 7),
    share=st.floats(0, 1),
    column=st.integers(1, FANS.size - 2),
)
def test_the_weights_of_the_two_rays_along_a_line_sum_to_one(
    span: float, start: float, share: float, column: int
) -> None:
    both = weights_along(span, start, share * span, column)
    assert sum(both) == pytest.approx(1, abs=1e-5)
    assert min(both) >= 0


@given(span=st.floats(np.pi + 0.41, 2 * np.pi - 0.1))
def test_the_first_and_the_last_view_fade_out(span: float) -> None:
    weights = short_scan_weights(np.linspace(0, span, 2001), FANS)
    np.testing.assert_allclose(weights[[0, -1]], 0, atol=1e-6)
    assert np.abs(np.diff(weights[:, 20], axis=0)).max() < 0.05  # no view jumps in


@pytest.mark.parametrize("span", [np.pi + 0.4, 4.5, 6.0])
def test_weights_and_steps_sum_to_half_a_turn_of_every_fan(span: float) -> None:
    """Over its views and those of the opposite column a column sees pi of directions, twice."""
    angles = np.linspace(0, span, 4001)
    total = view_steps(angles) @ short_scan_weights(angles, FANS)
    np.testing.assert_allclose(total + total[::-1], 2 * np.pi, rtol=2e-3)


def test_a_weight_goes_with_its_view_in_whatever_order(rng: np.random.Generator) -> None:
    angles = np.linspace(0, 4, 60)
    order = rng.permutation(60)
    turned = angles[order] + 2 * np.pi * rng.integers(-2, 3, size=60) + 3.0
    np.testing.assert_allclose(
        short_scan_weights(turned, FANS), short_scan_weights(angles, FANS)[order], atol=1e-5
    )
    np.testing.assert_allclose(view_steps(turned), view_steps(angles)[order], atol=1e-9)


def test_a_full_turn_weighs_one_half() -> None:
    angles = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    np.testing.assert_array_equal(short_scan_weights(angles, FANS), 0.5)
    np.testing.assert_allclose(view_steps(angles), 2 * np.pi / 90)


def test_too_short_a_scan_is_refused_with_what_it_needs() -> None:
    with pytest.raises(GeometryError, match=r"190.00 degrees.* 202.92 degrees"):
        short_scan_weights(np.deg2rad(np.linspace(0, 190, 96)), FANS)
