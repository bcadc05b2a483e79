"""Signals by which batch systems and terminals end a command: it leaves in good order."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGHUP)  # of a batch system or the kernel; of a closed terminal


@contextlib.contextmanager
def leaving_on_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP raise SystemExit(128 + their number) within the `with` block.

    So jobs are cancelled, keys removed, what is being written put away, and what has been done is
    said. A second one changes nothing. Signals reach the main thread alone: in another one nothing
    is changed; nor is one that is ignored (`nohup`).
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        for ending in ENDING:
            signal.signal(ending, signal.SIG_IGN)
        raise SystemExit(128 + number)

    before = {ending: signal.getsignal(ending) for ending in ENDING}
    try:
        for ending, handler in before.items():
            if handler == signal.SIG_DFL:
                signal.signal(ending, leave)
        yield
    finally:
        for ending, handler in before.items():
            signal.signal(ending, handler)
