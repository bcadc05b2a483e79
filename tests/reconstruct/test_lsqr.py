"""LSQR: what its recurrence tells; its solutions are held with those of CGLS."""

import numpy as np
import pytest

from tests.reconstruct.dense import Dense, dense, smooth_volume
from tomodask.reconstruct import CGLS, LSQR, History


def test_it_is_cgls_in_other_steps(rng):
    A = dense(2)
    y = A(smooth_volume(2)) + rng.normal(scale=0.5, size=A.range_shape).astype(np.float32)
    for damp in (0.0, 2.0):
        x = LSQR(6, damp=damp)(y, A)
        # float32: directions lose their orthogonality in either
        assert x == pytest.approx(CGLS(6, damp=damp)(y, A), abs=1e-3)


@pytest.mark.parametrize("independent_rows", [True, False])
def test_damp_does_not_count_in_the_residual_told(rng, independent_rows):
    A = Dense(rng.normal(size=(42, 20)), (1, 4, 5), (1, 6, 7), independent_rows)
    y = rng.normal(size=A.range_shape).astype(np.float32)
    start = rng.normal(size=A.domain_shape).astype(np.float32)
    xs, history = [start], History()
    LSQR(6, damp=2.0)(y, A, x_init=start, callbacks=[lambda i, x, r: xs.append(x.copy()), history])
    expected = [np.linalg.norm(y - A(x)) for x in xs[:-1]]
    assert history.residual_norms == pytest.approx(expected, rel=1e-4)
