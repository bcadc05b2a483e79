"""Photon thinning: splits that keep all views, each with a share of every pixel's photons.

Where N photons are Poisson, those dealt to K shares at random are independent Poisson numbers of
mean N / K. So splits need not be of few views, whose aliases a network would take for noise. It
takes counts that are photons: of a detector that integrates, read noise stays in the shares, and
with a wrong gain they are correlated.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tomodask.errors import InputError
from tomodask.projections import Projections


def thin_counts(block: Projections, num_splits: int, seed: int) -> Iterator[Projections]:
    """The shares of a block of raw counts, one after the other, each as counts of all photons.

    A share of n photons is told as K n of them, K counts as large: flats and darks are the same for
    all, and a photon of a share is worth K gains, which the half-count logarithm is told.

    Random numbers are a function of seed, absolute detector row, view and column alone: any block
    that holds a row deals its photons alike.

    Raises
    ------
    InputError : the gain is not known, or the data are no counts.
    """
    if block.gain is None:
        raise InputError(
            "photon thinning needs counts that are photons, and the scan's gain is not known: give "
            "--gain (detector counts a photon) when the scan is copied, or split the views"
        )
    if block.signal != "transmission" or block.data.dtype.kind not in "ui":
        raise InputError(
            f"photon thinning needs raw counts of a transmission scan, not {block.data.dtype} of "
            f"{block.signal}: split the views instead (kind interleaved)"
        )
    darks = np.zeros(block.data.shape[1:]) if block.darks is None else block.darks.mean(axis=0)
    left = np.rint((block.data - darks) / block.gain).clip(min=0).astype(np.int64)
    first_row = block.geometry.row_start
    generators = [
        np.random.Generator(np.random.Philox(key=[seed, first_row + row]))
        for row in range(block.data.shape[1])
    ]
    factor, dark = np.float32(num_splits * block.gain), darks.astype(np.float32)
    for share in range(num_splits):
        photons = np.empty(left.shape, np.int64)
        for row, rng in enumerate(generators):
            photons[:, row] = rng.binomial(left[:, row], 1 / (num_splits - share))
        left -= photons
        yield block.replace(data=photons * factor + dark, gain=num_splits * block.gain)
