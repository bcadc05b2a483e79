"""Source and detector of every view, as vectors: what each projection geometry is made of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from tomodask.errors import GeometryError
from tomodask.geometry.vectors import common_steps, to_counts, to_vectors

Beam = Literal["parallel", "cone"]
VECTORS = ("source", "det_pos", "det_v", "det_u")


@dataclass(frozen=True, eq=False)
class ProjectionGeometry:
    """Views of a flat detector in a parallel or a cone beam, each with a pose of its own.

    beam : "parallel" or "cone".
    det_shape : (rows, columns) of the detector.
    source : (num_angles, 3) where the source is (cone), or which way the rays run (parallel; of
        any length).
    det_pos : (num_angles, 3) middle of the detector.
    det_v, det_u : (num_angles, 3) steps from one row to the next, and from one column to the next.

    All (z, y, x) in the world, in the unit of the volume's size. A single view may be repeated
    for a volume that moves.

    Raises
    ------
    GeometryError : numbers that are not finite, a detector of no pixels or no width, rays along
        the detector, or a source within its plane.
    """

    beam: Beam
    det_shape: tuple[int, int]
    source: np.ndarray
    det_pos: np.ndarray
    det_v: np.ndarray
    det_u: np.ndarray

    def __post_init__(self) -> None:
        if self.beam not in ("parallel", "cone"):
            raise GeometryError(f"beam {self.beam!r}: there are parallel, cone")
        rows, columns = to_counts(self.det_shape, 2, "detector shape")
        object.__setattr__(self, "det_shape", (rows, columns))
        named = {name: to_vectors(getattr(self, name), name) for name in VECTORS}
        for name, vectors in common_steps(**named).items():
            object.__setattr__(self, name, vectors)
        self._check_detector()

    def _check_detector(self) -> None:
        normal, pixel = self.det_normal, self.det_pixel_size
        flat = np.linalg.norm(normal, axis=1) <= 1e-9 * pixel.prod(axis=1)
        if flat.any():
            view = int(np.flatnonzero(flat)[0])
            raise GeometryError(
                f"the detector of view {view} has no area: det_v {self.det_v[view]}, "
                f"det_u {self.det_u[view]} must be two directions of some length"
            )
        rays = self.central_rays()
        across = np.abs(np.einsum("va,va->v", rays, normal))
        length = np.linalg.norm(rays, axis=1) * np.linalg.norm(normal, axis=1)
        grazing = ~(across > 1e-9 * length)
        if grazing.any():
            view = int(np.flatnonzero(grazing)[0])
            what = (
                "the source lies in the detector's plane" if self.is_cone else "the rays graze it"
            )
            raise GeometryError(
                f"the detector of view {view} sees nothing, {what}: source {self.source[view]}, "
                f"det_pos {self.det_pos[view]}, det_v {self.det_v[view]}, det_u {self.det_u[view]}"
            )

    def __len__(self) -> int:
        return self.num_angles

    @property
    def num_angles(self) -> int:
        return len(self.source)

    @property
    def is_cone(self) -> bool:
        return self.beam == "cone"

    @property
    def is_parallel(self) -> bool:
        return self.beam == "parallel"

    @property
    def src_pos(self) -> np.ndarray:
        """(num_angles, 3) positions of the source of a cone beam."""
        if not self.is_cone:
            raise GeometryError("a parallel beam has no source: its rays have a ray_dir")
        return self.source

    @property
    def ray_dir(self) -> np.ndarray:
        """(num_angles, 3) directions of the rays of a parallel beam."""
        if not self.is_parallel:
            raise GeometryError("the rays of a cone beam differ: it has a src_pos")
        return self.source

    @property
    def det_normal(self) -> np.ndarray:
        """(num_angles, 3) cross product of det_u and det_v, as long as a pixel has area."""
        return np.asarray(np.cross(self.det_u, self.det_v))

    @property
    def det_pixel_size(self) -> np.ndarray:
        """(num_angles, 2) height and width of a pixel."""
        return np.stack([np.linalg.norm(v, axis=1) for v in (self.det_v, self.det_u)], axis=1)

    @property
    def det_size(self) -> np.ndarray:
        """(num_angles, 2) height and width of the detector."""
        return np.asarray(self.det_pixel_size * self.det_shape)

    @property
    def first(self) -> np.ndarray:
        """(num_angles, 3) middle of pixel (0, 0)."""
        rows, columns = self.det_shape
        return np.asarray(
            self.det_pos - (rows - 1) / 2 * self.det_v - (columns - 1) / 2 * self.det_u
        )

    def central_rays(self) -> np.ndarray:
        """(num_angles, 3) from the source to the detector's middle, or the rays themselves."""
        return self.det_pos - self.source if self.is_cone else self.source

    def corners(self) -> np.ndarray:
        """(num_angles, 4, 3) corners of the detector, one after the other around it."""
        rows, columns = self.det_shape
        v, u = self.det_v[:, None] * rows / 2, self.det_u[:, None] * columns / 2
        signs = np.array([(-1, -1), (-1, 1), (1, 1), (1, -1)])
        return np.asarray(self.det_pos[:, None] + signs[:, :1] * v + signs[:, 1:] * u)

    def to_vec(self) -> ProjectionGeometry:
        """Itself: every geometry here is made of vectors."""
        return self

    def __getitem__(self, views: int | slice | np.ndarray) -> ProjectionGeometry:
        """Some of the views: `pg[k::4]`, a list of indices, or a mask."""
        if isinstance(views, int | np.integer):
            views = [views]  # type: ignore[assignment]
        chosen = {name: getattr(self, name)[views] for name in VECTORS}
        if len(chosen["source"]) == 0:
            raise GeometryError(f"{views!r} chooses none of {self.num_angles} views")
        return replace(self, **chosen)

    def take_rows(self, start: int, stop: int) -> ProjectionGeometry:
        """The same views on detector rows [start, stop)."""
        rows, columns = self.det_shape
        if not 0 <= start < stop <= rows:
            raise GeometryError(f"rows {start}:{stop} asked of {rows} detector rows")
        pos = self.det_pos + ((start + stop) / 2 - rows / 2) * self.det_v
        return replace(self, det_shape=(stop - start, columns), det_pos=pos)

    def take_columns(self, start: int, stop: int) -> ProjectionGeometry:
        """The same views on detector columns [start, stop)."""
        rows, columns = self.det_shape
        if not 0 <= start < stop <= columns:
            raise GeometryError(f"columns {start}:{stop} asked of {columns} detector columns")
        pos = self.det_pos + ((start + stop) / 2 - columns / 2) * self.det_u
        return replace(self, det_shape=(rows, stop - start), det_pos=pos)
