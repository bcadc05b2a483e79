import h5py
import numpy as np
import pytest

from tomodask.errors import FlatfieldError, RecipeError
from tomodask.geometry import ParallelBeam
from tomodask.preprocess import Flatfield, MinusLog
from tomodask.preprocess.flatfield import RowGaps
from tomodask.projections import Projections


def block_of(data: np.ndarray, **known: object) -> Projections:
    return Projections(data, ParallelBeam(np.arange(len(data)) * 0.1, *data.shape[1:]), **known)


def frames(*levels: float, rows: int = 3, columns: int = 5, dtype: str = "uint16") -> np.ndarray:
    """(frames, rows, columns), each frame of one level."""
    return np.multiply.outer(levels, np.ones((rows, columns))).astype(dtype)


@pytest.mark.parametrize("statistic", ["mean", "median"])
@pytest.mark.parametrize(
    "dtype", ["uint8", "int16", "uint16", ">u2", "uint32", "float32", "float64"]
)
def test_the_transmission_is_the_share_of_the_open_beam(
    statistic: str, dtype: str, rng: np.random.Generator
) -> None:
    transmission = rng.uniform(0.1, 1, size=(4, 3, 5))
    gains = rng.uniform(100, 200, size=(3, 5))
    counts = 10 + gains * transmission
    if np.dtype(dtype).kind in "iu":
        counts = counts.round()
    flats = np.stack([10 + gains, 12 + gains, 8 + gains])
    block = block_of(counts.astype(dtype), flats=flats, darks=frames(9, 10, 11))
    corrected = Flatfield(statistic=statistic)(block)
    # float32 rounding of counts up to 210, where at least 10 are left
    np.testing.assert_allclose(corrected.data, (counts - 10) / gains, rtol=3e-6)
    assert corrected.counts == {"filled_pixels": 0}


def test_a_flash_in_one_flat_does_not_move_the_median() -> None:
    block = block_of(frames(50), flats=frames(100, 102, 101, 60000, 99), darks=frames(0))
    np.testing.assert_allclose(Flatfield(statistic="median")(block).data, 50 / 101, rtol=1e-6)


def test_a_drifting_beam_is_followed_between_the_sets_and_held_outside() -> None:
    """Flats before, within and after the projections, out of order in the file."""
    times = np.array([-5.0, 0, 5, 10, 30, 50, 99])
    block = block_of(
        frames(*[300] * 7),
        flats=frames(600, 110, 300, 90, 320, 280, 600),
        darks=frames(0),
        timestamps=times,
        flat_times=np.array([69.0, 1, 20, -1, 21, 19, 71]),
    )
    beam = np.interp(times, [-1, 1, 20, 70], [90, 110, 300, 600])
    # the projection at 0 lies between the flats at -1 and 1, so these are two sets
    np.testing.assert_allclose(Flatfield()(block).data[:, 0, 0], 300 / beam, rtol=1e-6)


def test_projections_may_be_stored_out_of_order(rng: np.random.Generator) -> None:
    block = block_of(
        rng.poisson(50, size=(8, 3, 5)).astype(np.uint16),
        flats=frames(100, 120, 180, 150),
        timestamps=np.arange(8.0),
        flat_times=np.array([-1.0, 3.5, 4.5, 8]),
    )
    order = np.array([0, 1, 2, 3, 7, 6, 5, 4])  # the one between two flats comes last
    shuffled = block.replace(data=block.data[order], timestamps=block.timestamps[order])
    np.testing.assert_array_equal(Flatfield()(shuffled).data, Flatfield()(block).data[order])


def test_flats_that_no_projection_interrupts_are_one_set() -> None:
    block = block_of(
        frames(100, 100, 100),
        flats=frames(90, 110, 220, 180),
        timestamps=np.array([10.0, 15, 20]),
        flat_times=np.array([0.0, 4, 26, 30]),  # mean times 2 and 28
    )
    beam = 100 + 100 * (np.array([10, 15, 20]) - 2) / 26
    np.testing.assert_allclose(Flatfield()(block).data[:, 1, 1], 100 / beam, rtol=1e-6)


