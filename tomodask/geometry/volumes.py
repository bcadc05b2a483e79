"""The volume: a grid of voxels somewhere in the world, resting or moving from view to view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from tomodask.errors import GeometryError
from tomodask.geometry.boxes import Box
from tomodask.geometry.vectors import common_steps, to_counts, to_lengths, to_positions, to_vectors


@dataclass(frozen=True, eq=False)
class VolumeGeometry:
    """A grid of voxels; its axes are any three directions, so it may be turned or sheared.

    shape : (nz, ny, nx) voxels.
    pos : (num_steps, 3) middle of the volume, (z, y, x) in the world.
    w, v, u : (num_steps, 3) steps from one voxel to the next along z, y and x.

    One step rests; as many steps as there are views move the volume between them.
    """

    shape: tuple[int, int, int]
    pos: np.ndarray
    w: np.ndarray
    v: np.ndarray
    u: np.ndarray

    def __post_init__(self) -> None:
        nz, ny, nx = to_counts(self.shape, 3, "volume shape")
        object.__setattr__(self, "shape", (nz, ny, nx))
        named = {name: to_vectors(getattr(self, name), name) for name in ("pos", "w", "v", "u")}
        for name, vectors in common_steps(**named).items():
            object.__setattr__(self, name, vectors)
        flat = np.abs(np.linalg.det(self.axes)) < 1e-12 * self.voxel_size.prod(axis=1)
        if flat.any():
            step = int(np.flatnonzero(flat)[0])
            raise GeometryError(
                f"the voxels of step {step} are flat: w {self.w[step]}, v {self.v[step]}, "
                f"u {self.u[step]} lie in one plane"
            )

    @property
    def num_steps(self) -> int:
        return len(self.pos)

    @property
    def axes(self) -> np.ndarray:
        """(num_steps, 3, 3): rows are w, v and u, columns z, y and x of the world."""
        return np.stack([self.w, self.v, self.u], axis=1)

    @property
    def voxel_size(self) -> np.ndarray:
        """(num_steps, 3) lengths of w, v and u."""
        return np.asarray(np.linalg.norm(self.axes, axis=2))

    @property
    def size(self) -> np.ndarray:
        """(num_steps, 3) lengths of the whole volume along w, v and u."""
        return np.asarray(self.voxel_size * self.shape)

    @property
    def first(self) -> np.ndarray:
        """(num_steps, 3) middle of voxel (0, 0, 0) in the world."""
        middle = (np.array(self.shape) - 1) / 2
        return np.asarray(self.pos - np.einsum("a,sab->sb", middle, self.axes))

    @property
    def is_resting(self) -> bool:
        return self.num_steps == 1

    @property
    def is_aligned(self) -> bool:
        """Whether w, v and u point along z, y and x at every step."""
        return bool((self.axes == np.eye(3) * self.axes).all() and (self.axes >= 0).all())

    def corners(self) -> np.ndarray:
        """(num_steps, 8, 3) corners of the volume (of its outermost voxels), in the world."""
        signs = np.array(np.meshgrid(*[(-0.5, 0.5)] * 3, indexing="ij")).reshape(3, 8).T
        return np.asarray(
            self.pos[:, None] + np.einsum("ca,sab->scb", signs * self.shape, self.axes)
        )

    def __getitem__(self, steps: int | slice | np.ndarray) -> VolumeGeometry:
        """The volume at some of its steps."""
        if isinstance(steps, int | np.integer):
            steps = [steps]  # type: ignore[assignment]
        return replace(self, **{n: getattr(self, n)[steps] for n in ("pos", "w", "v", "u")})

    def part(self, box: Box) -> VolumeGeometry:
        """The voxels of a box alone, where they were.

        Raises
        ------
        GeometryError : the box is empty or reaches beyond the volume.
        """
        start, stop = np.array(box.start), np.array(box.stop)
        if (start < 0).any() or (stop > self.shape).any() or (stop <= start).any():
            raise GeometryError(
                f"box {box.start} to {box.stop} (z, y, x) of a volume of shape {self.shape}"
            )
        first = self.first + np.einsum("a,sab->sb", start, self.axes)
        pos = first + np.einsum("a,sab->sb", (stop - start - 1) / 2, self.axes)
        nz, ny, nx = (int(n) for n in stop - start)
        return replace(self, shape=(nz, ny, nx), pos=pos)


def volume(
    *,
    shape: int | tuple[int, int, int],
    pos: ArrayLike = 0,
    size: float | tuple[float, float, float] | None = None,
    extent: Sequence[Sequence[float]] | None = None,
) -> VolumeGeometry:
    """A volume whose axes are those of the world.

    Parameters
    ----------
    shape : (nz, ny, nx) voxels, or one number for all three.
    pos : middle of the volume, (z, y, x), or one number for all three.
    size : lengths along z, y and x; the shape itself unless given, for voxels of size 1.
    extent : ((z0, z1), (y0, y1), (x0, x1)) instead of pos and size.

    Raises
    ------
    GeometryError : a shape or size of 0, or pos and size beside extent.
    """
    nz, ny, nx = counts = to_counts(shape, 3, "volume shape")
    if extent is not None:
        if size is not None or np.any(pos):
            raise GeometryError("give a volume either an extent, or pos and size, not both")
        low, high = np.array(extent, dtype=np.float64).T
        return volume(shape=(nz, ny, nx), pos=(low + high) / 2, size=tuple(high - low))
    lengths = to_lengths(counts if size is None else size, 3, "volume size")
    w, v, u = np.diag(lengths / counts)
    return VolumeGeometry((nz, ny, nx), to_positions(pos, "pos"), w, v, u)
