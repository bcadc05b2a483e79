"""Iterative algorithms on td.operator: other geometries than slices, arrays of other libraries."""

import numpy as np
import pytest

from tests.reconstruct.test_iterative import EXAMPLES
from tomodask import geometry
from tomodask.projectors import make_projector
from tomodask.projectors.operator import Operator, operator
from tomodask.reconstruct import CGLS, SIRT

each = pytest.mark.parametrize("solve", EXAMPLES.values(), ids=EXAMPLES)
SPACE = geometry.volume(shape=(4, 8, 8))


@pytest.fixture(scope="module")
def cone() -> Operator:
    """Rays cross slices: rows hang together."""
    views = geometry.cone(angles=12, shape=(6, 12), src_orig_dist=30, src_det_dist=36)
    return operator(SPACE, views, "reference")


@pytest.fixture
def truth() -> np.ndarray:
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in SPACE.shape), indexing="ij")
    return (0.1 + np.exp(-3 * (x - 0.2 * z) ** 2 - 2 * y**2)).astype(np.float32)


@each
def test_a_cone_beam_is_solved_with_one_step_for_all_rows(solve, cone, truth):
    assert not cone.independent_rows
    y = cone(truth)
    x = solve(y, cone)
    assert x.shape == cone.domain_shape
    assert np.linalg.norm(cone(x) - y) < 0.2 * np.linalg.norm(y)


@each
def test_tensors_stay_tensors(solve, cone, truth):
    torch = pytest.importorskip("torch")
    y = cone(truth)
    x = solve(torch.asarray(y), cone)
    assert isinstance(x, torch.Tensor)
    assert np.allclose(x.numpy(), solve(y, cone), atol=2e-4)


@pytest.mark.parametrize("solve", [SIRT(5, circle=False), CGLS(5, circle=False)], ids=repr)
def test_slices_of_an_operator_are_those_of_a_projector(solve, truth):
    A = operator(SPACE, geometry.parallel(angles=12, shape=(4, 10)), "fourier")
    assert A.independent_rows
    beam = geometry.ParallelBeam(np.arange(12) * np.pi / 12, 4, 10, center_of_rotation=4.5)
    B = make_projector(geometry.Box((0, 0, 0), SPACE.shape), beam)
    y = B(truth)
    assert np.allclose(solve(y, A), solve(y, B), atol=1e-5)
