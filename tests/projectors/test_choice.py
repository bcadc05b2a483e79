"""Which backend is taken, and what is said of those that can't be."""

import logging
import sys
from types import ModuleType

import numpy as np
import pytest

import tomodask as td
from tomodask.errors import DeviceError, GeometryError, InputError, MissingPackageError
from tomodask.geometry import parallel, volume
from tomodask.projectors import RAY_BACKENDS
from tomodask.projectors.choice import SlicePair, backends_for, choose, gpu_backends
from tomodask.projectors.reference_rays import ReferenceRays
from tomodask.testing_rays import cone_views

ANGLES = np.arange(4.0)
SPACE = volume(shape=(3, 6, 6))
SLICES, CONE = parallel(angles=ANGLES, shape=(3, 8)), cone_views(ANGLES, (3, 8))


class GpuRays(ReferenceRays):
    @staticmethod
    def has_gpu() -> bool:
        return True


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine where the backend astra has a GPU, which the reference plays."""
    plug_in = ModuleType("gpu_plug_in")
    plug_in.GpuRays = GpuRays  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gpu_plug_in", plug_in)
    monkeypatch.setitem(RAY_BACKENDS, "astra", "gpu_plug_in:GpuRays")


def test_auto_takes_fourier_for_slices_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "tomodask.projectors.choice"):
        assert td.operator(SPACE, SLICES).backend == "fourier"
    assert "the backend fourier projects: the views are parallel slices" in caplog.messages


def test_auto_takes_numba_cpu_for_other_rays_and_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "tomodask.projectors.choice"):
        assert td.operator(SPACE, CONE).backend == "numba_cpu"
    assert "the backend numba_cpu projects: it is a cone beam" in caplog.messages


def test_a_backend_for_slices_is_refused_other_rays_with_those_that_can() -> None:
    with pytest.raises(
        GeometryError, match="fourier can't project this, it is a cone beam: take reference"
    ):
        td.operator(SPACE, CONE, "fourier")


def test_a_gpu_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("astra")
    from tomodask.projectors.astra_rays import AstraRays

    monkeypatch.setattr(AstraRays, "has_gpu", staticmethod(lambda: False))
    with pytest.raises(
        DeviceError, match=r"astra needs a GPU for this.*take reference or numba_cpu"
    ):
        td.operator(SPACE, CONE, "astra")
    assert isinstance(choose(SPACE, SLICES, "astra", 1).pair, SlicePair)
    assert backends_for(SPACE, CONE) == ["reference", "numba_cpu"]
    assert gpu_backends() == []


def test_a_gpu_that_is_there_is_used_even_for_slices(with_gpu: None) -> None:
    choice = choose(SPACE, SLICES, "astra", 1)
    assert choice.on_gpu
    assert isinstance(choice.pair, GpuRays)
    assert "astra" in backends_for(SPACE, CONE)
    assert gpu_backends() == ["astra"]


def test_an_unknown_backend_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        InputError, match=r"'cuda': there are auto, reference, fourier, .*numba_cpu"
    ):
        td.operator(SPACE, CONE, "cuda")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tomodask.projectors.astra", "tomodask.projectors.astra_rays"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "astra", None)  # as if it were not installed
    with pytest.raises(MissingPackageError, match=r"pip install tomodask\[astra\]"):
        td.operator(SPACE, CONE, "astra")
    assert "astra" not in backends_for(SPACE, SLICES)
