"""What every correction promises, whatever it does: the docstring of `Correction`, held."""

import pickle
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tomodask import arrays
from tomodask.errors import InputError
from tomodask.geometry import ParallelBeam, ViewRows
from tomodask.preprocess import (
    CORRECTIONS,
    Align,
    Correction,
    Flatfield,
    MinusLog,
    Outliers,
    Paganin,
    Stripes,
    apply_corrections,
    correction_bytes,
)
from tomodask.projections import Projections

NUM_ANGLES, DET_ROWS, DET_COUNT = 12, 90, 45

EXAMPLES: dict[str, Correction] = {
    "outliers": Outliers(threshold=0.2, size=5, mode="both"),
    "flatfield": Flatfield(),
    # l = 2.4 pixels: a halo of 19 of the 90 rows
    "paganin": Paganin(delta_beta=50, energy_kev=20, distance_mm=23.5),
    "minus_log": MinusLog(),
    "stripes": Stripes(size=5),
    # moves the pixels of row 20 by less than half of one: what is missing there stays there
    "align": Align(roll_deg=0.5, center_row=20, center_column=12),
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
    counts[rng.random(shape) < 0.01] = 0  # below the darks, and so the floor of -log
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
        lambda e: abs(e[0] - e[1]) > 2  # one row alone may be the dead one
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
def test_threads_do_not_change_a_byte(name: str) -> None:
    for threads in (2, 5):
        corrected = EXAMPLES[name](WHOLE[name], threads=threads)
        assert corrected.data.tobytes() == CORRECTED[name].data.tobytes()
        assert corrected.counts == CORRECTED[name].counts


@pytest.mark.parametrize("name", CORRECTIONS)
def test_the_result_goes_where_it_is_wanted(name: str) -> None:
    correction, whole = EXAMPLES[name], WHOLE[name]
    out = np.full(whole.data.shape, 7, dtype=np.float32)
    assert correction(whole, out=out).data is out
    assert out.tobytes() == CORRECTED[name].data.tobytes()


@pytest.mark.parametrize("name", [name for name in CORRECTIONS if EXAMPLES[name].in_place])
def test_a_result_in_place_has_the_same_bytes(name: str) -> None:
    whole = WHOLE[name].replace(data=WHOLE[name].data.astype(np.float32))
    apart = EXAMPLES[name](whole)
    own = whole.replace(data=whole.data.copy())
    corrected = EXAMPLES[name](own, threads=2, out=own.data)
    assert corrected.data is own.data
    assert corrected.data.tobytes() == apart.data.tobytes()


CHAINS: list[list[str]] = [
    [],
    ["flatfield"],
    ["flatfield", "minus_log"],
    ["flatfield", "minus_log", "stripes"],
    ["outliers", "flatfield", "minus_log"],
    ["flatfield", "outliers", "minus_log"],
    ["flatfield", "paganin", "minus_log"],
    list(CORRECTIONS),
]


@pytest.mark.parametrize("names", CHAINS, ids="-".join)
@pytest.mark.parametrize("dtype", ["uint16", "float32", "int32"])
def test_a_chain_gives_the_bytes_of_its_corrections_in_turn(names: list[str], dtype: str) -> None:
    block = WHOLE["flatfield"]
    block = block.replace(data=block.data.astype(dtype))
    block.data.flags.writeable = False
    in_turn = block
    for name in names:
        in_turn = EXAMPLES[name](in_turn)
    at_once = apply_corrections([EXAMPLES[name] for name in names], block, threads=2)
    assert at_once.data.tobytes() == in_turn.data.tobytes()
    assert at_once.counts == in_turn.counts


def test_a_chain_on_an_emission_signal_is_refused_where_it_takes_the_logarithm() -> None:
    emission = WHOLE["flatfield"].replace(signal="emission")
    with pytest.raises(InputError, match="leave minus_log out"):
        apply_corrections([Flatfield(), MinusLog()], emission)


def large_block(name: str) -> Projections:
    """So large (30 MB as float32) that Python's own objects don't count."""
    rng = np.random.default_rng(0)
    shape = (230, 64, 512)
    counts = rng.integers(800, 900, size=shape, dtype=np.uint16)
    geometry = ParallelBeam(np.arange(shape[0]) * 0.01, *shape[1:], pixel_size_um=1.0)
    block = Projections(
        counts,
        geometry,
        flats=rng.integers(900, 1000, size=(8, *shape[1:]), dtype=np.uint16),
        darks=rng.integers(0, 20, size=(4, *shape[1:]), dtype=np.uint16),
        timestamps=np.arange(shape[0], dtype=float),
        flat_times=np.repeat([-1.0, 400], 4),
    )
    return block if name in ON_RAW_COUNTS else block.replace(data=(counts / 1e3).astype(np.float32))


def peak_bytes(call: Callable[[], object]) -> int:
    """Greatest memory that NumPy and Python have allocated at a time during a call."""
    call()  # what is allocated once, like plans and compiled code, is not a block's
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "LARGE_BYTES", 2**60)  # all of it from NumPy, which is traced
        tracemalloc.start()
        call()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return peak


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", CORRECTIONS)
def test_the_declared_memory_is_what_is_needed(name: str, threads: int) -> None:
    block = large_block(name)
    peak = peak_bytes(lambda: EXAMPLES[name](block, threads))
    declared = EXAMPLES[name].working_bytes(block.data.shape, threads)
    assert 0.8 * declared <= peak <= declared


@pytest.mark.parametrize("names", [names for names in CHAINS if names], ids="-".join)
def test_the_declared_memory_of_a_chain_is_what_it_needs(names: list[str]) -> None:
    block, threads = large_block("flatfield"), 2
    chain = [EXAMPLES[name] for name in names]
    peak = peak_bytes(lambda: apply_corrections(chain, block, threads))
    declared = correction_bytes(chain, block.data.shape, block.data.itemsize, threads)
    assert 0.8 * declared <= peak <= declared


@pytest.mark.parametrize("name", CORRECTIONS)
def test_corrections_travel_and_compare_by_their_parameters(name: str) -> None:
    correction = EXAMPLES[name]
    assert pickle.loads(pickle.dumps(correction)) == correction
    assert hash(correction) == hash(pickle.loads(pickle.dumps(correction)))
