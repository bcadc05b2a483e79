"""What every correction promises, whatever it does: the docstring of `Correction`, held."""

import math
import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tomodask.geometry import ParallelBeam, ViewRows
from tomodask.preprocess import (
    CORRECTIONS,
    Correction,
    Flatfield,
    MinusLog,
    Outliers,
    Paganin,
    Stripes,
)
from tomodask.projections import Projections

NUM_ANGLES, DET_ROWS, DET_COUNT = 12, 90, 45

EXAMPLES: dict[str, Correction] = {
    "outliers": Outliers(threshold=0.2, size=5, mode="both"),
    "flatfield": Flatfield(),
    # l = 2.4 pixels: a margin of 16 of the 90 rows
    "paganin": Paganin(delta_beta=50, energy_kev=20, distance_mm=23.5),
    "minus_log": MinusLog(),
    "stripes": Stripes(size=5),
}
ON_RAW_COUNTS = ("outliers", "flatfield")


def example_block(name: str, num_angles: int = NUM_ANGLES) -> Projections:
    """A scan with zingers, dead pixels, stripes, NaN, and two sets of flats."""
    rng = np.random.default_rng(0)
    shape = (num_angles, DET_ROWS, DET_COUNT)
    geometry = ParallelBeam(np.arange(num_angles) * 0.1, *shape[1:], pixel_size_um=1.0)
    gains = rng.uniform(0.8, 1.2, size=shape[1:])
    counts = rng.poisson(600 * gains * rng.uniform(0.3, 1, size=shape)).astype(np.uint16)
    counts[rng.random(shape) < 0.01] = 60000
    flats = rng.poisson(500 * gains, size=(6, *shape[1:])).astype(np.uint16)
    flats[:, rng.random(shape[1:]) < 0.02] = 0
    flats[:, 40] = 0  # a row without any good pixel
    block = Projections(
        counts,
        geometry,
        flats=flats,
        darks=rng.poisson(20, size=(3, *shape[1:])).astype(np.uint16),
        timestamps=np.arange(num_angles, dtype=float),
        flat_times=np.array([-3.0, -2, -1, num_angles, num_angles + 1, num_angles + 2]),
        gain=2.0,
    )
    if name in ON_RAW_COUNTS:
        return block
    transmission = (counts / 700).astype(np.float32)
    transmission[3, 20, 7] = np.nan
    transmission[5, 50] = np.nan
    return block.replace(data=transmission)


WHOLE = {name: example_block(name) for name in EXAMPLES}
CORRECTED = {name: EXAMPLES[name](block) for name, block in WHOLE.items()}


def test_every_correction_of_the_table_has_an_example() -> None:
    assert {name: type(example) for name, example in EXAMPLES.items()} == CORRECTIONS


@pytest.mark.parametrize("name", CORRECTIONS)
@settings(deadline=None, max_examples=15)
@given(
    ends=st.tuples(st.integers(0, DET_ROWS), st.integers(0, DET_ROWS)).filter(
        lambda e: e[0] != e[1]
    )
)
def test_any_rows_come_out_alone_as_among_all(name: str, ends: tuple[int, int]) -> None:
    correction, whole = EXAMPLES[name], WHOLE[name]
    wanted = ViewRows(min(ends), max(ends))
    read = wanted.grow(correction.halo(whole.geometry), DET_ROWS)
    alone = correction(whole.trim_rows(read.start, read.stop))
    alone = alone.trim_rows(wanted.start, wanted.stop)
    among = CORRECTED[name].trim_rows(wanted.start, wanted.stop)
    assert alone.data.tobytes() == among.data.tobytes()


@pytest.mark.parametrize("name", CORRECTIONS)
def test_the_memory_layout_does_not_matter(name: str) -> None:
    whole = WHOLE[name]
    sinogram_order = np.swapaxes(np.ascontiguousarray(whole.sinograms()), 0, 1)
    wide = np.zeros((NUM_ANGLES, DET_ROWS, DET_COUNT + 3), dtype=whole.data.dtype)
    wide[..., 1:-2] = whole.data
    for data in (sinogram_order, wide[..., 1:-2]):
        corrected = EXAMPLES[name](whole.replace(data=data))
        assert corrected.data.tobytes() == CORRECTED[name].data.tobytes()


