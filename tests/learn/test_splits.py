"""Which view belongs to which split, for all the orders in which views come."""

import numpy as np
import pytest

from tomodask.errors import InputError
from tomodask.learn.splits import choose_num_splits, split_views

ORDERS = {
    "rising": np.arange(360) * np.pi / 360,
    "falling": -np.arange(360) * np.pi / 360,
    "full turn": np.arange(360) * 2 * np.pi / 360,
    "golden angle": np.arange(377) * np.pi * (np.sqrt(5) - 1) / 2,
    "shuffled": np.random.default_rng(0).permutation(360) * np.pi / 360,
    "jittered": (np.arange(360) + np.random.default_rng(1).uniform(-0.3, 0.3, 360)) * np.pi / 360,
    "full turn, both ends": np.linspace(0, 2 * np.pi, 361),
    "two turns": np.arange(720) * 4 * np.pi / 720,
    "odd full turn": np.arange(361) * 2 * np.pi / 361,
    "half turn, both ends": np.linspace(0, np.pi, 361),
    "golden, longer": np.arange(1000) * np.pi * (np.sqrt(5) - 1) / 2,
    "far away": 100 + np.arange(360) * np.pi / 360,
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("num_splits", [2, 3, 4, 8])
@pytest.mark.parametrize("kind", ["interleaved", "blocks"])
def test_every_view_is_in_one_split(order, num_splits, kind):
    splits = split_views(ORDERS[order], num_splits, kind, 3)
    together = np.sort(np.concatenate(splits.views))
    np.testing.assert_array_equal(together, np.arange(len(ORDERS[order])))
    assert all(np.all(np.diff(some) > 0) for some in splits.views)
    assert splits.num_splits == num_splits


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("num_splits", [2, 3, 4, 8])
def test_interleaved_splits_see_the_object_from_all_around(order, num_splits):
    angles = ORDERS[order]
    for some in split_views(angles, num_splits).views:
        # of golden angles the gaps have two sizes, of directions seen twice one is 0
        assert widest_gap(angles[some], np.pi) < 2.02 * np.pi * num_splits / len(angles)
        if "turn" in order and "half" not in order:  # an axis at the edge needs both sides
            assert widest_gap(angles[some], 2 * np.pi) < 4.04 * np.pi * num_splits / len(angles)


def widest_gap(angles: np.ndarray, period: float) -> float:
    direction = np.sort(np.mod(angles, period))
    return float(np.diff(direction, append=direction[0] + period).max())


@pytest.mark.parametrize("num_splits", [2, 4])
@pytest.mark.parametrize("num_angles", [240, 400])
def test_splits_of_a_full_turn_see_twice_the_directions_of_views_dealt_as_they_come(
    num_splits, num_angles
):
    angles = np.arange(num_angles) * 2 * np.pi / num_angles
    for some in split_views(angles, num_splits).views:
        assert widest_gap(angles[some], np.pi) == pytest.approx(np.pi * num_splits / num_angles)
        front = np.count_nonzero(angles[some] < np.pi)
        assert 0.4 < front / len(some) < 0.6


@pytest.mark.parametrize("order", ["rising", "half turn, both ends", "far away"])
@pytest.mark.parametrize("num_splits", [2, 3, 4, 8])
def test_rising_angles_are_dealt_in_turn(order, num_splits):
    angles = ORDERS[order]
    for k, some in enumerate(split_views(angles, num_splits).views):
        np.testing.assert_array_equal(some, np.arange(k, len(angles), num_splits))


def test_blocks_keep_neighbours_in_time_together():
    views = split_views(ORDERS["shuffled"], 3, "blocks", 5).views
    np.testing.assert_array_equal(views[1][:10], [5, 6, 7, 8, 9, 20, 21, 22, 23, 24])


def test_half_turns_are_splits_of_a_full_turn():
    first, second = split_views(ORDERS["full turn"], 2, "half_turn").views
    np.testing.assert_array_equal(first, np.arange(180))
    np.testing.assert_array_equal(second, np.arange(180, 360))
    with pytest.raises(InputError, match="half turns need 360"):
        split_views(ORDERS["rising"], 2, "half_turn")


def test_half_turns_of_angles_told_modulo_a_turn_are_found():
    angles = np.mod(np.arange(720) * 4 * np.pi / 720, 2 * np.pi)
    first, second = split_views(angles, 2, "half_turn").views
    np.testing.assert_array_equal(first, np.r_[0:180, 360:540])
    np.testing.assert_array_equal(second, np.r_[180:360, 540:720])


def test_golden_angles_make_no_half_turns():
    with pytest.raises(InputError, match=r"111 degrees apart.*take kind interleaved"):
        split_views(ORDERS["golden angle"], 2, "half_turn")


def test_a_split_of_a_few_views_of_a_last_block_is_refused():
    with pytest.raises(InputError, match=r"leave 4 views to one.*kind interleaved"):
        split_views(np.arange(64) * 0.04, 4, "blocks", 20)


def test_thinned_photons_keep_all_views():
    assert all(len(some) == 360 for some in split_views(ORDERS["rising"], 4, "thinning").views)


@pytest.mark.parametrize(("views", "num_splits"), [(30, 4), (6, 8), (15, 2)])
def test_more_splits_than_the_views_bear_are_refused(views, num_splits):
    with pytest.raises(InputError, match=rf"{views} views in {num_splits} splits.*fewer splits"):
        split_views(np.arange(views) * 0.1, num_splits)


def test_blocks_too_large_to_fill_all_splits_are_refused():
    with pytest.raises(InputError, match="take smaller blocks"):
        split_views(np.arange(40) * 0.05, 4, "blocks", 20)


@pytest.mark.parametrize(
    ("num_angles", "det_count", "expected"),
    [(1024, 256, 4), (1500, 512, 3), (1800, 2048, 2), (91, 160, 2), (530, 627, 2)],
)
def test_few_views_make_few_splits(num_angles, det_count, expected):
    num_splits, why = choose_num_splits(num_angles, det_count)
    assert num_splits == expected
    assert str(num_angles) in why or str(num_angles // 4) in why
