"""Views are vectors, of which some can be chosen and whose detectors can be cut."""

import numpy as np
import pytest

import tomodask as td
from tests.geometry.kinds import kinds
from tomodask.errors import GeometryError
from tomodask.geometry import ProjectionGeometry, in_voxels

VOLUME = td.volume(shape=(7, 8, 9))
BEAM = td.parallel(angles=3, shape=(4, 6))
CONE = td.cone(angles=3, shape=(4, 6), src_orig_dist=20, src_det_dist=30)


def test_views_are_chosen_by_number_slice_list_and_mask(projections):
    mask = np.arange(8) % 3 == 1
    for chosen in (3, np.int64(3), slice(1, None, 3), [5, 0], np.array([7]), mask):
        some = projections[chosen]
        expected = np.atleast_2d(projections.source[chosen])
        np.testing.assert_array_equal(some.source, expected)
        assert some.num_angles == len(some) == len(expected)
        np.testing.assert_array_equal(some.det_u, np.atleast_2d(projections.det_u[chosen]))
    with pytest.raises(GeometryError, match=r"slice\(9, None, None\) chooses none of 8"):
        projections[9:]


def test_a_part_of_the_detector_sees_what_the_whole_sees_there(projections):
    whole = in_voxels(VOLUME, projections)
    part = in_voxels(VOLUME, projections.take_rows(1, 3).take_columns(2, 6))
    for view in range(8):
        np.testing.assert_allclose(part.pixels(view), whole.pixels(view)[1:3, 2:6], atol=1e-12)
    with pytest.raises(GeometryError, match="rows 1:9 asked of"):
        projections.take_rows(1, 9)
    with pytest.raises(GeometryError, match="columns 2:2 asked of 6"):
        projections.take_columns(2, 2)


def test_corners_are_half_a_pixel_beyond_the_outer_pixels(projections):
    half = (projections.det_v + projections.det_u) / 2
    np.testing.assert_allclose(projections.corners()[:, 0], projections.first - half, atol=1e-12)
    rows, columns = projections.det_shape
    across = projections.corners()[:, 2] - projections.corners()[:, 0]
    np.testing.assert_allclose(
        across, rows * projections.det_v + columns * projections.det_u, atol=1e-12
    )


def test_sources_are_of_cones_and_directions_of_parallel_beams():
    assert CONE.src_pos is CONE.source
    assert BEAM.ray_dir is BEAM.source
    assert CONE.to_vec() is CONE
    with pytest.raises(GeometryError, match="no source"):
        _ = BEAM.src_pos
    with pytest.raises(GeometryError, match="rays of a cone beam differ"):
        _ = CONE.ray_dir


def test_the_normal_is_perpendicular_to_rows_and_columns(projections):
    normal = projections.det_normal
    for along in (projections.det_u, projections.det_v):
        np.testing.assert_allclose(np.sum(normal * along, axis=1), 0, atol=1e-12)
    area = projections.det_pixel_size.prod(axis=1)
    assert (np.linalg.norm(normal, axis=1) <= area * (1 + 1e-12)).all()
    np.testing.assert_allclose(BEAM.det_size, [(4, 6)] * 3)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"beam": "fan"}, "beam 'fan'"),
        ({"det_shape": (4, 0)}, r"detector shape \(4, 0\)"),
        ({"det_shape": (4.5, 2)}, r"detector shape \(4.5, 2\)"),
        ({"source": (0, np.inf, 0)}, "source .*inf.* of view 0"),
        ({"det_pos": [(0, 0, 0)] * 2}, "'det_pos': 2"),
        ({"det_v": (0, 0, 2)}, "detector of view 0 has no area"),
        ({"source": (0, 0, 1)}, "view 0 sees nothing, the rays graze it"),
        ({"beam": "cone", "source": (3, 0, 5)}, "the source lies in the detector's plane"),
    ],
)
def test_what_cannot_be_is_refused_with_its_values(changed, said):
    vectors = {n: getattr(BEAM, n) for n in ("source", "det_pos", "det_v", "det_u")}
    given = {"beam": "parallel", "det_shape": (4, 6), **vectors, **changed}
    if said.startswith(("view 0", "the source")):
        given |= {n: vectors[n][0] for n in vectors if n not in changed}
    with pytest.raises(GeometryError, match=said):
        ProjectionGeometry(**given)


def test_one_vector_stands_for_all_views():
    views = kinds()["cone_vec"]
    assert views.det_v.shape == (8, 3)
    np.testing.assert_array_equal(views.det_v[0], views.det_v[7])
