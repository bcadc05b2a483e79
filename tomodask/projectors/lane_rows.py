"""Between detector rows and half lines through the frequency plane, one view at a time.

Each view is done in a core's second cache: its rows are laid into lanes, padded, transformed,
filtered and moved to the axis of rotation, and written once.

Along a view: u detector columns, k = 0 .. n/2 - 1 frequencies of k/n a column. The frequency 1/2
has no sign and is left out.
"""

from __future__ import annotations

import numpy as np

from tomodask.projectors.lane_fft import (
    FORWARD,
    INVERSE,
    START,
    STEP,
    fft_line,
)
from tomodask.projectors.lane_real import half_spectrum, pack_spectrum
from tomodask.projectors.vectors import (
    LANES,
    SAMPLE,
    fma,
    fms,
    inlined,
    kernel,
    load,
    mul,
    splat,
    store,
    stream,
    transpose,
)

FINE = 64  # frequencies whose phases are multiplied by a coarse one: no error grows along a line


@inlined
def _into_lanes(rows, start, row_step, num_rows, count, line):
    """(num_rows, count) values of a view -> the first `count` of a line (u, LANES)."""
    whole = count - count % LANES if num_rows == LANES else 0
    for u in range(0, whole, LANES):
        transpose(rows, start + u, row_step, line, u * LANES, LANES)
    for u in range(whole, count):
        store(line, u * LANES, splat(np.float32(0)))
        for lane in range(num_rows):
            line[u * LANES + lane] = rows[start + lane * row_step + u]


@inlined
def _from_lanes(line, count, rows, start, row_step, num_rows):
    """The first `count` of a line (u, LANES) -> (num_rows, count) values of a view."""
    whole = count - count % LANES if num_rows == LANES else 0
    for u in range(0, whole, LANES):
        transpose(line, u * LANES, LANES, rows, start + u, row_step)
    for u in range(whole, count):
        for lane in range(num_rows):
            rows[start + lane * row_step + u] = line[u * LANES + lane]


@inlined
def _fade_out(line, count, n, fade):
    """Continue the first and last values beyond the ends of a row, as far as `fade` goes."""
    first, last = load(line, 0), load(line, (count - 1) * LANES)
    for k in range(len(fade)):
        factor = splat(fade[k])
        store(line, (count + k) * LANES, mul(factor, last))
        store(line, (n - 1 - k) * LANES, mul(factor, first))


@inlined
def _phases(places, n, turn):
    """turn[j] = exp(2 pi i j place / n) for j < FINE, and behind them those of FINE j, by lane.

    In float64 by recurrence; the two multiplied give every frequency's.
    """
    coarse = (n // 2 + FINE - 1) // FINE
    for lane in range(LANES):
        if lane > 0 and places[lane] == places[0]:
            for at in range(lane, (FINE + coarse) * SAMPLE, LANES):
                turn[at] = turn[at - lane]
            continue
        offset, step, count = lane, 2 * np.pi * places[lane] / n, FINE
        for _ in range(2):
            c, s, re, im = np.cos(step), np.sin(step), 1.0, 0.0
            for j in range(count):
                turn[offset + j * SAMPLE] = np.float32(re)
                turn[offset + j * SAMPLE + LANES] = np.float32(im)
                re, im = re * c - im * s, re * s + im * c
            offset, step, count = FINE * SAMPLE + lane, FINE * step, coarse


@inlined
def _phase(turn, k):
    """exp(2 pi i k place / n)."""
    fine, coarse = (k % FINE) * SAMPLE, (FINE + k // FINE) * SAMPLE
    ar, ai, br, bi = (
        load(turn, fine),
        load(turn, fine + LANES),
        load(turn, coarse),
        load(turn, coarse + LANES),
    )
    return fms(ar, br, mul(ai, bi)), fma(ar, bi, mul(ai, br))


@kernel
def rows_to_lines(
    rows, view_step, row_step, num_rows, count, first, last, weights, response, fade, centers,
    shifts, flips, n, turns, plan, work, lines,
):  # fmt: skip
    """Detector rows of views [first, last) -> half lines: filtered, their axis moved to 0.

    rows : flat; value u of row r in view v at v view_step + r row_step + u, u < count.
    weights : (views,) factors. response : (n/2,) the filter's spectrum times that of the sum.
    fade : how values beyond the row's ends fall off. centers : (LANES,) and shifts : (views,) add
        up to the column of the axis. flips : (views,) 1 or -1, for the conjugate.
    work : `row_work(n)` floats and those of the FFT. lines : flat (views, n/2, SAMPLE).
    """
    h = n // 2
    line, z, turn, places, rest = _buffers(work, n)
    for view in range(first, last):
        _into_lanes(rows, view * view_step, row_step, num_rows, count, line)
        line[count * LANES : n * LANES] = np.float32(0)
        if len(fade):
            _fade_out(line, count, n, fade)
        fft_line(line, START, STEP, z, rest, plan, FORWARD)
        half_spectrum(z, h, turns, line, 0, SAMPLE)
        for lane in range(LANES):
            places[lane] = centers[lane] + shifts[view]
        _phases(places, n, turn)
        out = view * h * SAMPLE
        for k in range(h):
            c, s = _phase(turn, k)
            re, im = load(line, k * SAMPLE), load(line, k * SAMPLE + LANES)
            r = weights[view] * response[k]
            stream(lines, out + k * SAMPLE, mul(splat(r), fms(c, re, mul(s, im))))
            r *= flips[view]
            stream(lines, out + k * SAMPLE + LANES, mul(splat(r), fma(c, im, mul(s, re))))


@kernel
def lines_to_rows(
    lines, first, last, response, centers, shifts, flips, n, turns, plan, work, rows, view_step,
    row_step, num_rows, count,
):  # fmt: skip
    """The transpose of `rows_to_lines` without weights and fading."""
    h = n // 2
    line, z, turn, places, rest = _buffers(work, n)
    for view in range(first, last):
        for lane in range(LANES):
            places[lane] = centers[lane] + shifts[view]
        _phases(places, n, turn)
        at = view * h * SAMPLE
        for k in range(h):
            c, s = _phase(turn, k)
            re = load(lines, at + k * SAMPLE)
            im = mul(splat(flips[view]), load(lines, at + k * SAMPLE + LANES))
            # half: packing adds the other half of the line
            r = splat(response[k] * np.float32(0.5))
            store(line, k * SAMPLE, mul(r, fma(c, re, mul(s, im))))
            store(line, k * SAMPLE + LANES, mul(r, fms(c, im, mul(s, re))))
        line[h * SAMPLE :] = np.float32(0)
        for lane in range(LANES):
            line[lane] *= np.float32(2)  # the frequency 0 has no other half
        pack_spectrum(line, h, turns, z)
        fft_line(z, START, STEP, line, rest, plan, INVERSE)
        _from_lanes(line, count, rows, view * view_step, row_step, num_rows)


@inlined
def _buffers(work, n):
    """A line of n/2 + 1 samples, its transform, phases, the lanes' places, and what is left."""
    h = n // 2
    a = (h + 1) * SAMPLE
    b = a + h * SAMPLE
    c = b + (FINE + (h + FINE - 1) // FINE) * SAMPLE
    return work[:a], work[a:b], work[b:c], np.empty(LANES, np.float64), work[c:]


def row_work(n: int) -> int:
    """Floats of the buffers that a thread needs beside `work_samples(n / 2)`."""
    h = n // 2
    return SAMPLE * (2 * h + 1 + FINE + -(-h // FINE))
