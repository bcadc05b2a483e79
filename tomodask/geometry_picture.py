"""A picture of any geometry: the volume, some of the detectors, where the sources go, the rays.

Three drawings of the same scene without perspective: at a slant, from above, from the side. The
colours are Okabe and Ito's, which colour-blind readers tell apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from tomodask.errors import InputError
from tomodask.geometry import ProjectionGeometry, VolumeGeometry, in_voxels
from tomodask.pictures import write

VOLUME, SOURCE, INK = "#0072B2", "#D55E00", "#333333"
DETECTORS = ("#E69F00", "#009E73", "#CC79A7")  # of the first, second and third projections
# corners of a volume (see VolumeGeometry.corners) face by face
FACES = ((0, 1, 3, 2), (4, 5, 7, 6), (0, 1, 5, 4), (2, 3, 7, 6), (0, 2, 6, 4), (1, 3, 7, 5))


@dataclass(frozen=True)
class Camera:
    """Where a drawing is seen from: (z, y, x) to right, up and depth (away from the viewer)."""

    title: str
    axes: np.ndarray
    names: tuple[str, str] | None = None

    def see(self, points: np.ndarray) -> np.ndarray:
        """(..., 2) right and up."""
        return np.asarray(points @ self.axes[:2].T)

    def depth(self, points: np.ndarray) -> float:
        """Mean distance: what lies behind is drawn first."""
        return float((points @ self.axes[2]).mean())


def _slanted(azimuth: float, elevation: float) -> np.ndarray:
    cos, sin = np.cos(elevation), np.sin(elevation)
    right = np.array([0.0, np.sin(azimuth), np.cos(azimuth)])
    ahead = np.array([0.0, np.cos(azimuth), -np.sin(azimuth)])
    up = np.array([1.0, 0.0, 0.0])
    return np.stack([right, cos * up + sin * ahead, cos * ahead - sin * up])


CAMERAS = (
    Camera("", _slanted(np.deg2rad(-32), np.deg2rad(24))),
    Camera("from above", np.array([(0, 0, 1), (0, 1, 0), (-1, 0, 0)], float), ("x", "y")),
    Camera("from the side", np.array([(0, 1, 0), (1, 0, 0), (0, 0, -1)], float), ("y", "z")),
)


@dataclass(frozen=True, eq=False)
class Shape:
    """A filled polygon, a line, dots or the head of an arrow, by its points (n, 3) in the world."""

    kind: str
    points: np.ndarray
    style: dict[str, object]
    lift: float = 0.0  # drawn as if that much nearer


def picture(
    volume: VolumeGeometry,
    projections: ProjectionGeometry | Sequence[ProjectionGeometry],
    path: str | Path | None = None,
    *,
    title: str = "",
    views: int = 6,
) -> Figure:
    """Draw a volume and the views of it, at a slant, from above and from the side.

    The first view is drawn in full: its detector with a dot at pixel (0, 0), and the rays to its
    corners. The detectors of a parallel beam may stand anywhere along the rays; one within the
    volume is drawn behind it.

    Parameters
    ----------
    projections : one geometry, or up to three to be drawn together (two sources, or a beam and
        what is scattered out of it).
    path : PNG to write, unless only the figure is wanted.
    views : detectors to draw, evenly chosen; positions of a volume that moves.

    Raises
    ------
    InputError : no projections or more than three, fewer than one view asked for.
    GeometryError : see `in_voxels`.
    MissingInputError : there is no folder to write the picture in.
    """
    several = [projections] if isinstance(projections, ProjectionGeometry) else list(projections)
    if not 1 <= len(several) <= len(DETECTORS) or views < 1:
        raise InputError(
            f"a picture of {len(several)} projections and {views} views: 1 to {len(DETECTORS)} "
            "projections and at least 1 view are expected"
        )
    shapes = _volume_shapes(volume, views)
    for colour, geometry in zip(DETECTORS, several, strict=False):
        in_voxels(volume, geometry)  # refuses steps that do not fit
        shapes += _view_shapes(volume, geometry, colour, views)
    figure = Figure(figsize=(8.6, 5.2))
    figure.set_layout_engine("constrained", w_pad=0.06, h_pad=0.08)
    grid = figure.add_gridspec(2, 2, width_ratios=[2.2, 1])
    panels = [figure.add_subplot(cell) for cell in (grid[:, 0], grid[0, 1], grid[1, 1])]
    for panel, camera in zip(panels, CAMERAS, strict=True):
        _draw(panel, camera, shapes)
    figure.legend(
        handles=_legend(several), loc="outside lower center", ncols=6, frameon=False, fontsize=8.5
    )
    if title:
        figure.suptitle(title, fontsize=11, color=INK)
    if path is not None:
        write(figure, Path(path))
    return figure


def _chosen(count: int, most: int) -> np.ndarray:
    """Indices of at most so many steps, the first among them, evenly."""
    return np.unique(np.linspace(0, count, min(count, most), endpoint=False).astype(int))


def _volume_shapes(volume: VolumeGeometry, most: int) -> list[Shape]:
    corners = volume.corners()[_chosen(volume.num_steps, most)]
    shapes = []
    for step, box in enumerate(corners):
        strength = 1.0 if step == 0 else 0.45
        style = {
            "facecolor": (*_rgb(VOLUME), 0.13 * strength),
            "edgecolor": (*_rgb(VOLUME), 0.9 * strength),
            "linewidth": 1.1 if step == 0 else 0.7,
        }
        shapes += [Shape("fill", box[list(face)], style) for face in FACES]
    if len(corners) > 1:
        shapes += _line(volume.pos, color=VOLUME, linewidth=1.2)
    return shapes


def _view_shapes(
    volume: VolumeGeometry, projections: ProjectionGeometry, colour: str, most: int
) -> list[Shape]:
    middle, radius = _ball(volume)
    corners = _behind(projections, middle, radius)
    starts = _ray_starts(projections, corners, middle, radius)
    shapes = _line(corners.mean(axis=1), color=colour, linewidth=1.0, linestyle=":")
    shown = _chosen(projections.num_angles, most)
    _, different = np.unique(corners[shown].reshape(len(shown), -1), axis=0, return_index=True)
    for view in shown[np.sort(different)]:  # a detector that rests is drawn once
        style = {
            "facecolor": (*_rgb(colour), 0.5 if view == 0 else 0.2),
            "edgecolor": (*_rgb(colour), 1.0 if view == 0 else 0.7),
            "linewidth": 1.4 if view == 0 else 0.8,
        }
        shapes.append(Shape("fill", corners[view], style))
    for view in shown[1:]:
        middle_ray = np.stack([starts[view].mean(axis=0), corners[view].mean(axis=0)])
        shapes += _line(middle_ray, color=INK, linewidth=0.5, alpha=0.3)
    shapes += _first_view(starts[0], corners[0])
    if projections.is_cone:
        shapes += _line(projections.source, color=SOURCE, linewidth=1.1)
        for view in shown:
            style = {"color": SOURCE, "markersize": 8 if view == 0 else 3.5}
            shapes.append(Shape("dots", projections.source[view, None], style, lift=1.0))
    return shapes


def _first_view(starts: np.ndarray, corners: np.ndarray) -> list[Shape]:
    """The rays to the corners and the middle of the detector, and its first pixel."""
    first = 0.94 * corners[0] + 0.06 * corners[2]
    shapes = [Shape("dots", first[None], {"color": INK, "markersize": 3}, lift=1.0)]
    middle = starts.mean(axis=0), corners.mean(axis=0)
    for start, end in (middle, *zip(starts, corners, strict=True)):
        shapes += _line(np.stack([start, end]), color=INK, linewidth=0.8, alpha=0.75)
    start, end = middle
    head = np.stack([start + 0.2 * (end - start), start + 0.26 * (end - start)])
    return [*shapes, Shape("head", head, {"color": INK, "linewidth": 0}, lift=1.0)]


def _line(points: np.ndarray, **style: object) -> list[Shape]:
    """A line in pieces, so that it may run before and behind other things."""
    if len(points) == 2:
        points = np.linspace(points[0], points[1], 13)
    pieces = np.array_split(np.arange(max(0, len(points) - 1)), min(24, max(1, len(points) - 1)))
    style = {"solid_capstyle": "butt", **style}
    return [Shape("line", points[p[0] : p[-1] + 2], style) for p in pieces if len(p)]


def _ball(volume: VolumeGeometry) -> tuple[np.ndarray, float]:
    """Middle and radius of a ball around the volume at all its steps."""
    corners = volume.corners().reshape(-1, 3)
    middle = (corners.min(axis=0) + corners.max(axis=0)) / 2
    return middle, float(np.linalg.norm(corners - middle, axis=1).max())


def _rays_unit(projections: ProjectionGeometry) -> np.ndarray:
    rays = projections.central_rays()
    return np.asarray(rays / np.linalg.norm(rays, axis=1, keepdims=True))


def _behind(projections: ProjectionGeometry, middle: np.ndarray, radius: float) -> np.ndarray:
    """(num_angles, 4, 3) corners of the detectors, those within a parallel beam's volume behind."""
    corners = projections.corners()
    if projections.is_cone:
        return corners
    rays = _rays_unit(projections)
    along = np.sum((projections.det_pos - middle) * rays, axis=1)
    back = np.where(along < radius, 1.45 * radius - along, 0)
    return np.asarray(corners + (back[:, None] * rays)[:, None])


