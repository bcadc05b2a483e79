"""Figures of quality have the values that their definitions give by hand."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from tomodask.errors import InputError
from tomodask.phantom import Discs, disc_image, foam
from tomodask.quality import NINETY_PERCENT, ShellCorrelation, edge_width, fsc, nrmse, psnr, ssim


def test_psnr_of_a_known_error_against_a_known_range():
    truth = np.tile([0.0, 2.0], (6, 3))
    assert psnr(truth + 0.02, truth) == pytest.approx(40)
    assert psnr(truth + 0.02, truth, data_range=0.2) == pytest.approx(20)
    assert psnr(truth, truth) == np.inf


def test_a_mask_leaves_the_rest_out_of_psnr_and_nrmse(rng):
    truth = rng.normal(size=(3, 8, 8))
    volume = truth + 0.1
    volume[:, :, 4:] = np.nan
    mask = np.arange(8) < 4
    assert nrmse(volume, truth, mask) == pytest.approx(0.1 / np.sqrt(np.mean(truth[:, :, :4] ** 2)))
    assert psnr(volume, truth, 1.0, mask) == pytest.approx(20)


def test_missing_voxels_are_refused_and_counted(rng):
    truth = rng.normal(size=(9, 9))
    volume = truth.copy()
    volume[2, 3:5] = np.nan
    for figure in (psnr, nrmse, ssim, fsc):
        with pytest.raises(InputError, match="2 of 81 voxels are missing"):
            figure(volume, truth)


def test_figures_that_mean_nothing_are_refused():
    flat = np.ones((8, 8))
    with pytest.raises(InputError, match="give data_range"):
        psnr(flat, flat + 1)
    with pytest.raises(InputError, match="0 everywhere"):
        nrmse(flat, 0 * flat)
    with pytest.raises(InputError, match="can't be compared"):
        psnr(flat, flat[:4])
    with pytest.raises(InputError, match="leaves none of the 64"):
        nrmse(flat, flat, np.zeros((8, 8), bool))
    with pytest.raises(InputError, match="smaller than the 7 x 7 window"):
        ssim(flat[:5], flat[:5], 1.0)


def test_ssim_of_one_window_is_its_formula(rng):
    v, e = rng.normal(size=(2, 7, 7))
    covariance = np.cov(v.ravel(), e.ravel())  # sample covariance, as scikit-image's default
    c1, c2 = (0.01 * 4) ** 2, (0.03 * 4) ** 2
    expected = (2 * v.mean() * e.mean() + c1) * (2 * covariance[0, 1] + c2)
    expected /= (v.mean() ** 2 + e.mean() ** 2 + c1) * (np.trace(covariance) + c2)
    assert ssim(v, e, data_range=4) == pytest.approx(expected)


def test_ssim_of_a_volume_is_the_mean_of_its_slices(rng):
    v, e = rng.normal(size=(2, 4, 12, 15))
    slices = [ssim(a, b, data_range=4) for a, b in zip(v, e, strict=True)]
    assert ssim(v, e, data_range=4) == pytest.approx(np.mean(slices))
    assert ssim(e, e, data_range=4) == pytest.approx(1)
    mask = np.zeros(v.shape, bool)
    mask[2] = True
    assert ssim(v, e, 4, mask) == pytest.approx(slices[2])


@pytest.mark.parametrize("sigma", [1.0, 1.7])
def test_edge_width_is_the_blur_that_was_applied(sigma):
    discs = Discs([0, 4.3], [0, -20.2], [15.6, 0.1], [1e-3, 0])
    image = gaussian_filter(discs.image(64, 64).astype(np.float64), sigma) + 5e-4
    fit = edge_width(image, [[31.5, 31.5]], [15.6], reach=5)
    # the pixel adds its own variance of 1/12; a curved edge of radius r moves by sigma^2 / 2r
    assert fit.width == pytest.approx(2 * NINETY_PERCENT * np.sqrt(sigma**2 + 1 / 12), rel=0.02)
    assert fit.shift == pytest.approx(-(sigma**2) / (2 * 15.6), abs=0.02)
    assert (fit.inside, fit.outside) == pytest.approx((1.5e-3, 5e-4), rel=0.01)


def test_edges_of_spheres_are_pooled_in_three_dimensions():
    sample = foam(24, 40, 12, seed=3, sphere_radii=(3.5, 5), wall=4)
    keep = np.abs(sample.z - 19.5) < 10
    volume = gaussian_filter(sample.volume(40, 50, 50).astype(np.float64), 1.2)
    centers = np.stack([sample.z, sample.y + 24.5, sample.x + 24.5], axis=1)[keep]
    fit = edge_width(volume, centers, sample.radius[keep], reach=3)
    # spheres this small bend the profile: sigma^2 / r moves and 3 voxels of reach widen it
    assert fit.width == pytest.approx(2 * NINETY_PERCENT * np.sqrt(1.2**2 + 1 / 12), rel=0.1)
    assert fit.outside == pytest.approx(0.01, rel=0.05)


def test_an_ideal_edge_is_as_wide_as_the_pixel_makes_it():
    fit = edge_width(disc_image(64, 64, 20.3), [[31.5, 31.5]], [20.3])
    assert fit.width == pytest.approx(0.8, abs=0.1)


def test_edges_given_in_the_wrong_axes_are_refused():
    image = disc_image(64, 64, 20)
    with pytest.raises(InputError, match="centers must be"):
        edge_width(image, [[1, 2, 3]], [4])
    with pytest.raises(InputError, match="0 voxels lie within"):
        edge_width(image, [[500, 500]], [20])


def test_fsc_of_independent_noise_is_zero_and_of_equal_volumes_one(rng):
    one, two = rng.normal(size=(2, 32, 30, 28))
    noise = fsc(one, two)
    # the scatter that the number of independent coefficients claims, and no more
    spread = noise.correlation * np.sqrt(2 * noise.num_independent)
    assert 0.6 < spread[2:].std() < 1.5
    equal = fsc(one, one)
    assert equal.correlation[1:] == pytest.approx(1)
    assert equal.resolution() is None


def test_fsc_of_signal_and_noise_is_their_share_of_the_power(rng):
    signal = rng.normal(size=(48, 48, 48))
    first, second = (signal + rng.normal(size=signal.shape) for _ in range(2))
    result = fsc(first, second)
    # two parts of equal power: correlation 1/2; shells from 8 on hold 200 coefficients and more
    assert result.correlation[8:] == pytest.approx(0.5, abs=0.2)
    assert np.average(result.correlation, weights=result.num_independent) == pytest.approx(
        0.5, abs=0.01
    )
    assert result.full[8:] == pytest.approx(2 / 3, abs=0.2)


def test_fsc_finds_where_a_low_pass_ends(rng):
    """Signal below 0.2 cycles a voxel only: the resolution is 5 voxels, times the spacing."""
    shape = (64, 64, 64)
    frequency = np.sqrt(sum(f**2 for f in np.meshgrid(*[np.fft.fftfreq(64)] * 3)))
    spectrum = np.fft.fftn(rng.normal(size=shape)) * (frequency < 0.2)
    signal = 2 * np.fft.ifftn(spectrum).real
    first, second = (signal + rng.normal(size=shape) for _ in range(2))
    # one shell is 1/64 cycles wide, and the window smears by about one
    for threshold in (1 / 7, "half-bit"):
        assert fsc(first, second, spacing=0.65).resolution(threshold) == pytest.approx(
            5 * 0.65, rel=0.1
        )


def test_rings_of_a_slice_have_the_frequencies_of_the_slice(rng):
    x = np.arange(40)
    wave = np.cos(2 * np.pi * 10 / 40 * x) * np.ones((30, 1))
    first, second = (wave + 0.3 * rng.normal(size=wave.shape) for _ in range(2))
    result = fsc(first, second, spacing=2.0)
    assert result.frequency[result.correlation.argmax()] == pytest.approx(0.25 / 2)
    assert result.frequency[-1] == pytest.approx(0.5 / 2)


def test_the_half_bit_threshold_asks_for_the_signal_that_carries_half_a_bit():
    shells = ShellCorrelation(np.arange(2.0), np.ones(2), np.array([1.0, 1e12]))
    # log2(1 + SNR) = 1/2 for the whole data; each half has half that SNR, F = SNR / (1 + SNR)
    half_snr = (np.sqrt(2) - 1) / 2
    assert shells.half_bit[1] == pytest.approx(half_snr / (1 + half_snr), abs=1e-4)
    assert shells.half_bit[0] == pytest.approx(1)  # one coefficient can prove nothing
