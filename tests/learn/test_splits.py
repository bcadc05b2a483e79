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
    period = 2 * np.pi if order == "full turn" else np.pi
    for some in split_views(angles, num_splits).views:
        direction = np.sort(np.mod(angles[some], period))
        gaps = np.diff(direction, append=direction[0] + period)
        assert gaps.max() < 2.01 * gaps.mean()  # of golden angles the gaps have two sizes


def test_rising_angles_are_dealt_in_turn():
    for k, some in enumerate(split_views(ORDERS["rising"], 4).views):
        np.testing.assert_array_equal(some, np.arange(k, 360, 4))


def test_blocks_keep_neighbours_in_time_together():
    views = split_views(ORDERS["shuffled"], 3, "blocks", 5).views
    np.testing.assert_array_equal(views[1][:10], [5, 6, 7, 8, 9, 20, 21, 22, 23, 24])


def test_half_turns_are_splits_of_a_full_turn():
    first, second = split_views(ORDERS["full turn"], 2, "half_turn").views
    np.testing.assert_array_equal(first, np.arange(180))
    np.testing.assert_array_equal(second, np.arange(180, 360))
    with pytest.raises(InputError, match="half turns need 360"):
        split_views(ORDERS["rising"], 2, "half_turn")


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
