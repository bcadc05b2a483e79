"""The parallel beam of a scan in detector pixels: slices that are independent of each other.

u = x cos(angle) + y sin(angle) + c, with u in detector pixels (0 is the middle of the first pixel),
c the centre of rotation, x along the volume's last axis, y along the one before, both measured from
the rotation axis; z runs along the detector rows in the direction stored. Positive angles turn x
towards y.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tomodask.errors import GeometryError
from tomodask.geometry.boxes import Box, ViewRows


@dataclass(frozen=True, eq=False)
class ParallelBeam:
    """A parallel beam on a flat detector whose columns are perpendicular to the rotation axis.

    angles : (num_angles,) radians, any order, any range.
    det_rows, det_count : detector rows and columns that this geometry spans.
    center_of_rotation : detector column of the axis at the first row spanned, None while unknown.
    center_slope : columns that the axis moves from one row to the next (camera roll).
    pixel_size_um : detector pixel at the object, None where unknown: values are then 1/pixel.
    row_start : index of the first row spanned on the whole detector.
    column_shifts : (num_angles,) detector columns that the axis is off in each view (jitter of
        stage or beam), None where there is none: u = x cos + y sin + c + shift.
    """

    angles: np.ndarray
    det_rows: int
    det_count: int
    center_of_rotation: float | None = None
    center_slope: float = 0.0
    pixel_size_um: float | None = None
    row_start: int = 0
    column_shifts: np.ndarray | None = None

    def __post_init__(self) -> None:
        angles = np.asarray(self.angles, dtype=np.float64)
        if angles.ndim != 1 or angles.size == 0 or not np.isfinite(angles).all():
            raise GeometryError(
                f"angles must be a list of finite radians, got shape {angles.shape} with "
                f"{np.count_nonzero(~np.isfinite(angles))} that are not finite"
            )
        if self.det_rows < 1 or self.det_count < 2:
            raise GeometryError(
                f"a detector of {self.det_rows} rows x {self.det_count} columns: "
                "at least 1 x 2 are needed"
            )
        if self.pixel_size_um is not None and not self.pixel_size_um > 0:
            raise GeometryError(
                f"pixel size {self.pixel_size_um} um: give a positive length, or none"
            )
        object.__setattr__(self, "angles", angles)
        if self.column_shifts is not None:
            shifts = np.asarray(self.column_shifts, dtype=np.float64)
            if shifts.shape != angles.shape or not np.isfinite(shifts).all():
                raise GeometryError(
                    f"column shifts of shape {shifts.shape} for {angles.size} views: one finite "
                    "number of detector columns for each is expected"
                )
            object.__setattr__(self, "column_shifts", shifts)

    @property
    def num_angles(self) -> int:
        return int(self.angles.size)

    @property
    def pixel_length(self) -> float:
        """Length of a pixel in mm, or 1.0 (pixel) where its size is unknown."""
        return 1.0 if self.pixel_size_um is None else self.pixel_size_um / 1000

    @property
    def value_unit(self) -> str:
        """Unit of the reconstructed attenuation."""
        return "1/pixel" if self.pixel_size_um is None else "1/mm"

    def centers(self) -> np.ndarray:
        """Centre of rotation of each row spanned, (det_rows,) detector columns."""
        if self.center_of_rotation is None:
            raise GeometryError(
                "the centre of rotation is not known: find it with `tomodask center`"
            )
        return self.center_of_rotation + self.center_slope * np.arange(self.det_rows)

    def shifts(self) -> np.ndarray:
        """(num_angles,) columns that the axis is off in each view, 0 where none is known."""
        return np.zeros(self.num_angles) if self.column_shifts is None else self.column_shifts

    def footprint(self, box: Box) -> ViewRows:
        """Detector rows, counted from `row_start`, that the voxels of `box` project onto."""
        start, stop = box.rows
        if not 0 <= start < stop <= self.det_rows:
            raise GeometryError(
                f"volume rows {start}:{stop} lie outside the {self.det_rows} detector rows"
            )
        return ViewRows(start, stop)

    def take_rows(self, start: int, stop: int) -> ParallelBeam:
        """The same beam on rows [start, stop) of those spanned now."""
        if not 0 <= start < stop <= self.det_rows:
            raise GeometryError(f"rows {start}:{stop} asked of {self.det_rows} detector rows")
        center = self.center_of_rotation
        moved = None if center is None else center + self.center_slope * start
        return replace(
            self,
            det_rows=stop - start,
            center_of_rotation=moved,
            row_start=self.row_start + start,
        )

    def take_columns(self, start: int, stop: int) -> ParallelBeam:
        """The same beam on columns [start, stop); the centre of rotation moves along."""
        if not 0 <= start < stop <= self.det_count:
            raise GeometryError(
                f"columns {start}:{stop} asked of {self.det_count} detector columns"
            )
        center = self.center_of_rotation
        moved = None if center is None else center - start
        return replace(self, det_count=stop - start, center_of_rotation=moved)

    def take_views(self, views: slice | np.ndarray) -> ParallelBeam:
        """The same beam with some of its views: a slice, or an array of their indices."""
        shifts = None if self.column_shifts is None else self.column_shifts[views]
        return replace(self, angles=self.angles[views], column_shifts=shifts)

    def with_center(self, center: float, slope: float = 0.0) -> ParallelBeam:
        """The same beam with its axis at column `center` of the first row spanned."""
        return replace(self, center_of_rotation=float(center), center_slope=float(slope))
