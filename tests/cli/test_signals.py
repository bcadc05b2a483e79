"""A command that is told to end leaves in good order."""

import os
import signal
import threading
import time

import pytest

from tomodask.cli.signals import ENDING, leaving_on_signals


@pytest.mark.parametrize("ending", ENDING)
def test_it_leaves_with_the_signals_exit_code_and_cleans_up(ending):
    before, cleaned = signal.getsignal(ending), []

    @leaving_on_signals()
    def command():
        try:
            os.kill(os.getpid(), ending)
            time.sleep(10)
        finally:
            os.kill(os.getpid(), ending)  # a second one does not cut the cleaning short
            cleaned.append(True)

    with pytest.raises(SystemExit) as leaving:
        command()
    assert leaving.value.code == 128 + ending
    assert cleaned
    assert signal.getsignal(ending) == before


def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with leaving_on_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.01)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_in_another_thread_signals_are_left_alone():
    before, inside = signal.getsignal(signal.SIGTERM), []

    def look():
        with leaving_on_signals():
            inside.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert inside == [before]
