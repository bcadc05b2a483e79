"""Shares of photons: independent, without loss, the same for any block."""

import numpy as np
import pytest

from tomodask.errors import InputError
from tomodask.geometry import ParallelBeam
from tomodask.learn.thinning import thin_counts
from tomodask.preprocess import Flatfield, MinusLog, apply_corrections
from tomodask.projections import Projections

GAIN, DARK, OPEN = 4.0, 100, 40.0


def block(rng, thickness=0.7, views=400, rows=4, columns=24, row_start=0) -> Projections:
    """Photons behind a slab of even thickness, as counts."""
    photons = rng.poisson(OPEN * np.exp(-thickness), (views, rows, columns))
    geometry = ParallelBeam(
        angles=np.linspace(0, np.pi, views, endpoint=False), det_rows=rows, det_count=columns,
        row_start=row_start,
    )  # fmt: skip
    flats = np.full((5, rows, columns), DARK + GAIN * OPEN)
    return Projections(
        (DARK + GAIN * photons).astype(np.uint16), geometry, flats=flats.astype(np.uint16),
        darks=np.full((5, rows, columns), DARK, np.uint16), gain=GAIN,
    )  # fmt: skip


def photons_of(share: Projections, num_splits: int) -> np.ndarray:
    return np.rint((share.data - DARK) / (GAIN * num_splits)).astype(int)


@pytest.mark.parametrize("num_splits", [2, 3, 4])
def test_every_photon_is_in_one_share(num_splits, rng):
    raw = block(rng)
    shares = list(thin_counts(raw, num_splits, 1))
    total = sum(photons_of(share, num_splits) for share in shares)
    np.testing.assert_array_equal(total, (raw.data.astype(int) - DARK) / GAIN)
    assert all(share.gain == num_splits * GAIN for share in shares)


def test_shares_are_poisson_and_know_nothing_of_each_other(rng):
    a, b, *_ = (photons_of(share, 4).ravel() for share in thin_counts(block(rng), 4, 1))
    mean = OPEN * np.exp(-0.7) / 4
    error = np.sqrt(mean / a.size)
    assert abs(a.mean() - mean) < 4 * error
    assert a.var() / a.mean() == pytest.approx(1, abs=4 * np.sqrt(2 / a.size))
    assert abs(np.corrcoef(a, b)[0, 1]) < 4 / np.sqrt(a.size)


def test_halves_dealt_by_view_are_not_what_is_made(rng):
    """A share of all photons with a fixed number each would be anticorrelated: this is not."""
    raw = block(rng)
    even = raw.replace(data=np.full_like(raw.data, DARK + int(GAIN * 20)))
    a, b, *_ = (photons_of(share, 2).ravel() for share in thin_counts(even, 2, 1))
    assert np.corrcoef(a, b)[0, 1] == pytest.approx(-1)  # of a fixed sum, as it must be


@pytest.mark.parametrize("thickness", [0.0, 0.7, 1.5])
def test_line_integrals_of_a_share_are_right_on_average(thickness, rng):
    for share in thin_counts(block(rng, thickness, views=2000), 2, 3):
        found = apply_corrections((Flatfield(), MinusLog()), share).data
        counts = OPEN * np.exp(-thickness) / 2
        # a logarithm of so few photons is off by some 1/n**2 even with half a count more
        bias = 1 / counts**2
        error = 4 / np.sqrt(counts * found.size)
        assert abs(found.mean() - thickness) < error + bias


def test_a_row_is_dealt_alike_in_any_block(rng):
    whole = block(rng, rows=6, row_start=10)
    part = whole.trim_rows(12, 15)
    for a, b in zip(thin_counts(whole, 3, 5), thin_counts(part, 3, 5), strict=True):
        np.testing.assert_array_equal(a.data[:, 2:5], b.data)


def test_another_seed_deals_otherwise(rng):
    raw = block(rng)
    a, b = (next(iter(thin_counts(raw, 2, seed))).data for seed in (1, 2))
    assert not np.array_equal(a, b)


def test_without_a_gain_it_is_refused_with_the_way_out(rng):
    with pytest.raises(InputError, match="give --gain"):
        next(iter(thin_counts(block(rng).replace(gain=None), 2, 0)))


def test_corrected_data_are_refused(rng):
    raw = block(rng)
    with pytest.raises(InputError, match="raw counts of a transmission scan"):
        next(iter(thin_counts(raw.replace(data=raw.data.astype(np.float32)), 2, 0)))
