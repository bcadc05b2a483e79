"""Joseph's projector and its transpose for rays of any direction, one ray after the other.

A ray is followed along the axis of the volume that it runs closest to: at each plane of voxel
middles the four voxels around the crossing are interpolated, times the length of ray from one
plane to the next (Joseph 1982, doi:10.1109/TMI.1982.4307572, there in two dimensions).

Forward, a thread owns pixels. Backward, it owns planes: it adds up, view by view, what the rays of
the planes' axis leave there, with the weights that the forward takes to the last bit. So nothing is
shared between threads, and the order of every sum is that of the views, rows and columns.
"""

from __future__ import annotations

import numpy as np

from tomodask.geometry import VoxelViews
from tomodask.projectors.vectors import inlined, kernel
from tomodask.threads import share

ROWS = 16  # detector rows that a thread projects at a time
PLANES = 64  # planes that a thread back-projects into at a time: a ray is set up once for them


class JosephRays:
    """Joseph's projector for any views, in float64 but for the sums."""

    def __init__(self, views: VoxelViews, threads: int) -> None:
        self.views = views
        self._threads = threads
        vectors = (views.source, views.first, views.step_v, views.step_u, views.metric)
        self._poses = tuple(np.array(each, np.float64) for each in vectors)

    def forward(self, volume: np.ndarray) -> np.ndarray:
        """(z, y, x) -> (row, angle, column), lengths of the world."""
        rows, num_angles, columns = self.views.range_shape
        projections = np.empty((rows, num_angles, columns), np.float32)
        values = np.ascontiguousarray(volume, np.float32).ravel()
        parts = -(-rows // ROWS)

        def project(number: int) -> None:
            view, part = divmod(number, parts)
            stop = min(rows, (part + 1) * ROWS)
            _project(
                values, self.views.shape, self._is_cone, *self._poses,
                view, part * ROWS, stop, projections,
            )  # fmt: skip

        share(project, num_angles * parts, self._threads)
        return projections

    def adjoint(self, projections: np.ndarray) -> np.ndarray:
        """(row, angle, column) -> (z, y, x), lengths of the world."""
        volume = np.zeros(self.views.shape, np.float32)
        values = np.ascontiguousarray(projections, np.float32)
        along = self.axes()
        for axis in np.flatnonzero(along.any(axis=0)).tolist():
            seen = np.flatnonzero(along[:, axis])

            def back_project(tile: int, axis: int = axis, seen: np.ndarray = seen) -> None:
                stop = min(self.views.shape[axis], (tile + 1) * PLANES)
                _back_project(
                    values, self.views.shape, self._is_cone, *self._poses,
                    seen, axis, tile * PLANES, stop, volume.ravel(),
                )  # fmt: skip

            share(back_project, -(-self.views.shape[axis] // PLANES), self._threads)
        return volume

    def axes(self) -> np.ndarray:
        """(num_angles, 3) whether some ray of a view runs closest to z, y, x."""
        found = np.zeros((self.views.num_angles, 3), np.bool_)

        def look(view: int) -> None:
            _find_axes(self._is_cone, *self._poses[:4], view, self.views.det_shape, found)

        share(look, len(found), self._threads)
        return found

    @property
    def _is_cone(self) -> bool:
        return self.views.beam == "cone"


# ---- one ray ----------------------------------------------------------------------------------


@inlined
def _pixel(first, step_v, step_u, view, v, u):
    return (
        first[view, 0] + v * step_v[view, 0] + u * step_u[view, 0],
        first[view, 1] + v * step_v[view, 1] + u * step_u[view, 1],
        first[view, 2] + v * step_v[view, 2] + u * step_u[view, 2],
    )


@inlined
def _ray(is_cone, source, first, step_v, step_u, view, v, u):
    """A point of the ray through pixel (v, u), and where it goes."""
    pixel = _pixel(first, step_v, step_u, view, v, u)
    start = (source[view, 0], source[view, 1], source[view, 2])
    if is_cone:
        return start, (pixel[0] - start[0], pixel[1] - start[1], pixel[2] - start[2])
    return pixel, start


@inlined
def _dominant(direction):
    """The axis nearest to a ray; of equals the last one."""
    z, y, x = abs(direction[0]), abs(direction[1]), abs(direction[2])
    if x >= y and x >= z:
        return 2
    return 1 if y >= z else 0


@inlined
def _along(axis, zyx):
    """(z, y, x) -> the axis itself, then the other two."""
    z, y, x = zyx
    if axis == 2:
        return x, z, y
    return (y, z, x) if axis == 1 else (z, y, x)


@inlined
def _length(metric, view, direction):
    """Of a step in the world."""
    z, y, x = direction
    m = metric[view]
    square = m[0, 0] * z * z + m[1, 1] * y * y + m[2, 2] * x * x
    return np.sqrt(square + 2 * (m[0, 1] * z * y + m[0, 2] * z * x + m[1, 2] * y * x))


@inlined
def _ahead(is_cone, start, step, first, stop):
    """The planes in [first, stop) that the source is not yet past, nor in."""
    if is_cone and step > 0:
        first = max(first, int(min(np.floor(start) + 1, np.float64(stop))))
    elif is_cone:
        stop = min(stop, int(max(np.ceil(start), np.float64(first))))
    return first, stop


@inlined
def within(at, slope, low, high, margin, first, stop):
    """The planes t in [first, stop) with low < at + slope t < high, and `margin` more at both ends.

    Those at the ends may be wrong by rounding: a margin of 1 has all of them, one of -1 no other.
    """
    if slope == 0:
        return (first, stop) if low < at < high else (first, first)
    a, b = (low - at) / slope, (high - at) / slope
    if a > b:
        a, b = b, a
    least, most = np.float64(first), np.float64(stop)
    first = int(max(least, min(most, np.ceil(a) - margin)))
    return first, int(min(most, max(np.float64(first), np.floor(b) + 1 + margin)))


@inlined
def _planes(p, dp, np_, q, dq, nq, first, stop):
    """[first, stop) cut to the planes that are hit, and those hit between four voxels."""
    first, stop = within(p, dp, -1.0, np.float64(np_), 1, first, stop)
    first, stop = within(q, dq, -1.0, np.float64(nq), 1, first, stop)
    begin, end = within(p, dp, 0.0, np_ - 1.0, -1, first, stop)
    begin, end = within(q, dq, 0.0, nq - 1.0, -1, begin, end)
    return first, begin, end, stop


# ---- forward ----------------------------------------------------------------------------------


@kernel
def _project(
    volume, shape, is_cone, source, first, step_v, step_u, metric, view, row, stop_row, out
):  # fmt: skip
    """Line integrals of one view, rows [row, stop_row)."""
    strides = (shape[1] * shape[2], shape[2], 1)
    for v in range(row, stop_row):
        for u in range(out.shape[2]):
            start, direction = _ray(is_cone, source, first, step_v, step_u, view, v, u)
            axis = _dominant(direction)
            d, dp, dq = _along(axis, direction)
            s, p, q = _along(axis, start)
            n, n_p, n_q = _along(axis, shape)
            dp, dq = dp / d, dq / d
            t, stop = _ahead(is_cone, s, d, 0, n)
            p, q = p - s * dp, q - s * dq
            value = _sum_along(volume, _along(axis, strides), p, dp, n_p, q, dq, n_q, t, stop)
            out[v, view, u] = np.float32(value * (_length(metric, view, direction) / abs(d)))


@inlined
def _sum_along(volume, strides, p, dp, n_p, q, dq, n_q, t, stop):
    """Sum of the volume at (p + dp t, q + dq t) over the planes t."""
    along, step_p, step_q = strides
    # unsigned, or numba would look for negative indices
    next_p, next_q = np.uint64(step_p), np.uint64(step_q)
    t, begin, end, stop = _planes(p, dp, n_p, q, dq, n_q, t, stop)
    value = 0.0
    while t < stop:
        if t == begin:
            for inner in range(begin, end):
                pt, qt = p + dp * inner, q + dq * inner
                i, j = min(int(pt), n_p - 2), min(int(qt), n_q - 2)
                f, g = np.float32(pt - i), np.float32(qt - j)
                o = np.uint64(inner * along + i * step_p + j * step_q)
                low = volume[o] + g * (volume[o + next_q] - volume[o])
                o += next_p
                high = volume[o] + g * (volume[o + next_q] - volume[o])
                value += low + f * (high - low)
            t = max(t, end)
            begin = -1
            continue
        i, j = int(np.floor(p + dp * t)), int(np.floor(q + dq * t))
        f, g = p + dp * t - i, q + dq * t - j
        for a in range(max(0, -i), min(2, n_p - i)):
            for b in range(max(0, -j), min(2, n_q - j)):
                weight = (f if a else 1 - f) * (g if b else 1 - g)
                value += weight * volume[t * along + (i + a) * step_p + (j + b) * step_q]
        t += 1
    return value


# ---- backward ---------------------------------------------------------------------------------


@kernel
def _back_project(
    projections, shape, is_cone, source, first, step_v, step_u, metric,
    views, axis, plane, stop_plane, volume,
):  # fmt: skip
    """Add to planes [plane, stop_plane) of an axis what the rays that follow it leave there."""
    strides = _along(axis, (shape[1] * shape[2], shape[2], 1))
    _, n_p, n_q = _along(axis, shape)
    for view in views:
        for v in range(projections.shape[0]):
            for u in range(projections.shape[2]):
                start, direction = _ray(is_cone, source, first, step_v, step_u, view, v, u)
                if _dominant(direction) != axis:
                    continue
                d, dp, dq = _along(axis, direction)
                s, p, q = _along(axis, start)
                t, stop = _ahead(is_cone, s, d, plane, stop_plane)
                if t >= stop:
                    continue
                dp, dq = dp / d, dq / d
                p, q = p - s * dp, q - s * dq
                value = projections[v, view, u] * (_length(metric, view, direction) / abs(d))
                _add_along(volume, strides, p, dp, n_p, q, dq, n_q, t, stop, value)


@inlined
def _add_along(volume, strides, p, dp, n_p, q, dq, n_q, t, stop, value):
    """The transpose of `_sum_along`."""
    along, step_p, step_q = strides
    # unsigned, or numba would look for negative indices
    next_p, next_q = np.uint64(step_p), np.uint64(step_q)
    t, begin, end, stop = _planes(p, dp, n_p, q, dq, n_q, t, stop)
    small = np.float32(value)
    while t < stop:
        if t == begin:
            for inner in range(begin, end):
                pt, qt = p + dp * inner, q + dq * inner
                i, j = min(int(pt), n_p - 2), min(int(qt), n_q - 2)
                f, g = np.float32(pt - i), np.float32(qt - j)
                o = np.uint64(inner * along + i * step_p + j * step_q)
                high = f * small
                low = small - high
                volume[o] += low - g * low
                volume[o + next_q] += g * low
                o += next_p
                volume[o] += high - g * high
                volume[o + next_q] += g * high
            t = max(t, end)
            begin = -1
            continue
        i, j = int(np.floor(p + dp * t)), int(np.floor(q + dq * t))
        f, g = p + dp * t - i, q + dq * t - j
        for a in range(max(0, -i), min(2, n_p - i)):
            for b in range(max(0, -j), min(2, n_q - j)):
                weight = (f if a else 1 - f) * (g if b else 1 - g)
                volume[t * along + (i + a) * step_p + (j + b) * step_q] += np.float32(
                    weight * value
                )
        t += 1


@kernel
def _find_axes(is_cone, source, first, step_v, step_u, view, det_shape, found):
    for v in range(det_shape[0]):
        for u in range(det_shape[1]):
            _, direction = _ray(is_cone, source, first, step_v, step_u, view, v, u)
            found[view, _dominant(direction)] = True