@pytest.mark.parametrize("name", CORRECTIONS)
def test_rows_outside_the_halo_change_nothing(name: str) -> None:
    correction, whole = EXAMPLES[name], WHOLE[name]
    row = 45
    read = ViewRows(row, row + 1).grow(correction.halo(whole.geometry), DET_ROWS)
    data = whole.data.copy()
    data[:, : read.start] //= 2
    data[:, read.stop :] //= 2
    changed = correction(whole.replace(data=data))
    assert changed.data[:, row].tobytes() == CORRECTED[name].data[:, row].tobytes()


@pytest.mark.parametrize("name", CORRECTIONS)
def test_a_view_changes_others_only_where_the_correction_says_so(name: str) -> None:
    correction, whole = EXAMPLES[name], WHOLE[name]
    data = whole.data.copy()
    data[4, :20] //= 2  # rows without NaN, which Stripes would leave alone
    changed = correction(whole.replace(data=data)).data
    others = np.arange(NUM_ANGLES) != 4
    is_same = changed[others].tobytes() == CORRECTED[name].data[others].tobytes()
    assert is_same != correction.mixes_angles
    assert not np.array_equal(changed[4], CORRECTED[name].data[4], equal_nan=True)


@pytest.mark.parametrize("name", CORRECTIONS)
def test_the_block_given_is_not_written_to(name: str) -> None:
    block = example_block(name)
    for frames in (block.data, block.flats, block.darks):
        frames.flags.writeable = False
    corrected = EXAMPLES[name](block)
    assert not np.shares_memory(corrected.data, block.data)


@pytest.mark.parametrize("name", CORRECTIONS)
def test_the_result_is_float32_of_the_same_shape_and_scan(name: str) -> None:
    whole, corrected = WHOLE[name], CORRECTED[name]
    assert corrected.data.dtype == np.float32
    assert corrected.data.shape == whole.data.shape
    assert corrected.geometry is whole.geometry
    assert corrected.flats is whole.flats


@pytest.mark.parametrize("name", CORRECTIONS)
def test_values_that_are_not_finite_stay_in_their_view_and_row(name: str) -> None:
    whole = WHOLE[name]
    data = np.where(np.isfinite(whole.data), whole.data, 0.5).astype(np.float32)
    data[3, 20, 7] = np.nan
    was_finite = np.isfinite(data).all(axis=2)
    corrected = EXAMPLES[name](whole.replace(data=data)).data
    assert np.isnan(corrected[3, 20, 7])
    assert np.isfinite(corrected[was_finite]).all()


@pytest.mark.parametrize("name", CORRECTIONS)
def test_counts_of_earlier_corrections_are_kept(name: str) -> None:
    block = WHOLE[name].count(earlier=3)
    assert EXAMPLES[name](block).counts == {"earlier": 3, **CORRECTED[name].counts}


@pytest.mark.parametrize("name", CORRECTIONS)
def test_the_working_memory_is_declared(name: str) -> None:
    block = example_block(name, num_angles=100)
    EXAMPLES[name](block)  # what is allocated once, like FFT plans, is not a block's
    tracemalloc.start()
    EXAMPLES[name](block)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    declared = EXAMPLES[name].working_bytes(block.data.shape)
    python_objects = 50_000  # views, slices, the copy of the block
    assert 4 * math.prod(block.data.shape) <= peak <= declared + python_objects


@pytest.mark.parametrize("name", CORRECTIONS)
def test_corrections_travel_and_compare_by_their_parameters(name: str) -> None:
    correction = EXAMPLES[name]
    assert pickle.loads(pickle.dumps(correction)) == correction
    assert hash(correction) == hash(pickle.loads(pickle.dumps(correction)))
