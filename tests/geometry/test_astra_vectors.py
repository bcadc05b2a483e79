"""ASTRA's dictionaries and ours describe the same rays; no geometry needs ASTRA itself."""

import numpy as np
import pytest

import tomodask as td
from tests.geometry.kinds import alike
from tomodask.errors import GeometryError
from tomodask.geometry import in_voxels
from tomodask.projectors.reference_rays import ReferenceRays

ANGLES = np.array([0.0, 0.4, 1.9, 4.0])
VOLUME = td.volume(shape=(3, 5, 6), pos=(0.5, -1, 2), size=(3, 10, 9))


@pytest.fixture
def astra():
    return pytest.importorskip("astra")


def test_a_parallel_beam_is_astras_parallel3d(astra):
    theirs = astra.create_proj_geom("parallel3d", 1.5, 2.0, 4, 6, ANGLES)
    ours = td.parallel(angles=ANGLES, shape=(4, 6), size=(8, 9))
    assert alike((VOLUME, td.from_astra(theirs)), (VOLUME, ours))
    vectors, ours_told = astra.geom_2vec(theirs)["Vectors"], td.to_astra(ours)["Vectors"]
    np.testing.assert_allclose(ours_told[:, 3:], vectors[:, 3:], atol=1e-12)
    np.testing.assert_allclose(-ours_told[:, :3], vectors[:, :3], atol=1e-12)  # the same lines


def test_a_cone_is_astras_cone(astra):
    theirs = astra.create_proj_geom("cone", 1.5, 2.0, 4, 6, ANGLES, 30.0, 12.0)
    ours = td.cone(angles=ANGLES, shape=(4, 6), size=(8, 9), src_orig_dist=30, src_det_dist=42)
    told = td.to_astra(ours)
    np.testing.assert_allclose(told["Vectors"], astra.geom_2vec(theirs)["Vectors"], atol=1e-12)
    assert {**told, "Vectors": 0} == {**astra.geom_2vec(theirs), "Vectors": 0}
    read = td.from_astra(theirs)
    np.testing.assert_allclose(read.src_pos, ours.src_pos)
    np.testing.assert_allclose(read.first, ours.first)


@pytest.mark.parametrize("kind", ["parallel3d", "cone", "parallel", "fanflat"])
def test_circular_and_explicit_views_of_astra_are_read_alike(astra, kind):
    far = (30.0, 12.0) if kind in ("cone", "fanflat") else ()
    detector = (1.5, 6) if kind in ("parallel", "fanflat") else (1.5, 2.0, 4, 6)
    theirs = astra.create_proj_geom(kind, *detector, ANGLES, *far)
    one, other = td.from_astra(theirs), td.from_astra(astra.geom_2vec(theirs))
    assert alike((VOLUME, one), (VOLUME, other))
    np.testing.assert_allclose(one.det_pos, other.det_pos, atol=1e-12)
    np.testing.assert_allclose(one.det_v, other.det_v, atol=1e-12)


def test_views_told_to_astra_and_read_again_are_the_same(projections):
    again = td.from_astra(td.to_astra(projections))
    for name in ("source", "det_pos", "det_v", "det_u"):
        np.testing.assert_array_equal(getattr(again, name), getattr(projections, name))
    assert (again.beam, again.det_shape) == (projections.beam, projections.det_shape)


def test_volumes_told_to_astra_and_read_again_are_the_same(astra):
    for volume, dimensions in ((VOLUME, 3), (td.volume(shape=(1, 5, 6), pos=(0, 2, 1)), 2)):
        told = td.to_astra(volume, dimensions=dimensions)
        again = td.from_astra(told)
        np.testing.assert_allclose(again.pos, volume.pos)
        np.testing.assert_allclose(again.axes, volume.axes)
        assert again.shape == volume.shape
    theirs = astra.create_vol_geom(5, 6, 3, -3, 7, -4, 5, -1, 2)
    assert td.to_astra(td.from_astra(theirs)) == theirs
    flat = astra.create_vol_geom(5, 6, -3, 7, -4, 5)
    assert td.to_astra(td.from_astra(flat), dimensions=2) == flat


def astra_projection(astra, volume: dict, views: dict, image: np.ndarray) -> np.ndarray:
    """(angle, column) by ASTRA's CPU projector in two dimensions."""
    kind = "line_fanflat" if "fanflat" in views["type"] else "linear"
    projector = astra.create_projector(kind, views, volume)
    identifier, sinogram = astra.create_sino(image, projector)
    astra.data2d.delete(identifier)
    astra.projector.delete(projector)
    return sinogram


