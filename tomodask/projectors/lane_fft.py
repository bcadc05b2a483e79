"""FFTs of many lines at once, a line in each lane of a vector.

A complex sample is `SAMPLE` floats: the real parts of all lanes, then the imaginary parts, so that
no product needs a shuffle. A line of n = n1 n2 samples is transformed by n2 transforms of n1 and n1
of n2 (Bailey 1990, doi:10.1007/BF00162341): each of these stays in a core's first cache, and the
line passes through the second only twice. They in turn are Stockham's, radix 8 to 2.

Transforms are exp(+2 pi i j k / n) sums without a factor; the other sign is the same with real and
imaginary parts exchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import isqrt
from typing import Any

import numpy as np

from tomodask.projectors.vectors import (
    LANES,
    SAMPLE,
    add,
    broadcast,
    fma,
    fms,
    fnma,
    inlined,
    kernel,
    load,
    mul,
    pointer,
    splat,
    store,
    sub,
)

RADICES = (8, 5, 4, 3, 2)
SMALL = 128  # samples that fit the first cache twice, 16 kB each with 16 lanes

_HALF = np.float32(np.sqrt(0.5))
_C3 = np.float32(np.sqrt(0.75))
_C51, _C52 = np.float32(np.cos(2 * np.pi / 5)), np.float32(np.cos(4 * np.pi / 5))
_S51, _S52 = np.float32(np.sin(2 * np.pi / 5)), np.float32(np.sin(4 * np.pi / 5))


# ---- the plan ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class LineFFT:
    """Sizes and twiddle factors of a transform of n samples; `fft_line` does it.

    outer : (n2, n1, 2) exp(2 pi i j2 k1 / n).
    radices, twiddles : of both sizes, those of n1 first; `split` parts the radices, `second` is
        where the twiddles of n2 begin.
    """

    n: int
    n1: int
    n2: int
    radices: np.ndarray
    split: int
    twiddles: np.ndarray
    second: int
    outer: np.ndarray

    @property
    def arguments(self) -> tuple[Any, ...]:
        """As the kernels take them."""
        return (
            self.n1, self.n2, self.radices, self.split, self.twiddles, self.second, self.outer,
        )  # fmt: skip


@lru_cache(maxsize=32)
def line_fft(n: int) -> LineFFT:
    """The plan for lines of n samples, n a product of 2, 3 and 5."""
    n1 = _inner_length(n)
    n2 = n // n1
    first, second = _radices(n1), _radices(n2)
    twiddles = [_twiddles(n1, first), _twiddles(n2, second)]
    angle = 2 * np.pi / n * np.outer(np.arange(n2), np.arange(n1))
    outer = np.stack((np.cos(angle), np.sin(angle)), axis=-1).astype(np.float32)
    radices = np.array(first + second, np.int64)
    joined = np.concatenate(twiddles)
    return LineFFT(n, n1, n2, radices, len(first), joined, twiddles[0].size, outer.ravel())


def work_samples(n: int) -> int:
    """Samples of the buffer that a transform of n needs."""
    plan = line_fft(n)
    return plan.n1 * (plan.n2 + 1) + 2 * max(plan.n1, plan.n2)


def _inner_length(n: int) -> int:
    """The divisor of n next to its root; n itself where that is small."""
    if n <= SMALL:
        return n
    return next(n1 for n1 in range(isqrt(n), 0, -1) if n % n1 == 0)


def _radices(n: int) -> list[int]:
    radices: list[int] = []
    while n > 1:
        radix = next(radix for radix in RADICES if n % radix == 0)
        radices.append(radix)
        n //= radix
    if radices[-2:] == [8, 2]:  # two passes of 4 are quicker than one of 8 and one of 2
        radices[-2:] = [4, 4]
    return radices


def _twiddles(n: int, radices: list[int]) -> np.ndarray:
    """For each pass but the last, p and j: exp(2 pi i p j / length), flat."""
    passes = []
    length = n
    for radix in radices[:-1]:
        p, j = np.arange(length // radix)[:, None], np.arange(radix)
        angle = 2 * np.pi / length * p * j
        passes.append(np.stack((np.cos(angle), np.sin(angle)), axis=-1).ravel())
        length //= radix
    return np.concatenate([*passes, np.zeros(0)]).astype(np.float32)


# ---- butterflies ------------------------------------------------------------------------------
# _dftN: N samples at i, i + d, ... of x -> their transform, (re, im, re, im, ...).
# r, m : where in a sample the real and the imaginary parts lie; exchanged for the other sign.
# _loopN: a pass of Stockham's algorithm, x at i + d k -> y at o + e k. `kind` says which outputs
# are multiplied by twiddles: PLAIN none, INNER all but the first, OUTER all.

PLAIN, INNER, OUTER = 0, 1, 2

# Typed, for numba compiles a function anew for each plain constant that it is called with.
START, STEP = np.int64(0), np.int64(SAMPLE)
FORWARD, INVERSE = np.int64(0), np.int64(1)
_AS_IT_IS, _TURNED = np.int64(0), np.int64(1)


@inlined
def _put(y, o, r, m, re, im, tw, t, turned):
    if turned:
        c, s = broadcast(tw, t), broadcast(tw, t + 1)
        store(y, o + r, fms(c, re, mul(s, im)))
        store(y, o + m, fma(c, im, mul(s, re)))
    else:
        store(y, o + r, re)
        store(y, o + m, im)


@inlined
def _dft2(x, i, d, r, m):
    ar, ai, br, bi = load(x, i + r), load(x, i + m), load(x, i + d + r), load(x, i + d + m)
    return add(ar, br), add(ai, bi), sub(ar, br), sub(ai, bi)


@inlined
def _dft3(x, i, d, r, m):
    ar, ai = load(x, i + r), load(x, i + m)
    br, bi, cr, ci = (
        load(x, i + d + r),
        load(x, i + d + m),
        load(x, i + 2 * d + r),
        load(x, i + 2 * d + m),
    )
    half, root = splat(np.float32(0.5)), splat(_C3)
    pr, pi, qr, qi = add(br, cr), add(bi, ci), mul(root, sub(br, cr)), mul(root, sub(bi, ci))
    er, ei = fnma(half, pr, ar), fnma(half, pi, ai)
    return add(ar, pr), add(ai, pi), sub(er, qi), add(ei, qr), add(er, qi), sub(ei, qr)


@inlined
def _dft4(x, i, d, r, m):
    ar, ai, br, bi = load(x, i + r), load(x, i + m), load(x, i + d + r), load(x, i + d + m)
    i += 2 * d
    cr, ci, dr, di = load(x, i + r), load(x, i + m), load(x, i + d + r), load(x, i + d + m)
    pr, pi, qr, qi = add(ar, cr), add(ai, ci), sub(ar, cr), sub(ai, ci)
    sr, si, tr, ti = add(br, dr), add(bi, di), sub(br, dr), sub(bi, di)
    return (
        add(pr, sr), add(pi, si), sub(qr, ti), add(qi, tr),
        sub(pr, sr), sub(pi, si), add(qr, ti), sub(qi, tr),
    )  # fmt: skip


@inlined
def _dft5(x, i, d, r, m):
    ar, ai = load(x, i + r), load(x, i + m)
    br, bi, er, ei = (
        load(x, i + d + r),
        load(x, i + d + m),
        load(x, i + 4 * d + r),
        load(x, i + 4 * d + m),
    )
    cr, ci = load(x, i + 2 * d + r), load(x, i + 2 * d + m)
    dr, di = load(x, i + 3 * d + r), load(x, i + 3 * d + m)
    pr, pi, qr, qi = add(br, er), add(bi, ei), sub(br, er), sub(bi, ei)
    sr, si, tr, ti = add(cr, dr), add(ci, di), sub(cr, dr), sub(ci, di)
    c1, c2, s1, s2 = splat(_C51), splat(_C52), splat(_S51), splat(_S52)
    ur, ui = fma(c2, sr, fma(c1, pr, ar)), fma(c2, si, fma(c1, pi, ai))
    vr, vi = fma(c1, sr, fma(c2, pr, ar)), fma(c1, si, fma(c2, pi, ai))
    wr, wi = fma(s2, tr, mul(s1, qr)), fma(s2, ti, mul(s1, qi))
    zr, zi = fms(s2, qr, mul(s1, tr)), fms(s2, qi, mul(s1, ti))
    return (
        add(ar, add(pr, sr)), add(ai, add(pi, si)), sub(ur, wi), add(ui, wr), sub(vr, zi),
        add(vi, zr), add(vr, zi), sub(vi, zr), add(ur, wi), sub(ui, wr),
    )  # fmt: skip


@inlined
def _dft8(x, i, d, r, m):
    ar, ai, br, bi, cr, ci, dr, di = _dft4(x, i, 2 * d, r, m)  # even samples
    er, ei, fr, fi, gr, gi, hr, hi = _dft4(x, i + d, 2 * d, r, m)  # odd ones
    half = splat(_HALF)
    pr, pi = mul(half, sub(fr, fi)), mul(half, add(fr, fi))  # times exp(i pi / 4)
    qr, qi = mul(half, add(hr, hi)), mul(half, sub(hi, hr))  # times -exp(3 i pi / 4)
    return (
        add(ar, er), add(ai, ei), add(br, pr), add(bi, pi), sub(cr, gi), add(ci, gr),
        sub(dr, qr), sub(di, qi), sub(ar, er), sub(ai, ei), sub(br, pr), sub(bi, pi),
        add(cr, gi), sub(ci, gr), add(dr, qr), add(di, qi),
    )  # fmt: skip


@inlined
def _loop8(x, i, d, y, o, e, m, s, real, imag, tw, t, v, kind):
    for p in range(m):
        for q in range(s):
            k, z, w = (
                i + (q + s * p) * d,
                o + (q + 8 * s * p) * e,
                t + p * 16 + (2 * q if kind == OUTER else 0),
            )
            ar, ai, br, bi, cr, ci, dr, di, er, ei, fr, fi, gr, gi, hr, hi = _dft8(
                x, k, s * m * d, real, imag
            )
            _put(y, z, real, imag, ar, ai, tw, w, kind == OUTER)
            _put(y, z + s * e, real, imag, br, bi, tw, w + v, kind != PLAIN)
            _put(y, z + 2 * s * e, real, imag, cr, ci, tw, w + 2 * v, kind != PLAIN)
            _put(y, z + 3 * s * e, real, imag, dr, di, tw, w + 3 * v, kind != PLAIN)
            _put(y, z + 4 * s * e, real, imag, er, ei, tw, w + 4 * v, kind != PLAIN)
            _put(y, z + 5 * s * e, real, imag, fr, fi, tw, w + 5 * v, kind != PLAIN)
            _put(y, z + 6 * s * e, real, imag, gr, gi, tw, w + 6 * v, kind != PLAIN)
            _put(y, z + 7 * s * e, real, imag, hr, hi, tw, w + 7 * v, kind != PLAIN)


@inlined
def _loop5(x, i, d, y, o, e, m, s, real, imag, tw, t, v, kind):
    for p in range(m):
        for q in range(s):
            k, z, w = (
                i + (q + s * p) * d,
                o + (q + 5 * s * p) * e,
                t + p * 10 + (2 * q if kind == OUTER else 0),
            )
            ar, ai, br, bi, cr, ci, dr, di, er, ei = _dft5(x, k, s * m * d, real, imag)
            _put(y, z, real, imag, ar, ai, tw, w, kind == OUTER)
            _put(y, z + s * e, real, imag, br, bi, tw, w + v, kind != PLAIN)
            _put(y, z + 2 * s * e, real, imag, cr, ci, tw, w + 2 * v, kind != PLAIN)
            _put(y, z + 3 * s * e, real, imag, dr, di, tw, w + 3 * v, kind != PLAIN)
            _put(y, z + 4 * s * e, real, imag, er, ei, tw, w + 4 * v, kind != PLAIN)


@inlined
def _loop4(x, i, d, y, o, e, m, s, real, imag, tw, t, v, kind):
    for p in range(m):
        for q in range(s):
            k, z, w = (
                i + (q + s * p) * d,
                o + (q + 4 * s * p) * e,
                t + p * 8 + (2 * q if kind == OUTER else 0),
            )
            ar, ai, br, bi, cr, ci, dr, di = _dft4(x, k, s * m * d, real, imag)
            _put(y, z, real, imag, ar, ai, tw, w, kind == OUTER)
            _put(y, z + s * e, real, imag, br, bi, tw, w + v, kind != PLAIN)
            _put(y, z + 2 * s * e, real, imag, cr, ci, tw, w + 2 * v, kind != PLAIN)
            _put(y, z + 3 * s * e, real, imag, dr, di, tw, w + 3 * v, kind != PLAIN)


@inlined
def _loop3(x, i, d, y, o, e, m, s, real, imag, tw, t, v, kind):
    for p in range(m):
        for q in range(s):
            k, z, w = (
                i + (q + s * p) * d,
                o + (q + 3 * s * p) * e,
                t + p * 6 + (2 * q if kind == OUTER else 0),
            )
            ar, ai, br, bi, cr, ci = _dft3(x, k, s * m * d, real, imag)
            _put(y, z, real, imag, ar, ai, tw, w, kind == OUTER)
            _put(y, z + s * e, real, imag, br, bi, tw, w + v, kind != PLAIN)
            _put(y, z + 2 * s * e, real, imag, cr, ci, tw, w + 2 * v, kind != PLAIN)


@inlined
def _loop2(x, i, d, y, o, e, m, s, real, imag, tw, t, v, kind):
    for p in range(m):
        for q in range(s):
            k, z, w = (
                i + (q + s * p) * d,
                o + (q + 2 * s * p) * e,
                t + p * 4 + (2 * q if kind == OUTER else 0),
            )
            ar, ai, br, bi = _dft2(x, k, s * m * d, real, imag)
            _put(y, z, real, imag, ar, ai, tw, w, kind == OUTER)
            _put(y, z + s * e, real, imag, br, bi, tw, w + v, kind != PLAIN)


@inlined
def _pass(radix, x, i, d, y, o, e, m, s, real, imag, tw, t, v, kind):
    if radix == 8:
        _loop8(x, i, d, y, o, e, m, s, real, imag, tw, t, v, kind)
    elif radix == 5:
        _loop5(x, i, d, y, o, e, m, s, real, imag, tw, t, v, kind)
    elif radix == 4:
        _loop4(x, i, d, y, o, e, m, s, real, imag, tw, t, v, kind)
    elif radix == 3:
        _loop3(x, i, d, y, o, e, m, s, real, imag, tw, t, v, kind)
    else:
        _loop2(x, i, d, y, o, e, m, s, real, imag, tw, t, v, kind)


@kernel
def _ffts(
    count, x, i, j, d, y, o, p, e, radices, first, last, tw, t, turned, outer, a, b, real, imag
):
    """`count` transforms: samples at i + j c + d k of x -> o + p c + e k of y, c = 0, 1, ...

    All arrays are pointers. radices : those from `first` up to `last` are used. a, b : buffers.
    turned : the results are multiplied by `outer`.
    """
    n = np.int64(1)
    for c in range(first, last):
        n *= radices[c]
    two = np.int64(2)
    for number in range(count):
        source, at, step, target, other, w = x, i + number * j, d, a, b, t
        s, m = np.int64(1), n
        for c in range(first, last):
            r = radices[c]
            m //= r
            if c < last - 1:
                _pass(r, source, at, step, target, START, STEP, m, s, real, imag, tw, w, two, INNER)
                source, at, step, target, other = target, START, STEP, other, target
            elif turned:
                z = 2 * number * n
                _pass(
                    r, source, at, step, y, o + number * p, e, m, s, real, imag, outer, z, 2 * s,
                    OUTER,
                )  # fmt: skip
            else:
                _pass(
                    r, source, at, step, y, o + number * p, e, m, s, real, imag, tw, w, two, PLAIN
                )  # fmt: skip
            w += 2 * m * r
            s *= r


@kernel
def fft_line(x, i, d, y, work, plan, inverse):
    """n samples at i + d k of x -> the first n of y.

    inverse : INVERSE for exp(+...), FORWARD for exp(-...).
    y : not x, but where n2 > 1: then it may be the very samples that are transformed.
    work : `work_samples(n)` samples.
    """
    n1, n2, radices, split, twiddles, second, outer_twiddles = plan
    real, imag = (0, LANES) if inverse else (LANES, 0)
    row = (n2 + 1) * STEP  # odd: a power of two would put a column into one set of the cache
    a = pointer(work) + 4 * n1 * row
    b = a + 4 * max(n1, n2) * STEP
    between, tw, outer = pointer(work), pointer(twiddles), pointer(outer_twiddles)
    if n2 == 1:
        _ffts(
            n2, pointer(x), i, START, d, pointer(y), START, START, STEP, radices, START, split, tw,
            START, _AS_IT_IS, outer, a, b, real, imag,
        )  # fmt: skip
        return
    _ffts(
        n2, pointer(x), i, d, n2 * d, between, START, STEP, row, radices, START, split, tw, START,
        _TURNED, outer, a, b, real, imag,
    )  # fmt: skip
    _ffts(
        n1, between, START, row, STEP, pointer(y), START, STEP, n1 * STEP, radices, split,
        np.int64(len(radices)), tw, second, _AS_IT_IS, outer, a, b, real, imag,
    )  # fmt: skip
