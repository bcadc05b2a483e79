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
