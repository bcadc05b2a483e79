"""Sharing work among threads: what is called lets go of Python, as NumPy and our kernels do."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


def share(work: Callable[[int], None], count: int, threads: int) -> None:
    """Call `work(i)` for each i below `count` on up to `threads` threads, the lowest i first.

    Raises what a thread raised; the others end what they have begun.
    """
    if threads == 1 or count < 2:
        for i in range(count):
            work(i)
        return
    with ThreadPoolExecutor(min(threads, count)) as pool:
        for done in [pool.submit(work, i) for i in range(count)]:
            done.result()
