"""Any geometry on the processor: each view by the fastest kernel that can project it."""

import numpy as np
import pytest

from tests.projectors.ray_cases import noise, relative
from tomodask.geometry import in_voxels
from tomodask.projectors.joseph_cone import JosephCone
from tomodask.projectors.joseph_rays import JosephRays
from tomodask.projectors.numba_cpu import NumbaRays
from tomodask.projectors.reference_rays import ReferenceRays
from tomodask.testing_rays import ray_cases


def kernels(case: str) -> list[type]:
    return [type(pair) for _, pair in NumbaRays(in_voxels(*ray_cases()[case]), 1)._pairs]


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("cone", [JosephCone]),
        ("helical", [JosephCone]),
        ("parallel", [JosephCone]),
        ("laminography", [JosephRays]),
        ("posed view by view", [JosephRays]),
        ("steep cone", [JosephCone, JosephRays]),
    ],
)
def test_views_get_the_fastest_kernel_that_can_project_them(
    case: str, expected: list[type]
) -> None:
    assert kernels(case) == expected


def test_views_of_different_kernels_are_put_together() -> None:
    views = in_voxels(*ray_cases()["steep cone"])
    pair, law = NumbaRays(views, 2), ReferenceRays(views)
    x, y = noise(views.shape), noise(views.range_shape)
    assert relative(pair.forward(x), law.forward(x)) < 2e-6
    assert relative(pair.adjoint(y), law.adjoint(y)) < 2e-6


def test_no_geometry_is_refused_and_memory_is_declared() -> None:
    for case in ray_cases().values():
        views = in_voxels(*case)
        assert NumbaRays.refusal(views) is None
        assert NumbaRays.memory_bytes(views, 2) > 4 * np.prod(views.shape)
