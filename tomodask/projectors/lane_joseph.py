"""Joseph's projector and its transpose, for the slices of a vector: both gather, none scatters.

Where a value is read and with which weight is the same for all lanes, so it is worked out once, in
float64, for a run of rows of pixels (A) or of views (A.T): simple loops that the compiler turns
into vectors by itself. A second loop then reads, multiplies and adds in registers. Positions are
cut to the grid and two zeros around it, so no loop asks where it is.
"""

from __future__ import annotations

import numpy as np

from tomodask.projectors.lane_rows import _from_lanes, _into_lanes
from tomodask.projectors.vectors import (
    LANES,
    add,
    broadcast,
    fma,
    inlined,
    kernel,
    load,
    mul,
    pointer,
    splat,
    store,
    sub,
)

MARGIN = 2  # zeros around a grid: both neighbours of a position beyond it are among them
TOGETHER = 4  # columns or pixels at once: independent sums, as each waits 4 cycles for the last
RUN = 32  # rows of pixels (A) or views (A.T) whose places are worked out at once
NEAR = 8  # columns of A that all views of a block follow, as their pixels are in the first cache
TILE = 16  # pixels a side that a run of views is put into, likewise
FARTHEST = 2**22  # columns: beyond any detector, and counted in float32


@kernel
def lines_into_lanes(rows, line_step, row_step, num_rows, count, first, last, out, out_step):
    """Lines [first, last) of all rows -> out, flat (lines, >= MARGIN + count + MARGIN, LANES).

    rows : flat; value u of line i in row r at i line_step + r row_step + u, u < count.
    """
    for i in range(first, last):
        line = out[i * out_step : (i + 1) * out_step]
        line[: MARGIN * LANES] = np.float32(0)
        _into_lanes(rows, i * line_step, row_step, num_rows, count, line[MARGIN * LANES :])
        line[(MARGIN + count) * LANES :] = np.float32(0)


@kernel
def project(
    image, row_step, pixel_step, num_rows, num_pixels, views, steps, slopes, starts, lengths,
    column, num_columns, out, view_step, out_step, num_lanes, det_count, sums,
):  # fmt: skip
    """Columns [column, column + num_columns) of some views that cross the same rows of pixels.

    image : lanes; pixel j of row i at i row_step + j pixel_step, both MARGIN from the first zero;
        rows of the image, or its columns for rays that run closer to x.
    views : (n,) numbers; column s meets row i at s steps[view] + i slopes[view] + starts[view].
    lengths : (views,) of ray within a row. sums : (n, >= num_columns, LANES) floats.
    out : flat; column s of a view and lane at view view_step + lane out_step + s.
    """
    fractions = np.empty(TOGETHER * RUN, np.float32)
    offsets = np.empty(TOGETHER * RUN, np.int64)
    groups = (num_columns + TOGETHER - 1) // TOGETHER
    width = groups * TOGETHER * LANES
    sums[: len(views) * width] = np.float32(0)
    near = NEAR // TOGETHER
    for row in range(0, num_rows, RUN):
        count = min(RUN, num_rows - row)
        base = pointer(image) + 4 * (row + MARGIN) * row_step
        for group in range(0, groups, near):
            for n in range(len(views)):
                view = views[n]
                step, slope = steps[view], slopes[view]
                for g in range(group, min(group + near, groups)):
                    s = column + g * TOGETHER
                    start = s * step + row * slope + starts[view]
                    if _misses(start, step, slope, count, num_pixels):
                        continue
                    for t in range(TOGETHER):
                        _crossings(
                            start + t * step, slope, count, num_pixels, pixel_step,
                            fractions[t * RUN :], offsets[t * RUN :],
                        )  # fmt: skip
                    at = n * width + g * TOGETHER * LANES
                    _follow(base, row_step, pixel_step, count, fractions, offsets, sums, at)
    for n in range(len(views)):
        line, length = sums[n * width : (n + 1) * width], splat(lengths[views[n]])
        for at in range(0, num_columns * LANES, LANES):
            store(line, at, mul(length, load(line, at)))
        _from_lanes(line, num_columns, out, views[n] * view_step + column, out_step, num_lanes)


