"""Packed reports are a list to whoever reads them."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomodask.cluster import reports
from tomodask.cluster.reports import Reports

NUMBERS = st.none() | st.integers(-25, 25)
STEPS = st.none() | st.integers(-3, 3).filter(bool)


def report(number: int) -> dict:
    """Made anew, keys and all, as one that came from a worker."""
    names = ("read", "correct", "reconstruct", "write", "wait", "total")
    seconds = {f"{name}"[:]: number + share / 7 for share, name in enumerate(names)}
    return {"block": f"z{number:07d}", "rows": 1, "counts": {"zingers": number}, "seconds": seconds}


@pytest.fixture(autouse=True, scope="module")
def small_pages():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reports, "PAGE", 3)
        yield


def filled(count: int) -> Reports:
    found = Reports()
    for number in range(count):
        found.append(report(number))
    return found


@given(st.integers(0, 20), NUMBERS, NUMBERS, STEPS)
def test_slices_are_those_of_a_list(count, start, stop, step):
    part = slice(start, stop, step)
    assert filled(count)[part] == [report(number) for number in range(count)][part]


@given(st.integers(0, 20))
def test_it_is_read_from_end_to_end_and_by_number(count):
    found, expected = filled(count), [report(number) for number in range(count)]
    assert len(found) == count
    assert list(found) == expected
    assert [found[number] for number in range(-count, count)] == expected + expected
    for number in (count, -count - 1):
        with pytest.raises(IndexError):
            found[number]


def test_ten_thousand_take_a_few_megabytes(monkeypatch):
    monkeypatch.setattr(reports, "PAGE", 1000)
    tracemalloc.start()
    try:
        found = filled(10_000)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found) == 10_000
    assert taken < 4e6  # a list of them would take 10
