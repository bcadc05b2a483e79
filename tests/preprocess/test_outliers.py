import numpy as np
import pytest
from scipy.ndimage import median_filter

from tomodask.errors import RecipeError
from tomodask.geometry import ParallelBeam
from tomodask.preprocess import Outliers
from tomodask.projections import Projections


def block_of(data: np.ndarray, **known: object) -> Projections:
    return Projections(data, ParallelBeam(np.arange(len(data)) * 0.1, *data.shape[1:]), **known)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", ">u2", "int32", "float32", "float64"])
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("mode", ["bright", "dark", "both"])
def test_the_short_cut_finds_what_a_median_everywhere_finds(
    dtype: str, size: int, mode: str, rng: np.random.Generator
) -> None:
    counts = rng.poisson(20, size=(6, 15, 18)).astype(dtype)
    median = median_filter(counts.astype(np.float32), size=(1, size, size), mode="nearest")
    excess = counts - median
    stands_out = {
        "bright": excess > 0.3 * median,
        "dark": -excess > 0.3 * median,
        "both": np.abs(excess) > 0.3 * median,
    }[mode]
    corrected = Outliers(threshold=0.3, size=size, mode=mode)(block_of(counts))
    assert 100 < stands_out.sum() < 1000  # noise of 22 %: a test of the many, not of the few
    assert corrected.counts == {"zingers": stands_out.sum()}
    np.testing.assert_array_equal(corrected.data, np.where(stands_out, median, counts))


def test_zingers_of_up_to_two_by_two_pixels_go(rng: np.random.Generator) -> None:
    clean = rng.poisson(10000, size=(3, 20, 20))
    hit = clean.copy()
    hit[0, 5, 5] = hit[0, 0, 0] = hit[0, 9, 19] = 65000
    hit[1, 3:5, 17:19] = 40000
    hit[2, 10:12, 3] = 30000
    corrected = Outliers()(block_of(hit.astype(np.uint16)))
    # noise is 1 %; a median of what is left next to a group may be its lowest or highest value
    np.testing.assert_allclose(corrected.data, clean, rtol=0.07)
    untouched = hit == clean
    np.testing.assert_array_equal(corrected.data[untouched], clean[untouched])


def test_each_view_is_cleaned_alone() -> None:
    counts = np.full((3, 9, 9), 100, dtype=np.uint16)
    counts[1] = 1000  # a flash is not a zinger
    corrected = Outliers()(block_of(counts))
    np.testing.assert_array_equal(corrected.data, counts)


def test_photon_noise_is_spared_where_the_gain_is_known(rng: np.random.Generator) -> None:
    gain, photons = 3.0, rng.poisson(5, size=(20, 30, 30))
    photons[4, 7, 9] = 60
    counts = (gain * photons).astype(np.uint16)
    assert Outliers()(block_of(counts)).counts["zingers"] > 1000
    corrected = Outliers()(block_of(counts, gain=gain))
    assert corrected.counts == {"zingers": 1}
    assert corrected.data[4, 7, 9] < gain * 20


def test_what_has_nan_around_it_is_left(rng: np.random.Generator) -> None:
    counts = rng.normal(1000, 10, size=(1, 9, 9)).astype(np.float32)
    counts[0, 4, 4] = np.nan
    counts[0, 4, 5] = counts[0, 7, 7] = 9000
    corrected = Outliers()(block_of(counts)).data
    assert np.isnan(corrected[0, 4, 4])
    assert corrected[0, 4, 5] == 9000
    assert corrected[0, 7, 7] < 1100


def test_an_infinite_count_is_replaced(rng: np.random.Generator) -> None:
    counts = rng.normal(1000, 10, size=(1, 9, 9)).astype(np.float32)
    counts[0, 4, 4], counts[0, 1, 1] = np.inf, -np.inf
    corrected = Outliers(mode="both")(block_of(counts))
    assert corrected.counts == {"zingers": 2}
    assert np.isfinite(corrected.data).all()


@pytest.mark.parametrize("mode", ["bright", "dark", "both"])
@pytest.mark.parametrize("gain", [None, 0.4])
def test_hits_of_any_strength_are_told_as_a_median_tells_them(
    mode: str, gain: float | None, rng: np.random.Generator
) -> None:
    """Values below zero and infinite ones among them, in strips of several views."""
    counts = rng.normal(5, 4, size=(4, 70, 40)).astype(np.float32).round(1)
    counts[rng.random(counts.shape) < 0.02] = np.inf
    median = median_filter(counts, size=(1, 3, 3), mode="nearest")
    allowed = np.maximum(median, 0) * np.float32(0.3)
    if gain is not None:
        noise = np.sqrt(np.float32(gain) * (np.maximum(median, 0) + np.float32(gain)))
        allowed = np.maximum(allowed, 6 * noise)
    with np.errstate(invalid="ignore"):
        above, below = counts - median > allowed, median - counts > allowed
    stands_out = {"bright": above, "dark": below, "both": above | below}[mode]
    corrected = Outliers(threshold=0.3, mode=mode)(block_of(counts, gain=gain))
    np.testing.assert_array_equal(corrected.data, np.where(stands_out, median, counts))
    assert corrected.counts == {"zingers": stands_out.sum()}


def test_an_image_smaller_than_the_window_is_cleaned() -> None:
    counts = np.array([[[10, 11, 900, 10]]], dtype=np.uint16)
    corrected = Outliers(size=9)(block_of(counts))
    np.testing.assert_array_equal(corrected.data, [[[10, 11, 10, 10]]])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"threshold": 0.0}, "threshold 0.0: a share"),
        ({"threshold": float("nan")}, "threshold nan: a share"),
        ({"threshold": 1.5, "mode": "both"}, "threshold 1.5 with mode 'both'"),
        ({"size": 4}, "size 4: 3, 5, 7 or 9"),
        ({"mode": "hot"}, "mode 'hot': 'bright', 'dark' or 'both'"),
    ],
)
def test_parameters_that_mean_nothing_are_refused(parameters: dict, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Outliers(**parameters)
