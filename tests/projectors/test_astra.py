"""Our convention of angles and axes, pinned by ASTRA called in its own terms."""

import numpy as np
import pytest

from tomodask.geometry import Box, ParallelBeam
from tomodask.phantom import chiral_phantom
from tomodask.projectors import make_projector
from tomodask.reconstruct import FBP

astra = pytest.importorskip("astra", reason="astra-toolbox (GPL) is not installed")

SIZE = 64
ANGLES = np.arange(100) * np.pi / 100


@pytest.fixture(scope="module")
def astra_sinogram() -> np.ndarray:
    """The chiral phantom's image projected by ASTRA alone, with ASTRA's angles = -ours.

    In ASTRA y points up the image and in ours down its rows, so it turns the other way around.
    """
    volume = astra.create_vol_geom(SIZE, SIZE)
    views = astra.create_proj_geom("parallel", 1.0, SIZE, -ANGLES)
    projector = astra.create_projector("linear", views, volume)
    image = chiral_phantom(26.0).image(SIZE, SIZE)
    sinogram_id, sinogram = astra.create_sino(image, projector)
    astra.data2d.delete(sinogram_id)
    astra.projector.delete(projector)
    return np.asarray(sinogram)


def test_astra_turned_backwards_sees_our_exact_sinogram(astra_sinogram: np.ndarray) -> None:
    exact = chiral_phantom(26.0).sinogram(ANGLES, SIZE)
    # pixels' edges: 1 % of the chords; turned forwards it would be off by tens of per cent
    assert np.linalg.norm(astra_sinogram - exact) < 0.015 * np.linalg.norm(exact)
    assert np.linalg.norm(astra_sinogram[:, ::-1] - exact) > 0.1 * np.linalg.norm(exact)


@pytest.mark.parametrize("backend", ["reference", "fourier", "astra"])
def test_every_backend_projects_as_astra_does(backend: str, astra_sinogram: np.ndarray) -> None:
    geometry = ParallelBeam(ANGLES, 1, SIZE, center_of_rotation=(SIZE - 1) / 2)
    A = make_projector(Box((0, 0, 0), (1, SIZE, SIZE)), geometry, backend)
    found = A(chiral_phantom(26.0).image(SIZE, SIZE)[None])[0]
    # Joseph's interpolation against none; astra and reference differ by rounding alone
    allowed = 0.01 if backend == "fourier" else 1e-5
    assert np.linalg.norm(found - astra_sinogram) < allowed * np.linalg.norm(astra_sinogram)


@pytest.mark.parametrize("backend", ["reference", "fourier", "astra"])
def test_fbp_of_what_astra_measured_is_the_phantom(
    backend: str, astra_sinogram: np.ndarray
) -> None:
    geometry = ParallelBeam(ANGLES, 1, SIZE, center_of_rotation=(SIZE - 1) / 2)
    A = make_projector(Box((0, 0, 0), (1, SIZE, SIZE)), geometry, backend)
    found = FBP()(astra_sinogram[None], A)[0]
    truth = chiral_phantom(26.0).image(SIZE, SIZE)
    error = np.linalg.norm(found - truth) / np.linalg.norm(truth)
    mirrored = np.linalg.norm(found - truth[::-1]) / np.linalg.norm(truth)
    assert error < 0.12  # sharp discs of few pixels
    assert mirrored > 4 * error


def test_nothing_is_left_in_astra(capfd: pytest.CaptureFixture[str]) -> None:
    def listed() -> list[str]:
        for kind in (astra.data2d, astra.projector, astra.algorithm):
            kind.info()
        return [line for line in capfd.readouterr().out.splitlines() if line[:1].isdigit()]

    before = listed()  # other tests call ASTRA themselves
    geometry = ParallelBeam(ANGLES, 2, 16, center_of_rotation=7.5)
    A = make_projector(Box((0, 0, 0), (2, 16, 16)), geometry, "astra", threads=2)
    A.T(A(np.ones(A.domain_shape)))
    assert listed() == before
