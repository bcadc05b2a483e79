"""The ramp and its windows."""

import numpy as np
import pytest

from tomodask.errors import InputError
from tomodask.reconstruct.filters import FILTERS, filter_response, ramp

WINDOWS = sorted(set(FILTERS) - {"none"})


@pytest.mark.parametrize("n", [8, 64, 270, 1000])
def test_the_ramp_is_the_transform_of_the_band_limited_kernel(n: int) -> None:
    offsets = np.fft.fftfreq(n, 1 / n).round().astype(int)
    kernel = [1 / 4 if k == 0 else 0 if k % 2 == 0 else -1 / (np.pi * k) ** 2 for k in offsets]
    np.testing.assert_allclose(ramp(n), np.fft.rfft(kernel).real, atol=1e-14)


def test_the_ramp_is_the_frequency_but_not_zero_at_zero() -> None:
    n = 512
    frequency = np.arange(n // 2 + 1) / n
    np.testing.assert_allclose(ramp(n)[2:], frequency[2:], rtol=2e-2)
    # what a kernel cut at n / 2 lacks: 2 / (pi k)^2 summed over odd k > n / 2
    assert ramp(n)[0] == pytest.approx(2 / (np.pi**2 * n), rel=0.01)


@pytest.mark.parametrize(
    ("name", "at_half", "at_end"),
    [
        ("ramp", 1, 1),
        ("shepp-logan", np.sin(np.pi / 4) / (np.pi / 4), 2 / np.pi),
        ("cosine", np.sqrt(0.5), 0),
        ("hamming", 0.54, 0.08),
        ("hann", 0.5, 0),
        ("parzen", 0.25, 0),
    ],
)
def test_windows_have_their_values(name: str, at_half: float, at_end: float) -> None:
    values = FILTERS[name](np.array([0, 0.5, 1]))
    np.testing.assert_allclose(values, [1, at_half, at_end], atol=1e-12)


@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize("cutoff", [1.0, 0.4])
def test_a_window_only_ever_lowers_the_ramp(name: str, cutoff: float) -> None:
    n = 400
    part = filter_response(name, n, cutoff) / ramp(n)
    assert (np.diff(part) <= 1e-12).all()
    assert part[0] == pytest.approx(1)
    assert (part[np.arange(n // 2 + 1) > cutoff * n / 2] == 0).all()
    assert part[round(0.3 * cutoff * n / 2)] > 0.4


@pytest.mark.parametrize("name", WINDOWS)
def test_the_cutoff_stretches_the_window(name: str) -> None:
    whole = filter_response(name, 400, 1.0) / ramp(400)
    half = filter_response(name, 400, 0.5) / ramp(400)
    np.testing.assert_allclose(half[:101], whole[::2], atol=1e-12)


def test_none_passes_everything() -> None:
    np.testing.assert_array_equal(filter_response("none", 64), np.ones(33))


@pytest.mark.parametrize("cutoff", [0.0, -1.0, 1.5, float("nan")])
def test_a_cutoff_out_of_range_is_refused(cutoff: float) -> None:
    with pytest.raises(InputError, match="0 < cutoff <= 1"):
        filter_response("ramp", 64, cutoff)


def test_an_unknown_filter_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="'hanning': there are ramp, shepp-logan"):
        filter_response("hanning", 64)
