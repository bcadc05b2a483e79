"""PDHG's duals prove how near the minimum it is."""

import numpy as np
import pytest

from tests.reconstruct.tv_problems import gain, noisy_problem, objective
from tomodask.reconstruct import FISTATV, PDHGTV
from tomodask.reconstruct.gradients import divergence
from tomodask.reconstruct.options import Options
from tomodask.reconstruct.variation import Fidelity


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_gap_between_primal_and_dual_closes(dimensions):
    A, y = noisy_problem()
    gaps = []
    for num_iterations in (30, 300, 1500):
        solve = PDHGTV(0.1, num_iterations, dimensions, 0.0, 3.0, circle=False)
        fidelity = Fidelity(y, A, dimensions, Options(), None, (0.0, 3.0), False)
        x, data, edges = solve._solve(fidelity)
        edges = tuple(part * fidelity.squared_norm for part in edges)
        length = np.sqrt(sum(part**2 for part in edges))
        assert length.max() <= 0.1 * gain(A) * (1 + 1e-5)
        # the least over the box of <x, A.T data - divergence(edges)>, each voxel at an end of it
        slope = A.T(data) - divergence(edges, dimensions)
        dual = -0.5 * np.sum(data**2) - np.vdot(data, y) + np.sum(np.minimum(0, 3 * slope))
        gaps.append(objective(x, y, A, 0.1, dimensions) - float(dual))
    best = objective(x, y, A, 0.1, dimensions)
    assert gaps[0] > gaps[1] > gaps[2] > -1e-4 * best
    assert gaps[2] < 1e-3 * best


@pytest.mark.parametrize("solve", [FISTATV(0.1, 30, circle=False), PDHGTV(0.1, 60, circle=False)])
def test_the_objective_falls_from_the_start(solve):
    A, y = noisy_problem()
    values = []
    keep = lambda iteration, x, norm: values.append(objective(x, y, A, 0.1, 2))  # noqa: E731
    solve(y, A, callbacks=[keep])
    start = objective(np.zeros(A.domain_shape, np.float32), y, A, 0.1, 2)
    assert max(values) <= start
    late = values[len(values) // 2 :]
    assert max(late) <= min(values) * 1.1
    assert values[-1] <= min(values) * 1.001
