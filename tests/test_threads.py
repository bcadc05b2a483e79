import threading

import pytest

from tomodask.threads import share


@pytest.mark.parametrize("count", [0, 1, 2, 50])
@pytest.mark.parametrize("threads", [1, 2, 7])
def test_each_part_is_done_once(count: int, threads: int) -> None:
    done: list[int] = []
    share(done.append, count, threads)
    assert sorted(done) == list(range(count))


def test_one_thread_is_the_callers_and_keeps_the_order() -> None:
    seen: list[tuple[int, int]] = []
    share(lambda i: seen.append((i, threading.get_ident())), 5, threads=1)
    assert seen == [(i, threading.get_ident()) for i in range(5)]


def test_parts_run_beside_each_other() -> None:
    meeting = threading.Barrier(3, timeout=30)  # passed only when three threads wait at once
    share(lambda i: meeting.wait() and None, 3, threads=3)


def test_a_slow_part_does_not_hold_up_the_others() -> None:
    others_done = threading.Event()
    done: list[int] = []

    def work(i: int) -> None:
        if i == 0:
            assert others_done.wait(30)
        else:
            done.append(i)
            if len(done) == 9:
                others_done.set()

    share(work, 10, threads=2)
    assert sorted(done) == list(range(1, 10))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("bad", [0, 5])
def test_what_a_part_raises_is_raised_and_ends_the_work(threads: int, bad: int) -> None:
    begun: list[int] = []

    def work(i: int) -> None:
        begun.append(i)
        if i == bad:
            raise ValueError(f"part {i}")

    with pytest.raises(ValueError, match=f"part {bad}"):
        share(work, 100_000, threads)
    assert len(begun) < 100_000
