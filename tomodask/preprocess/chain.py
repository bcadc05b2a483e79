"""All corrections of a block, one after the other in as few passes and arrays as they allow."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tomodask.preprocess.correction import Correction
from tomodask.preprocess.flatfield import Flatfield
from tomodask.preprocess.lines import RUN_PIXELS
from tomodask.preprocess.normalise import MinusLog
from tomodask.projections import Projections

FLOAT32 = np.dtype(np.float32).itemsize


def apply_corrections(
    corrections: Sequence[Correction], block: Projections, threads: int = 1
) -> Projections:
    """The block after all corrections, with the bytes that they give when called in turn.

    The block given is not written to; what one correction makes, the next may write over. A
    flat-field that is followed by -log does both in one pass.
    """
    given, number = block, 0
    while number < len(corrections):
        correct = corrections[number]
        following = corrections[number + 1] if number + 1 < len(corrections) else None
        out = block.data if correct.in_place and block is not given else None
        if _are_one_pass(correct, following) and block.signal == "transmission":
            assert isinstance(correct, Flatfield)
            assert isinstance(following, MinusLog)
            block = correct.with_minus_log(following.floor, block, threads, out)
            number += 2
        else:
            block = correct(block, threads, out)
            number += 1
    return block


def correction_bytes(
    corrections: Sequence[Correction], shape: tuple[int, int, int], itemsize: int, threads: int = 1
) -> int:
    """Bytes that `apply_corrections` allocates at its peak for a block of (angles, rows, columns).

    The result counts, the block given does not.

    itemsize : bytes of a value of the block given. Types that the compiled loops don't know are
        copied a few views at a time.
    """
    _, rows, columns = shape
    copied = threads * max(RUN_PIXELS, rows * columns) * (itemsize if itemsize <= 2 else 8)
    peak = 0
    for number, correct in enumerate(corrections):
        before = copied if number == 0 else 0 if correct.in_place else FLOAT32 * math.prod(shape)
        peak = max(peak, before + correct.working_bytes(shape, threads))
    return peak


def _are_one_pass(correct: Correction, following: Correction | None) -> bool:
    return isinstance(correct, Flatfield) and isinstance(following, MinusLog)