@inlined
def _misses(start, step, slope, count, num_pixels):
    """Whether no ray of a group comes near a pixel in these rows."""
    across, along = (TOGETHER - 1) * step, (count - 1) * slope
    low = start + min(across, 0.0) + min(along, 0.0)
    high = start + max(across, 0.0) + max(along, 0.0)
    return high < -1 or low > num_pixels


@inlined
def _crossings(start, slope, count, num_pixels, pixel_step, fractions, offsets):
    """Where a ray meets rows of pixels: the pixel before it, and how far it is beyond that."""
    for i in range(count):
        position = start + i * slope
        position = max(position, -np.float64(MARGIN))
        position = min(position, np.float64(num_pixels))
        before = np.floor(position)
        fractions[i] = np.float32(position - before)
        offsets[i] = np.int64(np.int32(before) + MARGIN) * pixel_step


@inlined
def _follow(base, row_step, pixel_step, count, fractions, offsets, sums, at):
    """Add what TOGETHER rays meet in some rows of pixels to their sums."""
    a0 = load(sums, at)
    a1 = load(sums, at + LANES)
    a2 = load(sums, at + 2 * LANES)
    a3 = load(sums, at + 3 * LANES)
    b0 = b1 = b2 = b3 = splat(np.float32(0))
    share = pointer(fractions)
    for i in range(count):
        o = i * row_step
        p0, p1, p2, p3 = (
            o + offsets[i], o + offsets[RUN + i], o + offsets[2 * RUN + i], o + offsets[3 * RUN + i]
        )  # fmt: skip
        v0, v1, v2, v3 = load(base, p0), load(base, p1), load(base, p2), load(base, p3)
        b0 = fma(broadcast(share, i), sub(load(base, p0 + pixel_step), v0), b0)
        b1 = fma(broadcast(share, RUN + i), sub(load(base, p1 + pixel_step), v1), b1)
        b2 = fma(broadcast(share, 2 * RUN + i), sub(load(base, p2 + pixel_step), v2), b2)
        b3 = fma(broadcast(share, 3 * RUN + i), sub(load(base, p3 + pixel_step), v3), b3)
        a0, a1, a2, a3 = add(a0, v0), add(a1, v1), add(a2, v2), add(a3, v3)
    store(sums, at, add(a0, b0))
    store(sums, at + LANES, add(a1, b1))
    store(sums, at + 2 * LANES, add(a2, b2))
    store(sums, at + 3 * LANES, add(a3, b3))


@kernel
def back_project(
    lines, line_step, num_views, det_count, cosines, sines, starts, heights, falls, y, rows, x,
    columns, out, row_step, out_step, num_lanes, tile,
):  # fmt: skip
    """Pixels [y, y + rows) x [x, x + columns): the two columns around each, of all views.

    lines : (num_views, line_step) of `lines_into_lanes`.
    cosines, sines, starts : (num_views,) pixel (y, x) lies at column x cos + y sin + start.
    heights, falls : (num_views,) a column's weight is its height - fall * distance, or 0.
    out : flat; pixel (y, x) of a lane at lane out_step + y row_step + x.
    tile : (rows, >= columns, LANES) floats.
    """
    firsts = np.empty(TOGETHER * RUN, np.float32)
    seconds = np.empty(TOGETHER * RUN, np.float32)
    offsets = np.empty(TOGETHER * RUN, np.int32)
    wholes, parts = np.empty(RUN, np.float32), np.empty(RUN, np.float32)
    steps, rests = np.empty(RUN, np.float32), np.empty(RUN, np.float32)
    width = (columns + TOGETHER - 1) // TOGETHER * TOGETHER
    tile[: rows * width * LANES] = np.float32(0)
    for view in range(0, num_views, RUN):
        count = min(RUN, num_views - view)
        base = pointer(lines) + 4 * view * line_step
        c, s, u = cosines[view:], sines[view:], starts[view:]
        h, f = heights[view:], falls[view:]
        for k in range(count):
            steps[k], rests[k] = np.float32(c[k]), h[k] - f[k]
        for top in range(0, rows, TILE):
            for left in range(0, width, TILE):
                for i in range(top, min(top + TILE, rows)):
                    _places(np.float64(y + i), np.float64(x + left), c, s, u, count, wholes, parts)
                    for j in range(left, min(left + TILE, width), TOGETHER):
                        for t in range(TOGETHER):
                            _weights(
                                np.float32(j - left + t), steps, wholes, parts, h, f, rests, count,
                                np.float32(det_count + MARGIN), firsts[t * RUN :],
                                seconds[t * RUN :], offsets[t * RUN :],
                            )  # fmt: skip
                        at = (i * width + j) * LANES
                        _gather(base, line_step, count, firsts, seconds, offsets, tile, at)
    for i in range(rows):
        line = tile[i * width * LANES : (i + 1) * width * LANES]
        _from_lanes(line, columns, out, (y + i) * row_step + x, out_step, num_lanes)