def test_astra_takes_an_image_as_it_is_and_sees_what_we_see(astra):
    """One voxel off all symmetries: 2 at row 1, column 4 of a 5 x 6 image, by hand and by ASTRA."""
    image = np.zeros((5, 6), np.float32)
    image[1, 4] = 2
    volume, views = td.volume(shape=(1, 5, 6)), td.parallel(angles=[0, np.pi / 2], shape=(1, 9))
    by_hand = np.zeros((2, 9), np.float32)
    by_hand[0, 5] = by_hand[0, 6] = 1  # x = 4 - 2.5 = 1.5, between columns 5 and 6 (u = 1 and 2)
    by_hand[1, 3] = 2  # y = 1 - 2 = -1, which is column 3
    seen = astra_projection(
        astra, td.to_astra(volume, dimensions=2), td.to_astra(views, dimensions=2), image
    )
    np.testing.assert_allclose(seen, by_hand, atol=1e-6)
    ours = ReferenceRays(in_voxels(volume, views)).forward(image[None])
    np.testing.assert_allclose(ours[0], by_hand, atol=1e-6)


def test_the_sinogram_of_an_image_in_astras_own_geometry_is_ours(astra, rng):
    image = rng.random((6, 7)).astype(np.float32)
    volume = astra.create_vol_geom(6, 7, -3, 4, -2.5, 3.5)
    views = astra.create_proj_geom("parallel", 0.8, 11, ANGLES)
    seen = astra_projection(astra, volume, views, image)
    voxels = in_voxels(td.from_astra(volume), td.from_astra(views))
    ours = ReferenceRays(voxels).forward(image[None])[0]
    np.testing.assert_allclose(ours, seen, atol=1e-4)


@pytest.mark.parametrize("posed", [False, True])
def test_a_fan_beam_meets_the_same_pixels_as_astras(astra, posed):
    """ASTRA's CPU projector of fan beams cuts pixels, ours interpolates: alike if smooth."""
    y, x = np.mgrid[:40, :40]
    image = np.exp(-((y - 12) ** 2 + (x - 26) ** 2) / 32).astype(np.float32)
    volume = astra.create_vol_geom(40, 40)
    views = astra.create_proj_geom("fanflat", 1.0, 100, ANGLES[1:], 80.0, 40.0)
    if posed:
        shifts = np.array([3.0, -2, 1])
        moved = td.posed(td.from_astra(views), column_shifts=shifts, yaw=0.1)
        views = td.to_astra(moved, dimensions=2)
    seen = astra_projection(astra, volume, views, image)
    voxels = in_voxels(td.from_astra(volume), td.from_astra(views))
    ours = ReferenceRays(voxels).forward(image[None])[0]
    assert np.linalg.norm(ours - seen) < 0.01 * np.linalg.norm(seen)  # 0.003


def test_a_turned_volume_is_taken_to_its_own_frame_first(projections):
    turned = td.rotate(pos=(1, 2, 0), axis=(1, 1, 0), angles=np.linspace(0, 1, 8)) * VOLUME
    with pytest.raises(GeometryError, match=r"8 steps.*from_perspective\(vol=volume\)"):
        td.to_astra(turned)
    T = td.from_perspective(vol=turned)
    pair = td.from_astra(td.to_astra(T * turned)), td.from_astra(td.to_astra(T * projections))
    assert alike(pair, (turned, projections))


BEAM = td.parallel(angles=2, shape=(1, 4))


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: td.from_astra({"type": "cyl_cone_vec"}), "'cyl_cone_vec'.*there are parallel"),
        (lambda: td.from_astra({"type": "parallel"}), "'DetectorRowCount' is missing"),
        (lambda: td.from_astra({}), "'type' is missing"),
        (lambda: td.to_astra(BEAM, dimensions=4), "4 dimensions"),
        (lambda: td.to_astra(td.parallel(angles=2, shape=4), dimensions=2), "views of 4 rows"),
        (
            lambda: td.to_astra(td.translate((1, 0, 0)) * BEAM, dimensions=2),
            r"view 0 with .*det_pos \[1\. 0\. 0\.\]",
        ),
        (lambda: td.to_astra(td.volume(shape=3), dimensions=2), r"\(3, 3, 3\) is no image"),
        (
            lambda: td.from_astra(
                {**td.to_astra(BEAM), "Vectors": np.zeros((2, 6))},
            ),
            r"shape \(2, 6\).*\(num_angles, 12\)",
        ),
    ],
)
def test_what_astra_has_no_word_for_is_refused(build, said):
    with pytest.raises(GeometryError, match=said):
        build()