@pytest.mark.parametrize("way", ["no timestamps", "no flat times", "not interpolated"])
def test_without_times_all_flats_are_one_set(way: str) -> None:
    block = block_of(
        frames(100, 100),
        flats=frames(100, 300),
        timestamps=None if way == "no timestamps" else np.array([1.0, 2]),
        flat_times=None if way == "no flat times" else np.array([0.0, 3]),
    )
    corrected = Flatfield(interpolate=way != "not interpolated")(block)
    np.testing.assert_allclose(corrected.data, 0.5)


def test_a_beam_that_is_one_set_or_two_equal_ones_gives_the_same_bytes(
    rng: np.random.Generator,
) -> None:
    flat = rng.poisson(900, size=(4, 3, 5)).astype(np.uint16)
    block = block_of(rng.poisson(500, size=(6, 3, 5)).astype(np.uint16), flats=flat)
    twice = block.replace(
        flats=np.concatenate([flat, flat]),
        timestamps=np.arange(6.0),
        flat_times=np.repeat([-1.0, 6.0], 4),
    )
    np.testing.assert_array_equal(Flatfield()(twice).data, Flatfield()(block).data)


def test_counts_that_float32_can_not_hold_are_exact_above_the_dark() -> None:
    level = 2**26  # float32 holds multiples of 8 there
    counts = np.full((1, 3, 5), level + 3, dtype=np.uint32)
    flats, darks = (np.full_like(counts, level + above) for above in (5, 0))
    np.testing.assert_allclose(Flatfield()(block_of(counts, flats=flats, darks=darks)).data, 0.6)


