"""Splits of the views: they sum to the whole, and each is the reconstruction of its views alone."""

import numpy as np
import pytest

from tomodask.errors import InputError
from tomodask.geometry import Box, ParallelBeam
from tomodask.projectors import available_backends, make_projector
from tomodask.reconstruct import FBP, SIRT
from tomodask.reconstruct.splits import reconstruct_splits, split_shares, weighted_sum

ROWS, WIDTH = 3, 48


def scan(angles, rng, backend="fourier", **changes):
    """Sinograms of noise, and A: the laws hold for any values."""
    geometry = ParallelBeam(
        angles=np.asarray(angles), det_rows=ROWS, det_count=WIDTH,
        **{"center_of_rotation": 22.3, **changes},
    )  # fmt: skip
    A = make_projector(Box((0, 0, 0), (ROWS, WIDTH, WIDTH)), geometry, backend, threads=2)
    return rng.normal(size=A.range_shape).astype(np.float32), A


HALF = np.arange(90) * np.pi / 90
CASES = {
    "half turn": (HALF, {}),
    "full turn": (2 * HALF, {}),
    "both ends": (np.linspace(0, np.pi, 91), {}),
    "uneven": (np.sort(np.random.default_rng(4).uniform(0, np.pi, 90)), {}),
    "golden angle": (np.arange(89) * np.pi * (np.sqrt(5) - 1) / 2, {}),
    "half acquisition": (2 * HALF, {"center_of_rotation": 9.0}),
    "a centre a row": (HALF, {"center_slope": 0.7}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("num_splits", [2, 3, 4, 8])
def test_the_weighted_sum_of_the_splits_is_fbp_of_all_views(case, num_splits, rng):
    angles, changes = CASES[case]
    y, A = scan(angles, rng, **changes)
    views = [np.arange(k, len(angles), num_splits) for k in range(num_splits)]
    for algorithm in (FBP(), FBP(filter="hann", pad_mode="edge", circle=False)):
        made = reconstruct_splits(algorithm, y, A, views)
        whole = algorithm(y, A)
        assert made.is_weighted_sum
        assert made.weights.sum() == pytest.approx(1, abs=1e-12)
        np.testing.assert_allclose(made.full, whole, atol=1e-5 * np.abs(whole).max())
        np.testing.assert_array_equal(made.full, weighted_sum(made.splits, made.weights))
        np.testing.assert_allclose(
            made.weights, split_shares(algorithm, A.geometry, views), atol=1e-12
        )


@pytest.mark.parametrize("backend", available_backends())
def test_a_split_is_fbp_of_its_views_alone(backend, rng):
    y, A = scan(HALF, rng, backend)
    views = [np.arange(k, 90, 3) for k in range(3)]
    made = reconstruct_splits(FBP(), y, A, views)
    for split, some in zip(made.splits, views, strict=True):
        alone = FBP()(np.ascontiguousarray(y[:, some]), A.views(some))
        np.testing.assert_allclose(split, alone, atol=2e-5 * np.abs(alone).max())


def test_a_row_with_nan_leaves_the_others(rng):
    y, A = scan(HALF, rng)
    views = [np.arange(k, 90, 4) for k in range(4)]
    clean = reconstruct_splits(FBP(), y, A, views).splits
    y[1, 7] = np.nan
    spoilt = reconstruct_splits(FBP(), y, A, views).splits
    np.testing.assert_array_equal(spoilt[:, [0, 2]], clean[:, [0, 2]])


def test_threads_change_no_byte(rng):
    y, A = scan(HALF, rng)
    one = make_projector(Box((0, 0, 0), A.domain_shape), A.geometry, threads=1)
    views = [np.arange(k, 90, 4) for k in range(4)]
    a, b = (reconstruct_splits(FBP(), y, each, views) for each in (A, one))
    np.testing.assert_array_equal(a.splits, b.splits)
    np.testing.assert_array_equal(a.full, b.full)


def test_other_algorithms_are_called_for_each_split_and_for_all(rng):
    y, A = scan(HALF[::3], rng)
    views = [np.arange(k, 30, 2) for k in range(2)]
    algorithm = SIRT(num_iterations=3)
    made = reconstruct_splits(algorithm, y, A, views)
    assert not made.is_weighted_sum
    np.testing.assert_array_equal(made.full, algorithm(y, A))
    alone = algorithm(np.ascontiguousarray(y[:, views[1]]), A.views(views[1]))
    np.testing.assert_array_equal(made.splits[1], alone)


def test_without_the_full_one_nothing_is_summed(rng):
    y, A = scan(HALF, rng)
    views = [np.arange(k, 90, 2) for k in range(2)]
    assert reconstruct_splits(FBP(), y, A, views, with_full=False).full is None


@pytest.mark.parametrize("views", [[np.arange(45)], [np.arange(90), np.arange(5)]])
def test_views_in_no_split_or_in_two_are_refused(views, rng):
    y, A = scan(HALF, rng)
    with pytest.raises(InputError, match="every view is expected in one split"):
        reconstruct_splits(FBP(), y, A, views)
