"""What every iterative algorithm keeps: rows, masks, a start, callbacks, kinds of arrays."""

from dataclasses import replace

import numpy as np
import pytest

from tests.reconstruct.dense import Dense, dense, projector, smooth_volume
from tomodask.errors import DivergedError, GeometryError, InputError
from tomodask.reconstruct import (
    ALGORITHMS,
    CGLS,
    FISTATV,
    LSQR,
    MLEM,
    PDHGTV,
    SART,
    SIRT,
    History,
)

EXAMPLES = {
    "sirt": SIRT(4, circle=False),
    "sart": SART(2, num_subsets=3, circle=False),
    "cgls": CGLS(4, circle=False),
    "damped cgls": CGLS(4, damp=2.0, circle=False),
    "lsqr": LSQR(4, circle=False),
    "damped lsqr": LSQR(4, damp=2.0, circle=False),
    "mlem": MLEM(4, circle=False),
    "osem": MLEM(2, num_subsets=3, circle=False),
    "fista": FISTATV(1e-5, 12, circle=False),
    "pdhg": PDHGTV(1e-5, 30, circle=False),
}
BOXED = {
    "sirt": SIRT(4, min_constraint=0.3, max_constraint=0.8, circle=False),
    "sart": SART(2, 3, min_constraint=0.3, max_constraint=0.8, circle=False),
    "mlem": MLEM(4, max_constraint=0.8, circle=False),
    "fista": FISTATV(1e-3, 12, min_constraint=0.3, max_constraint=0.8, circle=False),
    "pdhg": PDHGTV(1e-3, 30, min_constraint=0.3, max_constraint=0.8, circle=False),
}
each = pytest.mark.parametrize("solve", EXAMPLES.values(), ids=EXAMPLES)


@pytest.fixture
def A():  # noqa: N802
    return dense(3)


@pytest.fixture
def y(A):
    return A(smooth_volume(3))


def test_each_algorithm_stands_in_the_table():
    assert {name: ALGORITHMS[name] for name in ("sirt", "sart", "cgls", "lsqr", "mlem")} == {
        "sirt": SIRT, "sart": SART, "cgls": CGLS, "lsqr": LSQR, "mlem": MLEM
    }  # fmt: skip


@each
def test_it_comes_closer_to_the_data_and_writes_to_no_input(solve, A, y):
    start = np.full(A.domain_shape, 0.5, np.float32)
    before, begun = y.copy(), start.copy()
    x = solve(y, A, x_init=start)
    assert np.linalg.norm(A(x) - y) < 0.3 * np.linalg.norm(A(start) - y)
    assert x.dtype == np.float32
    assert np.array_equal(y, before)
    assert np.array_equal(start, begun)


@each
def test_what_is_known_is_where_it_stays(solve, A, y):
    truth = smooth_volume(3)
    x = solve(y, A, x_init=truth)
    # MLEM leaves rays out that expect almost nothing
    assert np.linalg.norm(x - truth) < 5e-3 * np.linalg.norm(truth)


@each
@pytest.mark.parametrize("backend", ["fourier", "reference"])
def test_slab_by_slab_is_all_at_once(solve, backend):
    whole = projector(5, backend, views=12, size=16)
    y = whole(smooth_volume(5, 16))
    y = np.maximum(y, 0)  # of `fourier`, rays beside the volume may be a little negative
    x = solve(y, whole)
    for rows in (slice(0, 2), slice(2, 5)):
        part = projector(rows.stop - rows.start, backend, views=12, size=16)
        assert np.array_equal(solve(y[rows], part), x[rows])


@each
def test_views_that_are_not_neighbours_in_memory_are_the_same(solve, A, y):
    projections = np.ascontiguousarray(y.swapaxes(0, 1))
    assert np.array_equal(solve(projections.swapaxes(0, 1), A), solve(y, A))


@each
def test_a_missing_row_spoils_its_own_slice_alone(solve, A, y):
    holed = y.copy()
    holed[1, 2, 3] = np.nan
    x = solve(holed, A)
    assert np.isnan(x[1]).any()
    assert np.array_equal(x[[0, 2]], solve(y, A)[[0, 2]])


