"""Learned filters: folded is what was fitted, one filter is least squares, noise is not learnt."""

import numpy as np
import pytest

from tomodask.errors import FormatError, InputError
from tomodask.geometry import Box, ParallelBeam
from tomodask.learn.noise2filter import (
    LearnedFilters,
    Noise2Filter,
    basis_kernels,
    basis_of,
    collect,
    filters_from,
    fit,
    kernel_response,
    lag_bins,
    learn_filters,
    ramp_kernel,
)
from tomodask.phantom import foam
from tomodask.projectors import make_projector
from tomodask.reconstruct import FBP
from tomodask.reconstruct.filters import filter_response

ROWS, SIDE, VIEWS, NUM_SPLITS = 4, 64, 256, 4
SPLITS = [np.arange(k, VIEWS, NUM_SPLITS) for k in range(NUM_SPLITS)]
QUICK = Noise2Filter(units=3, voxels=20_000, iterations=60)


@pytest.fixture(scope="module")
def scan():
    """Noisy and clean sinograms of a foam, and their projector."""
    sample = foam(0.43 * SIDE, ROWS, 12, 4, attenuation=0.03)
    angles = np.arange(VIEWS) * np.pi / VIEWS
    clean = np.swapaxes(sample.project(angles, ROWS, SIDE, (SIDE - 1) / 2), 0, 1)
    noisy = clean + np.random.default_rng(0).normal(0, 0.3, clean.shape)
    geometry = ParallelBeam(
        angles=angles, det_rows=ROWS, det_count=SIDE, center_of_rotation=(SIDE - 1) / 2
    )
    A = make_projector(Box((0, 0, 0), (ROWS, SIDE, SIDE)), geometry)
    return noisy.astype(np.float32), clean.astype(np.float32), A


def error(volume, A, clean) -> float:
    truth = FBP()(clean, A)
    inside = np.hypot(*(np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2)) < 0.98 * SIDE / 2
    return float(np.sqrt(np.mean((volume - truth)[:, inside] ** 2)))


@pytest.mark.parametrize("lags", [2, 3, 16, 100, 512])
def test_bins_cover_every_lag_once(lags):
    bins = lag_bins(lags)
    assert [lag for start, stop in bins for lag in range(start, stop)] == list(range(lags))
    assert len(bins) < 3 + np.log2(lags)


def test_the_ramp_is_in_the_basis(scan):
    noisy, _, A = scan
    lags = 128
    basis = basis_kernels(lags)
    np.testing.assert_allclose(basis[: len(lag_bins(lags))].sum(axis=0), ramp_kernel(lags))
    response = kernel_response(ramp_kernel(lags), 2 * lags)
    np.testing.assert_allclose(response, filter_response("ramp", 2 * lags, 1.0), atol=1e-5)
    as_learned = LearnedFilters(ramp_kernel(lags)[None], np.zeros(1), None, 0.0, 1.0, 0.0)
    whole = FBP()(noisy, A)
    np.testing.assert_allclose(as_learned(noisy, A), whole, atol=1e-4 * np.abs(whole).max())


def test_folded_filters_give_what_the_features_gave(scan):
    """At voxels that were collected: the network on the features, and FBPs with its filters."""
    noisy, _, A = scan
    samples = collect(noisy, A, SPLITS, QUICK)
    basis = basis_of(A)
    learned = fit(samples, basis, QUICK)
    # kernels back to coefficients of the basis, which is not orthogonal
    coefficients = np.linalg.lstsq(basis.T, learned.kernels.T, rcond=None)[0]
    hidden = np.tanh(samples.features @ coefficients + learned.biases)
    by_features = (hidden @ learned.outer + learned.bias) * learned.scale + learned.shift
    # the same filters on the views of all splits but the first, at the first split's voxels
    others = np.sort(np.concatenate(SPLITS[1:]))
    some = A.views(others)
    volume = learned(np.ascontiguousarray(noisy[:, others]), some)
    rng = np.random.default_rng([QUICK.seed, 0])
    from tomodask.learn.noise2filter import _places

    count = QUICK.voxels // NUM_SPLITS
    place = _places(A.domain_shape, FBP().radius(A.geometry), count, rng, SPLITS)[0]
    found, expected = volume[place], by_features[:count]
    inside = found != 0  # the disc of the fewer views is the same, its edge rounds
    # views of a split weigh by gaps of all views in one, by their own in the other
    assert np.corrcoef(found[inside], expected[inside])[0, 1] > 0.999


def test_one_filter_is_least_squares(scan):
    noisy, _, A = scan
    samples = collect(noisy, A, SPLITS, QUICK)
    linear = fit(samples, basis_of(A), Noise2Filter(units=0))
    assert linear.outer is None
    x = np.column_stack([samples.features, np.ones(len(samples.features))]).astype(np.float64)
    best = np.linalg.lstsq(x, samples.targets.astype(np.float64), rcond=None)[0]
    expected = x @ best
    coefficients = np.linalg.lstsq(basis_of(A).T, linear.kernels[0], rcond=None)[0]
    found = (samples.features @ coefficients + linear.bias) * linear.scale + linear.shift
    mean_error = np.mean((found - samples.targets) ** 2), np.mean((expected - samples.targets) ** 2)
    assert mean_error[0] == pytest.approx(mean_error[1], rel=1e-3)


def test_what_is_learnt_beats_every_window_on_noise(scan):
    noisy, clean, A = scan
    learned = learn_filters(noisy, A, SPLITS, QUICK)
    windows = [FBP(filter="hann", cutoff=c)(noisy, A) for c in (1.0, 0.7, 0.5, 0.35, 0.25)]
    best = min(error(volume, A, clean) for volume in windows)
    assert error(learned(noisy, A), A, clean) < 0.95 * best


def test_the_same_seed_learns_the_same(scan):
    noisy, _, A = scan
    first, second = (learn_filters(noisy, A, SPLITS, QUICK).arrays() for _ in range(2))
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


def test_filters_go_into_arrays_and_back(scan):
    noisy, _, A = scan
    learned = learn_filters(noisy, A, SPLITS, QUICK)
    again = filters_from(learned.arrays())
    np.testing.assert_array_equal(again(noisy, A), learned(noisy, A))
    with pytest.raises(FormatError, match="no learned filters"):
        filters_from({"kernels": learned.kernels})


def test_half_the_views_keep_the_scale(scan):
    _, clean, A = scan
    learned = learn_filters(clean + np.float32(0), A, SPLITS, QUICK)
    half = np.arange(0, VIEWS, 2)
    whole, fewer = learned(clean, A), learned(np.ascontiguousarray(clean[:, half]), A.views(half))
    assert error(fewer, A, clean) < 2 * error(whole, A, clean) + 1e-3
    assert fewer.mean() == pytest.approx(whole.mean(), rel=0.02)


def test_nothing_to_learn_from_is_refused(scan):
    _, _, A = scan
    with pytest.raises(InputError, match="missing or all alike"):
        learn_filters(np.zeros(A.range_shape, np.float32), A, SPLITS, QUICK)
