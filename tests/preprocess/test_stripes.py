import numpy as np
import pytest

from tomodask.errors import RecipeError
from tomodask.geometry import ParallelBeam
from tomodask.preprocess import Stripes
from tomodask.preprocess.lines import Lines
from tomodask.preprocess.stripes import Scratch
from tomodask.projections import Projections


def block_of(data: np.ndarray) -> Projections:
    return Projections(data, ParallelBeam(np.arange(len(data)) * 0.1, *data.shape[1:]))


def test_a_stripe_goes_and_the_sample_stays() -> None:
    """An off-centre smooth blob on the path of its sinogram."""
    angles = np.linspace(0, np.pi, 180, endpoint=False)[:, None, None]
    column = np.arange(256) - 128 - 20 * np.cos(angles)
    clean = np.array([0.7, 1.0])[:, None] * np.exp(-((column / 40) ** 2) / 2)
    striped = clean.copy()
    striped[:, 0, 90] += 0.1
    striped[:, 1, 150] *= 1.2
    correct = Stripes(size=9)
    # the sorted columns bend where the blob turns round, and a median over nine of them cuts the
    # bend: the method's price on a clean sinogram, to which the stripes must add next to nothing
    price = np.abs(correct(block_of(clean)).data - clean).max()
    assert price < 0.03
    assert np.abs(correct(block_of(striped)).data - clean).max() < 1.2 * price


def test_a_stripe_whose_neighbours_agree_is_removed_to_the_bit(rng: np.random.Generator) -> None:
    views = np.repeat(rng.normal(size=(40, 1, 1)), 30, axis=2).astype(np.float32)
    striped = views.copy()
    striped[:, 0, [4, 17]] += 0.3
    np.testing.assert_array_equal(Stripes()(block_of(striped)).data, views)


@pytest.mark.parametrize("size", [3, 5, 7, 21, 51])
@pytest.mark.parametrize("num_angles", [1, 50, 300])
def test_the_result_is_the_definition(size: int, num_angles: int, rng: np.random.Generator) -> None:
    """Sort, median over the columns of a rank, unsort: each step as the paper says it."""
    sinogram = rng.normal(size=(num_angles, 77)).astype(np.float32)
    order = np.argsort(sinogram, axis=0, kind="stable")
    half = size // 2
    padded = np.pad(np.sort(sinogram, axis=0), ((0, 0), (half, half)), mode="edge")
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(padded, size, axis=1), axis=-1)
    expected = np.empty_like(sinogram)
    np.put_along_axis(expected, order, smooth, axis=0)
    corrected = Stripes(size=size)(block_of(sinogram[:, None]))
    np.testing.assert_array_equal(corrected.data[:, 0], expected)


def many_values(kind: str, rng: np.random.Generator) -> np.ndarray:
    """(500, 70) float32."""
    normal = rng.normal(size=(500, 70))
    normal[0, ::2] = {"an outlier": 1e9, "a far outlier": 1e38}.get(kind, 0)
    values = {
        "equal ones": normal.round(),
        "all equal": np.ones_like(normal),
        "of all sizes": np.sign(normal) * np.exp(np.clip(20 * normal, -80, 80)),
        "tiny": 1e-38 * normal,
        "rising": np.sort(normal, axis=0),
    }
    return values.get(kind, normal).astype(np.float32)


@pytest.mark.parametrize(
    "kind",
    [
        "normal",
        "equal ones",
        "all equal",
        "of all sizes",
        "tiny",
        "rising",
        "an outlier",
        "a far outlier",
    ],
)
def test_values_of_any_kind_are_sorted_and_equal_ones_keep_the_order_of_their_views(
    kind: str, rng: np.random.Generator
) -> None:
    values = many_values(kind, rng) + np.float32(0)  # no -0, which sorts before 0
    scratch = Scratch.of(*values.shape, size=3)
    assert scratch.sort(Lines.of(values[:, None]))
    np.testing.assert_array_equal(scratch.order.T, np.argsort(values, axis=0, kind="stable"))
    keys = scratch.keys[:, : len(values)]
    sorted_values = np.where(keys < 0, keys ^ 0x7FFFFFFF, keys).view(np.float32)
    np.testing.assert_array_equal(sorted_values.T, np.sort(values, axis=0))


def test_a_row_that_is_not_finite_is_passed_on_and_counted(rng: np.random.Generator) -> None:
    data = rng.normal(size=(30, 3, 25)).astype(np.float32)
    alone = Stripes()(block_of(data)).data
    data[5, 1, 8] = np.nan
    corrected = Stripes()(block_of(data))
    assert corrected.counts == {"unfiltered_rows": 1}
    np.testing.assert_array_equal(corrected.data[:, 1], data[:, 1])
    np.testing.assert_array_equal(corrected.data[:, [0, 2]], alone[:, [0, 2]])


@pytest.mark.parametrize("size", [1, 4, 0, -3])
def test_a_window_without_a_middle_is_refused(size: int) -> None:
    with pytest.raises(RecipeError, match=f"size {size}: an odd number"):
        Stripes(size=size)