@each
def test_a_row_of_zeros_is_a_slice_of_zeros(solve, A, y):
    y[1] = 0
    x = solve(y, A)
    assert not x[1].any()
    assert np.isfinite(x).all()


@each
def test_missing_values_are_refused_where_all_rows_hang_together(solve):
    A = dense(3, independent_rows=False)
    y = A(smooth_volume(3))
    y[1, 2, 3], y[0, 0, 0] = np.nan, np.inf
    with pytest.raises(InputError, match="2 values that are NaN or infinite"):
        solve(y, A)


@each
def test_rows_that_hang_together_are_solved_together(solve):
    A = dense(3, independent_rows=False)
    y = A(smooth_volume(3))
    assert np.linalg.norm(A(solve(y, A)) - y) < 0.2 * np.linalg.norm(y)


@each
@pytest.mark.parametrize("garbage", [77.0, np.nan])
def test_masked_pixels_have_no_influence(solve, garbage, A, y):
    mask = np.ones(y.shape, bool)
    mask[0, 3], mask[1, :, 4], mask[2, 5, 6] = False, False, False
    start = np.full(A.domain_shape, 0.5, np.float32)
    spoilt = np.where(mask, y, np.float32(garbage))
    history = History()
    x = solve(spoilt, A, projection_mask=mask, x_init=start, callbacks=[history])
    assert np.isfinite(x).all()
    assert np.array_equal(x, solve(y, A, projection_mask=mask, x_init=start))
    assert not np.array_equal(x, solve(y, A, x_init=start))
    if solve in (EXAMPLES["sirt"], EXAMPLES["cgls"], EXAMPLES["mlem"]):
        assert history.residual_norms[0] == pytest.approx(np.linalg.norm((y - A(start))[mask]))


@each
def test_a_masked_pixel_is_a_ray_that_meets_nothing(solve, A, y):
    mask = np.ones(A.range_shape[1:], bool)
    mask[3], mask[6, 2:5], mask[11, 7] = False, False, False
    blind = Dense(A.matrix * mask.reshape(-1, 1), A.domain_shape, A.range_shape)
    x = solve(y, A, projection_mask=mask)
    assert np.allclose(x, solve(y * mask, blind), rtol=1e-4, atol=1e-5)


@each
def test_masked_voxels_stay_as_they_began(solve, A, y, rng):
    truth, mask = smooth_volume(3), rng.uniform(size=A.domain_shape) < 0.6
    start = np.where(mask, np.float32(0.5), truth)
    x = solve(y, A, x_init=start, volume_mask=mask)
    assert np.array_equal(x[~mask], start[~mask])
    assert np.linalg.norm(x - truth) < 0.6 * np.linalg.norm(start - truth)


@each
def test_one_mask_may_serve_all_rows(solve, A, y, rng):
    disc, pixels = rng.uniform(size=(8, 8)) < 0.8, rng.uniform(size=(14, 10)) < 0.8
    x = solve(y, A, volume_mask=disc, projection_mask=pixels)
    full = [np.broadcast_to(m, shape) for m, shape in ((disc, A.domain_shape), (pixels, y.shape))]
    assert np.array_equal(x, solve(y, A, volume_mask=full[0], projection_mask=full[1]))


@pytest.mark.parametrize("solve", BOXED.values(), ids=BOXED)
def test_no_value_leaves_the_box(solve, A, y):
    x = solve(y, A)
    assert x.max() <= np.float32(0.8)
    assert x.min() >= (np.float32(getattr(solve, "min_constraint", 0)))
    assert (x == np.float32(0.8)).any()


@each
def test_a_callback_sees_each_iteration_and_can_stop_it(solve, A, y):
    seen = []

    def stop(iteration, x, residual_norm):
        seen.append((iteration, x.copy(), residual_norm))
        return iteration == 2

    history = History()
    x = solve(y, A, callbacks=[stop, history])
    assert [iteration for iteration, _, _ in seen] == [1, 2]
    assert np.array_equal(x, seen[-1][1])
    assert history.residual_norms == [norm for _, _, norm in seen]
    assert history.residual_norms[1] < history.residual_norms[0]


