"""Sharing work among threads: for loops that let go of the interpreter's lock."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


def share(work: Callable[[int], None], count: int, threads: int) -> None:
    """Call `work(i)` once for each i in range(count), on at most `threads` threads.

    Whoever is free takes the next i, so parts may differ in cost. What a call raises is raised
    here, once the calls already begun have ended; those not begun are left out.
    """
    if min(threads, count) <= 1:
        for i in range(count):
            work(i)
        return
    counter = itertools.count()  # next() is one step of the interpreter: no number is given twice
    failed = False

    def take() -> None:
        nonlocal failed
        while not failed and (i := next(counter)) < count:
            try:
                work(i)
            except BaseException:
                failed = True
                raise

    helpers = min(threads, count) - 1  # this thread works too
    with ThreadPoolExecutor(helpers, thread_name_prefix="share") as pool:
        futures = [pool.submit(take) for _ in range(helpers)]
        take()
    for future in futures:
        future.result()
