"""A and A.T by blocks are A and A.T, and their tasks keep within memory."""

from dataclasses import replace

import numpy as np
import pytest

from tomodask.blockwise import StoredOperator, open_workspace
from tomodask.blockwise.arrays import Constant
from tomodask.blockwise.passes import load
from tomodask.blockwise.plan import Cut
from tomodask.blockwise.scratch import Region, runs
from tomodask.errors import GeometryError, MemoryBudgetError
from tomodask.geometry import (
    cone,
    helical,
    in_voxels,
    laminography,
    parallel,
    rotate,
    translate,
    volume,
)
from tomodask.projectors import load_ray_backend

VOLUME = volume(shape=(28, 24, 26))
TILTED = rotate(angles=0.2, axis=(0.2, 1, 0.3)) * VOLUME
CONE = {"src_orig_dist": 60, "src_det_dist": 80}
GEOMETRIES = {
    "parallel": (VOLUME, parallel(angles=21, shape=(28, 34))),
    "cone": (VOLUME, cone(angles=21, shape=(36, 40), **CONE)),
    "helical": (VOLUME, helical(angles=21, shape=(16, 40), pitch=20, **CONE)),
    "laminography": (VOLUME, laminography(angles=21, shape=(30, 36), tilt=0.5)),
    "tilted volume": (TILTED, cone(angles=21, shape=(36, 40), **CONE)),
    "moving volume": (
        translate(np.linspace(-3, 3, 21)[:, None] * [0.5, 1, 0]) * VOLUME,
        cone(angles=21, shape=(36, 40), **CONE),
    ),
    "one view": (VOLUME, cone(angles=[0.3], shape=(36, 40), **CONE)),
    "one row": (VOLUME, cone(angles=21, shape=(1, 40), **CONE)),
}
CUTS = {  # rows, views and slab height of A; slab height and views of A.T
    "all at once": (1000, 1000, 1000, 1000, 1000),
    "blocks": (7, 5, 9, 11, 4),
    "single rows": (1, 1000, 1, 1, 1000),
}


def small_budget(space, backend):
    """What the backend takes, and a fraction of the volume besides."""
    views = in_voxels(*space)
    return load_ray_backend(backend).memory_bytes(views, 1) + 2**17


def operator(place, space, backend="numba_cpu"):
    return StoredOperator(place, *space, backend, threads=1)


def whole(space, backend="numba_cpu"):
    return load_ray_backend(backend)(in_voxels(*space), 1)


def cut(A, rows, views, height, slab, chunk):
    """Have A cut as it is said, whatever the budget."""
    (det_rows, num_angles, _), (nz, ny, _) = A.range_shape, A.domain_shape
    regions = [Region(r, v) for r in runs(0, det_rows, rows) for v in runs(0, num_angles, views)]
    slabs = [Region(run, (0, ny)) for run in runs(0, nz, slab)]
    A.cuts = {"A": Cut(tuple(regions), height, 0, 0), "A.T": Cut(tuple(slabs), chunk, 0, 0)}