@inlined
def _places(y, x, c, s, starts, count, wholes, parts):
    """For some views, where the first pixel of a row lies: whole columns, and what is beyond.

    In float64; from here to the end of a tile's row float32 is out by 1e-6 columns at most.
    """
    for k in range(count):
        u = x * c[k] + (y * s[k] + starts[k])
        u = max(u, -np.float64(FARTHEST))
        u = min(u, np.float64(FARTHEST))
        whole = np.floor(u)
        wholes[k] = np.float32(whole + MARGIN)
        parts[k] = np.float32(u - whole)


@inlined
def _weights(x, steps, wholes, parts, heights, falls, rests, count, last, firsts, seconds, offsets):
    """For some views, the column before a pixel, its weight, and that of the next column.

    x : pixels from where `_places` has worked them out. rests : heights - falls.
    """
    for k in range(count):
        u = x * steps[k] + parts[k]
        whole = np.floor(u)
        fall = (u - whole) * falls[k]
        firsts[k] = max(heights[k] - fall, np.float32(0))
        seconds[k] = max(rests[k] + fall, np.float32(0))
        column = max(wholes[k] + whole, np.float32(0))
        offsets[k] = np.int32(min(column, last)) * LANES


@inlined
def _gather(base, line_step, count, firsts, seconds, offsets, tile, at):
    """Add what TOGETHER pixels get from some views to their sums."""
    a0 = load(tile, at)
    a1 = load(tile, at + LANES)
    a2 = load(tile, at + 2 * LANES)
    a3 = load(tile, at + 3 * LANES)
    b0 = b1 = b2 = b3 = splat(np.float32(0))
    w, v = pointer(firsts), pointer(seconds)
    for k in range(count):
        o = k * line_step
        p0, p1, p2, p3 = (
            o + offsets[k], o + offsets[RUN + k], o + offsets[2 * RUN + k], o + offsets[3 * RUN + k]
        )  # fmt: skip
        a0 = fma(broadcast(w, k), load(base, p0), a0)
        b0 = fma(broadcast(v, k), load(base, p0 + LANES), b0)
        a1 = fma(broadcast(w, RUN + k), load(base, p1), a1)
        b1 = fma(broadcast(v, RUN + k), load(base, p1 + LANES), b1)
        a2 = fma(broadcast(w, 2 * RUN + k), load(base, p2), a2)
        b2 = fma(broadcast(v, 2 * RUN + k), load(base, p2 + LANES), b2)
        a3 = fma(broadcast(w, 3 * RUN + k), load(base, p3), a3)
        b3 = fma(broadcast(v, 3 * RUN + k), load(base, p3 + LANES), b3)
    store(tile, at, add(a0, b0))
    store(tile, at + LANES, add(a1, b1))
    store(tile, at + 2 * LANES, add(a2, b2))
    store(tile, at + 3 * LANES, add(a3, b3))
