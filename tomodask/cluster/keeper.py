"""A thread that looks after workers while a run goes on."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Collection, Iterator
from typing import Any

log = logging.getLogger(__name__)


@contextlib.contextmanager
def kept(look: Callable[[], None], seconds: float) -> Iterator[None]:
    """Call `look` every so many seconds for the length of a `with` block."""
    ended = threading.Event()

    def keep() -> None:
        while not ended.wait(seconds):
            try:
                look()
            except Exception as error:  # whatever it was, the next look may go well
                log.warning("looking after the workers failed: %r", error)

    thread = threading.Thread(target=keep, name="keeper", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def forget(cluster: Any, names: Collection[object]) -> None:
    """Take workers out of a cluster's books, so that its next `scale` starts others for them."""

    async def pop() -> None:
        for name in names:
            cluster.workers.pop(name, None)

    cluster.sync(pop)
