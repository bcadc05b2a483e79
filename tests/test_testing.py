"""Each law of `tomodask.testing` tells a backend that breaks it."""

import sys
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest

from tomodask.geometry import ParallelBeam
from tomodask.projectors.reference import ReferenceBackend
from tomodask.testing import PROJECTOR_LAWS

Shape = tuple[int, int]


class Mirrored(ReferenceBackend):
    def __init__(self, shape_yx: Shape, geometry: ParallelBeam, threads: int) -> None:
        super().__init__(shape_yx, replace(geometry, angles=-geometry.angles), threads)


class HalfAPixelOff(ReferenceBackend):
    def __init__(self, shape_yx: Shape, geometry: ParallelBeam, threads: int) -> None:
        moved = geometry.with_center(geometry.centers()[0] + 0.5, geometry.center_slope)
        super().__init__(shape_yx, moved, threads)


class UprightAxis(ReferenceBackend):
    def __init__(self, shape_yx: Shape, geometry: ParallelBeam, threads: int) -> None:
        super().__init__(shape_yx, replace(geometry, center_slope=0.0), threads)


class Unmatched(ReferenceBackend):
    def adjoint(self, sinograms: np.ndarray) -> np.ndarray:
        return super().adjoint(sinograms) * np.float32(1.0001)


class Positive(ReferenceBackend):
    def forward(self, volume: np.ndarray) -> np.ndarray:
        return np.abs(super().forward(volume))


class WrongScale(ReferenceBackend):
    def filtered_adjoint(self, sinograms: np.ndarray, row_filter: object) -> np.ndarray:
        return 1.02 * self.adjoint(sinograms)


class Leaking(ReferenceBackend):
    def adjoint(self, sinograms: np.ndarray) -> np.ndarray:
        volume = super().adjoint(sinograms)
        volume[1:] += 1e-7 * volume[:-1]
        return volume


class ThreadDependent(ReferenceBackend):
    def __init__(self, shape_yx: Shape, geometry: ParallelBeam, threads: int) -> None:
        super().__init__(shape_yx, geometry, threads)
        self.threads = threads

    def adjoint(self, sinograms: np.ndarray) -> np.ndarray:
        return super().adjoint(sinograms) * np.float32(1 + 1e-7 * (self.threads - 1))


class DoublePrecision(ReferenceBackend):
    def forward(self, volume: np.ndarray) -> np.ndarray:
        return super().forward(volume).astype(np.float64)


class Undeclared(ReferenceBackend):
    @staticmethod
    def row_bytes(num_angles: int, det_count: int, shape_yx: Shape) -> int:
        return -1


@pytest.mark.parametrize(
    ("backend", "law"),
    [
        (Mirrored, "projections_of_discs_are_their_line_integrals"),
        (Mirrored, "fbp_does_not_mirror"),
        (HalfAPixelOff, "fbp_puts_a_disc_in_its_place"),
        (UprightAxis, "projections_of_smooth_objects_agree_with_the_reference"),
        (Unmatched, "back_projection_is_the_adjoint"),
        (Positive, "projection_is_linear"),
        (WrongScale, "filtered_adjoint_is_filtering_then_the_adjoint"),
        (WrongScale, "fbp_gives_a_disc_its_value"),
        (Leaking, "a_row_is_the_same_alone_and_among_others"),
        (Leaking, "a_missing_row_spoils_no_other"),
        (ThreadDependent, "threads_do_not_change_a_byte"),
        (DoublePrecision, "arrays_of_any_layout_are_read_and_left_alone"),
        (Undeclared, "memory_is_declared"),
    ],
)
def test_a_broken_backend_is_told(backend: type, law: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in = ModuleType("plug_in")
    plug_in.Backend = backend  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "plug_in", plug_in)
    with pytest.raises(AssertionError):
        PROJECTOR_LAWS[law]("plug_in:Backend")
