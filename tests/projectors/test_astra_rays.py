"""What can be held without a GPU: the vectors ASTRA is given, lengths, and refusals."""

from dataclasses import replace

import numpy as np
import pytest

from tomodask.errors import DeviceError
from tomodask.geometry import in_voxels, to_astra, volume
from tomodask.testing_rays import cone_views, ray_cases, turning_volume

experimental = pytest.importorskip(
    "astra.experimental", reason="astra-toolbox (GPL) is not installed"
)

from tomodask.projectors.astra_rays import (  # noqa: E402  (it imports astra)
    AstraRays,
    around_the_middle,
    voxel_lengths,
)


@pytest.mark.parametrize("case", ["laminography", "posed view by view", "a volume that turns"])
def test_astra_projects_a_voxel_onto_the_pixel_that_sees_it(case: str) -> None:
    views = in_voxels(*ray_cases()[case])
    geometry = to_astra(around_the_middle(views))
    middle = (np.array(views.shape) - 1) / 2
    for view in range(views.num_angles):
        row, column = 2, 5
        pixel, ray = views.pixels(view)[row, column], views.rays(view)[row, column]
        z, y, x = pixel - 0.37 * ray - middle  # any point on the ray to that pixel
        found = experimental.projectPoint(geometry, x, y, z, view)
        np.testing.assert_allclose(found, (column, row), atol=1e-9)


def test_the_length_of_a_voxel_is_that_of_each_view() -> None:
    angles = np.arange(3.0)
    moving = turning_volume(angles, (4, 4, 4))
    grown = np.array([1.0, 1.5, 2.0])[:, None]
    swelling = replace(moving, w=moving.w * grown, v=moving.v * grown, u=moving.u * grown)
    views = in_voxels(swelling, cone_views(angles, (3, 3))[0])
    np.testing.assert_allclose(voxel_lengths(views), grown[:, 0])
    assert AstraRays.refusal(views) is None


def test_voxels_that_are_no_cubes_are_refused() -> None:
    views = in_voxels(volume(shape=4, size=(4, 4, 8)), cone_views(np.arange(2.0), (3, 3)))
    assert "must be cubes, these are [1. 1. 2.]" in str(AstraRays.refusal(views))
    cube = volume(shape=4)
    sheared = replace(cube, v=cube.v + 0.1 * cube.u)
    assert AstraRays.refusal(in_voxels(sheared, cone_views(np.arange(2.0), (3, 3)))) is not None


def test_no_gpu_is_an_error_before_astra_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AstraRays, "has_gpu", staticmethod(lambda: False))
    views = in_voxels(volume(shape=4), cone_views(np.arange(2.0), (3, 3)))
    with pytest.raises(DeviceError, match=r"finds no GPU here.*take the backend numba_cpu"):
        AstraRays(views)
