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

from dataclasses import replace

import numpy as np

from tomodask.geometry import VoxelViews
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

STRAIGHT = 1e-7  # voxels that the detector's axes may stray over its whole width
LEAST_STEP = 0.05  # voxels from row to row along z; where rows are closer, few vectors help
VIEWS = 32  # views back-projected at a time: their columns stay in the third cache
GROUP = 8  # views that a thread projects at a time
FORWARD_PLANES, BACKWARD_PLANES = 8, 4  # planes at a time, so that their lines stay in a cache
PAD = WINDOW  # zeros before the first row of a column, and more behind the last

# what the rays of a detector column have in common: at plane t of the axis that they follow, they
# cross at C + C1 t of the other axis in the plane, and row r at height A + A1 t + (K + K1 t) r; a
# step from plane to plane is sqrt(M + M1 r + M2 r^2) long; they hit no plane but FIRST to STOP
AXIS, FIRST, STOP, C, C1, A, A1, K, K1, M, M1, M2 = range(12)


def columns_of(views: VoxelViews) -> tuple[np.ndarray, np.ndarray]:
    """The views whose columns' rays have these numbers in common, and the numbers.

    Returns
    -------
    fits : (num_angles,) whether a view's columns are parallel to z, its rows perpendicular to it,
        and none of its rays runs closest to z.
    table : (views that fit, columns, 12) float64.
    """
    rows, columns = views.det_shape
    stray = np.maximum(
        rows * np.abs(views.step_v[:, 1:]).max(axis=1), columns * np.abs(views.step_u[:, 0])
    )
    start, ray = _lowest_rays(views)
    z, y, x = np.moveaxis(np.abs(ray), 2, 0)
    top = np.abs(ray[:, :, 0] + (rows - 1) * _climb(views))
    is_steep = (np.maximum(z, top) > np.maximum(x, y)).any(axis=1)
    fits = (stray <= STRAIGHT) & ~is_steep
    table = _table(some_views(views, fits), start[fits], ray[fits])
    first, stop = table[..., FIRST], table[..., STOP]
    ends = [table[..., K] + table[..., K1] * plane for plane in (first, stop - 1)]
    far_apart = ((np.minimum(*ends) >= LEAST_STEP) | (first >= stop)).all(axis=1)
    fits[fits] = far_apart
    return fits, table[far_apart]


def some_views(views: VoxelViews, chosen: np.ndarray) -> VoxelViews:
    """The views that a mask chooses."""
    names = ("source", "first", "step_v", "step_u", "metric")
    return replace(views, **{name: getattr(views, name)[chosen] for name in names})


def _lowest_rays(views: VoxelViews) -> tuple[np.ndarray, np.ndarray]:
    """A point and the direction of the rays to the row of the least z, (angle, column, zyx)."""
    rows, columns = views.det_shape
    pixel = views.first[:, None] + np.arange(columns)[:, None] * views.step_u[:, None]
    pixel[:, :, 0] += (rows - 1) * np.minimum(views.step_v[:, :1], 0)
    source = np.broadcast_to(views.source[:, None], pixel.shape)
    return (source, pixel - source) if views.beam == "cone" else (pixel, source)


def _climb(views: VoxelViews) -> np.ndarray:
    """(num_angles, 1) how much more a ray as long as to the detector rises, from row to row."""
    return np.asarray(np.abs(views.step_v[:, :1]) * (views.beam == "cone"))


