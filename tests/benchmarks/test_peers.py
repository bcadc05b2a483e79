"""A peer that solves another problem, or solves it worse, would make a ratio worthless."""

from types import ModuleType

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

NONUNIFORM = ["finufft", "ducc0"]


@pytest.fixture
def peers(load_benchmark) -> ModuleType:
    load_benchmark("machine")  # puts the benchmarks on the path
    import peers

    return peers


@pytest.mark.parametrize("columns", [64, 65])
@pytest.mark.parametrize("name", NONUNIFORM)
def test_a_peer_gives_the_slices_that_tomodask_gives(
    peers, load_benchmark, name: str, columns: int
) -> None:
    package, _ = peers.PEERS[name]
    pytest.importorskip(package, reason=f"{package}, a peer of the benchmarks, is not installed")
    accuracy = load_benchmark("accuracy")
    angles = accuracy.half_turn(columns)
    discs = accuracy.foam_slices(columns, 3)  # a pair and one alone
    sinograms = np.stack([one.sinogram(angles, columns) for one in discs])
    expected = load_benchmark("fbp").tomodask_fbp(angles, columns, 2, "fourier")(sinograms)
    found = peers.prepare_peer(name, angles, columns, 2)(sinograms)
    # shorter lines end further below 1/2 a pixel, which leaves 0.02 at edges, 0.002 when smoothed
    assert np.abs(found - expected).max() < 0.05
    assert np.abs(gaussian_filter(found - expected, (0, 1, 1))).max() < 0.005


def test_to_spectra_and_from_spectra_are_adjoint(peers, rng) -> None:
    from peers.lines import PairLines

    lines = PairLines(np.linspace(0, 3, 7), 10, 16, dtype=np.complex128)
    rows, spectra = rng.normal(size=(2, 7, 10)), rng.normal(size=(2, 7 * 16)).view(np.complex128)
    spectra = spectra.reshape(-1)
    found_spectra, found_rows = lines.line_buffer(), np.empty_like(rows)
    lines.to_spectra(rows, found_spectra)
    lines.from_spectra(spectra, found_rows)
    there = np.vdot(spectra, found_spectra)
    back = np.vdot(found_rows[0] + 1j * found_rows[1], rows[0] + 1j * rows[1])
    assert there == pytest.approx(back, rel=1e-12)


def test_threads_share_all_pairs(peers) -> None:
    from peers.lines import side_by_side

    done: list[slice] = []
    side_by_side(lambda thread, pair: done.append(pair), 5, threads=2)
    assert sorted((pair.start, pair.stop) for pair in done) == [(0, 2), (2, 4), (4, 5)]
