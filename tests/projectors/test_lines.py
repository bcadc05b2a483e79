"""Lines are long enough, and fast."""

from math import hypot

from hypothesis import given
from hypothesis import strategies as st

from tomodask.projectors.lines import MARGIN, fast_length, is_smooth, line_length


@given(
    det_count=st.integers(2, 3000),
    ny=st.integers(1, 3000),
    nx=st.integers(1, 3000),
    place=st.floats(-0.5, 1.5),
    shift=st.floats(0, 20),
)
def test_periodic_images_of_the_slice_miss_the_detector(
    det_count: int, ny: int, nx: int, place: float, shift: float
) -> None:
    center = place * det_count
    n, radius = line_length(det_count, (ny, nx), center, shift), hypot(ny - 1, nx - 1) / 2
    assert n >= max(4, det_count)
    assert center - shift - radius + n >= det_count - 1 + MARGIN
    assert center + shift + radius - n <= -MARGIN


@given(least=st.integers(1, 20000))
def test_fast_lengths_are_even_and_a_little_longer(least: int) -> None:
    n = fast_length(least)
    assert n % 2 == 0
    assert least <= n <= max(2, 1.15 * least + 2)
    assert is_smooth(n)
