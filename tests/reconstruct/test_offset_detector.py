"""A detector to one side of the axis."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomodask.errors import GeometryError
from tomodask.reconstruct.half_acquisition import overlap_weights
from tomodask.reconstruct.offset_detector import is_offset_detector, offset_detector_weights


@given(first=st.integers(-60, -1), last=st.integers(1, 60), side=st.sampled_from([1, -1]))
def test_the_weights_of_a_line_from_both_sides_sum_to_one(first: int, last: int, side: int) -> None:
    positions = side * np.arange(first, last + 1) * 0.01
    weights = offset_detector_weights(positions)
    places = np.round(positions / 0.01).astype(int)
    found = dict(zip(places, weights, strict=True))
    for place, weight in found.items():
        opposite = found.get(-place)
        assert weight == 1 if opposite is None else weight + opposite == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("center", [12.0, 40.5])
def test_columns_of_a_parallel_beam_weigh_as_those_of_half_acquisition(center: float) -> None:
    expected = overlap_weights(50, center)
    np.testing.assert_allclose(offset_detector_weights(np.arange(50) - center), expected, atol=1e-6)


def test_views_that_are_shifted_share_the_overlap_of_all() -> None:
    positions = np.arange(-10, 30) + np.array([[-3.0], [0.0], [2.0]])
    weights = offset_detector_weights(positions)
    assert (weights[positions <= -8.5] == 0).all()  # what the last view does not see
    assert (weights[positions >= 8.5] == 1).all()


@pytest.mark.parametrize(("first", "expected"), [(-20, False), (-15, True), (-25, True)])
def test_an_axis_off_the_middle_is_told(first: int, expected: bool) -> None:
    assert is_offset_detector(np.arange(first, first + 41) * 0.01) is expected


def test_an_axis_beyond_the_edge_is_refused() -> None:
    with pytest.raises(GeometryError, match="beyond the detector's edge"):
        offset_detector_weights(np.arange(3, 20) * 0.01)
