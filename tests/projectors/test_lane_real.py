"""Real lines have the spectrum that NumPy gives, and come back from it."""

import numpy as np
import pytest

from tomodask.projectors.lane_fft import (
    FORWARD,
    INVERSE,
    START,
    STEP,
    fft_line,
    line_fft,
    work_samples,
)
from tomodask.projectors.lane_real import half_spectrum, pack_spectrum, real_twiddles
from tomodask.projectors.vectors import LANES, SAMPLE, aligned_empty


@pytest.mark.parametrize("n", [4, 6, 10, 12, 54, 60, 250, 2048, 3456])
def test_real_lines_have_the_spectrum_that_numpy_gives(n: int) -> None:
    h = n // 2
    x, z = aligned_empty(h * SAMPLE), aligned_empty(h * SAMPLE)
    work = aligned_empty(work_samples(h) * SAMPLE)
    x[:] = np.random.default_rng(n).normal(size=x.size)
    spectrum = aligned_empty((h + 1) * SAMPLE)
    fft_line(x, START, STEP, z, work, line_fft(h).arguments, FORWARD)
    half_spectrum(z, h, real_twiddles(n), spectrum, 0, SAMPLE)
    samples = spectrum.reshape(-1, 2, LANES)
    expected = np.fft.rfft(x.reshape(n, LANES), axis=0)
    assert (
        np.abs(samples[:, 0] + 1j * samples[:, 1] - expected).max() <= 2e-6 * np.abs(expected).max()
    )
    pack_spectrum(spectrum, h, real_twiddles(n), z)
    back = aligned_empty(h * SAMPLE)
    fft_line(z, START, STEP, back, work, line_fft(h).arguments, INVERSE)
    assert np.abs(back / n - x).max() < 1e-5
