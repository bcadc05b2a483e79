"""Between the real detector and an aligned one."""

import numpy as np
import pytest
from numpy.typing import ArrayLike

from tomodask.errors import GeometryError
from tomodask.geometry.distortion import Distortion
from tomodask.projectors import resampling_loops
from tomodask.projectors.resampling import Resampling, exact_weights, inverse_maps

SHAPE, ALIGNED = (36, 41), (38, 44)
LENS = Distortion(18.0, 20.0, (1.0, 1e-4, 1e-5))
ROLLS = {"two passes": 4.0, "6 x 6 pixels": 35.0}


def mapping(roll: float, scale: float = 1.0, shift: ArrayLike = (0.3, -0.4)) -> np.ndarray:
    """Turned by degrees and stretched around the middles of both detectors."""
    cos, sin = scale * np.cos(np.deg2rad(roll)), scale * np.sin(np.deg2rad(roll))
    linear = np.array([[cos, sin], [-sin, cos]])
    start, end = (np.array(shape) / 2 - 0.5 for shape in (SHAPE, ALIGNED))
    return np.column_stack([linear, end + shift - linear @ start])


def maps(roll: float) -> np.ndarray:
    return np.stack(
        [mapping(roll), mapping(-roll, 1.06, (3.0, -2.0)), mapping(roll / 2, 0.93, (-2.0, 4.5))]
    )


