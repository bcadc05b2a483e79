"""The garbage collector rests where many objects are made, and goes on after it."""

import gc

import pytest

from tomodask.garbage import collector_paused


def test_the_collector_rests_inside_and_goes_on_after():
    def fail() -> None:
        with collector_paused():
            assert not gc.isenabled()
            raise KeyError

    assert gc.isenabled()
    with pytest.raises(KeyError):
        fail()
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off():
    gc.disable()
    try:
        with collector_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
