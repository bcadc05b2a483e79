"""A model that is read gives what it gave; tiles are as large as memory allows."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomodask.errors import FormatError, MemoryBudgetError

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from tomodask.learn.apply import activation_bytes, choose_tile, load_applied  # noqa: E402
from tomodask.learn.model import model_card  # noqa: E402
from tomodask.learn.networks import make_network  # noqa: E402
from tomodask.learn.receptive_field import ReceptiveField  # noqa: E402
from tomodask.learn.tiles import BATCH_VOXELS, Tiling, halo_of  # noqa: E402

OF_FORMAT_1 = Path(__file__).parent / "models" / "v1"
FIELD = ReceptiveField((0, 13, 13), (1, 4, 4))
STATISTICS = ReceptiveField((0, 0, 0), (1, 4, 4), equivariant=False)


@pytest.fixture(autouse=True)
def threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_model_of_format_1_gives_what_it_gave():
    z, y, x = np.indices((4, 10, 12))
    volume = np.cos(z + 0.5 * y - 0.3 * x).astype(np.float32)
    result = load_applied(OF_FORMAT_1)(volume)
    then = json.loads((OF_FORMAT_1 / "expected.json").read_text())["output_at"]
    for place, value in then.items():
        # other processors sum in another order
        assert result[tuple(map(int, place.split(",")))] == pytest.approx(value, abs=1e-5)


def test_a_model_replaced_since_the_run_began_is_refused():
    digest = model_card(OF_FORMAT_1)["weights"]["sha256"]
    assert load_applied(OF_FORMAT_1, digest=digest).slices == 3
    with pytest.raises(FormatError, match="was replaced since the run began"):
        load_applied(OF_FORMAT_1, digest="0" * 64)


# ---- how much a network takes ------------------------------------------------------------------


class Buffered(nn.Module):
    """Writes into one buffer of 40 channels, as mixed-scale dense networks do."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x):
        buffer = x.new_empty((len(x), 40, *x.shape[2:]))
        for channel in range(40):
            buffer[:, channel : channel + 1] = self.conv(x)
        return buffer.mean(1, keepdim=True)


def test_activations_count_what_is_alive_at_once_not_all_that_was_made():
    """Thirty layers take no more than three; a buffer counts, and what the library copies."""
    few, many = (
        nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), *[nn.Conv2d(32, 32, 3, padding=1) for _ in range(n)]
        )
        for n in (2, 29)
    )
    assert activation_bytes(many, 1, 2) == activation_bytes(few, 1, 2)
    assert 4 * 96 <= activation_bytes(few, 1, 2) <= 4 * 120
    assert 4 * 41 <= activation_bytes(Buffered(), 1, 2) <= 4 * 100


def test_activations_grow_with_features_and_not_with_slices_seen():
    unet = {n: make_network({"unet": {"features": n}}) for n in (16, 32)}
    some, twice = (activation_bytes(unet[n], 1, 2) for n in (16, 32))
    assert 1.8 < twice / some <= 2.0
    five = activation_bytes(make_network({"unet": {"features": 16}}, 5), 5, 2)
    assert some <= five < 1.1 * some
    assert activation_bytes(make_network({"unet": {"features": 8, "dims": 3}}), 1, 3) > 4 * 8


# ---- the largest tile that fits ----------------------------------------------------------------


@given(
    memory=st.integers(0, 2**31),
    side=st.integers(16, 4096),
    rows=st.sampled_from([1, 1, 40]),
    bytes_a_voxel=st.floats(40, 3000),
)
def test_a_chosen_tile_fits_into_memory_and_keeps_something(memory, side, rows, bytes_a_voxel):
    try:
        tile = choose_tile(memory, (side, side), rows, bytes_a_voxel, FIELD)
    except MemoryBudgetError:
        least = min(2 * halo_of(FIELD) + 4, -(-side // 4) * 4)
        assert least**2 * rows * bytes_a_voxel > memory
        return
    if tile is None:
        together = max(side**2, BATCH_VOXELS if rows == 1 else 0)
        assert together * rows * bytes_a_voxel <= memory * (1 + 1e-6)
        return
    assert tile**2 * rows * bytes_a_voxel <= memory
    assert (tile + 4) ** 2 * rows * bytes_a_voxel > memory
    padded = -(-side // 4) * 4
    kept = [kept for _, kept in Tiling.within(padded, tile, halo_of(FIELD), 4).spans()]
    assert sum(high - low for low, high in kept) == padded


@pytest.mark.parametrize("memory", [-(2**30), 0, 36 * 36 * 100 - 1])
def test_memory_for_less_than_the_smallest_tile_is_told(memory):
    with pytest.raises(MemoryBudgetError, match=r"smallest tile, 36 x 36 .* sees 13 to either"):
        choose_tile(memory, (512, 512), 1, 100.0, FIELD)


def test_tiles_to_be_blended_are_never_so_small_that_statistics_mean_nothing():
    with pytest.raises(MemoryBudgetError, match="64 x 64"):
        choose_tile(60 * 60 * 100, (512, 512), 1, 100.0, STATISTICS)
    assert choose_tile(64 * 64 * 100, (512, 512), 1, 100.0, STATISTICS) == 64


def test_tiles_that_are_mostly_halo_are_told(caplog):
    assert choose_tile(40 * 40 * 100, (512, 512), 1, 100.0, FIELD) == 40
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"{(40 / 8) ** 2:.1f} times the work" in record.message
    caplog.clear()
    assert choose_tile(400 * 400 * 100, (512, 512), 1, 100.0, FIELD) == 400
    assert not caplog.records


def test_small_slices_that_fit_are_not_cut_though_fewer_go_together():
    assert choose_tile(200 * 200 * 100, (96, 96), 1, 100.0, FIELD) == 200
    assert choose_tile(BATCH_VOXELS * 100, (96, 96), 1, 100.0, FIELD) is None
