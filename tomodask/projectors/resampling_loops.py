"""Inner loops of `resampling`: lines along the rows, then along the columns, or 6 x 6 pixels.

Images are given as one stretch of memory: pixel (row, column) is stretch[base + row * step +
column]. A view is one thread's, and a pixel's sum runs in a fixed order: threads change no byte.

Where the mapping is near a shift (`TWO_PASSES`), pixel (i, j) is read in two passes, whose loops
run along contiguous pixels: each source row m where the real detector's columns cross it, at
(m, j), then these at the row of (i, j). In numbers: row = a + b i + c j crosses m at
i = (m - a - c j) / b, which leaves a column that is linear in j (Catmull and Smith 1980,
doi:10.1145/800250.807505).
"""

from __future__ import annotations

from math import floor, sqrt
from typing import Any

import numpy as np
from numba import njit

OPTIONS: Any = {"nogil": True, "cache": True, "error_model": "numpy"}
TAPS = 6
BEFORE = 2  # taps before the pixel that a place follows
TWO_PASSES = 0.25  # columns a column, or rows a column, that the mapping may differ from a shift
LEAST_WEIGHT = 0.3  # of the taps that are finite, to divide by their sum

# Weights of pixels -2, -1, 0 for a place 0 <= t < 1 after pixel 0, with s = t - 1/2: E(s^2) + s
# O(s^2); those of 3, 2, 1 are E(s^2) - s O(s^2). They are `resampling.exact_weights` to 4e-6.
F = np.float32
E0, O0 = (
    (F(0.0180661999), F(-0.0814905582), F(0.0369220641)),
    (F(-0.00640912891), F(0.0287864722), F(-0.012602253)),
)
E1, O1 = (
    (F(-0.1166986), F(0.494471675), F(-0.110766192)),
    (F(0.0737123112), F(-0.310599028), F(0.0630112651)),
)
E2, O2 = (
    (F(0.5986324), F(-0.412981116), F(0.0738441282)),
    (F(-1.18909129), F(0.787864722), F(-0.12602253)),
)


@njit(inline="always", **OPTIONS)
def weights(s):
    """The six weights of a place s + 1/2 after the third pixel."""
    z = s * s
    e, o = E0[0] + z * (E0[1] + z * E0[2]), s * (O0[0] + z * (O0[1] + z * O0[2]))
    f, p = E1[0] + z * (E1[1] + z * E1[2]), s * (O1[0] + z * (O1[1] + z * O1[2]))
    g, q = E2[0] + z * (E2[1] + z * E2[2]), s * (O2[0] + z * (O2[1] + z * O2[2]))
    return e + o, f + p, g + q, g - q, f - p, e - o


@njit(**OPTIONS)
def place_line(start, slope, first, s):
    """Places start + slope * j: pixels before them, and s = rest - 1/2."""
    for j in range(s.size):
        place = start + slope * j
        whole = np.floor(place)
        first[j] = np.int32(whole)
        s[j] = F(place - whole) - F(0.5)


@njit(**OPTIONS)
def read_run(s, x0, x1, x2, x3, x4, x5, out):
    """Six lines times their weights."""
    for j in range(s.size):
        a, b, c, d, e, f = weights(s[j])
        out[j] = a * x0[j] + b * x1[j] + c * x2[j] + d * x3[j] + e * x4[j] + f * x5[j]


@njit(**OPTIONS)
def weight_pair(s, even, odd, near, far):
    """Weights of a pixel and of its mirror image, along a line."""
    for j in range(s.size):
        z = s[j] * s[j]
        e, o = even[0] + z * (even[1] + z * even[2]), odd[0] + z * (odd[1] + z * odd[2])
        near[j] = e + s[j] * o
        far[j] = e - s[j] * o


@njit(**OPTIONS)
def weight_line(s, w):
    """(TAPS, columns) weights of the places of a line."""
    weight_pair(s, E0, O0, w[0], w[5])
    weight_pair(s, E1, O1, w[1], w[4])
    weight_pair(s, E2, O2, w[2], w[3])


@njit(**OPTIONS)
def add_run(w, x, out):
    """Add one line times its weights."""
    for j in range(w.size):
        out[j] += w[j] * x[j]


@njit(inline="always", **OPTIONS)
def run_end(first, j, step):
    """Where the run ends whose pixels rise by `step` with each column."""
    k = j + 1
    while k < first.size and first[k] == first[k - 1] + step:
        k += 1
    return k


@njit(**OPTIONS)
def clip_places(first, length):
    """Pixels before the places, counted in a line with TAPS pixels more at either end."""
    for j in range(first.size):
        first[j] = min(max(first[j] - BEFORE, -TAPS), length) + TAPS


