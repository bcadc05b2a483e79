"""How long the lines through the frequency plane of a slice are, in columns."""

from __future__ import annotations

from math import ceil, hypot

LENGTH_STEPS = 16  # lengths grow by this part of the columns: most rows share one length
MARGIN = 2  # columns between the slice and its periodic images


def line_length(
    det_count: int, shape_yx: tuple[int, int], center: float, shift: float = 0.0
) -> int:
    """Columns n of a line: views repeat after n columns, which must miss slice and detector.

    Depends on the row's own centre alone, so that a row's bytes do too.

    shape_yx : of a slice. center : detector column of the axis. shift : the largest of any view.
    """
    radius = hypot(shape_yx[0] - 1, shape_yx[1] - 1) / 2
    reach = max(det_count, max(center, det_count - 1 - center) + radius + shift + MARGIN)
    step = ceil(det_count / LENGTH_STEPS)
    return fast_length(ceil(reach / step) * step)


def fast_length(least: int) -> int:
    """The smallest even product of 2, 3 and 5 that is at least `least`."""
    n = max(2, least + least % 2)
    while not is_smooth(n):
        n += 2
    return n


def is_smooth(n: int) -> bool:
    """Whether n is a product of 2, 3 and 5: such transforms are fast, and ours know no other."""
    for prime in (2, 3, 5):
        while n % prime == 0:
            n //= prime
    return n == 1
