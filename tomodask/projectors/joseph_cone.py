"""Joseph's projector where the columns of the detector are parallel to z: a vector of rows at once.

A ray that runs closest to x or y crosses a plane of it between two lines along z, the same two for
all rows of a detector column, and at heights that rise evenly from row to row: a + k v. So, for
each column and plane, two lines are blended into one and interpolated at those heights. This holds
for cone beams on circles and helices, with any fan angle and offset, and for parallel beams with
rows of any height. The weights are those of `joseph_rays`.

Forward, a thread owns views; backward, it owns planes. Lines along z and columns of the detector
are contiguous: the volume is copied to (y, x, z), and some views at a time to (angle, column, row).
"""

from __future__ import annotations

import numpy as np

from tomodask.geometry import VoxelViews
from tomodask.projectors.joseph_columns import A1, AXIS, C1, FIRST, K1, M1, M2, STOP, A, C, K, M
from tomodask.projectors.joseph_rays import within
from tomodask.projectors.joseph_window import (
    WINDOW,
    clip,
    floor,
    gather,
    hat,
    lane_numbers,
    pick,
)
from tomodask.projectors.vectors import (
    LANES,
    add,
    aligned_empty,
    fma,
    fnma,
    inlined,
    kernel,
    load,
    mul,
    splat,
    store,
    sub,
)
from tomodask.threads import share

VIEWS = 32  # views back-projected at a time, at most: their columns stay in the third cache
GROUP = 16  # views that a thread projects at a time, at most
PACKED = 1 << 24  # floats of the columns of all these views, at most
FORWARD_PLANES, BACKWARD_PLANES = 8, 4  # planes at a time, so that their lines stay in a cache
ONE = 1 << 32  # heights and rows are counted in 2^-32 from vector to vector
PAD = WINDOW  # zeros before the first row of a column, and more behind the last


