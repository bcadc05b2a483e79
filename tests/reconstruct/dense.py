"""An operator as a matrix, on NumPy's and torch's arrays: small, exact, and easily looked into."""

from __future__ import annotations

from typing import Any

import numpy as np

from tomodask.geometry import Box, ParallelBeam
from tomodask.projectors import Projector, make_projector

SIZE, COLUMNS, VIEWS = 8, 10, 14


class Dense:
    """A matrix (pixels, voxels) of everything, or one for each row where rows are independent.

    kind : NumPy's namespace or torch.
    """

    def __init__(
        self,
        matrix: np.ndarray,
        domain_shape: tuple[int, int, int],
        range_shape: tuple[int, int, int],
        independent_rows: bool = True,
        kind: Any = np,
    ) -> None:
        self.matrix, self.kind = matrix, kind
        self.domain_shape, self.range_shape = domain_shape, range_shape
        self.independent_rows = independent_rows
        self.num_angles = range_shape[1]
        self._matrix = kind.asarray(matrix.astype(np.float32))
        self._groups = domain_shape[0] if independent_rows else 1

    def __call__(self, x: Any) -> Any:
        return (x.reshape(self._groups, -1) @ self._matrix.T).reshape(self.range_shape)

    def T(self, y: Any) -> Any:  # noqa: N802
        return (y.reshape(self._groups, -1) @ self._matrix).reshape(self.domain_shape)

    def views(self, selection: Any) -> Dense:
        rows = self.range_shape[0] if not self.independent_rows else 1
        matrix = self.matrix.reshape(rows, *self.range_shape[1:], -1)[:, selection]
        shape = (self.range_shape[0], *matrix.shape[1:3])
        return Dense(
            matrix.reshape(-1, matrix.shape[-1]), self.domain_shape, shape,
            self.independent_rows, self.kind,
        )  # fmt: skip


def projector(
    rows: int, backend: str = "reference", views: int = VIEWS, size: int = SIZE
) -> Projector:
    """Of slices, on a detector that is a little wider and off their middle."""
    angles = np.arange(views) * np.pi / views
    columns = size + COLUMNS - SIZE
    geometry = ParallelBeam(angles, rows, columns, center_of_rotation=(columns - 1) / 2 + 0.3)
    return make_projector(Box((0, 0, 0), (rows, size, size)), geometry, backend)


def slice_matrix() -> np.ndarray:
    """(pixels, voxels) of one slice of `projector`: the projections of unit vectors."""
    units = np.eye(SIZE**2, dtype=np.float32).reshape(-1, SIZE, SIZE)
    return projector(SIZE**2)(units).reshape(SIZE**2, -1).T.astype(np.float64)


def dense(rows: int, independent_rows: bool = True, kind: Any = np) -> Dense:
    """`projector` as a matrix: of a slice, or of all with some of each leaking into the next."""
    matrix = slice_matrix()
    if not independent_rows:
        leak = np.eye(rows) + 0.2 * np.eye(rows, k=1)
        matrix = np.kron(leak, matrix)
    return Dense(matrix, (rows, SIZE, SIZE), (rows, VIEWS, COLUMNS), independent_rows, kind)


def smooth_volume(rows: int, size: int = SIZE) -> np.ndarray:
    """Positive, different in each slice: (rows, size, size) float32."""
    z, y, x = np.meshgrid(
        np.arange(rows), np.linspace(-1, 1, size), np.linspace(-1, 1, size), indexing="ij"
    )
    return (0.1 + np.exp(-3 * (x - 0.2 * z) ** 2 - 2 * y**2) * (1 + z)).astype(np.float32)
