import numpy as np
import pytest

from tomodask.errors import InputError, RecipeError
from tomodask.geometry import ParallelBeam
from tomodask.preprocess import Paganin
from tomodask.projections import Projections


def block_of(data: np.ndarray, **known: object) -> Projections:
    geometry = ParallelBeam(np.arange(len(data)) * 0.1, *data.shape[1:], pixel_size_um=0.5)
    return Projections(data.astype(np.float32), geometry, **known)


def paganin_of_length(pixels: float) -> Paganin:
    """With a kernel of that length on a detector of 0.5 um: distance is area over lambda d/b."""
    wavelength_um = 12.39841984e-4 / 25
    area_um2 = (0.5 * pixels) ** 2
    distance_um = 4 * np.pi * area_um2 / (wavelength_um * 40)
    return Paganin(delta_beta=40, energy_kev=25, distance_mm=distance_um / 1000)


def unbounded(projection: np.ndarray, length: float, reach: int = 300) -> np.ndarray:
    """The filter with so many repeated edge pixels that the transform's period can't be felt."""
    padded = np.pad(projection.astype(float), reach, mode="edge")
    rows, columns = (2 * np.pi * np.fft.fftfreq(size) for size in padded.shape)
    response = 1 / (1 + length**2 * (rows[:, None] ** 2 + columns**2))
    filtered = np.fft.ifft2(np.fft.fft2(padded) * response).real
    return filtered[reach:-reach, reach:-reach]


def test_the_kernel_of_20_kev_half_a_metre_and_delta_beta_100_is_16_micrometres_long() -> None:
    correction = Paganin(delta_beta=100, energy_kev=20, distance_mm=500)
    geometry = ParallelBeam(np.zeros(1), 100, 100, pixel_size_um=1.0)
    assert correction.kernel_length(geometry) == pytest.approx(15.7, abs=0.05)
    assert correction.margin(geometry) == 95  # 94.1 are six lengths


@pytest.mark.parametrize("length", [0.3, 1.0, 2.0, 3.0, 9.0, 20.0])
def test_the_margin_is_enough_for_the_unbounded_filter(
    length: float, rng: np.random.Generator
) -> None:
    smooth = unbounded(rng.normal(size=(70, 60)), 4.0)
    noisy = rng.normal(size=smooth.shape)
    step = np.add.outer(np.arange(70) > 31, np.arange(60) > 20).astype(float)
    views = np.stack([smooth, noisy, step])
    filtered = paganin_of_length(length)(block_of(views)).data
    for view, result in zip(views, filtered, strict=True):
        # 0.12 % of the kernel lie more than 6 l away, on each of four sides
        np.testing.assert_allclose(result, unbounded(view, length), atol=0.005 * np.ptp(view))


def test_a_wave_along_the_rows_is_damped_as_the_formula_says() -> None:
    length, period = 3.0, 20
    wave = np.broadcast_to(np.cos(2 * np.pi * np.arange(400) / period), (1, 64, 400))
    filtered = paganin_of_length(length)(block_of(1 + 0.5 * wave)).data
    damping = 1 / (1 + (length * 2 * np.pi / period) ** 2)
    inside = slice(100, 300)
    # float32 through four transforms of some 500 values: about 1e-6
    np.testing.assert_allclose(
        filtered[..., inside], 1 + 0.5 * damping * wave[..., inside], atol=1e-5
    )


@pytest.mark.parametrize("length", [1.0, 3.0, 12.0])
def test_a_wave_from_row_to_row_is_damped_as_the_formula_says(length: float) -> None:
    period = 20
    wave = np.cos(2 * np.pi * np.arange(400) / period)[:, None]
    filtered = paganin_of_length(length)(block_of(1 + 0.5 * np.tile(wave, (1, 1, 40)))).data
    damping = 1 / (1 + (length * 2 * np.pi / period) ** 2)
    inside = slice(100, 300)
    # what lies beyond 6 l, on both sides: exp(-6) of a wave of 0.5
    expected = np.broadcast_to(1 + 0.5 * damping * wave[inside], (200, 40))
    np.testing.assert_allclose(filtered[0, inside], expected, atol=1.3e-3)


@pytest.mark.parametrize("length", [2.0, 8.0, 100.0])
def test_an_even_transmission_stays_as_it_is(length: float) -> None:
    filtered = paganin_of_length(length)(block_of(np.full((2, 50, 40), 0.7))).data
    np.testing.assert_allclose(filtered, 0.7, rtol=1e-6)


