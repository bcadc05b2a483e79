"""Which pixels see which voxels: what a block must read, and what a run of rows must write.

Joseph's method interpolates, so a ray has a weight at a voxel whose middle it passes at less than
one voxel along each axis: a box of voxels is grown by one on every side, and its shadow is that of
a convex body, the shadow of its corners.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np

from tomodask.errors import GeometryError
from tomodask.geometry.boxes import Box, ViewRows
from tomodask.geometry.views import ProjectionGeometry
from tomodask.geometry.volumes import VolumeGeometry
from tomodask.geometry.voxelviews import VoxelViews, in_voxels

# pixels by which shadows are widened: single precision places a ray no better at 2000 columns
MARGIN = 1e-3
VIEWS_AT_ONCE = 256  # a few MB: the 165 points where three of 11 planes meet, each against all 11


@dataclass(frozen=True, eq=False)
class Footprint:
    """The pixels of every view that a box can meet; all others are 0 for it.

    view_rows, view_columns : (num_angles, 2) start and stop, both 0 in a view that does not see it.
    """

    view_rows: np.ndarray
    view_columns: np.ndarray

    @property
    def is_seen(self) -> np.ndarray:
        """(num_angles,) whether a view sees anything of the box."""
        return np.asarray(self.view_rows[:, 1] > self.view_rows[:, 0])

    @property
    def views(self) -> np.ndarray:
        """Indices of the views that see the box."""
        return np.flatnonzero(self.is_seen)

    @property
    def rows(self) -> ViewRows:
        """The rows that any view needs, 0 to 0 where none sees the box."""
        return self._union(self.view_rows)

    @property
    def columns(self) -> ViewRows:
        """The columns that any view needs."""
        return self._union(self.view_columns)

    @property
    def num_pixels(self) -> int:
        """Pixels of all views together."""
        height, width = (np.diff(runs)[:, 0] for runs in (self.view_rows, self.view_columns))
        return int((height * width).sum())

    def pixels(self, view: int) -> tuple[slice, slice]:
        """Rows and columns of one view, to index its projection with."""
        rows, columns = self.view_rows[view], self.view_columns[view]
        return slice(int(rows[0]), int(rows[1])), slice(int(columns[0]), int(columns[1]))

    def _union(self, runs: np.ndarray) -> ViewRows:
        seen = runs[self.is_seen]
        if len(seen) == 0:
            return ViewRows(0, 0)
        return ViewRows(int(seen[:, 0].min()), int(seen[:, 1].max()))


def footprint(volume: VolumeGeometry, projections: ProjectionGeometry, box: Box) -> Footprint:
    """Where the voxels of a box fall on the detector, view by view.

    A source within the box throws it anywhere: such a view counts with all of its detector; one
    beside the box, with the detector's part on that side.

    Raises
    ------
    GeometryError : the box reaches beyond the volume, or see `in_voxels`.
    """
    volume.part(box)  # refuses a box that reaches beyond
    views = in_voxels(volume, projections)
    low, high, is_ahead = _shadow(views, np.array(box.start) - 1.0, np.array(box.stop) * 1.0)
    counts = np.array(views.det_shape)
    start = np.clip(np.ceil(low - MARGIN), 0, counts)
    stop = np.clip(np.floor(high + MARGIN) + 1, 0, counts)
    runs = np.stack([start, stop], axis=2).astype(np.intp)  # (view, row or column, start or stop)
    runs[(runs[:, :, 1] <= runs[:, :, 0]).any(axis=1) | ~is_ahead] = 0
    return Footprint(runs[:, 0], runs[:, 1])


def check_visible(volume: VolumeGeometry, projections: ProjectionGeometry) -> None:
    """Refuse a volume that no view sees.

    Raises
    ------
    GeometryError : every shadow falls beside the detector or every source has the volume behind it;
        says where the shadow of the first view falls. Or see `in_voxels`.
    """
    whole = Box((0, 0, 0), volume.shape)
    if footprint(volume, projections, whole).is_seen.any():
        return
    views = in_voxels(volume, projections)
    low, high, is_ahead = _shadow(views, np.full(3, -0.5), np.array(volume.shape) - 0.5)
    rows, columns = projections.det_shape
    if not is_ahead.any():
        raise GeometryError(
            f"no view sees the volume: it lies behind the source in all {views.num_angles}; in the "
            f"first the volume is at {volume.pos[0]}, the source at {projections.source[0]} and "
            f"the detector at {projections.det_pos[0]} (z, y, x)"
        )
    view = int(np.flatnonzero(is_ahead)[0])
    raise GeometryError(
        f"no view sees the volume: in view {view} its shadow falls on rows {low[view, 0]:.1f} to "
        f"{high[view, 0]:.1f} and columns {low[view, 1]:.1f} to {high[view, 1]:.1f}, and the "
        f"detector has {rows} rows x {columns} columns: are pos, size and the distances in the "
        "same unit, and the coordinates in the order (z, y, x)?"
    )


def box_rows(
    volume: VolumeGeometry,
    projections: ProjectionGeometry,
    rows: ViewRows | tuple[int, int],
    views: slice | np.ndarray = slice(None),
) -> tuple[int, int]:
    """Volume rows (z) from start up to stop that a run of detector rows of some views can touch.

    (0, 0) where they touch none.

    Raises
    ------
    GeometryError : rows that the detector has not, no views, or see `in_voxels`.
    """
    start, stop = (rows.start, rows.stop) if isinstance(rows, ViewRows) else rows
    det_rows, columns = projections.det_shape
    if not 0 <= start < stop <= det_rows:
        raise GeometryError(f"rows {start}:{stop} asked of {det_rows} detector rows")
    if projections.num_angles > 1 or volume.is_resting:
        projections = projections[views]
    seen = in_voxels(volume if volume.is_resting else volume[views], projections)
    low, high = _seen_heights(seen, (start, stop - 1), (0, columns - 1))
    if not (low <= high).any():
        return 0, 0
    nz = volume.shape[0]
    first = max(0, int(np.ceil(low.min() - 1 - MARGIN)))
    last = min(nz - 1, int(np.floor(high[np.isfinite(high)].max() + 1 + MARGIN)))
    return (first, last + 1) if first <= last else (0, 0)


def _pixel_frame(views: VoxelViews) -> tuple[np.ndarray, np.ndarray]:
    """(num_angles, 3) origin and (num_angles, 3, 3) matrix that turn voxel indices into pixels.

    (point - origin) @ matrix is (along the ray, row, column) in a parallel beam, and in a cone
    (depth, depth * row, depth * column), with depth 0 at the source and 1 at the detector.
    """
    cone = views.beam == "cone"
    origin = views.source if cone else views.first
    ray = views.first - views.source if cone else views.source
    return origin, np.linalg.inv(np.stack([ray, views.step_v, views.step_u], axis=1))


def _shadow(
    views: VoxelViews, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Least and greatest (row, column), (num_angles, 2) each, of all points between two corners.

    Also (num_angles,) whether any of it lies ahead of the source. Where only a part does, the
    shadow reaches to infinity on the sides that the part is on.
    """
    corners = np.array(np.meshgrid(*zip(low, high, strict=True), indexing="ij")).reshape(3, 8).T
    origin, matrix = _pixel_frame(views)
    depth, across = np.split((corners - origin[:, None]) @ matrix, [1], axis=2)
    if views.beam == "parallel":
        return across.min(axis=1), across.max(axis=1), np.ones(len(origin), bool)
    ahead = depth > 1e-9  # (view, corner, 1)
    pixels = across / np.where(ahead, depth, 1)
    least = np.where(ahead, pixels, np.inf).min(axis=1)
    greatest = np.where(ahead, pixels, -np.inf).max(axis=1)
    for one, other in permutations(range(8), 2):  # where a line between corners passes beside it
        crosses = ahead[:, one] & ~ahead[:, other]
        share = depth[:, one] / np.where(crosses, depth[:, one] - depth[:, other], 1)
        side = across[:, one] + share * (across[:, other] - across[:, one])
        least = np.where(crosses & (side <= 1e-9), -np.inf, least)
        greatest = np.where(crosses & (side >= -1e-9), np.inf, greatest)
    return least, greatest, np.asarray(ahead.any(axis=(1, 2)))


