"""Tiles give what the whole gives, wherever they are cut; what is missing stays where it is."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomodask.errors import InputError, MemoryBudgetError

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from tomodask.learn import tiles  # noqa: E402
from tomodask.learn.receptive_field import ReceptiveField  # noqa: E402
from tomodask.learn.tiles import TiledNetwork, Tiling  # noqa: E402

SHIFT, SCALE = 0.3, 0.7


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def plain(slices=1, dims=2):
    """Three convolutions: a radius of 3."""
    torch.manual_seed(1)
    conv = nn.Conv2d if dims == 2 else nn.Conv3d
    layers = [conv(slices, 6, 3, padding=1), nn.ReLU(), conv(6, 6, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, conv(6, 1, 3, padding=1))


class Pooled(nn.Module):
    """A U-Net of two halvings; it sees 13 voxels to either side at most, and has a stride of 4."""

    def __init__(self, dims=2):
        super().__init__()
        torch.manual_seed(2)
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        self.layers = nn.ModuleList(conv(n, 4, 3, padding=1) for n in (1, 4, 4, 8, 8))
        self.last = conv(4, 1, 1)
        self.pool = functional.avg_pool2d if dims == 2 else functional.avg_pool3d

    def forward(self, x):
        down, middle, bottom, up, top = self.layers
        a = torch.relu(down(x))
        b = torch.relu(middle(self.pool(a, 2)))
        c = torch.relu(bottom(self.pool(b, 2)))
        c = torch.relu(up(torch.cat((b, functional.interpolate(c, scale_factor=2)), 1)))
        return self.last(
            torch.relu(top(torch.cat((a, functional.interpolate(c, scale_factor=2)), 1)))
        )


class Normed(nn.Module):
    """Takes statistics over all of a slice."""

    def forward(self, x):
        return functional.instance_norm(x) + 0.1 * x.amax(dim=(-1, -2), keepdim=True)


PLAIN = ReceptiveField((0, 3, 3), (1, 1, 1))
PLAIN_3D = ReceptiveField((3, 3, 3), (1, 1, 1))
POOLED = ReceptiveField((0, 13, 13), (1, 4, 4))
POOLED_3D = ReceptiveField((13, 13, 13), (4, 4, 4))
NORMED = ReceptiveField((0, 0, 0), (1, 4, 4), equivariant=False)


def applied(module, field, **options):
    return TiledNetwork(module, field, shift=SHIFT, scale=SCALE, **options)


def whole(module, volume, slices=1, dims=2, stride=1):
    """The definition: normalised, padded, through the network at once, cropped, put back."""
    nz, ny, nx = volume.shape
    after = [(0, -n % stride) for n in volume.shape]
    if dims == 2:
        after[0] = (0, 0)
    x = np.pad((volume - np.float32(SHIFT)) / np.float32(SCALE), after)
    if dims == 2:
        near = np.arange(nz)[:, None] + np.arange(slices) - slices // 2
        x = x[np.clip(near, 0, nz - 1)]
    else:
        x = x[None, None]
    with torch.inference_mode():
        output = module(torch.from_numpy(x)).numpy()
    output = output[:, 0] if dims == 2 else output[0, 0]
    return output[:nz, :ny, :nx] * np.float32(SCALE) + np.float32(SHIFT)


def volume_of(rng, *shape):
    return rng.normal(0.5, 1, shape).astype(np.float32)


# ---- where tiles lie ---------------------------------------------------------------------------


@given(
    stride=st.sampled_from([1, 2, 4, 8]),
    length=st.integers(1, 60),
    halo=st.integers(0, 5),
    kept=st.integers(1, 12),
)
def test_tiles_keep_every_voxel_once_and_lie_on_the_networks_grid(stride, length, halo, kept):
    tiling = Tiling(length * stride, (2 * halo + kept) * stride, halo * stride, stride)
    owners = np.zeros(tiling.length, int)
    for (start, stop), (low, high) in tiling.spans():
        owners[low:high] += 1
        assert start % stride == 0
        assert stop - start == min(tiling.tile, tiling.length)
        assert start == 0 or low - start >= tiling.halo
        assert stop == tiling.length or stop - high >= tiling.halo
    assert (owners == 1).all()


@given(
    stride=st.sampled_from([1, 4]),
    length=st.integers(1, 60),
    halo=st.integers(0, 5),
    kept=st.integers(1, 12),
)
def test_tiles_within_a_size_are_as_few_as_of_that_size_and_none_could_be_smaller(
    stride, length, halo, kept
):
    length, most, halo = length * stride, (2 * halo + kept) * stride, halo * stride
    tiling = Tiling.within(length, most, halo, stride)
    number = len(list(tiling.spans()))
    assert tiling.tile <= most
    assert number == len(list(Tiling(length, most, halo, stride).spans()))
    if number > 1 and tiling.tile > 2 * halo + stride:
        smaller = Tiling(length, tiling.tile - stride, halo, stride)
        assert len(list(smaller.spans())) > number


@pytest.mark.parametrize(("length", "tile", "halo"), [(30, 24, 4), (32, 22, 4), (32, 24, 5)])
def test_tiles_off_the_networks_grid_are_refused(length, tile, halo):
    with pytest.raises(InputError, match="no multiple of the network's stride 4"):
        Tiling(length, tile, halo, 4)


def test_a_tile_that_is_all_halo_is_refused_but_not_where_the_slice_fits(rng):
    network = applied(plain(), PLAIN, tile=6)
    with pytest.raises(InputError, match=r"6 voxels is all halo, 3 at either end.*least 7"):
        network(volume_of(rng, 1, 7, 7))
    assert network(volume_of(rng, 1, 6, 6)).shape == (1, 6, 6)


# ---- equal to the whole ------------------------------------------------------------------------


@pytest.mark.parametrize("tile", [7, 8, 20, 40, None])
@pytest.mark.parametrize("slices", [1, 3, 5])
def test_convolutions_by_tiles_give_the_bits_of_whole_slices(rng, slices, tile):
    volume, module = volume_of(rng, 4, 37, 52), plain(slices)
    field = ReceptiveField((slices // 2, 3, 3), (1, 1, 1))
    network = applied(module, field, slices=slices, tile=tile)
    np.testing.assert_array_equal(network(volume), whole(module, volume, slices))


def test_a_slice_alone_has_the_bits_that_it_has_among_others(rng):
    volume, module = volume_of(rng, 4, 37, 52), plain()
    network = applied(module, PLAIN, tile=20)
    np.testing.assert_array_equal(network(volume[2:3])[0], whole(module, volume)[2])


@pytest.mark.parametrize("tile", [9, 16, None])
def test_3d_convolutions_by_tiles_give_the_whole(rng, tile):
    volume, module = volume_of(rng, 9, 21, 26), plain(dims=3)
    expected = whole(module, volume, dims=3)
    result = applied(module, PLAIN_3D, dims=3, tile=tile)(volume)
    assert np.abs(result - expected).max() <= 1e-5 * expected.std()


@pytest.mark.parametrize("tile", [36, 40, 64, None])
def test_a_network_with_strides_by_tiles_gives_the_whole(rng, tile):
    volume, module = volume_of(rng, 2, 81, 94), Pooled()
    expected = whole(module, volume, stride=4)
    result = applied(module, POOLED, tile=tile)(volume)
    assert np.abs(result - expected).max() <= 1e-5 * expected.std()


def test_off_its_grid_or_with_less_halo_the_same_network_differs(rng):
    """Both are needed: what the tests above compare can tell a wrong tile."""
    volume, module = volume_of(rng, 1, 96, 96), Pooled()
    expected = whole(module, volume, stride=4)
    off_grid = applied(module, ReceptiveField((0, 15, 15), (1, 1, 1)), tile=40)
    near = applied(module, ReceptiveField((0, 8, 8), (1, 4, 4)), tile=36)
    for network in (off_grid, near):
        assert np.abs(network(volume) - expected).max() > 1e-3 * expected.std()


@pytest.mark.parametrize(
    ("module", "field", "options", "stride"),
    [
        (plain(5), ReceptiveField((2, 3, 3), (1, 1, 1)), {"slices": 5}, 1),
        (plain(dims=3), PLAIN_3D, {"dims": 3}, 1),
        (Pooled(dims=3), POOLED_3D, {"dims": 3}, 4),
    ],
    ids=["2.5D", "3D", "3D with strides"],
)
def test_a_volume_by_blocks_of_rows_is_the_volume_at_once(rng, module, field, options, stride):
    volume = volume_of(rng, 43, 16, 12)
    expected = whole(module, volume, **options, stride=stride)
    network = applied(module, field, **options)
    for start in range(0, 43, 7):  # not a multiple of the stride
        stop = min(start + 7, 43)
        first, last = network.reach(start, stop, 43)
        part = network(volume[first:last], start - first, last - stop)
        assert np.abs(part - expected[start:stop]).max() <= 1e-5 * expected.std()


def test_rows_beyond_those_that_are_seen_change_nothing(rng):
    volume = volume_of(rng, 9, 12, 12)
    network = applied(plain(3), ReceptiveField((1, 3, 3), (1, 1, 1)), slices=3)
    np.testing.assert_array_equal(network(volume, 4, 3), network(volume[3:7], 1, 1))


# ---- what is missing ---------------------------------------------------------------------------


@pytest.mark.parametrize("lost", [np.nan, np.inf])
def test_what_is_missing_stays_missing_and_harms_no_neighbour(rng, lost):
    volume = volume_of(rng, 5, 20, 24)
    volume[2, 4:6, 7] = lost
    volume[4, 0, 0] = lost
    network = applied(plain(3), ReceptiveField((1, 3, 3), (1, 1, 1)), slices=3, tile=14)
    unknown = ~np.isfinite(volume)
    result = network(volume)
    np.testing.assert_array_equal(np.isnan(result), unknown)
    filled = np.where(unknown, np.float32(SHIFT), volume)
    np.testing.assert_array_equal(result[~unknown], network(filled)[~unknown])
    assert network.missing == 3


def test_missing_voxels_are_counted_where_they_are_asked_for_alone(rng):
    volume = volume_of(rng, 5, 8, 8)
    volume[1] = np.nan
    network = applied(plain(3), ReceptiveField((1, 3, 3), (1, 1, 1)), slices=3)
    assert np.isfinite(network(volume, 2, 0)).all()
    assert network.missing == 0
    assert np.isnan(network(volume, 1, 0)[0]).all()
    assert network.missing == 64


# ---- too little memory -------------------------------------------------------------------------


class Narrow(nn.Module):
    """A network for which more than `room` voxels at a time are too many."""

    def __init__(self, module, room, error):
        super().__init__()
        self.module, self.room, self.error = module, room, error
        self.given = []

    def forward(self, x):
        if x[:, :1].numel() > self.room:
            raise self.error
        self.given.append(tuple(x.shape))
        return self.module(x)


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("tried to allocate 2 GiB"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
def test_where_memory_runs_out_the_tile_is_halved_and_the_result_is_the_same(rng, caplog, error):
    volume, module = volume_of(rng, 2, 64, 96), plain()
    network = applied(Narrow(module, 2 * 32 * 32, error), PLAIN)
    np.testing.assert_array_equal(network(volume), whole(module, volume))
    assert network.tile == 32
    assert "no memory for tiles of" in caplog.text
    network.module.given.clear()
    network(volume)
    assert max(math.prod(shape) for shape in network.module.given) <= 2 * 32 * 32


def test_a_halved_tile_stays_on_the_networks_grid(rng):
    volume, module = volume_of(rng, 1, 100, 100), Pooled()
    network = applied(Narrow(module, 2 * 60 * 60, OUT_OF_MEMORY[0]), POOLED, tile=100)
    expected = whole(module, volume, stride=4)
    assert np.abs(network(volume) - expected).max() <= 1e-5 * expected.std()
    assert network.tile == 52  # half of 100 is not on the grid of 4


def test_small_slices_go_through_fewer_at_a_time_before_they_are_cut(rng):
    volume, module = volume_of(rng, 12, 32, 32), plain()
    network = applied(Narrow(module, 5 * 32 * 32, OUT_OF_MEMORY[0]), PLAIN)
    np.testing.assert_array_equal(network(volume), whole(module, volume))
    assert {shape[-2:] for shape in network.module.given} == {(32, 32)}
    assert max(shape[0] for shape in network.module.given) == 4


def test_where_not_even_the_smallest_tile_fits_it_is_said(rng):
    network = applied(Narrow(plain(), 5, OUT_OF_MEMORY[0]), PLAIN)
    with pytest.raises(MemoryBudgetError, match=r"tile of 8 x 8 voxels, and 7 are the least"):
        network(volume_of(rng, 1, 64, 64))


def test_other_errors_of_a_network_are_not_taken_for_memory(rng):
    network = applied(Narrow(plain(), 5, RuntimeError("shapes cannot be multiplied")), PLAIN)
    with pytest.raises(RuntimeError, match="multiplied"):
        network(volume_of(rng, 1, 64, 64))
    assert network.tile is None


# ---- networks with statistics over what they are given ----------------------------------------


@given(length=st.integers(1, 200), half=st.integers(1, 40), stride=st.sampled_from([1, 2, 4]))
def test_blended_tiles_are_alike_and_their_weights_add_up_to_one(length, half, stride):
    length, tile = length * stride, 2 * half * stride
    total = np.zeros(length)
    for (start, stop), weights in tiles._windows(length, tile, stride):
        assert start % stride == 0
        assert stop - start == min(tile, length) == len(weights)
        assert weights.min() > 0
        total[start:stop] += weights
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_statistics_over_a_slice_are_blended_said_and_exact_for_whole_slices(rng, caplog):
    volume = volume_of(rng, 3, 150, 130)
    by_tiles, at_once = applied(Normed(), NORMED, tile=64), applied(Normed(), NORMED)
    assert "tiles can't be exact" in caplog.text
    expected = whole(Normed(), volume, stride=4)
    np.testing.assert_allclose(at_once(volume), expected, atol=1e-5)
    differing = by_tiles(volume) - expected
    assert 1e-3 < differing.std() / expected.std() < 0.2


class Mean(nn.Module):
    """Nothing but a statistic: a tile is as grey as it is on average."""

    def forward(self, x):
        return x.mean((-1, -2), keepdim=True).expand_as(x)


def test_blended_tiles_have_no_seams():
    """From one tile's grey to the next in small steps, in the half that they share."""
    ramp = np.broadcast_to(np.linspace(0, 1, 200, dtype=np.float32), (1, 80, 200))
    result = applied(Mean(), NORMED, tile=64)(ramp)
    step = 32 / 200  # of the mean from one tile to the next
    assert np.diff(result, axis=2).max() < step / 8
    assert result[0, 0, -1] - result[0, 0, 0] > 0.6