@pytest.mark.parametrize("length", [1.0, 3.0, 8.0])
def test_tiles_are_counted_from_the_first_row_of_the_detector(
    length: float, rng: np.random.Generator
) -> None:
    """Rows between the edges come out alone, at every place in a tile, as among all."""
    correction, whole = paganin_of_length(length), block_of(rng.uniform(size=(1, 160, 30)))
    among, halo = correction(whole).data, correction.halo(whole.geometry)
    for row in range(72, 88):
        alone = correction(whole.trim_rows(row - halo, row + 1 + halo)).data
        assert alone[:, halo].tobytes() == among[:, row].tobytes()


def test_the_halo_is_felt(rng: np.random.Generator) -> None:
    """A halo of half the size gives other values: the contract is not met by ignoring the rows."""
    correction, whole = paganin_of_length(3.0), block_of(rng.uniform(0.5, 1, size=(1, 128, 30)))
    among = correction(whole).data[:, 64:96]
    half = correction.margin(whole.geometry) // 2
    alone = correction(whole.trim_rows(64 - half, 96 + half)).data[:, half:-half]
    assert np.abs(alone - among).max() > 1e-4


def test_fringes_of_a_pure_phase_edge_go() -> None:
    """Forward by the transport of intensity, back by the filter: the absorption alone remains."""
    thickness = np.pad(np.ones((40, 40)), 44)
    thickness = unbounded(thickness, 1.0)
    absorbed = np.exp(-0.3 * thickness)
    length = 4.0
    rows, columns = (2 * np.pi * np.fft.fftfreq(size) for size in absorbed.shape)
    fringes = np.fft.ifft2(
        np.fft.fft2(absorbed) * (1 + length**2 * (rows[:, None] ** 2 + columns**2))
    ).real
    assert np.ptp(fringes) > 2 * np.ptp(absorbed)
    retrieved = paganin_of_length(length)(block_of(fringes[None])).data[0]
    np.testing.assert_allclose(retrieved, absorbed, atol=0.005 * np.ptp(fringes))


def test_values_that_are_missing_stay_so_and_are_bridged() -> None:
    data = np.full((2, 40, 50), 0.55, dtype=np.float32)
    data[1, 20, 30], data[1, 21, 0], data[1, 5, 10:13] = np.nan, np.inf, -np.inf
    filtered = paganin_of_length(2.0)(block_of(data)).data
    missing = ~np.isfinite(data)
    np.testing.assert_array_equal(np.isnan(filtered), missing)
    np.testing.assert_allclose(filtered[~missing], 0.55, rtol=1e-6)


def test_a_missing_row_is_felt_within_the_halo_alone(rng: np.random.Generator) -> None:
    correction = paganin_of_length(2.0)
    block = block_of(rng.uniform(0.5, 0.6, size=(1, 160, 50)))
    missing = block.data.copy()
    missing[0, 80] = np.nan
    filtered = correction(block.replace(data=missing)).data
    felt = (filtered != correction(block).data).any(axis=(0, 2))
    assert np.isnan(filtered[0, 80]).all()
    assert np.isfinite(filtered[0, felt]).all(axis=1).sum() == felt.sum() - 1
    assert np.abs(np.flatnonzero(felt) - 80).max() <= correction.halo(block.geometry)


@pytest.mark.parametrize(
    "given", [{"energy_kev": 20.0}, {"distance_mm": 100.0}, {}], ids=["distance", "energy", "both"]
)
def test_energy_and_distance_must_be_known(given: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match="both are needed"):
        Paganin(delta_beta=100, **given)(block_of(np.ones((1, 4, 4))))


def test_an_unknown_pixel_size_is_refused() -> None:
    block = block_of(np.ones((1, 4, 4))).replace(geometry=ParallelBeam(np.zeros(1), 4, 4))
    with pytest.raises(InputError, match="needs the pixel size"):
        Paganin(delta_beta=100, energy_kev=20, distance_mm=100)(block)


def test_an_emission_signal_is_refused() -> None:
    with pytest.raises(InputError, match="leave paganin out"):
        paganin_of_length(1.0)(block_of(np.ones((1, 4, 4)), signal="emission"))


@pytest.mark.parametrize("name", ["delta_beta", "energy_kev", "distance_mm"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_lengths_and_energies_are_positive(name: str, value: float) -> None:
    with pytest.raises(RecipeError, match=f"{name} {value}"):
        Paganin(**{"delta_beta": 100.0, name: value})
