"""The greatest singular value, for each row where rows are independent."""

import numpy as np
import pytest

from tests.reconstruct.dense import dense, projector, slice_matrix
from tomodask.reconstruct.operator_norm import operator_norm


def test_it_is_the_greatest_singular_value_and_a_little_more():
    exact = np.linalg.norm(slice_matrix(), 2)
    found = operator_norm(dense(3), np.zeros((3, 14, 10), np.float32))
    assert found.shape == (3, 1, 1)
    assert found == pytest.approx(np.full((3, 1, 1), 1.02 * exact), rel=1e-3)


def test_rows_that_hang_together_have_one():
    A = dense(3, independent_rows=False)
    found = operator_norm(A, np.zeros(A.range_shape, np.float32), num_iterations=40)
    assert isinstance(found, float)
    assert found == pytest.approx(1.02 * np.linalg.norm(A.matrix, 2), rel=1e-3)


@pytest.mark.parametrize("backend", ["reference", "fourier"])
def test_ten_iterations_are_enough_for_a_projector(backend):
    A = projector(2, backend, views=12, size=32)
    y = np.zeros(A.range_shape, np.float32)
    near = operator_norm(A, y, num_iterations=200, safety=1.0)
    assert (operator_norm(A, y) >= near).all()
    assert (operator_norm(A, y) < 1.03 * near).all()


def test_it_does_not_depend_on_the_rows_beside():
    many = operator_norm(projector(4), np.zeros((4, 14, 10), np.float32))
    one = operator_norm(projector(1), np.zeros((1, 14, 10), np.float32))
    assert (many == one).all()


def test_an_operator_of_zeros_has_none():
    A = dense(2)
    A._matrix[:] = 0
    assert not operator_norm(A, np.zeros(A.range_shape, np.float32)).any()
