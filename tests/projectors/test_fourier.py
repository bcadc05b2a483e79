"""The Fourier projector against direct sums, exact transforms and FINUFFT."""

import os
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from tomodask.errors import GeometryError
from tomodask.geometry import Box, ParallelBeam
from tomodask.projectors import Projector, make_projector
from tomodask.projectors.fourier import FourierBackend, _last_plane
from tomodask.projectors.lane_grid import GROUP_STRIPS, STRIP_ROWS
from tomodask.projectors.lane_plane import grid_shape
from tomodask.projectors.lines import line_length
from tomodask.projectors.vectors import LANES
from tomodask.reconstruct import FBP
from tomodask.reconstruct.filters import filter_response

HALF_TURN = np.linspace(0, np.pi, 60, endpoint=False)
NUFFT_ERROR = 1.5e-3  # of the norm, for white noise: what a kernel of 4 cells reaches


def projector(
    shape: tuple[int, int, int],
    det_count: int,
    center: float,
    angles: np.ndarray = HALF_TURN,
    backend: str = "fourier",
    threads: int = 1,
    **more: object,
) -> Projector:
    geometry = ParallelBeam(angles, shape[0], det_count, center_of_rotation=center, **more)
    return make_projector(Box((0, 0, 0), shape), geometry, backend, threads)


