"""What lies outside a footprint is exactly 0 for its box, by the reference projector."""

import numpy as np
import pytest

import tomodask as td
from tests.geometry.kinds import kinds
from tomodask.errors import GeometryError
from tomodask.geometry import Box, ViewRows, box_rows, check_visible, footprint, in_voxels
from tomodask.projectors.reference_rays import ReferenceRays

VOLUME = td.volume(shape=(7, 8, 9))
BOXES = [
    Box((0, 0, 0), (2, 8, 9)),
    Box((3, 2, 1), (5, 4, 3)),
    Box((6, 7, 8), (7, 8, 9)),
    Box((0, 0, 0), (7, 8, 9)),
]


def seen_pixels(volume, projections, box) -> np.ndarray:
    """(row, angle, column) whether any voxel of the box has a weight there."""
    ones = np.zeros(volume.shape, np.float32)
    ones[tuple(slice(*run) for run in zip(box.start, box.stop, strict=True))] = 1
    return ReferenceRays(in_voxels(volume, projections)).forward(ones) != 0


@pytest.mark.parametrize("box", BOXES, ids=str)
def test_a_box_projects_to_nothing_outside_its_footprint(projections, sheared, box):
    for volume in (VOLUME, sheared):
        seen = seen_pixels(volume, projections, box)
        found = footprint(volume, projections, box)
        for view in range(projections.num_angles):
            outside = seen[:, view].copy()
            outside[found.pixels(view)] = False
            assert not outside.any(), f"view {view}"
            assert found.is_seen[view] or not seen[:, view].any()


def test_a_footprint_is_no_more_than_a_voxel_and_a_pixel_too_large(projections):
    """Around what is seen of the box there are rays that pass by its voxels at less than one."""
    box = Box((3, 3, 3), (4, 5, 5))
    seen = seen_pixels(VOLUME, projections, box)
    found = footprint(VOLUME, projections, box)
    pixel = projections.det_pixel_size.min() / (1.7 if projections.is_cone else 1)
    slack = np.ceil(2 * np.sqrt(3) / pixel) + 1
    for view in np.flatnonzero(seen.any(axis=(0, 2))):
        for axis, run in ((1, found.view_rows[view]), (0, found.view_columns[view])):
            where = np.flatnonzero(seen[:, view].any(axis=axis))
            assert run[1] - run[0] - np.ptp(where) - 1 <= slack


def test_rows_and_columns_are_those_of_all_views_together():
    views = td.helical(
        angles=np.linspace(-9, 9, 30),
        shape=(6, 8),
        src_orig_dist=30,
        src_det_dist=30,
        pitch=8,
    )
    found = footprint(VOLUME, views, Box((0, 0, 0), (1, 8, 9)))
    assert 0 < len(found.views) < 30  # on a helix the lowest voxels are seen for a while
    assert found.rows.start == found.view_rows[found.views, 0].min()
    assert found.columns == ViewRows(0, 8)
    assert found.num_pixels == sum(
        (r.stop - r.start) * (c.stop - c.start) for r, c in map(found.pixels, range(30))
    )


def test_views_that_see_nothing_need_no_rows():
    gone = td.translate((1, 0, 0), alpha=[0, 50]) * VOLUME
    found = footprint(gone, td.parallel(angles=2, shape=(7, 12)), Box((4, 0, 0), (5, 8, 9)))
    assert found.is_seen.tolist() == [True, False]
    assert found.rows == ViewRows(3, 6)


def test_slabs_of_an_aligned_parallel_beam_need_their_rows_and_the_next():
    beam = td.parallel(angles=5, shape=(7, 12))
    assert footprint(VOLUME, beam, Box((2, 0, 0), (4, 8, 9))).rows == ViewRows(1, 5)


def test_a_source_beside_the_box_throws_it_to_that_side():
    views = td.cone(angles=[0.0], shape=(6, 7), src_orig_dist=5.0, src_det_dist=40)
    volume = td.volume(shape=(9, 20, 5), pos=(14, 0, 0))  # along the beam from -10 to 10, above it
    box = Box((0, 0, 0), volume.shape)
    found = footprint(volume, views, box)
    assert not found.is_seen.any()
    wide = td.cone(angles=[0.0], shape=(400, 7), src_orig_dist=5.0, src_det_dist=40)
    seen = np.flatnonzero(seen_pixels(volume, wide, box).any(axis=(1, 2)))
    found = footprint(volume, wide, box)
    assert 200 < found.rows.start <= seen.min()
    assert found.rows.stop == 400


