"""Each law of `tomodask.testing_rays` tells a backend that breaks it."""

import sys
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest

from tomodask.errors import GeometryError
from tomodask.geometry import VoxelViews
from tomodask.projectors import RAY_BACKENDS
from tomodask.projectors.reference_rays import ReferenceRays
from tomodask.testing_rays import (
    RAY_LAWS,
    an_operator_passes_or_is_refused_by_name,
    ray_cases,
)


class Unmatched(ReferenceRays):
    def adjoint(self, projections: np.ndarray) -> np.ndarray:
        return super().adjoint(projections) * np.float32(1.0001)


class Positive(ReferenceRays):
    def forward(self, volume: np.ndarray) -> np.ndarray:
        return np.abs(super().forward(volume))


class HalfARowOff(ReferenceRays):
    def __init__(self, views: VoxelViews, threads: int) -> None:
        super().__init__(replace(views, first=views.first + 0.5 * views.step_v), threads)


class BothSidesOfTheSource(ReferenceRays):
    def forward(self, volume: np.ndarray) -> np.ndarray:
        behind = replace(self.views, step_v=-self.views.step_v, step_u=-self.views.step_u)
        behind = replace(behind, first=2 * self.views.source - self.views.first)
        ahead = super().forward(volume)
        return ahead + ReferenceRays(behind).forward(volume) * (self.views.beam == "cone")


class InVoxels(ReferenceRays):
    def __init__(self, views: VoxelViews, threads: int) -> None:
        cubes = np.broadcast_to(np.eye(3), views.metric.shape)
        super().__init__(replace(views, metric=cubes), threads)


class ThreadDependent(ReferenceRays):
    def __init__(self, views: VoxelViews, threads: int) -> None:
        super().__init__(views, threads)
        self.threads = threads

    def adjoint(self, projections: np.ndarray) -> np.ndarray:
        return super().adjoint(projections) * np.float32(1 + 1e-7 * (self.threads - 1))


class ViewDependent(ReferenceRays):
    def forward(self, volume: np.ndarray) -> np.ndarray:
        return super().forward(volume) * np.float32(1 + 1e-3 / self.views.num_angles)


class DoublePrecision(ReferenceRays):
    def forward(self, volume: np.ndarray) -> np.ndarray:
        return super().forward(volume).astype(np.float64)


class Writing(ReferenceRays):
    def forward(self, volume: np.ndarray) -> np.ndarray:
        volume *= 2
        return super().forward(volume) / 2


class Undeclared(ReferenceRays):
    @staticmethod
    def memory_bytes(views: VoxelViews, threads: int) -> int:
        return -1


class Unsaid(ReferenceRays):
    """It says that it can, and then can't."""

    def __init__(self, views: VoxelViews, threads: int) -> None:
        raise GeometryError("no")


@pytest.fixture
def plug_in(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("rays_plug_in")
    monkeypatch.setitem(sys.modules, "rays_plug_in", module)
    return module


@pytest.mark.parametrize(
    ("backend", "law"),
    [
        (Unmatched, "rays_back_project_by_the_adjoint"),
        (Unmatched, "rays_agree_with_the_reference"),
        (Positive, "rays_project_linearly"),
        (HalfARowOff, "rays_agree_with_the_reference"),
        (HalfARowOff, "rays_through_ellipsoids_are_their_line_integrals"),
        (BothSidesOfTheSource, "rays_agree_with_the_reference"),
        (InVoxels, "rays_are_measured_in_the_world"),
        (InVoxels, "rays_through_ellipsoids_are_their_line_integrals"),
        (ThreadDependent, "threads_do_not_change_a_byte_of_rays"),
        (ViewDependent, "a_view_is_the_same_alone_and_among_others"),
        (DoublePrecision, "rays_read_arrays_of_any_layout"),
        (Writing, "rays_read_arrays_of_any_layout"),
        (Undeclared, "memory_of_rays_is_declared"),
    ],
)
def test_a_broken_backend_is_told(backend: type, law: str, plug_in: ModuleType) -> None:
    plug_in.Rays = backend  # type: ignore[attr-defined]
    with pytest.raises(AssertionError):
        RAY_LAWS[law]("rays_plug_in:Rays")


@pytest.mark.parametrize("backend", [Unmatched, HalfARowOff, Positive, Unsaid])
def test_a_broken_operator_is_told(
    backend: type, plug_in: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    plug_in.Rays = backend  # type: ignore[attr-defined]
    monkeypatch.setitem(RAY_BACKENDS, "broken", "rays_plug_in:Rays")
    with pytest.raises(AssertionError):
        an_operator_passes_or_is_refused_by_name("broken", "cone")


def test_the_cases_are_of_all_kinds() -> None:
    cases = ray_cases().values()
    assert {views.beam for _, views in cases} == {"parallel", "cone"}
    assert {space.is_resting for space, _ in cases} == {True, False}
    assert {space.is_aligned for space, _ in cases} == {True, False}