class JosephCone:
    """Joseph's projector for views that fit.

    table : the numbers that `columns_of` says of them.
    """

    def __init__(self, views: VoxelViews, table: np.ndarray, threads: int) -> None:
        self.views = views
        self._table = table
        self._threads = threads
        self._is_flipped = views.step_v[:, 0] < 0
        self._line, self._column = _line_floats(views), _column_floats(views)
        self._at_once = _views_at_once(views)
        self._axes = [axis for axis in (1, 2) if (table[..., AXIS] == axis).any()]

    def forward(self, volume: np.ndarray) -> np.ndarray:
        """(z, y, x) -> (row, angle, column), lengths of the world."""
        _, num_angles, columns = self.views.range_shape
        size = min(GROUP, self._at_once, -(-num_angles // self._threads))
        lines = self._lines_of(volume)
        projections = np.empty(self.views.range_shape, np.float32)

        def project(group: int) -> None:
            begin, end = group * size, min(num_angles, (group + 1) * size)
            sums = np.zeros((end - begin) * columns * self._column, np.float32)
            line = np.zeros(LANES + self._line + 2 * WINDOW, np.float32)
            for axis in self._axes:
                for plane in range(0, self.views.shape[axis], FORWARD_PLANES):
                    _project(
                        lines, self.views.shape, self._line, self._table[begin:end],
                        axis, plane, plane + FORWARD_PLANES, self.views.det_shape[0],
                        self._column, line, sums,
                    )  # fmt: skip
            _unpack(
                sums, self._table[begin:end], self._is_flipped[begin:end], self._column,
                begin, projections,
            )  # fmt: skip

        share(project, -(-num_angles // size), self._threads)
        return projections

    def adjoint(self, projections: np.ndarray) -> np.ndarray:
        """(row, angle, column) -> (z, y, x), lengths of the world."""
        _, num_angles, columns = self.views.range_shape
        _, ny, nx = self.views.shape
        lines = aligned_empty(ny * nx * self._line)
        by_y = lines.reshape(ny, -1)
        share(lambda y: by_y[y].fill(0), ny, self._threads)
        packed = aligned_empty(min(self._at_once, num_angles) * columns * self._column)
        values = np.ascontiguousarray(projections, np.float32)
        for begin in range(0, num_angles, self._at_once):
            end = min(num_angles, begin + self._at_once)
            self._add_views(begin, end, values, packed, lines)
        return self._volume_of(lines)

    def _add_views(
        self, begin: int, end: int, values: np.ndarray, packed: np.ndarray, lines: np.ndarray
    ) -> None:
        """Back-project views [begin, end)."""
        rows, table = self.views.det_shape[0], self._table[begin:end]
        by_view = packed.reshape(-1, self.views.det_shape[1] * self._column)

        def pack(view: int) -> None:
            is_flipped = self._is_flipped[begin + view]
            _pack(values, begin + view, table[view], is_flipped, self._column, by_view[view])

        share(pack, end - begin, self._threads)
        for axis in self._axes:

            def back_project(tile: int, axis: int = axis) -> None:
                plane = tile * BACKWARD_PLANES
                _back_project(
                    packed, table, self._column, rows, axis, plane, plane + BACKWARD_PLANES,
                    self.views.shape, self._line, lines,
                )  # fmt: skip

            share(back_project, -(-self.views.shape[axis] // BACKWARD_PLANES), self._threads)

    def _lines_of(self, volume: np.ndarray) -> np.ndarray:
        """(z, y, x) -> lines along z, (y, x, z), flat."""
        _, ny, nx = self.views.shape
        lines = aligned_empty(ny * nx * self._line)
        by_y = lines.reshape(ny, nx, self._line)
        values = np.ascontiguousarray(volume, np.float32)
        share(lambda y: _to_lines(values, y, by_y[y]), ny, self._threads)
        return lines

    def _volume_of(self, lines: np.ndarray) -> np.ndarray:
        """The inverse of `_lines_of`."""
        _, ny, nx = self.views.shape
        volume = np.empty(self.views.shape, np.float32)
        by_y = lines.reshape(ny, nx, self._line)
        share(lambda y: _from_lines(by_y[y], y, volume), ny, self._threads)
        return volume

    @staticmethod
    def memory_bytes(views: VoxelViews, threads: int) -> int:
        """The lines, the columns of some views and what all columns have in common."""
        _, ny, nx = views.shape
        _, num_angles, columns = views.range_shape
        at_once = _views_at_once(views)
        packed = max(at_once, min(GROUP, at_once) * threads) * columns * _column_floats(views)
        return 4 * (ny * nx * _line_floats(views) + packed) + 8 * 3 * 12 * num_angles * columns


def _line_floats(views: VoxelViews) -> int:
    """Of a line along z, in whole vectors."""
    return -(-views.shape[0] // LANES) * LANES


def _column_floats(views: VoxelViews) -> int:
    """Of a detector column, with the zeros around it."""
    return PAD + -(-views.det_shape[0] // LANES) * LANES + 2 * WINDOW


def _views_at_once(views: VoxelViews) -> int:
    """So many that a volume is not read too often for them; fewer of a large detector."""
    fit = PACKED // (views.det_shape[1] * _column_floats(views))
    return max(2, min(VIEWS, fit))


# ---- lines along z and columns of the detector ------------------------------------------------


@kernel
def _to_lines(volume, y, lines):
    """(z, x) of one y -> (x, z), zeros behind the last z."""
    nz, _, nx = volume.shape
    for x0 in range(0, nx, LANES):
        for z in range(lines.shape[1]):
            for x in range(x0, min(x0 + LANES, nx)):
                lines[x, z] = volume[z, y, x] if z < nz else np.float32(0)


@kernel
def _from_lines(lines, y, volume):
    """(x, z) -> (z, x) of one y."""
    nz, _, nx = volume.shape
    for x0 in range(0, nx, LANES):
        for z in range(nz):
            for x in range(x0, min(x0 + LANES, nx)):
                volume[z, y, x] = lines[x, z]


@inlined
def _step_length(table, r):
    return np.sqrt(table[M] + r * (table[M1] + r * table[M2]))


@kernel
def _pack(projections, view, table, is_flipped, length, packed):
    """(row, column) of a view times the rays' lengths -> (column, row), the lowest row first."""
    rows, _, columns = projections.shape
    packed[:] = 0
    for u0 in range(0, columns, LANES):
        for r in range(rows):
            v = rows - 1 - r if is_flipped else r
            for u in range(u0, min(u0 + LANES, columns)):
                value = projections[v, view, u] * np.float32(_step_length(table[u], r))
                packed[u * length + PAD + r] = value


@kernel
def _unpack(sums, table, is_flipped, length, begin, projections):
    """The transpose of `_pack`, for the views from `begin` on."""
    rows, _, columns = projections.shape
    for view in range(len(table)):
        for r in range(rows):
            v = rows - 1 - r if is_flipped[view] else r
            for u in range(columns):
                value = sums[(view * columns + u) * length + PAD + r]
                weight = np.float32(_step_length(table[view, u], r))
                projections[v, begin + view, u] = value * weight


# ---- forward ----------------------------------------------------------------------------------


@inlined
def _line_steps(shape, axis, line):
    """Lines along z from one plane of an axis to the next, and within a plane; lines in a plane."""
    _, ny, nx = shape
    return (line, nx * line, ny) if axis == 2 else (nx * line, line, nx)


@inlined
def _crossed(ray, count, plane, stop):
    """The planes in [plane, stop) where a column's rays may hit one of `count` lines."""
    first = max(plane, int(ray[FIRST]))
    last = min(stop, int(ray[STOP]))
    return within(ray[C], ray[C1], -1.0, np.float64(count), 1, first, max(first, last))


@kernel
def _project(lines, shape, line, table, axis, plane, stop, rows, length, blended, sums):
    """Add to the columns what their rays meet on planes [plane, stop) of an axis."""
    num_angles, columns, _ = table.shape
    step_plane, step_line, count = _line_steps(shape, axis, line)
    for view in range(num_angles):
        for u in range(columns):
            ray = table[view, u]
            if ray[AXIS] != axis:
                continue
            first, last = _crossed(ray, count, plane, stop)
            for t in range(first, last):
                c = ray[C] + ray[C1] * t
                j = int(np.floor(c))
                if j < -1 or j >= count:
                    continue
                f = np.float32(c - j)
                low = t * step_plane + max(j, 0) * step_line
                high = t * step_plane + min(j + 1, count - 1) * step_line
                below = np.float32(1) - f if j >= 0 else np.float32(0)
                above = f if j + 1 < count else np.float32(0)
                a, k = ray[A] + ray[A1] * t, ray[K] + ray[K1] * t
                _interpolate(
                    lines, low, high, below, above, a, k, shape[0], line, rows,
                    blended, sums, (view * columns + u) * length + PAD,
                )  # fmt: skip


@inlined
def _interpolate(lines, low, high, below, above, a, k, nz, line, rows, blended, sums, at):
    """Add to a column the blend of two lines at heights a + k r."""
    r_first = max(0.0, np.floor((-1 - a) / k))
    r_stop = min(np.float64(rows), np.ceil((nz - a) / k) + 1)
    if r_first >= r_stop:
        return
    r, r_stop = int(r_first) // LANES * LANES, int(r_stop)
    z = int(max(0.0, np.floor(a + k * r))) // LANES * LANES
    last = (r_stop - r + LANES - 1) // LANES * LANES + r - 1
    z_stop = int(min(np.float64(line), np.floor(a + k * last) + 2))
    w0, w1 = splat(below), splat(above)
    while z < z_stop:
        value = fma(w1, load(lines, high + z), mul(w0, load(lines, low + z)))
        store(blended, LANES + z, value)
        z += LANES
    # whole steps apart from the rest, which stays small and so exact
    steps = np.round(k)
    whole_steps, rest = mul(splat(np.float32(steps)), lane_numbers()), splat(np.float32(k - steps))
    reach = k * (LANES - 1) + 2
    least, most = splat(np.float32(-2)), splat(np.float32(nz))
    height, rise = np.int64((a + k * r) * ONE), np.int64(k * LANES * ONE)
    while r < r_stop:
        base, over = height >> 32, np.float32(height & (ONE - 1)) * np.float32(1 / ONE)
        place = fma(rest, lane_numbers(), splat(over))
        whole = floor(place)
        part = sub(place, whole)
        whole = add(whole, whole_steps)
        if base < 0 or base + reach >= nz:
            near = min(max(base, -2), nz)
            moved = splat(np.float32(base - near))
            base, origin = near, splat(np.float32(near))
            whole = sub(clip(add(add(whole, moved), origin), least, most), origin)
        o = LANES + base
        if reach <= WINDOW - 1:
            x0 = pick(blended, o, whole)
            x1 = pick(blended, o, add(whole, splat(np.float32(1))))
        else:
            x0, x1 = gather(blended, o, whole), gather(blended, o + 1, whole)
        value = fma(part, sub(x1, x0), x0)
        store(sums, at + r, add(load(sums, at + r), value))
        height += rise
        r += LANES


# ---- backward ---------------------------------------------------------------------------------


@kernel
def _back_project(packed, table, length, rows, axis, plane, stop, shape, line, lines):
    """Add to the lines of planes [plane, stop) of an axis what the columns' rays leave there."""
    num_angles, columns, _ = table.shape
    step_plane, step_line, count = _line_steps(shape, axis, line)
    stop = min(stop, shape[axis])
    for view in range(num_angles):
        for u in range(columns):
            ray = table[view, u]
            if ray[AXIS] != axis:
                continue
            first, last = _crossed(ray, count, plane, stop)
            for t in range(first, last):
                c = ray[C] + ray[C1] * t
                j = int(np.floor(c))
                if j < -1 or j >= count:
                    continue
                f = np.float32(c - j)
                low = t * step_plane + max(j, 0) * step_line
                high = t * step_plane + min(j + 1, count - 1) * step_line
                below = np.float32(1) - f if j >= 0 else np.float32(0)
                above = f if j + 1 < count else np.float32(0)
                a, k = ray[A] + ray[A1] * t, ray[K] + ray[K1] * t
                _add_lines(
                    packed, (view * columns + u) * length + PAD, rows, a, k,
                    lines, low, high, below, above, shape[0],
                )  # fmt: skip


@inlined
def _add_lines(packed, at, rows, a, k, lines, low, high, below, above, nz):
    """The transpose of `_interpolate`: for each z, rows with |z - a - k r| < 1."""
    z_first = max(0.0, np.floor(a - 1))
    z_stop = min(np.float64(nz), np.ceil(a + k * (rows - 1) + 1) + 1)
    if z_first >= z_stop:
        return
    z, z_stop = int(z_first) // LANES * LANES, int(z_stop)
    w0, w1 = splat(below), splat(above)
    inverse = 1 / k
    candidates = int(np.ceil(2 * inverse))
    steps = mul(splat(np.float32(inverse)), lane_numbers())
    is_narrow = LANES * inverse + candidates + 1 <= WINDOW
    rise, one = splat(np.float32(k)), splat(np.float32(1))
    row, row_step = np.int64((z - 1 - a) * inverse * ONE), np.int64(inverse * LANES * ONE)
    while z < z_stop:
        base, over = (row >> 32) + 1, np.float32(row & (ONE - 1)) * np.float32(1 / ONE)
        r = floor(add(splat(over), steps))
        if not is_narrow:
            r = clip(r, splat(np.float32(-1 - base)), splat(np.float32(rows - base)))
        # z - a - k (base + r), where z - 1 - a is k (base - 1 + over) in the first lane
        first = np.float32(1) + np.float32(k) * (over - np.float32(1))
        distance = add(splat(first), fnma(rise, r, lane_numbers()))
        if is_narrow:
            total = mul(hat(distance), pick(packed, at + base, r))
            for _ in range(1, candidates):
                r, distance = add(r, one), sub(distance, rise)
                total = fma(hat(distance), pick(packed, at + base, r), total)
        else:
            total = splat(np.float32(0))
            for candidate in range(candidates):
                value = gather(packed, at + base + candidate, r)
                total = fma(hat(distance), value, total)
                distance = sub(distance, rise)
        if below != 0:
            store(lines, low + z, fma(w0, total, load(lines, low + z)))
        if above != 0:
            store(lines, high + z, fma(w1, total, load(lines, high + z)))
        row += row_step
        z += LANES