@njit(**OPTIONS)
def read_line(first, s, line, out):
    """A padded line at places."""
    j = 0
    while j < s.size:
        k = run_end(first, j, 1)
        at, n = first[j], k - j
        read_run(
            s[j:k], line[at : at + n], line[at + 1 : at + 1 + n], line[at + 2 : at + 2 + n],
            line[at + 3 : at + 3 + n], line[at + 4 : at + 4 + n], line[at + 5 : at + 5 + n],
            out[j:k],
        )  # fmt: skip
        j = k


@njit(**OPTIONS)
def add_line(first, w, x, line):
    """The transpose of `read_line`."""
    j = 0
    while j < x.size:
        k = run_end(first, j, 1)
        at, n = first[j], k - j
        for tap in range(TAPS):
            add_run(w[tap, j:k], x[j:k], line[at + tap : at + tap + n])
        j = k


@njit(**OPTIONS)
def read_across(first, s, lines, out):
    """Padded lines at places across them, which change along them."""
    j = 0
    while j < s.size:
        k = run_end(first, j, 0)
        at = first[j]
        read_run(
            s[j:k], lines[at, j:k], lines[at + 1, j:k], lines[at + 2, j:k], lines[at + 3, j:k],
            lines[at + 4, j:k], lines[at + 5, j:k], out[j:k],
        )  # fmt: skip
        j = k


@njit(**OPTIONS)
def add_across(first, w, x, lines):
    """The transpose of `read_across`."""
    j = 0
    while j < x.size:
        k = run_end(first, j, 0)
        for tap in range(TAPS):
            add_run(w[tap, j:k], x[j:k], lines[first[j] + tap, j:k])
        j = k


@njit(**OPTIONS)
def in_two_passes(mapping):
    """Whether a mapping is so near a shift that two passes lose nothing and are quick."""
    along = (mapping[0, 0] * mapping[1, 1] - mapping[0, 1] * mapping[1, 0]) / mapping[0, 0]
    return abs(along - 1) <= TWO_PASSES and abs(mapping[0, 1]) <= TWO_PASSES * abs(mapping[0, 0])


@njit(**OPTIONS)
def crossing(mapping, m):
    """Column at j = 0, and from a j to the next, where the detector's columns cross row m."""
    lean = mapping[1, 0] / mapping[0, 0]
    return (
        mapping[1, 2] + lean * (m - mapping[0, 2]),
        mapping[1, 1] - lean * mapping[0, 1],
    )


@njit(**OPTIONS)
def read_view(
    source, base, step, shape, mapping, first_row, is_edge, out, out_base, out_step, out_shape
):
    """out(i, j) = the source at mapping @ (i, j, 1), in two passes.

    first_row : row of the whole detector that is the first of the source and of `out`; places are
        computed in the whole detector's rows, so that blocks agree to the last bit.
    is_edge : beyond the source its outermost pixels go on; otherwise 0.
    """
    rows, columns = shape
    width = out_shape[1]
    line = np.zeros(columns + 2 * TAPS, np.float32)
    crossed = np.zeros((rows + 2 * TAPS, width), np.float32)
    first, s = np.empty(width, np.int32), np.empty(width, np.float32)
    for m in range(rows):
        at = base + m * step
        pixels = source[at : at + columns]
        for j in range(columns):
            line[TAPS + j] = pixels[j]
        if is_edge:
            line[:TAPS] = line[TAPS]
            line[columns + TAPS :] = line[columns + TAPS - 1]
        start, slope = crossing(mapping, m + first_row)
        place_line(start, slope, first, s)
        clip_places(first, columns)
        read_line(first, s, line, crossed[TAPS + m])
    if is_edge:
        for m in range(TAPS):
            crossed[m] = crossed[TAPS]
            crossed[rows + TAPS + m] = crossed[rows + TAPS - 1]
    for i in range(out_shape[0]):
        start = mapping[0, 2] + mapping[0, 0] * (i + first_row)
        place_line(start, mapping[0, 1], first, s)
        for j in range(width):
            first[j] -= first_row
        clip_places(first, rows)
        at = out_base + i * out_step
        read_across(first, s, crossed, out[at : at + width])


@njit(**OPTIONS)
def add_view(source, base, step, shape, mapping, out, out_base, out_step, out_shape):
    """The transpose of `read_view` with zeros beyond `out`."""
    (height, width), (rows, columns) = shape, out_shape
    line = np.empty(columns + 2 * TAPS, np.float32)
    crossed = np.zeros((rows + 2 * TAPS, width), np.float32)
    first, s = np.empty(width, np.int32), np.empty(width, np.float32)
    w = np.empty((TAPS, width), np.float32)
    for i in range(height):
        place_line(mapping[0, 2] + mapping[0, 0] * i, mapping[0, 1], first, s)
        clip_places(first, rows)
        weight_line(s, w)
        at = base + i * step
        add_across(first, w, source[at : at + width], crossed)
    for m in range(rows):
        start, slope = crossing(mapping, m)
        place_line(start, slope, first, s)
        clip_places(first, columns)
        weight_line(s, w)
        line[:] = 0
        add_line(first, w, crossed[TAPS + m], line)
        at = out_base + m * out_step
        out[at : at + columns] = line[TAPS : TAPS + columns]


