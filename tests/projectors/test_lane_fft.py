"""FFTs along lanes against NumPy's."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tomodask.projectors.lane_fft import (
    FORWARD,
    INVERSE,
    START,
    STEP,
    fft_line,
    line_fft,
    work_samples,
)
from tomodask.projectors.vectors import LANES, SAMPLE, aligned_empty

SIZES = [2**a * 3**b * 5**c for a in range(8) for b in range(4) for c in range(3)][1:]
LARGE = [1024, 1536, 1728, 2160, 3456, 4096, 6000]


def buffers(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return (
        aligned_empty(n * SAMPLE),
        aligned_empty(n * SAMPLE),
        aligned_empty(work_samples(n) * SAMPLE),
    )


def as_complex(line: np.ndarray) -> np.ndarray:
    """(n, LANES)."""
    samples = line.reshape(-1, 2, LANES)
    return samples[:, 0] + 1j * samples[:, 1]


@settings(deadline=None, max_examples=60)
@given(n=st.sampled_from(SIZES + LARGE), sign=st.sampled_from([FORWARD, INVERSE]))
def test_lines_are_transformed_as_numpy_does(n: int, sign: np.int64) -> None:
    x, y, work = buffers(n)
    x[:] = np.random.default_rng(n).normal(size=x.size)
    kept = x.copy()
    fft_line(x, START, STEP, y, work, line_fft(n).arguments, sign)
    lanes = as_complex(x)
    expected = np.fft.ifft(lanes, axis=0) * n if sign == INVERSE else np.fft.fft(lanes, axis=0)
    # float32: about eps log n of the largest
    assert np.abs(as_complex(y) - expected).max() <= 1e-6 * np.abs(expected).max()
    assert np.array_equal(x, kept), "the input was written to"


def test_a_line_may_be_strided_and_begin_anywhere() -> None:
    n = 60
    x, y, _ = buffers(3 * n + 12)
    work = aligned_empty(work_samples(n) * SAMPLE)
    x[:] = np.random.default_rng(0).normal(size=x.size)
    fft_line(x, 1 * STEP, 3 * STEP, y, work, line_fft(n).arguments, FORWARD)
    expected = np.fft.fft(as_complex(x)[1::3][:n], axis=0)
    assert np.abs(as_complex(y)[:n] - expected).max() <= 1e-6 * np.abs(expected).max()


def test_a_lane_knows_nothing_of_the_others() -> None:
    n = 360
    x, y, work = buffers(n)
    x[:] = np.random.default_rng(0).normal(size=x.size)
    fft_line(x, START, STEP, y, work, line_fft(n).arguments, FORWARD)
    alone = y.reshape(-1, LANES)[:, 1].tobytes()
    others = np.arange(LANES) != 1
    x.reshape(-1, LANES)[:, others] *= 1e6
    x.reshape(-1, LANES)[7, 4] = np.nan
    fft_line(x, START, STEP, y, work, line_fft(n).arguments, FORWARD)
    assert y.reshape(-1, LANES)[:, 1].tobytes() == alone
    assert np.isfinite(y.reshape(-1, LANES)[:, np.arange(LANES) != 4]).all()
