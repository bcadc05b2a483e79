"""Patches as laws: a pure function of seed and step, whatever is in memory and whoever asks."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from tomodask.errors import MemoryBudgetError
from tomodask.learn import patches as module
from tomodask.learn.patches import Batches, Patches, PatchShape, held_out_batches


@pytest.fixture
def patches(splits) -> Patches:
    return Patches(splits, splits.training, PatchShape(32), 5, "X:1", 30.0, 7, 2**30)


def taken(patches: Patches, start: int, count: int) -> list[np.ndarray]:
    with Batches(patches, start) as batches:
        return [batch.inputs for batch in islice(batches, count)]


def test_a_step_has_the_same_patches_for_who_begins_there(patches):
    whole, resumed = taken(patches, 0, 6), taken(patches, 3, 3)
    np.testing.assert_array_equal(whole[3:], resumed)
    assert not np.array_equal(whole[0], whole[1])


def test_another_seed_has_other_patches(patches):
    assert not np.array_equal(taken(patches, 0, 1), taken(replace(patches, seed=8), 0, 1))


def test_the_input_is_the_mean_of_the_splits_that_are_not_the_target(splits, patches):
    blocks = np.stack([splits.split(k).read() for k in range(splits.num_splits)])
    with Batches(patches) as batches:
        batch = next(iter(batches))
    four_splits = 4 * splits.full.read()
    for x, y in zip(batch.inputs[:, 0], batch.targets[:, 0], strict=True):
        # 3 x + y is the sum of all four, at some place and turned somehow
        total = np.sort((3 * x + y).ravel())
        assert found_in(total, four_splits)
        assert found_in(np.sort(y.ravel()), *blocks)


def found_in(values: np.ndarray, *volumes: np.ndarray) -> bool:
    """Whether some patch of 32 x 32 holds these values, in any order."""
    for volume in volumes:
        windows = np.lib.stride_tricks.sliding_window_view(volume, (1, 32, 32))
        sums = windows.sum(axis=(-1, -2, -3))
        for place in np.argwhere(np.abs(sums - values.sum()) < 1e-2):
            if np.allclose(np.sort(windows[tuple(place)].ravel()), values, atol=1e-5):
                return True
    return False


def test_nothing_held_out_is_learnt_from(splits, patches):
    start, stop = splits.held_out[0]
    held_out = [splits.split(k).read(0, z=slice(start, stop)) for k in range(splits.num_splits)]
    targets = next(iter(Batches(patches))).targets[:, 0]
    assert not any(found_in(np.sort(target.ravel()), *held_out) for target in targets)


def test_every_block_comes_once_before_any_comes_again(patches, monkeypatch):
    few = small_blocks(patches, monkeypatch)
    total = len(few.regions)
    assert few.window < total
    for first in (0, total, 5 * total):
        blocks = [few.block(number) for number in range(first, first + total)]
        assert sorted(blocks, key=str) == sorted(few.regions, key=str)


def test_a_window_over_the_blocks_draws_from_what_it_holds_alone(patches, monkeypatch):
    few = small_blocks(patches, monkeypatch)
    read = []
    original = module.read_block
    monkeypatch.setattr(
        module, "read_block", lambda store, region: read.append(region) or original(store, region)
    )
    steps = 3 * module.STEPS_A_BLOCK
    assert len(taken(few, 0, steps)) == steps
    # the window, the block ahead, and one more for each time that it moved; one step is cut ahead
    assert len(read) <= few.window + 1 + steps // module.STEPS_A_BLOCK + 1


def small_blocks(patches: Patches, monkeypatch) -> Patches:
    """Blocks of one slab and a quarter of a slice, of which two and the one ahead fit."""
    monkeypatch.setattr(module, "BLOCK_SIDE", 40)
    monkeypatch.setattr(module, "INNER", 32)
    monkeypatch.setattr(Patches, "_most", lambda self, length: 32)
    return replace(patches, memory=3 * 4 * 4 * 8 * 32 * 32)


def test_memory_for_less_than_two_blocks_is_refused_with_its_size(patches, monkeypatch):
    few = small_blocks(patches, monkeypatch)
    with pytest.raises(MemoryBudgetError, match="give the worker more memory"):
        _ = replace(few, memory=1000).window


def test_neighbours_are_the_rows_around_the_target(splits, patches):
    three = replace(patches, shape=PatchShape(32, slices=3), strategy="1:X", count=8)
    batch = next(iter(Batches(three)))
    assert batch.inputs.shape == (8, 3, 32, 32)
    for x in batch.inputs:
        middle = np.sort(x[1].ravel())
        volumes = [splits.split(k).read() for k in range(4)]
        assert found_in(middle, *volumes)
        assert not np.array_equal(x[0], x[1])


def test_3d_patches_have_rows(patches):
    batch = next(iter(Batches(replace(patches, shape=PatchShape(16, depth=8)))))
    assert batch.inputs.shape == batch.targets.shape == batch.inside.shape == (5, 1, 8, 16, 16)


def test_what_is_missing_teaches_nothing(truth, tmp_path):
    from tests.learn.conftest import make_store

    noisy = np.repeat(truth[None], 4, axis=0).astype(np.float32)
    noisy[2, 0:2] = np.nan
    store = make_store(tmp_path / "s", noisy)
    patches = Patches(store, [(0, 8)], PatchShape(64), 40, "X:1", 32.0, 0, 2**30)
    batch = next(iter(Batches(patches)))
    assert np.isfinite(batch.inputs).all()
    assert np.isfinite(batch.targets).all()
    silent = batch.inside.sum(axis=(1, 2, 3)) == 0
    assert 0 < silent.sum() < 40  # rows 0 and 1 of 8


def test_held_out_patches_are_the_same_each_time_and_all_pairs(splits, patches):
    held_out = replace(patches, slabs=splits.held_out)
    once, again = (list(held_out_batches(held_out, 10**9)) for _ in range(2))
    assert len(once) == len(again) > 4
    for a, b in zip(once, again, strict=True):
        np.testing.assert_array_equal(a.targets, b.targets)
        assert len(a.targets) == splits.num_splits
    assert len(list(held_out_batches(held_out, 4 * 4 * 32 * 32))) == 4
