import numpy as np
import pytest

from tomodask.errors import InputError, RecipeError
from tomodask.geometry import ParallelBeam
from tomodask.preprocess import MinusLog
from tomodask.projections import Projections


def block_of(data: np.ndarray, **known: object) -> Projections:
    return Projections(data, ParallelBeam(np.arange(len(data)) * 0.1, *data.shape[1:]), **known)


def test_a_transmission_of_exp_minus_p_has_the_line_integral_p(rng: np.random.Generator) -> None:
    line_integrals = rng.uniform(0, 10, size=(5, 4, 6))
    attenuation = MinusLog()(block_of(np.exp(-line_integrals).astype(np.float32))).data
    # half a unit in the last place of the transmission, and of a value up to 10
    np.testing.assert_allclose(attenuation, line_integrals, atol=1e-6)


def test_the_logarithm_is_right_to_one_unit_in_the_last_place() -> None:
    """Transmissions of every exponent, and all those next to 1."""
    bits = np.arange(np.float32(1e-37).view(np.int32), np.float32(np.inf).view(np.int32), 997)
    near = np.arange(np.float32(0.999).view(np.int32), np.float32(1.001).view(np.int32))
    for one_after_another in (bits, near):
        transmission = one_after_another.astype(np.int32).view(np.float32)[None, None]
        exact = -np.log(transmission.astype(np.float64))
        attenuation = MinusLog(floor=2e-38)(block_of(transmission)).data
        unit = np.spacing(np.abs(exact).astype(np.float32))
        assert np.abs((attenuation - exact) / unit).max() < 1


def test_what_is_no_number_or_none_at_all_keeps_its_meaning() -> None:
    data = np.array([[[np.nan, np.inf, -np.inf, -0.0, 1e-45, 1.0]]], dtype=np.float32)
    corrected = MinusLog(floor=0.5)(block_of(data))
    expected = [np.nan, -np.inf, np.log(2), np.log(2), np.log(2), 0]
    np.testing.assert_array_equal(corrected.data[0, 0], np.array(expected, dtype=np.float32))
    assert corrected.counts == {"floored_pixels": 3}


@pytest.mark.parametrize("dtype", ["float16", ">f4", "float64"])
def test_other_float_types_are_taken(dtype: str, rng: np.random.Generator) -> None:
    data = rng.uniform(0.1, 1, size=(2, 3, 4)).astype(dtype)
    corrected = MinusLog()(block_of(data)).data
    np.testing.assert_allclose(corrected, -np.log(data.astype(float)), rtol=1e-6)


def test_transmissions_below_the_floor_are_raised_to_it_and_counted() -> None:
    data = np.array([[[0.5, 1e-4, 0.0, -0.3, np.nan, 1e-3]]], dtype=np.float32)
    corrected = MinusLog(floor=1e-3)(block_of(data))
    expected = [np.log(2), *[np.log(1000)] * 3, np.nan, np.log(1000)]
    np.testing.assert_allclose(corrected.data[0, 0], expected, rtol=1e-6)
    assert corrected.counts == {"floored_pixels": 3}


def test_brighter_than_the_open_beam_is_negative_attenuation() -> None:
    corrected = MinusLog()(block_of(np.full((1, 1, 2), 1.1, dtype=np.float32)))
    np.testing.assert_allclose(corrected.data, -np.log(1.1), rtol=1e-5)


def test_an_emission_signal_is_refused() -> None:
    with pytest.raises(InputError, match="emission: leave minus_log out"):
        MinusLog()(block_of(np.ones((2, 2, 2), dtype=np.float32), signal="emission"))


def test_raw_counts_are_refused() -> None:
    with pytest.raises(InputError, match="uint16 data, which are raw counts: put flatfield before"):
        MinusLog()(block_of(np.ones((2, 2, 2), dtype=np.uint16)))


@pytest.mark.parametrize("floor", [0, -1e-6, 1.0, float("nan"), 1e-60])
def test_a_floor_that_is_no_transmission_is_refused(floor: float) -> None:
    with pytest.raises(RecipeError, match=f"floor {floor}"):
        MinusLog(floor=floor)
