"""Large arrays reuse memory, and never memory that another array still sees."""

from tomodask import arrays


def test_memory_that_an_array_and_its_views_have_left_is_used_again():
    arrays.forget()
    first = arrays.empty((4, 512, 512))
    first[:] = 1
    place, view = first.ctypes.data, first[2:].swapaxes(0, 1)
    del first
    other = arrays.empty((4, 512, 512))
    assert other.ctypes.data != place  # the view still needs it
    assert (view == 1).all()
    del view
    again = arrays.empty((4, 500, 512))
    assert again.ctypes.data == place
    assert again.flags.c_contiguous
    assert again.flags.writeable
    assert again.dtype == "f4"


def test_an_array_much_smaller_than_what_is_free_leaves_it_to_others():
    arrays.forget()
    place = arrays.empty((8, 512, 512)).ctypes.data
    small = arrays.empty((4, 512, 512))
    assert small.ctypes.data != place
    assert arrays.empty((8, 512, 512)).ctypes.data == place


def test_memory_that_nobody_asked_for_in_a_while_goes_back():
    arrays.forget()
    arrays.empty((64, 512, 512))
    for _ in range(arrays.FORGET_AFTER + 1):
        arrays.empty((4, 512, 512))
    sizes = [len(piece) for piece, _ in arrays._POOL._free]
    assert sizes == [4 * 4 * 512 * 512]
