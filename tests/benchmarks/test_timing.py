"""Cases take turns, and a ratio is taken turn by turn."""

import numpy as np
import pytest


@pytest.fixture
def timing(load_benchmark):
    return load_benchmark("timing")


def test_cases_take_turns(timing) -> None:
    calls: list[str] = []
    cases = {name: lambda name=name: calls.append(name) for name in "ab"}
    seconds = timing.take_turns(cases, 3)
    assert calls == list("ab" * 4)  # the first turn is not timed
    assert {name: each.size for name, each in seconds.items()} == {"a": 3, "b": 3}


def test_a_machine_that_slows_down_does_not_change_a_ratio(timing) -> None:
    ours = np.array([1.0, 2.0, 10.0])
    assert timing.ratio(ours, 3 * ours) == {"median": 3, "quartiles": [3, 3]}


def test_a_rate_is_in_slices_a_second(timing) -> None:
    assert timing.rate(np.array([2.0, 2.0]), 16)["slices_per_second"] == 8
