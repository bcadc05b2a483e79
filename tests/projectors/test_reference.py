"""The reference projector, held to what can be counted by hand."""

import numpy as np
import pytest

from tomodask.geometry import Box, ParallelBeam
from tomodask.projectors import Projector, make_projector


def reference(
    angles: list[float], shape_yx: tuple[int, int], det_count: int, center: float
) -> Projector:
    geometry = ParallelBeam(np.array(angles), 1, det_count, center_of_rotation=center)
    return make_projector(Box((0, 0, 0), (1, *shape_yx)), geometry, "reference")


def test_views_along_the_axes_are_sums_of_columns_and_rows(rng: np.random.Generator) -> None:
    image = rng.uniform(size=(6, 8)).astype(np.float32)
    from_above, from_the_side, from_below = reference([0, np.pi / 2, np.pi], (6, 8), 8, 3.5)(
        image[None]
    )[0]
    np.testing.assert_allclose(from_above, image.sum(axis=0), rtol=1e-6)  # u = x + c
    np.testing.assert_allclose(from_the_side[1:-1], image.sum(axis=1), rtol=1e-6)  # u = y + c
    np.testing.assert_allclose(from_below, image.sum(axis=0)[::-1], rtol=1e-6)  # u = -x + c


def test_the_ray_along_a_diagonal_measures_its_length() -> None:
    A = reference([np.pi / 4, 3 * np.pi / 4], (9, 9), 9, 4.0)
    through_the_middle = A(np.ones((1, 9, 9)))[0, :, 4]
    np.testing.assert_allclose(through_the_middle, 9 * np.sqrt(2), rtol=1e-6)


def test_a_small_positive_angle_turns_x_towards_y() -> None:
    image = np.zeros((1, 21, 21))
    image[0, 18, 10] = 1  # y = 8, x = 0
    view = reference([0.25], (21, 21), 21, 10.0)(image)[0, 0]
    u = (view * np.arange(21)).sum() / view.sum()
    assert u == pytest.approx(10 + 8 * np.sin(0.25), abs=0.1)  # a lone pixel is hit by few rays


def test_back_projection_is_the_very_transpose() -> None:
    A = reference([0.0, 0.3, np.pi / 4, 1.2, np.pi / 2, 2.5, -4.0], (4, 5), 6, 2.2)
    pixels = np.eye(20).reshape(20, 1, 4, 5)
    rays = np.eye(42).reshape(42, 1, 7, 6)
    forward = np.array([A(x).ravel() for x in pixels])
    adjoint = np.array([A.T(y).ravel() for y in rays])
    # the same float64 weights, each computed its own way and rounded to float32
    np.testing.assert_allclose(adjoint, forward.T, atol=1e-6)
    assert np.count_nonzero(forward) > 200
