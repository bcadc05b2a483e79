"""A lens that bends the picture."""

import numpy as np
import pytest

from tomodask.errors import GeometryError
from tomodask.geometry.distortion import Distortion

LENS = Distortion(20.0, 31.5, (1.01, 2e-4, -3e-6))


def test_ideal_and_measured_places_are_each_others_inverse(rng: np.random.Generator) -> None:
    row, column = rng.uniform(-10, 60, size=(2, 100))
    back = LENS.to_ideal(*LENS.to_measured(row, column))
    np.testing.assert_allclose(back, (row, column), atol=1e-8)


def test_places_move_along_the_radius_by_the_polynomial() -> None:
    row, column = LENS.to_measured(np.array([20.0, 23.0]), np.array([41.5, 35.5]))
    factors = [1.01 + 2e-3 - 3e-4, 1.01 + 1e-3 - 7.5e-5]  # at 10 and at 5 pixels
    np.testing.assert_allclose(row, [20, 20 + 3 * factors[1]])
    np.testing.assert_allclose(column, [31.5 + 10 * factors[0], 31.5 + 4 * factors[1]])


def test_the_centre_stays() -> None:
    np.testing.assert_array_equal(LENS.to_ideal(np.array([20.0]), np.array([31.5])), [[20], [31.5]])


@pytest.mark.parametrize("factors", [(), (0.0,), (1.0, np.nan), (9.0,)])
def test_factors_that_are_no_lens_are_refused(factors: tuple[float, ...]) -> None:
    with pytest.raises(GeometryError, match="first factor near 1"):
        Distortion(0.0, 0.0, factors)


def test_a_picture_that_folds_is_refused() -> None:
    with pytest.raises(GeometryError, match="folds the picture"):
        Distortion(0.0, 0.0, (1.0, -0.02)).to_ideal(np.arange(60.0), np.zeros(60))
