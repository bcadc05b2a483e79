"""Pictures of geometries, and the gallery in docs that is made of them."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

import tomodask as td
from tests.geometry.kinds import kinds
from tomodask.errors import GeometryError, InputError, MissingInputError
from tomodask.geometry_picture import DETECTORS, SOURCE, _ball, _behind

DOCS = Path(__file__).parents[1] / "docs"
VOLUME = td.volume(shape=(7, 8, 9))


def drawn(figure, colour: str) -> int:
    """Lines and polygons of one colour in the first panel."""
    from matplotlib.colors import same_color, to_rgb

    panel = figure.axes[0]
    edges = [line.get_color() for line in panel.lines]
    edges += [to_rgb(patch.get_edgecolor()) for patch in panel.patches]
    return sum(same_color(edge, colour) for edge in edges)


@pytest.mark.parametrize("kind", ["parallel", "cone", "helical", "posed_parallel"])
def test_a_picture_shows_the_scene_three_times(kind, tmp_path):
    path = tmp_path / "scene.png"
    figure = td.picture(VOLUME, kinds()[kind], path, title="a scene")
    assert [panel.get_title() for panel in figure.axes] == ["", "from above", "from the side"]
    pixels = imread(path)
    assert pixels.shape[:2] == (572, 946)
    assert pixels[:, :, :3].std() > 0.02  # something is there
    assert (drawn(figure, SOURCE) > 0) == kinds()[kind].is_cone


def test_as_many_detectors_are_drawn_as_asked_for_and_one_that_rests_once():
    beam = td.parallel(angles=12, shape=8)
    for views in (1, 5):
        panel = td.picture(VOLUME, beam, views=views).axes[0]
        assert len(panel.patches) == 6 + views  # faces of the volume
    still = td.cone(angles=1, shape=8, src_orig_dist=20, src_det_dist=30)
    moving = td.translate((0, 1, 0), alpha=[0, 1, 2]) * VOLUME
    assert len(td.picture(moving, td.concatenate([still] * 3)).axes[0].patches) == 3 * 6 + 1


def test_several_projections_differ_in_colour():
    beam, scattered = kinds()["parallel"], kinds()["scatter"]
    figure = td.picture(VOLUME, [beam, scattered], views=2)
    assert drawn(figure, DETECTORS[0]) > 0
    assert drawn(figure, DETECTORS[1]) > 0
    assert drawn(td.picture(VOLUME, beam), DETECTORS[1]) == 0


def test_a_parallel_detector_within_the_volume_moves_along_its_rays_alone():
    beam = kinds()["posed_parallel"]
    middle, radius = _ball(VOLUME)
    moved = _behind(beam, middle, radius) - beam.corners()
    np.testing.assert_allclose(np.cross(moved, beam.ray_dir[:, None]), 0, atol=1e-9)
    distance = np.einsum("vca,va->vc", _behind(beam, middle, radius), beam.ray_dir)
    assert (distance.mean(axis=1) > radius).all()
    far = kinds()["scatter"]
    np.testing.assert_array_equal(_behind(far, middle, radius), far.corners())


def test_what_cannot_be_drawn_is_refused(tmp_path):
    beam = td.parallel(angles=3, shape=8)
    with pytest.raises(InputError, match="0 views"):
        td.picture(VOLUME, beam, views=0)
    with pytest.raises(InputError, match="4 projections"):
        td.picture(VOLUME, [beam] * 4)
    with pytest.raises(GeometryError, match="2 steps and 3 views"):
        td.picture(td.translate((1, 0, 0), alpha=[0, 1]) * VOLUME, beam)
    with pytest.raises(MissingInputError, match="no folder"):
        td.picture(VOLUME, beam, tmp_path / "none" / "scene.png")


def test_the_gallery_is_made_by_its_page(tmp_path):
    """Every block of docs/geometries.md runs, and makes the picture that is shown below it."""
    spec = importlib.util.spec_from_file_location("make_gallery", DOCS / "make_gallery.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    names = module.make_gallery(tmp_path)
    shown = re.findall(r"!\[.+\]\((.+?)\)", (DOCS / "geometries.md").read_text())
    made = {f"geometries/{path.name}" for path in (tmp_path / "geometries").iterdir()}
    assert made == set(shown)
    assert len(shown) == 8
    for picture in shown:
        assert (DOCS / picture).stat().st_size < 60_000
        # as large as what is made now; fonts and lines may differ a little between versions
        assert imread(DOCS / picture).shape[:2] == imread(tmp_path / picture).shape[:2]
    assert names["both"].num_angles == 15


def test_scattered_rays_are_projected_like_any_others():
    """A voxel is seen where the ray at two theta takes it, on both sides of the detector."""
    views = td.scatter(angles=[0.0], shape=(31, 31), two_theta=0.4, distance=20)
    x = np.zeros(VOLUME.shape, np.float32)
    x[3, 7, 4] = 1  # the middle, 3.5 along the beam
    seen = td.operator(VOLUME, views, backend="reference")(x)[:, 0]
    row, column = np.unravel_index(seen.argmax(), seen.shape)
    # the detector's middle is where the ray through the origin arrives: 3.5 tan(0.4) = 1.48 less
    assert (row, column) in {(15, 13), (15, 14)}
    columns = seen[15] @ np.arange(31) / seen[15].sum()
    assert columns == pytest.approx(15 - 3.5 * np.tan(0.4), abs=0.1)