def test_blended_rows_do_not_depend_on_which_are_asked_for(rng):
    volume = volume_of(rng, 5, 100, 90)
    network = applied(Normed(), NORMED, tile=64)
    at_once = network(volume)
    alone = np.concatenate([network(volume[:3], 0, 1), network(volume[2:])])
    np.testing.assert_array_equal(alone, at_once)


def test_blending_gives_back_what_a_network_leaves_as_it_is(rng):
    volume = volume_of(rng, 2, 130, 75)
    network = applied(nn.Identity(), NORMED, tile=64)
    np.testing.assert_allclose(network(volume), volume, atol=2e-6)


def test_a_3d_network_with_statistics_is_refused():
    with pytest.raises(InputError, match="can't be applied to a part of the rows"):
        applied(Normed(), NORMED, dims=3)


# ---- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan])
def test_a_scale_that_nothing_can_be_divided_by_is_refused(scale):
    with pytest.raises(InputError, match="more than 0 is expected"):
        TiledNetwork(plain(), PLAIN, scale=scale)


@pytest.mark.parametrize(("before", "after"), [(2, 1), (3, 0), (-1, 0), (0, 4)])
def test_rows_that_are_not_there_are_refused(rng, before, after):
    with pytest.raises(InputError, match="at least one row"):
        applied(plain(), PLAIN)(volume_of(rng, 3, 8, 8), before, after)


def test_a_network_that_changes_the_size_is_refused(rng):
    with pytest.raises(InputError, match=r"made \(2, 1, 6, 6\) of \(2, 1, 8, 8\)"):
        applied(nn.Conv2d(1, 1, 3), PLAIN)(volume_of(rng, 2, 8, 8))