# ---- 6 x 6 pixels: any mapping, a lens, pixels that are not finite -------------------------------


@njit(inline="always", **OPTIONS)
def place(value):
    """First of the six pixels around a place, and s."""
    whole = floor(value)
    return int(whole) - BEFORE, F(value - whole) - F(0.5)


@njit(inline="always", **OPTIONS)
def bend(y, x, center, factors):
    """Where the detector has what should be at (y, x): `Distortion.to_measured`."""
    if factors.size == 0:
        return y, x
    y -= center[0]
    x -= center[1]
    radius = sqrt(y * y + x * x)
    factor = 0.0
    for k in range(factors.size - 1, -1, -1):
        factor = factor * radius + factors[k]
    return center[0] + factor * y, center[1] + factor * x


@njit(inline="always", **OPTIONS)
def map_pixel(mapping, moved, i, j):
    """Where pixel (i, j) lies, after it was moved to where it should be."""
    a, b = float(i), float(j)
    if moved.size:
        a += moved[0, i, j]
        b += moved[1, i, j]
    return (
        mapping[0, 2] + mapping[0, 0] * a + mapping[0, 1] * b,
        mapping[1, 2] + mapping[1, 0] * a + mapping[1, 1] * b,
    )


@njit(**OPTIONS)
def read_pixels(source, base, step, shape, mapping, moved, out, out_base, out_step, out_shape):
    """`read_view` with zeros beyond the source, for any mapping.

    moved : (2, rows, columns) from a pixel of `out` to where it should be, or (2, 0, 0).
    """
    rows, columns = shape
    for i in range(out_shape[0]):
        for j in range(out_shape[1]):
            y, x = map_pixel(mapping, moved, i, j)
            row, s = place(y)
            column, t = place(x)
            v, u = weights(s), weights(t)
            total = F(0)
            for k in range(max(0, -row), min(TAPS, rows - row)):
                at = base + (row + k) * step + column
                for m in range(max(0, -column), min(TAPS, columns - column)):
                    total += v[k] * u[m] * source[at + m]
            out[out_base + i * out_step + j] = total


@njit(**OPTIONS)
def add_pixels(source, base, step, shape, mapping, moved, out, out_base, out_step, out_shape):
    """The transpose of `read_pixels`."""
    rows, columns = out_shape
    for i in range(shape[0]):
        for j in range(shape[1]):
            y, x = map_pixel(mapping, moved, i, j)
            row, s = place(y)
            column, t = place(x)
            v, u = weights(s), weights(t)
            value = source[base + i * step + j]
            for k in range(max(0, -row), min(TAPS, rows - row)):
                at = out_base + (row + k) * out_step + column
                for m in range(max(0, -column), min(TAPS, columns - column)):
                    out[at + m] += value * v[k] * u[m]


@njit(**OPTIONS)
def mended(source, base, step, shape, row, s, column, t):
    """The weighted sum of the pixels, clipped to the image, that are finite.

    Not finite where the one with the greatest weight isn't.
    """
    rows, columns = shape
    v, u = weights(s), weights(t)
    total, weight, missing = 0.0, 0.0, False
    for k in range(TAPS):
        at = base + min(max(row + k, 0), rows - 1) * step
        for m in range(TAPS):
            value = source[at + min(max(column + m, 0), columns - 1)]
            if value - value == 0:
                total += v[k] * u[m] * value
                weight += v[k] * u[m]
            else:
                missing = True
    if not missing:
        return F(total)
    at = base + min(max(row + BEFORE + (s >= 0), 0), rows - 1) * step
    nearest = F(source[at + min(max(column + BEFORE + (t >= 0), 0), columns - 1)])
    if nearest - nearest != 0 or weight < LEAST_WEIGHT:
        return nearest
    return F(total / weight)


@njit(**OPTIONS)
def rectify_view(
    source, base, step, shape, first_row, mapping, center, factors,
    out, out_base, out_step, out_shape,
):  # fmt: skip
    """out(i, j) = the source at mapping @ (i, j, 1), bent by the lens; its edge beyond the edge."""
    is_quick = factors.size == 0 and in_two_passes(mapping)
    if is_quick:
        read_view(
            source, base, step, shape, mapping, first_row, True, out, out_base, out_step, out_shape
        )
    for i in range(out_shape[0]):
        at = out_base + i * out_step
        for j in range(out_shape[1]):
            if is_quick and out[at + j] - out[at + j] == 0:
                continue
            a = float(i + first_row)
            y, x = bend(
                mapping[0, 2] + mapping[0, 0] * a + mapping[0, 1] * j,
                mapping[1, 2] + mapping[1, 0] * a + mapping[1, 1] * j,
                center, factors,
            )  # fmt: skip
            row, s = place(y)
            column, t = place(x)
            out[at + j] = mended(source, base, step, shape, row - first_row, s, column, t)