def _table(views: VoxelViews, start: np.ndarray, ray: np.ndarray) -> np.ndarray:
    """The numbers of all columns, from their lowest rays."""
    table, metric, is_cone = np.empty((*ray.shape[:2], 12)), views.metric, views.beam == "cone"
    z, y, x = np.moveaxis(ray, 2, 0)
    is_x = np.abs(x) >= np.abs(y)
    along = np.where(is_x, x, y)
    at = np.where(is_x, start[:, :, 2], start[:, :, 1])
    c = np.where(is_x, start[:, :, 1], start[:, :, 2])
    count = np.where(is_x, views.shape[2], views.shape[1])
    forth, back = is_cone & (along > 0), is_cone & (along < 0)
    table[..., AXIS] = np.where(is_x, 2, 1)
    table[..., FIRST] = np.where(forth, np.clip(np.floor(at) + 1, 0, count), 0)
    table[..., STOP] = np.where(back, np.clip(np.ceil(at), 0, count), count)
    table[..., C1], table[..., A1] = np.where(is_x, y, x) / along, z / along
    table[..., C], table[..., A] = c - at * table[..., C1], start[:, :, 0] - at * table[..., A1]
    table[..., K1] = _climb(views) / along
    table[..., K] = -at * table[..., K1] if is_cone else np.abs(views.step_v[:, :1])
    step = ray / along[:, :, None]
    table[..., M] = np.einsum("vua,vab,vub->vu", step, metric, step)
    table[..., M1] = 2 * np.einsum("va,vua->vu", metric[:, 0], step) * table[..., K1]
    table[..., M2] = metric[:, :1, 0] * table[..., K1] ** 2
    return table


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
        self._axes = [axis for axis in (1, 2) if (table[..., AXIS] == axis).any()]

    def forward(self, volume: np.ndarray) -> np.ndarray:
        """(z, y, x) -> (row, angle, column), lengths of the world."""
        _, num_angles, columns = self.views.range_shape
        lines = self._lines_of(volume)
        projections = np.empty(self.views.range_shape, np.float32)

        def project(group: int) -> None:
            begin, end = group * GROUP, min(num_angles, (group + 1) * GROUP)
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

        share(project, -(-num_angles // GROUP), self._threads)
        return projections

    def adjoint(self, projections: np.ndarray) -> np.ndarray:
        """(row, angle, column) -> (z, y, x), lengths of the world."""
        _, num_angles, columns = self.views.range_shape
        _, ny, nx = self.views.shape
        lines = aligned_empty(ny * nx * self._line)
        by_y = lines.reshape(ny, -1)
        share(lambda y: by_y[y].fill(0), ny, self._threads)
        packed = aligned_empty(min(VIEWS, num_angles) * columns * self._column)
        values = np.ascontiguousarray(projections, np.float32)
        for begin in range(0, num_angles, VIEWS):
            self._add_views(begin, min(num_angles, begin + VIEWS), values, packed, lines)
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
        packed = max(VIEWS, GROUP * threads) * columns * _column_floats(views)
        return 4 * (ny * nx * _line_floats(views) + packed) + 8 * 3 * 12 * num_angles * columns


def _line_floats(views: VoxelViews) -> int:
    """Of a line along z, in whole vectors."""
    return -(-views.shape[0] // LANES) * LANES


def _column_floats(views: VoxelViews) -> int:
    """Of a detector column, with the zeros around it."""
    return PAD + -(-views.det_shape[0] // LANES) * LANES + 2 * WINDOW


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
    is_narrow = k * (LANES - 1) + 2 <= WINDOW - 1
    while r < r_stop:
        start = a + k * r
        base = min(max(int(np.floor(start)), -2), nz)
        place = fma(rest, lane_numbers(), splat(np.float32(start - base)))
        whole = floor(place)
        part = sub(place, whole)
        whole = add(whole, whole_steps)
        whole = clip(whole, splat(np.float32(-2 - base)), splat(np.float32(nz - base)))
        o = LANES + base
        if is_narrow:
            x0, x1 = pick(blended, o, whole), pick(blended, o + 1, whole)
        else:
            x0, x1 = gather(blended, o, whole), gather(blended, o + 1, whole)
        value = fma(part, sub(x1, x0), x0)
        store(sums, at + r, add(load(sums, at + r), value))
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
    rise = splat(np.float32(k))
    while z < z_stop:
        q = (z - 1 - a) * inverse
        whole = np.floor(q)
        r = floor(add(splat(np.float32(q - whole)), steps))
        base = int(whole) + 1
        if not is_narrow:
            r = clip(r, splat(np.float32(-1 - base)), splat(np.float32(rows - base)))
        distance = add(splat(np.float32(z - a - k * base)), fnma(rise, r, lane_numbers()))
        total = splat(np.float32(0))
        for candidate in range(candidates):
            if is_narrow:
                value = pick(packed, at + base + candidate, r)
            else:
                value = gather(packed, at + base + candidate, r)
            total = fma(hat(distance), value, total)
            distance = sub(distance, rise)
        if below != 0:
            store(lines, low + z, fma(w0, total, load(lines, low + z)))
        if above != 0:
            store(lines, high + z, fma(w1, total, load(lines, high + z)))
        z += LANES
