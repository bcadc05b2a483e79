"""Lines of real samples along lanes: transforms of half the length.

n real samples lie as n/2 complex ones, even samples real and odd ones imaginary: in memory a real
line (n, LANES) is that already.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from tomodask.projectors.vectors import (
    LANES,
    SAMPLE,
    add,
    fma,
    fms,
    kernel,
    load,
    mul,
    splat,
    store,
    sub,
)


@lru_cache(maxsize=32)
def real_twiddles(n: int) -> np.ndarray:
    """exp(2 pi i k / n) for k = 0 .. n/4, flat (re, im, ...)."""
    angle = 2 * np.pi / n * np.arange(n // 4 + 1)
    return np.stack((np.cos(angle), np.sin(angle)), axis=-1).astype(np.float32).ravel()


@kernel
def half_spectrum(z, h, turns, out, o, e):
    """From the transform z of n/2 = h packed samples the spectrum k = 0 .. h, at o + e k of out."""
    half = splat(np.float32(0.5))
    re, im = load(z, 0), load(z, LANES)
    store(out, o, add(re, im))
    store(out, o + LANES, splat(np.float32(0)))
    store(out, o + h * e, sub(re, im))
    store(out, o + h * e + LANES, splat(np.float32(0)))
    for k in range(1, h // 2 + 1):
        i, j = k * SAMPLE, (h - k) * SAMPLE
        ar, ai, br, bi = load(z, i), load(z, i + LANES), load(z, j), load(z, j + LANES)
        er, ei = mul(half, add(ar, br)), mul(half, sub(ai, bi))
        fr, fi = mul(half, add(ai, bi)), mul(half, sub(br, ar))
        c, s = splat(turns[2 * k]), splat(turns[2 * k + 1])
        tr, ti = fma(c, fr, mul(s, fi)), fms(c, fi, mul(s, fr))
        store(out, o + k * e, add(er, tr))
        store(out, o + k * e + LANES, add(ei, ti))
        store(out, o + (h - k) * e, sub(er, tr))
        store(out, o + (h - k) * e + LANES, sub(ti, ei))


@kernel
def pack_spectrum(g, h, turns, z):
    """From a spectrum k = 0 .. h what transforms into n = 2 h packed real samples, times n.

    z : not g. The imaginary parts at 0 and h are not used.
    """
    ar, br = load(g, 0), load(g, h * SAMPLE)
    store(z, 0, add(ar, br))
    store(z, LANES, sub(ar, br))
    for k in range(1, h // 2 + 1):
        i, j = k * SAMPLE, (h - k) * SAMPLE
        ar, ai, br, bi = load(g, i), load(g, i + LANES), load(g, j), load(g, j + LANES)
        er, ei, fr, fi = add(ar, br), sub(ai, bi), sub(ar, br), add(ai, bi)
        c, s = splat(turns[2 * k]), splat(turns[2 * k + 1])
        tr, ti = fms(c, fr, mul(s, fi)), fma(c, fi, mul(s, fr))
        store(z, i, sub(er, ti))
        store(z, i + LANES, add(ei, tr))
        store(z, j, add(er, ti))
        store(z, j + LANES, sub(tr, ei))