def test_a_source_within_the_box_may_throw_it_anywhere():
    around = td.cone(angles=4, shape=(600, 700), src_orig_dist=1.0, src_det_dist=20)
    found = footprint(VOLUME, around, Box((0, 0, 0), (7, 8, 9)))
    assert found.rows == ViewRows(0, 600)
    assert found.num_pixels == 4 * 600 * 700


def test_a_box_behind_the_source_is_not_seen():
    views = td.cone(angles=[0.0], shape=(6, 7), src_orig_dist=20, src_det_dist=40)
    behind = td.volume(shape=4, pos=(0, -40, 0))
    found = footprint(behind, views, Box((0, 0, 0), (4, 4, 4)))
    assert not found.is_seen.any()
    assert found.rows == ViewRows(0, 0)
    with pytest.raises(GeometryError, match="behind the source in all 1"):
        check_visible(behind, views)


def test_a_volume_beside_the_detector_is_refused_with_where_its_shadow_falls(projections):
    check_visible(VOLUME, projections)
    check_visible(td.translate((0, 0, 0), alpha=np.ones(8)) * VOLUME, projections)
    with pytest.raises(
        GeometryError, match=r"no view sees the volume: in view 0 .*rows [-\d.]+ to"
    ):
        check_visible(td.volume(shape=3, pos=(60, 0, 0)), projections)


def test_one_view_that_sees_the_volume_is_enough():
    beam = td.parallel(angles=3, shape=(4, 4))
    away = td.translate((100, 0, 0), alpha=[1, 0, 1]) * td.volume(shape=4)
    check_visible(away, beam)
    with pytest.raises(GeometryError, match=r"rows 99\.5 to 103\.5"):
        check_visible(away[[0, 2]], beam[[0, 2]])


def test_a_box_beyond_the_volume_is_refused():
    with pytest.raises(GeometryError, match=r"\(0, 0, 0\) to \(8, 8, 9\)"):
        footprint(VOLUME, td.parallel(angles=2, shape=4), Box((0, 0, 0), (8, 8, 9)))


@pytest.mark.parametrize("rows", [(0, 1), (2, 3), (1, 4)], ids=str)
def test_rows_of_the_detector_touch_no_other_rows_of_the_volume(projections, sheared, rows):
    for volume in (VOLUME, sheared):
        for views in (slice(None), slice(2, 3), np.array([1, 5])):
            found = box_rows(volume, projections, rows, views)
            some = projections[views]
            lit = np.zeros((some.det_shape[0], some.num_angles, some.det_shape[1]), np.float32)
            lit[slice(*rows)] = 1
            back = ReferenceRays(in_voxels(volume, some)).adjoint(lit)
            touched = np.flatnonzero(back.any(axis=(1, 2)))
            first, last = touched.min(initial=99), touched.max(initial=-1)
            assert found[0] <= first
            assert last < found[1]
            if last >= 0:  # at most one more on each side, passed at less than a voxel
                assert found[0] >= first - 1
                assert found[1] <= last + 2


def test_rows_that_miss_the_volume_touch_nothing():
    beam = td.parallel(angles=3, shape=(40, 9))
    assert box_rows(VOLUME, beam, ViewRows(0, 5)) == (0, 0)
    assert box_rows(VOLUME, beam, (18, 20)) == (1, 4)  # at 1.5 and 2.5 of z
    with pytest.raises(GeometryError, match="rows 39:41 asked of 40"):
        box_rows(VOLUME, beam, (39, 41))


def test_a_volume_that_moves_is_followed():
    still = kinds()["cone"][:1]
    moving = td.translate((1, 0, 0), alpha=[-3, 0, 3]) * VOLUME
    found = footprint(moving, still, Box((3, 0, 0), (4, 8, 9)))
    assert (np.diff(found.view_rows[:, 0]) > 0).all()
    up = [box_rows(moving, still, (2, 3), slice(k, k + 1))[0] for k in range(3)]
    assert up[0] > up[1] > up[2]
