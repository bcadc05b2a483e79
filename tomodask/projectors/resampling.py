"""Resampling between the real detector and an aligned one: roll, shifts, pixels and lens at once.

A projector of slices needs an aligned detector, whose rows are slices and whose columns are one
voxel apart. `forward` reads its projections where the pixels of the real one are, `adjoint` is the
exact transpose, and `rectify` reads the real one's where those of the aligned one are, as FBP wants
it.

Places are read from 6 x 6 pixels. Keys' cubic convolution (1981, doi:10.1109/TASSP.1981.1163711) is
exact for parabolas and gives cosines of 10 (5, 4) pixels a period to 0.4 % (4 %, 9 %); the weights
here are exact for cubics, and of these those with the least squared error over all frequencies up
to half the greatest: 0.1 % (0.3 %, 1 %). At whole pixels they copy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType

import numpy as np

from tomodask import arrays
from tomodask.errors import GeometryError
from tomodask.geometry.distortion import Distortion
from tomodask.threads import share

TAPS = 6
REACH = 3  # pixels to either side of a place that are read
BAND = 0.5  # of the greatest frequency: up to there the squared error is least


def exact_weights(places: np.ndarray) -> np.ndarray:
    """(places, TAPS): weights of the pixels -2 ... 3 for places 0 ... 1 after pixel 0.

    Least squares with exact moments: minimise the integral of |exp(i w t) - sum_k h_k exp(i w k)|^2
    over |w| <= BAND pi, where sum_k h_k (k - t)^m is 1 for m = 0 and 0 for m = 1, 2, 3. The loops
    have polynomials for them.
    """
    taps = np.arange(TAPS) - (TAPS // 2 - 1)
    moments = np.arange(4)[:, None]
    constraints = (taps - 0.5) ** moments
    system = np.block(
        [
            [np.sinc(BAND * (taps[:, None] - taps)), constraints.T],
            [constraints, np.zeros((4, 4))],
        ]
    )
    wanted = np.vstack([np.sinc(BAND * (places - taps[:, None])), (places - 0.5) ** moments])
    return np.asarray(np.linalg.solve(system, wanted)[:TAPS].T)


def loops() -> ModuleType:
    """The compiled loops: numba takes half a second to import."""
    return import_module("tomodask.projectors.resampling_loops")


@dataclass(frozen=True, eq=False)
class Resampling:
    """The linear map from the projections of an aligned detector to those of the real one.

    maps : (num_angles, 2, 3); maps[view] @ (row, column, 1) of the real detector is the (row,
        column) of the aligned one.
    distortion : of the real detector's picture; the maps then are those of where pixels should be.
    det_shape, aligned_shape : (rows, columns) of the real and of the aligned detector.

    Raises
    ------
    GeometryError : maps of another shape, not finite or without an inverse, or a distortion that
        folds the picture.
    """

    maps: np.ndarray
    distortion: Distortion | None
    det_shape: tuple[int, int]
    aligned_shape: tuple[int, int]
    threads: int = 1
    _moved: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        maps = np.asarray(self.maps, np.float64)
        if maps.ndim != 3 or maps.shape[1:] != (2, 3) or not np.isfinite(maps).all():
            raise GeometryError(
                f"maps of shape {maps.shape}: finite numbers of shape (num_angles, 2, 3) expected"
            )
        flat = np.abs(np.linalg.det(maps[:, :, :2])) < 1e-9
        if flat.any():
            raise GeometryError(
                f"the pixels of view {np.flatnonzero(flat)[0]} fall on one line of the aligned "
                "detector: two directions that are not parallel to the rays are expected"
            )
        object.__setattr__(self, "maps", maps)
        object.__setattr__(self, "_moved", self._moves())

    @property
    def num_angles(self) -> int:
        return len(self.maps)

    def forward(self, aligned: np.ndarray) -> np.ndarray:
        """(row, angle, column) of the aligned detector -> of the real one; 0 beyond the former.

        A value that is not finite spoils the pixels that read it.
        """
        source, result = self._ends(aligned, self.aligned_shape, self.det_shape)
        (_, columns), (_, width), count = self.aligned_shape, self.det_shape, self.num_angles
        flat, out, work = source.reshape(-1), result.reshape(-1), loops()

        def read(view: int) -> None:
            image = flat, view * columns, count * columns, self.aligned_shape, self.maps[view]
            target = out, view * width, count * width, self.det_shape
            if self._quick(view):
                work.read_view(*image, 0, False, *target)
            else:
                work.read_pixels(*image, self._moved, *target)

        share(read, count, self.threads)
        return result

    def adjoint(self, projections: np.ndarray) -> np.ndarray:
        """(row, angle, column) of the real detector -> of the aligned one: the exact transpose."""
        source, result = self._ends(projections, self.det_shape, self.aligned_shape)
        (_, width), (_, columns), count = self.det_shape, self.aligned_shape, self.num_angles
        flat, out, work = source.reshape(-1), result.reshape(-1), loops()

        def add(view: int) -> None:
            image = flat, view * width, count * width, self.det_shape, self.maps[view]
            target = out, view * columns, count * columns, self.aligned_shape
            if self._quick(view):
                work.add_view(*image, *target)
            else:
                result[:, view] = 0
                work.add_pixels(*image, self._moved, *target)

        share(add, count, self.threads)
        return result

    def rectify(self, projections: np.ndarray) -> np.ndarray:
        """What the aligned detector would have seen, (row, angle, column).

        Beyond the real detector its outermost pixels go on. Where pixels are not finite, places
        nearest to one of them are not either; the others are read from the pixels that are.
        """
        source, result = self._ends(projections, self.det_shape, self.aligned_shape)
        rectify_views(
            source.reshape(-1),
            (source.shape[2], source.shape[1] * source.shape[2]),
            self.det_shape,
            0,
            inverse_maps(self.maps),
            self.distortion,
            result.swapaxes(0, 1),
            self.threads,
        )
        return result

    def _ends(
        self, given: np.ndarray, start: tuple[int, int], end: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        expected = (start[0], self.num_angles, start[1])
        if given.shape != expected:
            raise GeometryError(
                f"projections (row, angle, column) of shape {given.shape}: {expected} expected"
            )
        result = arrays.empty((end[0], self.num_angles, end[1]))
        return np.ascontiguousarray(given, np.float32), result

    def _quick(self, view: int) -> bool:
        """Whether a view can be read in two passes."""
        return self.distortion is None and bool(loops().in_two_passes(self.maps[view]))

    def _moves(self) -> np.ndarray:
        """(2, rows, columns) float32 from the pixels to where they should be, or (2, 0, 0)."""
        if self.distortion is None:
            return np.zeros((2, 0, 0), np.float32)
        i, j = np.mgrid[: self.det_shape[0], : self.det_shape[1]].astype(np.float64)
        row, column = self.distortion.to_ideal(i, j)
        return np.stack([row - i, column - j]).astype(np.float32)


def inverse_maps(maps: np.ndarray) -> np.ndarray:
    """(num_angles, 2, 3) maps the other way."""
    linear = np.linalg.inv(maps[:, :, :2])
    return np.concatenate([linear, -linear @ maps[:, :, 2:]], axis=2)


def rectify_views(
    stretch: np.ndarray,
    steps: tuple[int, int],
    shape: tuple[int, int],
    first_row: int,
    maps: np.ndarray,
    distortion: Distortion | None,
    out: np.ndarray,
    threads: int,
) -> None:
    """Read images where `maps` lead to, view by view, into `out` (view, row, column).

    stretch, steps : the images in one piece of memory, and from a view and a row to the next.
    shape : (rows, columns) of an image.
    first_row : row of the whole detector that is the first of the images and of `out`. Maps and
        distortion count rows on the whole detector.
    maps : (num_angles, 2, 3) from out's (row, column, 1) to where it should be in the image.
    """
    rectify_view = loops().rectify_view
    center = factors = np.zeros(0)
    if distortion is not None:
        center = np.array([distortion.center_row, distortion.center_column], np.float64)
        factors = np.array(distortion.factors, np.float64)
    view_step, row_step = (step // out.itemsize for step in out.strides[:2])
    whole = np.lib.stride_tricks.as_strided(out, (_span(out),), (out.itemsize,))

    def run(view: int) -> None:
        rectify_view(
            stretch, view * steps[0], steps[1], shape, first_row, maps[view], center, factors,
            whole, view * view_step, row_step, out.shape[1:],
        )  # fmt: skip

    share(run, len(maps), threads)


def _span(array: np.ndarray) -> int:
    """Values from an array's first to its last, which has lines of contiguous values."""
    views, rows, columns = array.shape
    view_step, row_step = (step // array.itemsize for step in array.strides[:2])
    return int((views - 1) * view_step + (rows - 1) * row_step + columns)