def _ray_starts(
    projections: ProjectionGeometry, corners: np.ndarray, middle: np.ndarray, radius: float
) -> np.ndarray:
    """(num_angles, 4, 3) where the rays to the corners are drawn from."""
    if projections.is_cone:
        return np.broadcast_to(projections.source[:, None], corners.shape)
    rays = _rays_unit(projections)
    along = np.einsum("vca,va->vc", corners - middle, rays) + 1.45 * radius
    return np.asarray(corners - along[:, :, None] * rays[:, None])


def _draw(panel: Axes, camera: Camera, shapes: Sequence[Shape]) -> None:
    drawers: dict[str, Callable[..., object]] = {
        "fill": lambda xy, style, order: panel.fill(*xy.T, zorder=order, **style),
        "line": lambda xy, style, order: panel.plot(*xy.T, zorder=order, **style),
        "dots": lambda xy, style, order: panel.plot(
            *xy.T, marker="o", linestyle="none", zorder=order, **style
        ),
        "head": lambda xy, style, order: panel.annotate(
            "", xy[1], xy[0], zorder=order, arrowprops={"arrowstyle": "-|>", **style}
        ),
    }
    farthest_first = sorted(shapes, key=lambda shape: shape.lift - camera.depth(shape.points))
    for order, shape in enumerate(farthest_first):
        drawers[shape.kind](camera.see(shape.points), shape.style, order)
    panel.set_aspect("equal")
    panel.margins(0.06)
    panel.set_title(camera.title, fontsize=9, color=INK)
    if camera.names is None:
        panel.set_axis_off()
        _draw_triad(panel, camera)
        return
    panel.set_xlabel(camera.names[0], fontsize=8, labelpad=1)
    panel.set_ylabel(camera.names[1], fontsize=8, labelpad=1)
    panel.tick_params(labelsize=7, length=2, colors=INK)
    panel.locator_params(nbins=5)
    for spine in panel.spines.values():
        spine.set_color("#bbbbbb")


