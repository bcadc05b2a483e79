"""Python's garbage collector, where it would look through many small objects that stay."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """Make many objects inside, none of them garbage: the collector would take half of the time.

    It goes on afterwards if it was on; what other threads leave meanwhile is collected then.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