@pytest.mark.parametrize(("photons", "plain_bias"), [(5, 0.11), (10, 0.05), (50, 0.01)])
def test_half_a_count_takes_the_bias_out_of_the_logarithm(
    photons: int, plain_bias: float, rng: np.random.Generator
) -> None:
    gain, open_beam, pixels = 4.0, 1000, 400_000
    counts = 100 + gain * rng.poisson(photons, size=(1, 400, pixels // 400))
    shape = {"rows": 400, "columns": pixels // 400}
    block = block_of(
        counts.astype(np.uint16),
        flats=frames(100 + gain * open_beam, **shape),
        darks=frames(100, **shape),
        gain=gain,
    )
    expected = np.log(open_beam / photons)
    floor = MinusLog(floor=0.5 / open_beam)  # no photon at all has a logarithm only with half a one
    plain = floor(Flatfield(half_count=False)(block)).data.mean(dtype=float) - expected
    halved = floor(Flatfield()(block)).data.mean(dtype=float) - expected
    # standard error 1 / sqrt(photons * pixels): 0.0007 at 5 photons, where the rule is off by 0.002
    assert abs(halved) < 0.005
    assert plain > plain_bias * 0.9


def test_half_a_count_needs_the_gain() -> None:
    block = block_of(frames(3), flats=frames(10))
    np.testing.assert_allclose(Flatfield()(block).data, 0.3, rtol=1e-6)
    np.testing.assert_allclose(Flatfield()(block.replace(gain=1.0)).data, 0.35, rtol=1e-6)
    np.testing.assert_allclose(Flatfield()(block.replace(gain=2.0)).data, 0.4, rtol=1e-6)


def test_dead_pixels_are_filled_along_their_row_and_counted() -> None:
    counts = frames(10, 20, rows=4, columns=6)
    counts *= np.arange(1, 7, dtype=np.uint16)
    flats = frames(100, rows=4, columns=6)
    flats[0, 0, [2, 3]] = 0  # linear between columns 1 and 4
    flats[0, 1, [0, 5]] = 0  # the nearest
    flats[0, 2, :] = 0  # a row without any good pixel
    corrected = Flatfield()(block_of(counts, flats=flats))
    assert corrected.counts == {"filled_pixels": 10, "no_darks": 1}
    ramp = np.arange(1, 7) / 10
    np.testing.assert_allclose(corrected.data[0, 0], ramp, rtol=1e-6)
    np.testing.assert_allclose(corrected.data[0, 1], [0.2, 0.2, 0.3, 0.4, 0.5, 0.5], rtol=1e-6)
    np.testing.assert_array_equal(corrected.data[:, 2], 1)
    np.testing.assert_allclose(corrected.data[1, 3], 2 * ramp, rtol=1e-6)


def test_a_pixel_dead_in_any_set_or_not_finite_is_dead() -> None:
    flats = frames(100, 100, dtype="float32")
    flats[1, 0, 1], flats[0, 1, 2], flats[0, 2, 3] = 0, np.nan, np.inf
    block = block_of(
        frames(50, 50), flats=flats, timestamps=np.array([1.0, 2]), flat_times=np.array([0.0, 3])
    )
    corrected = Flatfield()(block)
    assert corrected.counts["filled_pixels"] == 3
    np.testing.assert_array_equal(corrected.data, 0.5)


def test_gaps_are_filled_as_np_interp_fills_them(rng: np.random.Generator) -> None:
    bad = rng.random((8, 40)) < 0.6
    values = rng.normal(size=bad.shape).astype(np.float32)
    filled = np.where(bad, np.nan, values)
    RowGaps.of(bad).fill(filled)
    for row in range(len(bad)):
        good = np.flatnonzero(~bad[row])
        expected = np.interp(np.arange(40), good, values[row, good])
        np.testing.assert_allclose(filled[row], expected, atol=1e-6)


def test_a_scan_without_flats_says_how_to_give_them() -> None:
    with pytest.raises(FlatfieldError, match="--flats FILE"):
        Flatfield()(block_of(frames(1), darks=frames(0)))


def test_an_emission_signal_loses_only_its_darks() -> None:
    block = block_of(frames(30, 50), darks=frames(10, 12), signal="emission", gain=1.0)
    corrected = Flatfield()(block)
    np.testing.assert_array_equal(corrected.data[:, 0, 0], [19, 39])
    assert Flatfield()(block.replace(darks=None)).counts == {"no_darks": 1}


def test_swapped_flats_and_darks_are_noticed() -> None:
    with pytest.raises(FlatfieldError, match="flats and darks swapped"):
        Flatfield()(block_of(frames(50), flats=frames(10), darks=frames(100)))


def test_rows_outside_the_beam_are_no_swap(rng: np.random.Generator) -> None:
    """Behind a slit the flats are darks: which is the darker is a matter of noise and drift."""
    counts, flat, dark = (
        rng.poisson(n, size=(1, 20, 50)).astype(np.uint16) for n in (400, 390, 400)
    )
    corrected = Flatfield()(block_of(counts, flats=flat, darks=dark))
    assert 500 < corrected.counts["filled_pixels"] < 800
    assert np.isfinite(corrected.data).all()


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"flats": frames(9, rows=4)}, r"flats have shape \(1, 4, 5\).*3 rows x 5 columns"),
        ({"flats": frames(9)[:0]}, r"flats have shape \(0, 3, 5\)"),
        ({"flats": frames(9), "darks": frames(0)[0]}, r"darks have shape \(3, 5\)"),
        ({"flat_times": np.zeros(3)}, r"flat_times have shape \(3,\).*each of 2 frames"),
        ({"timestamps": np.array([np.nan])}, "timestamps have shape .* with 1 values that are not"),
    ],
)
def test_frames_and_times_that_do_not_fit_are_refused(known: dict, message: str) -> None:
    fitting = {"flats": frames(9, 9), "timestamps": np.ones(1), "flat_times": np.array([0.0, 2])}
    with pytest.raises(FlatfieldError, match=message):
        Flatfield()(block_of(frames(5), **{**fitting, **known}))


def test_an_unknown_statistic_is_refused() -> None:
    with pytest.raises(RecipeError, match="statistic 'mode': 'mean' or 'median'"):
        Flatfield(statistic="mode")


@pytest.mark.real
def test_the_capsule_of_i12_has_dead_pixels_and_finite_attenuation(data_dir) -> None:
    with h5py.File(data_dir / "i12_24737" / "i12_24737.h5") as file:
        exchange = file["exchange"]
        block = block_of(
            exchange["data"][:], flats=exchange["data_white"][:], darks=exchange["data_dark"][:]
        )
    corrected = MinusLog()(Flatfield()(block))
    dead = np.count_nonzero(block.flats[0] <= block.darks[0])
    assert corrected.counts["filled_pixels"] == dead > 0
    assert np.isfinite(corrected.data).all()