def norm_of_difference(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("shape_yx", [(12, 12), (11, 13), (12, 9), (1, 7)])
def test_projection_is_the_direct_sum_over_pixels_and_frequencies(
    shape_yx: tuple[int, int], rng: np.random.Generator
) -> None:
    angles, center, shifts = np.array([0.0, 0.4, 2.2, 5.1]), 6.3, np.array([0, 1.5, 0, -0.7])
    image = rng.normal(size=shape_yx)
    n = line_length(14, shape_yx, center, 1.5)
    y, x = (np.arange(size) - (size - 1) / 2 for size in shape_yx)
    s = x * np.cos(angles[:, None, None]) + y[:, None] * np.sin(angles[:, None, None])
    frequency = np.arange(1 - n // 2, n // 2) / n
    columns = np.arange(14) - center - shifts[:, None]
    waves = np.exp(2j * np.pi * frequency[:, None, None] * columns)
    spectra = np.exp(-2j * np.pi * frequency[:, None, None, None] * s) * image
    expected = np.einsum("fayx,fau->au", spectra, waves).real / n
    A = projector((1, *shape_yx), 14, center, angles, column_shifts=shifts)
    assert norm_of_difference(A(image[None])[0], expected) < NUFFT_ERROR


def test_a_gaussian_is_projected_exactly() -> None:
    """Its transform has died away before the pixels' frequency, so there is no other error."""
    angles, sigma, center = np.linspace(0, 3, 7), 2.5, 22.6
    y, x = np.mgrid[:47, :48] - np.array([23, 23.5])[:, None, None]
    image = np.exp(-((x - 3) ** 2 + (y + 5) ** 2) / (2 * sigma**2))
    s = np.arange(46) - center - (3 * np.cos(angles) - 5 * np.sin(angles))[:, None]
    exact = np.sqrt(2 * np.pi) * sigma * np.exp(-(s**2) / (2 * sigma**2))
    found = projector((1, 47, 48), 46, center, angles)(image[None])[0]
    assert np.abs(found - exact).max() < NUFFT_ERROR * exact.max()


ANGLE_SETS = {
    "half a turn": HALF_TURN,
    "a full turn": np.linspace(0, 2 * np.pi, 90, endpoint=False),
    "golden angles": np.arange(70) * np.pi * (np.sqrt(5) - 1) / 2,
    "uneven, backwards, over several turns": -np.sort(np.cos(np.arange(50.0))) * 9,
    "on the axes": np.array([0, np.pi / 2, np.pi, 3 * np.pi / 2, -np.pi / 2, 2 * np.pi]),
}


@pytest.mark.parametrize("angles", ANGLE_SETS.values(), ids=list(ANGLE_SETS))
def test_finufft_agrees_at_any_angles(angles: np.ndarray, rng: np.random.Generator) -> None:
    """On white noise, on a leaning axis and shifted views, where both take lines of one length."""
    shifts = 2 * np.sin(np.arange(angles.size))
    law, A = (
        projector((3, 40, 40), 40, 18.2, angles, backend, center_slope=0.4, column_shifts=shifts)
        for backend in ("finufft", "fourier")
    )
    lengths = {line_length(40, (40, 40), center, 2) for center in A._backend.centers}
    assert lengths == {law._backend._lines(row).length for row in range(3)}
    x, y = rng.normal(size=A.domain_shape), rng.normal(size=A.range_shape)
    assert norm_of_difference(A(x), law(x)) < NUFFT_ERROR
    assert norm_of_difference(A.T(y), law.T(y)) < NUFFT_ERROR


@pytest.mark.parametrize("num_rows", [1, LANES - 1, LANES, LANES + 1, 2 * LANES + 5])
def test_batches_of_any_length_give_the_bytes_of_single_rows(
    num_rows: int, rng: np.random.Generator
) -> None:
    A = projector((num_rows, 33, 34), 35, 16.1, center_slope=0.02)
    y, x = rng.normal(size=A.range_shape), rng.normal(size=A.domain_shape)
    fbp, forward = FBP()(y, A), A(x)
    for row in {0, num_rows // 2, num_rows - 1}:
        alone = make_projector(
            Box((0, 0, 0), (1, 33, 34)), A.geometry.take_rows(row, row + 1), "fourier"
        )
        assert FBP()(y[row : row + 1], alone).tobytes() == fbp[row].tobytes()
        assert alone(x[row : row + 1]).tobytes() == forward[row].tobytes()


def test_threads_that_share_a_grid_give_the_same_bytes(rng: np.random.Generator) -> None:
    """A slice so large that its grid is several groups, each with strips of its own."""
    shape = (LANES, 250, 200)
    assert grid_shape(shape[1:])[0] // 2 > 2 * GROUP_STRIPS * STRIP_ROWS
    one, three = (projector(shape, 220, 107.3, threads=threads) for threads in (1, 3))
    y = rng.normal(size=one.range_shape).astype(np.float32)
    volume = FBP()(y, one)
    assert FBP()(y, three).tobytes() == volume.tobytes()
    assert three(volume).tobytes() == one(volume).tobytes()
    assert norm_of_difference(one.T(y), projector(shape, 220, 107.3, backend="finufft").T(y)) < 0.1


def test_a_slice_too_large_for_the_filter_is_filtered_before(rng: np.random.Generator) -> None:
    angles = HALF_TURN
    y = rng.normal(size=(2, angles.size, 30)).astype(np.float32)
    A, law = (
        projector((2, 90, 95), 30, 14.2, angles, backend) for backend in ("fourier", "finufft")
    )
    assert norm_of_difference(FBP()(y, A), FBP()(y, law)) < 2 * NUFFT_ERROR


@pytest.mark.parametrize("half", [7 * 11, 64, 256])
def test_filters_of_any_length_are_applied(half: int, rng: np.random.Generator) -> None:
    """One that has no fast transform, one shorter than a line, one much longer."""
    y = gaussian_filter1d(rng.normal(size=(2, 60, 64)), 2) * np.hanning(64)
    response, weights = filter_response("hann", 2 * half), np.full(60, 0.1)
    A, law = (projector((2, 64, 64), 64, 31.2, backend=name) for name in ("fourier", "finufft"))
    found, expected = (B.filtered_adjoint(y, response, weights)[:, 8:-8, 8:-8] for B in (A, law))
    assert norm_of_difference(found, expected) < 5 * NUFFT_ERROR


def test_new_plans_give_the_same_bytes(rng: np.random.Generator) -> None:
    y = rng.normal(size=(1, HALF_TURN.size, 40)).astype(np.float32)
    volumes = []
    for _ in range(3):
        _last_plane.cache_clear()
        volumes.append(FBP()(y, projector((1, 40, 40), 40, 19.3)).tobytes())
    assert len(set(volumes)) == 1


def test_blocks_of_one_scan_share_their_plan() -> None:
    _last_plane.cache_clear()
    for _ in range(3):
        A = projector((2, 20, 20), 20, 9.5)
        A.T(A(np.ones(A.domain_shape)))
    assert _last_plane.cache_info().misses == 1


def test_projectors_that_take_turns_keep_their_plans() -> None:
    """As ordered subsets do."""
    odd, even = (projector((1, 20, 20), 20, 9.5, HALF_TURN[k::2]) for k in (0, 1))
    _last_plane.cache_clear()
    for _ in range(3):
        for A in (odd, even):
            A(np.ones(A.domain_shape))
    assert _last_plane.cache_info().misses == 2


def test_memory_is_given_back_with_the_projector() -> None:
    A = projector((1, 20, 20), 20, 9.5)
    A(np.ones(A.domain_shape))
    plane = weakref.ref(A._backend._plane(line_length(20, (20, 20), 9.5)))
    assert plane() is not None
    del A
    _last_plane.cache_clear()
    assert plane() is None  # at once: no cycle waits for the collector


def test_a_projector_serves_several_threads_at_once(rng: np.random.Generator) -> None:
    A = projector((1, 32, 32), 32, 15.5, threads=2)
    sinograms = rng.normal(size=(12, *A.range_shape))
    expected = [A.T(y).tobytes() for y in sinograms]
    with ThreadPoolExecutor(4) as pool:
        assert [v.tobytes() for v in pool.map(A.T, sinograms)] == expected


def test_stages_are_timed() -> None:
    A = projector((2, 20, 20), 20, 9.5)
    A.T(A(np.ones(A.domain_shape)))
    assert isinstance(A._backend, FourierBackend)
    assert set(A._backend.stage_seconds) == {"rows", "grid", "slices"}


def test_shifts_that_do_not_fit_the_views_are_refused() -> None:
    with pytest.raises(GeometryError, match=r"column shifts of shape \(3,\) for 60 views"):
        projector((1, 8, 8), 8, 3.5, column_shifts=np.zeros(3))


@pytest.mark.slow
def test_processes_that_start_together_compile_once(tmp_path) -> None:
    """The second waits for the first, and reads what it has compiled."""
    code = (
        "import os, time, numba\n"
        "from tomodask.projectors.fourier import compile_kernels\n"
        "from tomodask.projectors import lane_fft\n"
        "compile_kernels()\n"
        "print(sum(lane_fft.fft_line.stats.cache_misses.values()))"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    compiled = sorted(int(process.communicate()[0]) for process in both)
    assert compiled == [0, 1]