def waves(row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """10 pixels a period and more."""
    return (
        1 + np.cos(0.6 * column + 0.4) * np.cos(0.3 * row) + 0.5 * np.sin(0.5 * row - 0.2 * column)
    )


def places(views: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(row, angle, column) rows and columns where the pixels of a detector lead to."""
    i, j = np.mgrid[: shape[0], : shape[1]]
    row, column = np.einsum("vab,bij->aivj", views, np.stack([i, j, np.ones_like(i)]))
    return row, column


def grid(shape: tuple[int, int]) -> np.ndarray:
    """`waves` on a detector, of three equal views."""
    i, j = np.mgrid[: shape[0], : shape[1]]
    return np.repeat(waves(i, j)[:, None], 3, axis=1).astype(np.float32)


def inside(row: np.ndarray, column: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Places whose six pixels either way are there."""
    edges = (row >= 2) & (row <= shape[0] - 4) & (column >= 2) & (column <= shape[1] - 4)
    return np.asarray(edges)


def test_the_weights_are_those_of_the_least_error() -> None:
    places = np.arange(33) / 33
    found = [resampling_loops.weights.py_func(np.float32(place - 0.5)) for place in places]
    np.testing.assert_allclose(found, exact_weights(places), atol=6e-6)
    np.testing.assert_allclose(np.sum(found, axis=1), 1, atol=5e-7)


@pytest.mark.parametrize(("pixels", "error"), [(10, 1.5e-3), (5, 5e-3), (4, 1.5e-2)])
def test_waves_are_read_as_well_as_said(pixels: float, error: float) -> None:
    w = 2 * np.pi / pixels
    place = np.linspace(0, 1, 50)
    found = exact_weights(place) @ np.exp(1j * w * np.arange(-2, 4))
    assert np.sqrt(np.mean(np.abs(found - np.exp(1j * w * place)) ** 2)) < error


@pytest.mark.parametrize("lens", [None, LENS])
@pytest.mark.parametrize("roll", ROLLS.values(), ids=ROLLS)
def test_adjoint_is_the_transpose_of_forward(
    roll: float, lens: Distortion | None, rng: np.random.Generator
) -> None:
    A = Resampling(maps(roll), lens, SHAPE, ALIGNED, threads=2)
    x = rng.normal(size=(ALIGNED[0], 3, ALIGNED[1])).astype(np.float32)
    y = A.forward(x) + rng.normal(size=(SHAPE[0], 3, SHAPE[1])).astype(np.float32)
    left = np.vdot(A.forward(x).astype(np.float64), y)
    assert left == pytest.approx(np.vdot(x.astype(np.float64), A.adjoint(y)), rel=1e-6)


@pytest.mark.parametrize("lens", [None, LENS])
@pytest.mark.parametrize("roll", ROLLS.values(), ids=ROLLS)
def test_forward_and_rectify_read_a_wave_where_it_is(roll: float, lens: Distortion | None) -> None:
    A = Resampling(maps(roll), lens, SHAPE, ALIGNED)
    row, column = places(A.maps, SHAPE)
    if lens is not None:
        i, j = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
        moved = np.stack([*lens.to_ideal(i, j), np.ones_like(i)])
        row, column = np.einsum("vab,bij->aivj", A.maps, moved)
    seen = inside(row, column, ALIGNED)
    error = (A.forward(grid(ALIGNED)) - waves(row, column))[seen]
    assert np.sqrt(np.mean(error**2)) < 2e-3
    row, column = places(inverse_maps(A.maps), ALIGNED)
    if lens is not None:
        row, column = lens.to_measured(row, column)
    seen = inside(row, column, SHAPE)
    error = (A.rectify(grid(SHAPE)) - waves(row, column))[seen]
    assert np.sqrt(np.mean(error**2)) < 2e-3


def test_two_passes_and_6_x_6_pixels_agree() -> None:
    """A lens that bends nothing takes the other way."""
    none = Distortion(0.0, 0.0, (1.0,))
    one, two = (Resampling(maps(4.0), lens, SHAPE, ALIGNED) for lens in (None, none))
    y, x = grid(SHAPE), grid(ALIGNED)
    for name, given in (("forward", x), ("rectify", y)):
        found, expected = getattr(one, name)(given), getattr(two, name)(given)
        seen = inside(*places(one.maps, SHAPE), ALIGNED)
        if name == "rectify":
            seen = inside(*places(inverse_maps(one.maps), ALIGNED), SHAPE)
        np.testing.assert_allclose(found[seen], expected[seen], atol=6e-3)


def test_whole_shifts_copy_and_nothing_lies_beyond(rng: np.random.Generator) -> None:
    shift = np.array([[[1.0, 0, 3], [0, 1, -2]]])
    A = Resampling(shift, None, (10, 12), (10, 12))
    x = rng.normal(size=(10, 1, 12)).astype(np.float32)
    expected = np.zeros_like(x)
    expected[:7, :, 2:] = x[3:, :, :-2]
    np.testing.assert_allclose(A.forward(x), expected, atol=3e-5)


def test_beyond_the_real_detector_its_outermost_pixels_go_on(rng: np.random.Generator) -> None:
    A = Resampling(np.array([[[1.0, 0, 3], [0, 1, -2]]]), None, (10, 12), (16, 9))
    y = rng.normal(size=(10, 1, 12)).astype(np.float32)
    rows, columns = np.clip(np.arange(16) - 3, 0, 9), np.arange(9) + 2
    np.testing.assert_allclose(A.rectify(y), y[rows][:, :, columns], atol=3e-5)


def test_missing_pixels_spoil_the_places_next_to_them_alone() -> None:
    A = Resampling(maps(4.0), None, SHAPE, ALIGNED)
    y = grid(SHAPE)
    whole = A.rectify(y)
    y[20, 1, 19:22] = np.nan
    y[10, 2, 5] = np.inf
    found = A.rectify(y)
    row, column = places(inverse_maps(A.maps), ALIGNED)
    at = np.clip(np.rint([row, column]), 0, np.array(SHAPE)[:, None, None, None] - 1).astype(int)
    view = np.arange(3)[:, None]
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(y[at[0], view, at[1]]))
    good = np.isfinite(found)
    assert np.abs(found - whole)[good].max() < 0.8
    far = np.hypot(row - 20, column - 20) > 5
    np.testing.assert_array_equal(found[:, 1][far[:, 1]], whole[:, 1][far[:, 1]])
    np.testing.assert_array_equal(found[:, 0], whole[:, 0])


@pytest.mark.parametrize("roll", ROLLS.values(), ids=ROLLS)
def test_threads_do_not_change_a_byte(roll: float, rng: np.random.Generator) -> None:
    one, three = (Resampling(maps(roll), None, SHAPE, ALIGNED, threads) for threads in (1, 3))
    y = rng.normal(size=(SHAPE[0], 3, SHAPE[1])).astype(np.float32)
    for name in ("adjoint", "rectify"):
        assert getattr(one, name)(y).tobytes() == getattr(three, name)(y).tobytes()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((2, 3)), "shape"),
        (np.full((1, 2, 3), np.nan), "finite"),
        (np.array([[[1.0, 2, 0], [2, 4, 0]]]), "pixels of view 0 fall on one line"),
    ],
)
def test_maps_that_mean_nothing_are_refused(wrong: np.ndarray, message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        Resampling(wrong, None, SHAPE, ALIGNED)


def test_projections_of_another_shape_are_refused() -> None:
    with pytest.raises(GeometryError, match=r"\(36, 3, 40\).*\(36, 3, 41\) expected"):
        Resampling(maps(4.0), None, SHAPE, ALIGNED).rectify(np.zeros((36, 3, 40)))
