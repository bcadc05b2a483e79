"""The Fourier projector against direct sums and exact transforms."""

import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tomodask.geometry import Box, ParallelBeam
from tomodask.projectors import Projector, make_projector
from tomodask.projectors.finufft import _last_lines
from tomodask.projectors.lines import line_length
from tomodask.reconstruct import FBP


def fourier(
    angles: np.ndarray, shape_yx: tuple[int, int], det_count: int, center: float, threads: int = 1
) -> Projector:
    geometry = ParallelBeam(angles, 1, det_count, center_of_rotation=center)
    return make_projector(Box((0, 0, 0), (1, *shape_yx)), geometry, "finufft", threads)


@pytest.mark.parametrize("shape_yx", [(12, 12), (11, 13), (12, 9)])
def test_projection_is_the_direct_sum_over_pixels_and_frequencies(
    shape_yx: tuple[int, int], rng: np.random.Generator
) -> None:
    angles, center = np.array([0.0, 0.4, 2.2]), 6.3
    image = rng.normal(size=shape_yx)
    n = line_length(14, shape_yx, center)
    y, x = (np.arange(size) - (size - 1) / 2 for size in shape_yx)
    s = x * np.cos(angles[:, None, None]) + y[:, None] * np.sin(angles[:, None, None])
    frequency = np.arange(-((n - 1) // 2), (n + 1) // 2) / n
    waves = np.exp(2j * np.pi * frequency[:, None] * (np.arange(14) - center))
    spectra = np.exp(-2j * np.pi * frequency[:, None, None, None] * s) * image
    expected = np.einsum("fayx,fu->au", spectra, waves).real / n
    found = fourier(angles, shape_yx, 14, center)(image[None])[0]
    # FINUFFT was asked for 1e-4 of the norm
    assert np.linalg.norm(found - expected) < 3e-4 * np.linalg.norm(expected)


def test_a_gaussian_is_projected_exactly() -> None:
    """Its transform has died away before the pixels' frequency, so there is no other error."""
    angles, sigma, center = np.linspace(0, 3, 7), 2.5, 22.6
    y, x = np.mgrid[:47, :48] - np.array([23, 23.5])[:, None, None]
    image = np.exp(-((x - 3) ** 2 + (y + 5) ** 2) / (2 * sigma**2))
    s = np.arange(46) - center - (3 * np.cos(angles) - 5 * np.sin(angles))[:, None]
    exact = np.sqrt(2 * np.pi) * sigma * np.exp(-(s**2) / (2 * sigma**2))
    found = fourier(angles, (47, 48), 46, center)(image[None])[0]
    assert np.abs(found - exact).max() < 3e-4 * exact.max()


def test_new_plans_give_the_same_bytes(rng: np.random.Generator) -> None:
    angles = np.linspace(0, np.pi, 50, endpoint=False)
    y = rng.normal(size=(1, 50, 40)).astype(np.float32)
    volumes = []
    for _ in range(3):
        _last_lines.cache_clear()
        volumes.append(FBP()(y, fourier(angles, (40, 40), 40, 19.3)).tobytes())
    assert len(set(volumes)) == 1


def test_blocks_of_one_scan_share_their_plans() -> None:
    angles = np.linspace(0, np.pi, 30, endpoint=False)
    _last_lines.cache_clear()
    for _ in range(3):
        A = fourier(angles, (20, 20), 20, 9.5)
        A.T(A(np.ones(A.domain_shape)))
    assert _last_lines.cache_info().misses == 1


def test_projectors_that_take_turns_keep_their_plans() -> None:
    """As ordered subsets do."""
    odd, even = (fourier(np.arange(k, 30, 2) / 10, (20, 20), 20, 9.5) for k in (0, 1))
    _last_lines.cache_clear()
    for _ in range(3):
        for A in (odd, even):
            A(np.ones(A.domain_shape))
    assert _last_lines.cache_info().misses == 2


def test_memory_is_given_back_with_the_projector() -> None:
    A = fourier(np.linspace(0, 3, 30), (20, 20), 20, 9.5)
    A(np.ones(A.domain_shape))
    length = line_length(20, (20, 20), 9.5)
    lines = weakref.ref(
        _last_lines(A.geometry.angles.tobytes(), np.zeros(30).tobytes(), (20, 20), length)
    )
    assert lines() is not None
    del A
    _last_lines.cache_clear()
    assert lines() is None  # at once: no cycle waits for the collector


def test_a_projector_serves_several_threads_at_once(rng: np.random.Generator) -> None:
    A = fourier(np.linspace(0, np.pi, 40, endpoint=False), (32, 32), 32, 15.5, threads=2)
    sinograms = rng.normal(size=(12, *A.range_shape))
    expected = [A.T(y).tobytes() for y in sinograms]
    with ThreadPoolExecutor(4) as pool:
        assert [v.tobytes() for v in pool.map(A.T, sinograms)] == expected


def test_what_a_thread_raises_is_raised() -> None:
    geometry = ParallelBeam(np.zeros(3), 2, 8, center_of_rotation=3.5)
    A = make_projector(Box((0, 0, 0), (2, 8, 8)), geometry, "finufft", threads=2)
    with pytest.raises(ValueError, match="broadcast"):
        A._backend.adjoint(np.zeros((2, 2, 8), np.float32))  # a view too few, past the checks
