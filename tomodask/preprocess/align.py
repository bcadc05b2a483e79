"""Alignment of the detector: roll, vertical jitter and the lens, undone in one interpolation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tomodask.errors import InputError, RecipeError
from tomodask.geometry import ParallelBeam
from tomodask.geometry.distortion import Distortion
from tomodask.preprocess.lines import Lines, result_bytes, result_of
from tomodask.projections import Projections
from tomodask.projectors.resampling import REACH, TAPS, rectify_views

GRID = 33  # places along either side of the detector where the lens is looked at for the halo


@dataclass(frozen=True)
class Align:
    """Projections as a detector without roll, jitter and lens would have seen them.

    Everything is undone at once, by one interpolation from 6 x 6 pixels (`projectors.resampling`).
    Beyond the detector's edge its outermost pixels go on. Horizontal jitter and an axis that leans
    in straight pictures need no interpolation: they are `column_shifts` and `center_slope` of the
    geometry. What `roll_deg` undoes must not be in `center_slope` too.

    roll_deg : by which the picture is turned around (center_row, center_column): the axis moves
        by tan(roll) columns a row.
    row_shifts : detector rows that each view's picture lies too far down, one a view; none: ().
    distortion : factors k0, k1, ... of the lens around the same pixel (`geometry.Distortion`).
    center_row, center_column : pixel of the whole detector; None: the middle of the columns. The
        nearer to the detector's middle, the fewer rows beside its own each block needs.

    Pixels that are not finite spoil only places nearest to one of them.

    Raises
    ------
    RecipeError : numbers that are not finite, or a roll beyond 45 degrees.
    GeometryError : factors that are not those of a lens.
    InputError : the data are raw counts, or there are other than `row_shifts` views.
    """

    roll_deg: float = 0.0
    row_shifts: tuple[float, ...] = ()
    distortion: tuple[float, ...] = ()
    center_row: float = 0.0
    center_column: float | None = None

    mixes_angles: ClassVar[bool] = False
    in_place: ClassVar[bool] = False  # a pixel's neighbours are needed as they were

    def __post_init__(self) -> None:
        if not abs(self.roll_deg) <= 45:
            raise RecipeError(f"roll_deg {self.roll_deg}: degrees from -45 to 45 are expected")
        if not np.isfinite([*self.row_shifts, self.center_row, self.center_column or 0.0]).all():
            raise RecipeError("row_shifts and the centre of align: finite numbers are expected")
        object.__setattr__(self, "row_shifts", tuple(map(float, self.row_shifts)))
        object.__setattr__(self, "distortion", tuple(map(float, self.distortion)))
        self._lens(2)  # refuses factors that mean nothing

    def halo(self, geometry: ParallelBeam) -> int:
        """As far up or down as any pixel is read, over all the rows that the geometry spans."""
        first, last = geometry.row_start, geometry.row_start + geometry.det_rows - 1
        rows, columns = np.meshgrid(
            np.linspace(first, last, GRID), np.linspace(0, geometry.det_count - 1, GRID)
        )
        shifts = self.row_shifts or (0.0,)
        moved = 0.0
        for shift in (min(shifts), max(shifts)):
            places = np.stack([rows, columns, np.ones_like(rows)], axis=-1)
            row, column = np.moveaxis(places @ self._map(geometry.det_count, shift).T, -1, 0)
            if self.distortion:
                row, _ = self._lens(geometry.det_count).to_measured(row, column)
            moved = max(moved, float(np.abs(row - rows).max()))
        return int(np.ceil(moved + 1e-6)) + REACH

    def working_bytes(self, shape: tuple[int, int, int], threads: int = 1) -> int:
        """The result and, for each thread, a view that is read along its rows."""
        views, rows, columns = shape
        crossed = 4 * (rows + 2 * TAPS) * columns
        return result_bytes(shape, threads) + min(threads, views) * crossed

    def __call__(
        self, block: Projections, threads: int = 1, out: np.ndarray | None = None
    ) -> Projections:
        """The aligned projections, float32."""
        views, rows, columns = block.data.shape
        if block.data.dtype.kind != "f":
            raise InputError(
                f"align needs corrected projections, got {block.data.dtype} data, which are raw "
                "counts: put flatfield before it"
            )
        if self.row_shifts and len(self.row_shifts) != views:
            raise InputError(
                f"{len(self.row_shifts)} row shifts for {views} views: one for each is expected"
            )
        shifts = self.row_shifts or (0.0,) * views
        lines = Lines.of(block.data)
        result = result_of(block.data, out)
        rectify_views(
            lines.stretch,
            (lines.view_step, lines.row_step),
            (rows, columns),
            block.geometry.row_start,
            np.stack([self._map(columns, shift) for shift in shifts]),
            self._lens(columns) if self.distortion else None,
            result,
            threads,
        )
        return block.replace(data=result)

    def _middle(self, columns: int) -> float:
        return (columns - 1) / 2 if self.center_column is None else self.center_column

    def _lens(self, columns: int) -> Distortion:
        return Distortion(self.center_row, self._middle(columns), self.distortion or (1.0,))

    def _map(self, columns: int, shift: float) -> np.ndarray:
        """(2, 3) from aligned (row, column, 1) to where the camera's picture has it."""
        cos, sin = np.cos(np.deg2rad(self.roll_deg)), np.sin(np.deg2rad(self.roll_deg))
        linear = np.array([[cos, -sin], [sin, cos]])
        center = np.array([self.center_row, self._middle(columns)])
        return np.column_stack([linear, center - linear @ center + (shift, 0.0)])