@pytest.mark.parametrize("cuts", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("space", GEOMETRIES.values(), ids=GEOMETRIES)
def test_a_sum_over_blocks_is_the_whole(tmp_path, rng, space, cuts):
    backend = "numba_cpu"
    x = rng.random(space[0].shape, dtype=np.float32)
    expected = whole(space, backend).forward(x)
    y = rng.random(expected.shape, dtype=np.float32)
    with open_workspace(tmp_path / "s", "test", 2**22) as place:
        A = operator(place, space, backend)
        cut(A, *cuts)
        found = A(stored(place, x)).rows(0, len(expected))
        back = A.T(stored(place, y)).rows(0, len(x))
    # float32 sums in another order: 1e-6 of the norm, the geometry's own rounding included
    assert relative(found, expected) < 1e-6
    assert relative(back, whole(space, backend).adjoint(y)) < 1e-6


def stored(place, values):
    return load(place, lambda a, b: values[a:b], values.shape, "array", inline=True)


def relative(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def test_the_adjoint_by_blocks_is_the_adjoint(tmp_path, rng):
    space = GEOMETRIES["cone"]
    with open_workspace(tmp_path / "s", "test", small_budget(space, "numba_cpu")) as place:
        A = operator(place, space)
        x = stored(place, rng.random(A.domain_shape, dtype=np.float32))
        y = A(x)
        left = y.__tomodask_dot__(y)
        right = x.__tomodask_dot__(A.T(y))
    assert left == pytest.approx(right, rel=1e-5)


def test_some_views_are_those_of_the_whole(tmp_path, rng):
    space = GEOMETRIES["moving volume"]
    x = rng.random(space[0].shape, dtype=np.float32)
    expected = whole(space).forward(x)[:, 1::4]
    with open_workspace(tmp_path / "s", "test", 2**22) as place:
        A = operator(place, space).views(slice(1, None, 4))
        assert A.num_angles == 5
        found = A(stored(place, x)).rows(0, len(expected))
    assert relative(found, expected) < 1e-6


def test_projecting_nothing_does_nothing(tmp_path):
    with open_workspace(tmp_path / "s", "test", 2**22) as place:
        A = operator(place, GEOMETRIES["cone"])
        nothing = A(A.zeros_domain())
        assert isinstance(nothing, Constant)
        assert not nothing.rows(0, 2).any()


def test_a_projection_is_written_where_it_is_needed_again(tmp_path, rng):
    with open_workspace(tmp_path / "s", "test", 2**22) as place:
        A = operator(place, GEOMETRIES["cone"])
        y = A(stored(place, rng.random(A.domain_shape, dtype=np.float32)))
        one, two, three = (y + 1).evaluate(), (y + 2).evaluate(), (y + 3).evaluate()
        assert y.result is not None
        np.testing.assert_allclose(three.rows(0, 9) - two.rows(0, 9), 1, atol=1e-4)
        np.testing.assert_allclose(two.rows(0, 9) - one.rows(0, 9), 1, atol=1e-4)


def test_rows_of_a_parallel_beam_are_read_once(tmp_path):
    space = GEOMETRIES["parallel"]
    budget = small_budget(space, "numba_cpu") + 2**18
    with open_workspace(tmp_path / "s", "test", budget) as place:
        A = operator(place, space)
        forward, adjoint = A.cuts["A"], A.cuts["A.T"]
    volume_bytes = 4 * np.prod(A.domain_shape)
    assert len(forward.kept) > 1
    # two more rows, which interpolation needs, for each run; by views all would be read each time
    assert forward.bytes_read <= 1.5 * volume_bytes
    row_bytes = 4 * np.prod(A.range_shape) / 28
    assert adjoint.bytes_read <= (28 + len(adjoint.kept) * 2) * row_bytes


@pytest.mark.parametrize("space", GEOMETRIES.values(), ids=GEOMETRIES)
def test_every_voxel_and_pixel_is_in_one_block(tmp_path, space):
    with open_workspace(tmp_path / "s", "test", small_budget(space, "numba_cpu")) as place:
        A = operator(place, space)
        for kind, shape in (("A", A.range_shape), ("A.T", A.domain_shape)):
            times = np.zeros(shape[:2], int)
            for region in A.cuts[kind].kept:
                times[slice(*region.rows), slice(*region.lines)] += 1
            assert (times == 1).all()
            assert A.cuts[kind].memory <= place.budget


def test_what_can_not_be_is_refused(tmp_path):
    seen, views = GEOMETRIES["cone"]
    with open_workspace(tmp_path / "s", "test", 2**16) as place:
        with pytest.raises(MemoryBudgetError, match="smallest block of A needs"):
            _ = operator(place, (seen, views)).cuts
        beside = replace(seen, pos=seen.pos + np.array([500, 0, 0]))
        with pytest.raises(GeometryError, match="no view sees"):
            operator(place, (beside, views))
        with pytest.raises(GeometryError, match=r"A of ndarray of shape \(2, 2\)"):
            operator(place, (seen, views))(np.ones((2, 2)))
