"""How much there is to calculate, counted on a tiny slice."""

import numpy as np
import pytest

from tomodask.geometry import ParallelBeam
from tomodask.reconstruct import CGLS, FBP, SART, SIRT
from tomodask.workload import num_projections, slice_work, work_unit


def test_projections_are_counted_as_an_algorithm_makes_them():
    assert num_projections(FBP()) == 1
    assert num_projections(CGLS(5)) == num_projections(CGLS(4)) + 2
    assert num_projections(SIRT(num_iterations=7)) == 7 * 2 + 2  # and its weights


def test_subsets_of_views_count_as_parts():
    few, more = (num_projections(SART(num_iterations=n, num_subsets=8)) for n in (1, 2))
    assert more - few == pytest.approx(2)


def test_work_of_transforms_grows_with_n_log_n_and_that_of_rays_with_n_squared():
    beams = [ParallelBeam(np.zeros(n), 1, n, center_of_rotation=n / 2) for n in (256, 1024)]
    fourier = [slice_work(FBP(), beam, "auto") for beam in beams]
    rays = [slice_work(FBP(), beam, "numba_cpu") for beam in beams]
    assert 16 < fourier[1] / fourier[0] < 24
    assert rays[1] / rays[0] == 64
    assert (work_unit("auto"), work_unit("numba_cpu")) == ("operations", "voxel updates")
