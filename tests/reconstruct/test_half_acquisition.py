"""A full turn around an axis near the detector's edge."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomodask.geometry import Box, ParallelBeam
from tomodask.phantom import chiral_phantom
from tomodask.projectors import make_projector
from tomodask.reconstruct import FBP
from tomodask.reconstruct.half_acquisition import is_half_acquisition, overlap_weights

FULL_TURN = np.arange(300) * 2 * np.pi / 300
COLUMNS, SIZE = 60, 96


@given(det_count=st.integers(8, 200), center=st.floats(0.02, 0.98))
def test_the_weights_of_a_line_from_both_sides_sum_to_one(det_count: int, center: float) -> None:
    center = round(2 * center * (det_count - 1)) / 2  # whole or half: columns mirror onto columns
    weights = overlap_weights(det_count, center)
    opposite = np.round(2 * center - np.arange(det_count)).astype(int)
    seen = (opposite >= 0) & (opposite < det_count)
    np.testing.assert_allclose(weights[seen] + weights[opposite[seen]], 1, atol=1e-6)
    np.testing.assert_array_equal(weights[~seen], 1)


@pytest.mark.parametrize("center", [12.3, 46.0])
@pytest.mark.parametrize("backend", ["fourier", "reference"])
def test_it_sees_as_well_as_half_a_turn_with_a_wide_detector(center: float, backend: str) -> None:
    phantom = chiral_phantom(43.0)
    truth = phantom.image(SIZE, SIZE)

    def error(angles: np.ndarray, det_count: int, center: float) -> float:
        geometry = ParallelBeam(angles, 1, det_count, center_of_rotation=center)
        A = make_projector(Box((0, 0, 0), (1, SIZE, SIZE)), geometry, backend)
        image = FBP()(phantom.sinogram(angles, det_count, center)[None], A)[0]
        return float(np.sqrt(np.mean((image - truth)[inside] ** 2)))

    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    inside = np.hypot(x, y) < 45
    wide = error(FULL_TURN[:150], SIZE, (SIZE - 1) / 2)
    # Joseph's error changes by a tenth with where the axis falls between columns
    assert error(FULL_TURN, COLUMNS, center) < 1.25 * wide


def test_the_disc_reaches_to_the_far_edge() -> None:
    geometry = ParallelBeam(FULL_TURN, 1, COLUMNS, center_of_rotation=12.3)
    A = make_projector(Box((0, 0, 0), (1, SIZE, SIZE)), geometry, "fourier")
    image = FBP()(np.ones(A.range_shape), A)[0]
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    np.testing.assert_array_equal(image != 0, np.hypot(x, y) <= 59.5 - 12.3)


@pytest.mark.parametrize(
    ("angles", "center", "expected"),
    [
        (FULL_TURN, 12.3, True),
        (FULL_TURN, 46.0, True),
        (FULL_TURN, 32.0, False),  # a careless full turn: both sides see almost everything
        (FULL_TURN[:150], 12.3, False),
    ],
)
def test_only_a_full_turn_around_an_axis_far_off_counts(
    angles: np.ndarray, center: float, expected: bool
) -> None:
    geometry = ParallelBeam(angles, 1, COLUMNS, center_of_rotation=center)
    assert is_half_acquisition(geometry) is expected


def test_slabs_equal_the_whole_though_the_axis_leans(rng: np.random.Generator) -> None:
    geometry = ParallelBeam(FULL_TURN, 6, COLUMNS, row_start=3).with_center(20.0, slope=0.7)

    def reconstruct(start: int, stop: int) -> np.ndarray:
        part = geometry.take_rows(start, stop)
        A = make_projector(Box((0, 0, 0), (stop - start, SIZE, SIZE)), part, "fourier")
        return FBP()(sinograms[start:stop], A)

    sinograms = rng.normal(size=(6, 300, COLUMNS)).astype(np.float32)
    whole = reconstruct(0, 6)
    for start, stop in ((0, 2), (2, 6)):
        assert reconstruct(start, stop).tobytes() == whole[start:stop].tobytes()
