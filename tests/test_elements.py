"""Shares of a job array are a partition of the rows, and its elements are found by their names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomodask.elements import Element, element_named, live_elements, parse_element
from tomodask.errors import InputError
from tomodask.lease import held, lease_path

counts = st.integers(1, 500)


@given(chunk_rows=st.integers(0, 10_000), count=counts)
def test_the_shares_of_all_elements_are_a_partition(chunk_rows, count):
    shares = [Element(count, number).share(chunk_rows) for number in range(1, count + 1)]
    assert [row for share in shares for row in share] == list(range(chunk_rows))
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1


@given(count=counts, data=st.data())
def test_an_element_is_known_by_its_name_and_by_its_text(count, data):
    element = Element(count, data.draw(st.integers(1, count)))
    assert parse_element(str(element)) == element
    assert element_named(element.writer) == element


@pytest.mark.parametrize("text", ["0/16", "17/16", "1/0", "0/0"])
def test_a_number_that_no_element_has_is_refused(text):
    with pytest.raises(InputError, match=rf"--shard {text}: the first is 1/.*number \+ 1"):
        parse_element(text)


@pytest.mark.parametrize("text", ["3", "", "3/", "/16", "-1/16", "3/16/2", "1.5/3", "a/b", "٣/4"])
def test_a_text_that_is_no_element_is_refused_with_what_is_expected(text):
    with pytest.raises(InputError, match=r"give NUMBER/COUNT, such as 3/16"):
        parse_element(text)


def test_writers_of_other_kinds_are_no_elements():
    assert element_named("driver") is None
    assert element_named("shard-1") is None


def test_elements_live_while_their_lease_is_held(tmp_path):
    output = tmp_path / "volume.zarr"
    assert live_elements(output) == []
    elements = [Element(12, 3), Element(12, 11), Element(2, 1)]
    for element in elements:
        element.place(output).parent.mkdir(parents=True, exist_ok=True)
    with held(elements[0].place(output)), held(elements[1].place(output)):
        lease_path(elements[2].place(output)).write_text("cut")
        assert live_elements(output) == elements[:2]
    assert live_elements(output) == []