def _draw_triad(panel: Axes, camera: Camera) -> None:
    """The directions of x, y and z in the lower left corner of the figure."""
    corner = np.array([40.0, 22.0])  # points
    arrow = {"arrowstyle": "-|>", "color": INK, "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0}
    for name, direction in zip("zyx", np.eye(3), strict=True):
        seen = camera.see(direction)
        tip, beyond = corner + 28 * seen, corner + (28 + 6 / np.linalg.norm(seen)) * seen
        panel.annotate(
            "",
            (float(tip[0]), float(tip[1])),
            (float(corner[0]), float(corner[1])),
            xycoords="figure points",
            textcoords="figure points",
            arrowprops={**arrow, "mutation_scale": 8},
        )
        panel.annotate(
            name,
            (float(beyond[0]), float(beyond[1])),
            xycoords="figure points",
            ha="center",
            va="center",
            fontsize=9,
            color=INK,
        )


def _legend(several: Sequence[ProjectionGeometry]) -> list[Patch | Line2D]:
    cones = any(geometry.is_cone for geometry in several)
    handles: list[Patch | Line2D] = [
        Patch(facecolor=(*_rgb(VOLUME), 0.2), edgecolor=VOLUME, label="volume")
    ]
    for number, colour in enumerate(DETECTORS[: len(several)], start=1):
        name = "detector" if len(several) == 1 else f"detector {number}"
        handles.append(Patch(facecolor=(*_rgb(colour), 0.5), edgecolor=colour, label=name))
    if cones:
        handles.append(Line2D([], [], color=SOURCE, marker="o", label="source and its path"))
    handles.append(Line2D([], [], color=INK, linewidth=0.8, alpha=0.8, label="rays"))
    dot = Line2D(
        [], [], color=INK, marker="o", markersize=3, linestyle="none", label="pixel (0, 0)"
    )
    return [*handles, dot]


def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5))
    return red, green, blue