@pytest.mark.parametrize("name", ["sirt", "cgls", "lsqr", "mlem"])
def test_the_residual_told_is_that_of_x_as_the_iteration_began(name, A, y):
    xs = [np.ones(A.domain_shape, np.float32)]
    history = History()
    keep = lambda iteration, x, norm: xs.append(x.copy())  # noqa: E731
    EXAMPLES[name](y, A, x_init=xs[0], callbacks=[keep, history])
    expected = [np.linalg.norm(y - A(x)) for x in xs[:-1]]
    assert history.residual_norms == pytest.approx(expected, rel=1e-4)


@each
@pytest.mark.parametrize("independent_rows", [True, False])
def test_torch_tensors_give_what_arrays_give(solve, independent_rows):
    torch = pytest.importorskip("torch")
    A, B = dense(3, independent_rows), dense(3, independent_rows, torch)
    y = A(smooth_volume(3))
    mask = np.arange(14)[:, None] + np.arange(10) != 7
    x = solve(y, A, projection_mask=mask)
    found = solve(torch.asarray(y), B, projection_mask=torch.asarray(mask))
    assert isinstance(found, torch.Tensor)
    assert found.dtype == torch.float32
    # float32 sums in another order, and what the iterations make of them
    assert np.allclose(found.numpy(), x, atol=2e-4 * np.abs(x).max())


@each
def test_an_adjoint_that_is_none_diverges_and_is_told_so(solve, A, y):
    class Wrong(Dense):
        def T(self, y):  # noqa: N802
            return np.float32(np.nan) * super().T(y)

    wrong = Wrong(A.matrix, A.domain_shape, A.range_shape)
    wrong.views = lambda selection: wrong_views(selection)

    def wrong_views(selection):
        part = A.views(selection)
        return Wrong(part.matrix, part.domain_shape, part.range_shape)

    with pytest.raises(DivergedError, match="row 0") as caught:
        solve(y, wrong)
    assert len(caught.value.residuals) >= 1


@each
def test_wrong_shapes_and_types_are_refused_by_name(solve, A, y):
    with pytest.raises(GeometryError, match=r"y of shape \(2, 14, 10\): A says \(3, 14, 10\)"):
        solve(y[:2], A)
    with pytest.raises(GeometryError, match="x_init of shape"):
        solve(y, A, x_init=y)
    with pytest.raises(GeometryError, match="volume_mask of shape"):
        solve(y, A, volume_mask=np.ones((2, 8, 8)))
    with pytest.raises(GeometryError, match="projection_mask of shape"):
        solve(y, A, projection_mask=np.ones((14, 9)))
    with pytest.raises(InputError, match="complex"):
        solve(y + 0j, A)


@pytest.mark.parametrize("name", ["sirt", "sart", "cgls", "lsqr", "mlem"])
def test_parameters_that_can_not_be_are_refused(name):
    kind = ALGORITHMS[name]
    with pytest.raises(InputError, match="num_iterations=0"):
        kind(num_iterations=0)
    for wrong in ({"relaxation": 0.0}, {"damp": -1.0}, {"num_subsets": 0}, {"order": "best"}):
        (field,) = wrong
        if field in kind.__dataclass_fields__:
            with pytest.raises(InputError, match=field):
                kind(**wrong)
    if "max_constraint" in kind.__dataclass_fields__:
        with pytest.raises(InputError, match="lies above"):
            kind(**({"max_constraint": -1.0} if name == "mlem" else
                    {"min_constraint": 1.0, "max_constraint": 0.0}))  # fmt: skip


@each
def test_slices_are_cleared_where_not_every_view_has_seen(solve):
    A = projector(2, "reference", size=16)
    y = A(smooth_volume(2, 16))
    x, cleared = solve(y, A), replace(solve, circle=True)(y, A)
    distance = np.hypot(*(np.mgrid[:16, :16] - 7.5))
    assert not cleared[:, distance > 8.8].any()
    assert np.array_equal(cleared[:, distance < 8], x[:, distance < 8])