def _seen_heights(
    views: VoxelViews, rows: tuple[int, int], columns: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """(num_angles,) least and greatest z index within the volume on the rays of some pixels.

    The rays and the volume's box are both convex: their common part is a polyhedron, and its lowest
    and highest points are corners of it, each where three of the planes around it meet.
    """
    normals, offsets = _planes(views, rows, columns)  # inside: normals @ point >= offsets
    tolerance = 1e-6 * max(views.shape)
    some = range(0, views.num_angles, VIEWS_AT_ONCE)
    heights = [
        _corner_heights(normals[k : k + VIEWS_AT_ONCE], offsets[k : k + VIEWS_AT_ONCE], tolerance)
        for k in some
    ]
    low, high = np.concatenate(heights, axis=1)
    return low - tolerance, high + tolerance


def _corner_heights(normals: np.ndarray, offsets: np.ndarray, tolerance: float) -> np.ndarray:
    """(2, num_angles) least and greatest z of the corners, inf and -inf where there is none."""
    a, b, c = np.array([*combinations(range(normals.shape[1]), 3)]).T
    cross = np.cross(normals[:, :, None], normals[:, None])  # of each plane with each
    volume = np.einsum("vta,vta->vt", normals[:, a], cross[:, b, c])
    meets = np.abs(volume) > 1e-12
    point = (
        offsets[:, a, None] * cross[:, b, c]
        + offsets[:, b, None] * cross[:, c, a]
        + offsets[:, c, None] * cross[:, a, b]
    ) / np.where(meets, volume, np.nan)[:, :, None]
    inside = point @ normals.swapaxes(1, 2) >= offsets[:, None] - tolerance
    is_corner = meets & inside.all(axis=2)
    z = point[:, :, 0]
    low = np.where(is_corner, z, np.inf).min(axis=1)
    return np.array([low, np.where(is_corner, z, -np.inf).max(axis=1)])


def _planes(
    views: VoxelViews, rows: tuple[int, int], columns: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Normals (num_angles, planes, 3) and offsets (num_angles, planes) around rays and volume."""
    origin, matrix = _pixel_frame(views)
    depth, row, column = (matrix[:, :, k] for k in range(3))
    cone = views.beam == "cone"
    normals, offsets = [], []
    for sign, axis, edge in (
        (1, row, rows[0] - 10 * MARGIN),  # a single row would be a polyhedron without thickness
        (-1, row, rows[1] + 10 * MARGIN),
        (1, column, columns[0] - 10 * MARGIN),
        (-1, column, columns[1] + 10 * MARGIN),
    ):
        normals.append(sign * (axis - edge * depth if cone else axis))
        offsets.append(np.full(len(origin), 0.0 if cone else sign * edge))
    if cone:
        normals.append(depth)
        offsets.append(np.zeros(len(origin)))
    around_rays = np.stack(normals, axis=1)
    from_origin = np.stack(offsets, axis=1) + np.einsum("vpa,va->vp", around_rays, origin)
    sides = np.concatenate([np.eye(3), -np.eye(3)])
    around_volume = np.broadcast_to(sides, (len(origin), 6, 3))
    reach = np.concatenate([np.full(3, -1.0), -np.array(views.shape, dtype=np.float64)])
    all_normals = np.concatenate([around_rays, around_volume], axis=1)
    all_offsets = np.concatenate([from_origin, np.tile(reach, (len(origin), 1))], axis=1)
    length = np.linalg.norm(all_normals, axis=2)
    return all_normals / length[:, :, None], all_offsets / length
