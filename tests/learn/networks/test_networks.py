"""What every network promises, and what each is known to see."""

import numpy as np
import pytest
import torch
from torch import nn

from tomodask.errors import FormatError, InputError, RecipeError
from tomodask.learn.networks import NETWORKS, load_network, make_network
from tomodask.learn.networks.weights import from_arrays, to_arrays
from tomodask.learn.receptive_field import measure_receptive_field

SMALL = {
    "unet": {"features": 2, "depth": 2},
    "msdnet": {"depth": 6, "dilations": 3},
    "dncnn": {"depth": 4, "features": 4},
    "nano": {"features": 4},
}


def awake(module: nn.Module) -> nn.Module:
    """With no layer of zeros left, so that it computes something."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, 0.3, generator=generator)
    return module


def test_small_options_are_known_for_every_network():
    assert SMALL.keys() == NETWORKS.keys()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("slices", [1, 5])
def test_a_network_gives_the_middle_slice_of_the_same_size(name, slices):
    net = awake(make_network({name: SMALL[name]}, slices))
    assert net(torch.randn(3, slices, 24, 32)).shape == (3, 1, 24, 32)


@pytest.mark.parametrize("name", ["unet", "dncnn", "nano"])
def test_a_3d_network_gives_a_volume_of_the_same_size(name):
    net = awake(make_network({name: {**SMALL[name], "dims": 3}}))
    assert net(torch.randn(2, 1, 8, 12, 16)).shape == (2, 1, 8, 12, 16)


@pytest.mark.parametrize("name", NETWORKS)
def test_images_of_a_batch_know_nothing_of_each_other(name):
    """No statistics over a batch or an image: a tile is what the whole is."""
    net = awake(make_network({name: SMALL[name]})).eval()
    x = torch.randn(4, 1, 32, 32)
    changed = x.clone()
    changed[1:] += 100
    with torch.inference_mode():
        torch.testing.assert_close(net(x)[0], net(changed)[0])


@pytest.mark.parametrize("name", NETWORKS)
def test_every_weight_gets_a_gradient(name):
    net = awake(make_network({name: SMALL[name]}, 3))
    net(torch.randn(2, 3, 16, 16)).square().sum().backward()
    for label, parameter in net.named_parameters():
        assert parameter.grad is not None, label
        assert torch.isfinite(parameter.grad).all(), label
    assert sum(float(p.grad.abs().sum() > 0) for p in net.parameters()) > 1


@pytest.mark.parametrize("name", NETWORKS)
def test_even_slices_are_refused(name):
    with pytest.raises(InputError, match="odd number"):
        make_network({name: SMALL[name]}, 2)


@pytest.mark.parametrize(
    ("choice", "slices", "radius", "stride"),
    [
        # 2 x 2 convolutions at full size, and 2 at half: 4 + 2 * 2, one voxel more for the pooling
        ({"unet": {"features": 2, "depth": 1}}, 1, (0, 9, 9), (1, 2, 2)),
        ({"unet": {"features": 2, "depth": 3, "convs": 1}}, 3, (1, 29, 29), (1, 8, 8)),
        ({"unet": {"features": 2, "depth": 4, "convs": 1}}, 1, (0, 61, 61), (1, 16, 16)),
        ({"msdnet": {"depth": 6, "dilations": 3}}, 1, (0, 12, 12), (1, 1, 1)),
        ({"dncnn": {"depth": 17, "features": 4}}, 1, (0, 17, 17), (1, 1, 1)),
        ({"nano": {}}, 5, (2, 2, 2), (1, 1, 1)),
        ({"nano": {"dims": 3}}, 1, (2, 2, 2), (1, 1, 1)),
        ({"unet": {"features": 2, "depth": 1, "dims": 3}}, 1, (9, 9, 9), (2, 2, 2)),
    ],
)
def test_the_receptive_field_is_what_the_layers_add_up_to(choice, slices, radius, stride):
    ((_, parameters),) = choice.items()
    seen = measure_receptive_field(make_network(choice, slices), slices, parameters.get("dims", 2))
    assert seen.radius == radius
    assert seen.stride == stride
    assert seen.equivariant


def test_what_was_learnt_does_not_hide_what_a_network_sees():
    net = make_network({"dncnn": {"depth": 5, "features": 2}})
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    assert measure_receptive_field(net).radius == (0, 5, 5)


class Normed(nn.Module):
    """Takes statistics over all of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.InstanceNorm2d(4), nn.Conv2d(4, 1, 3, padding=1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def test_statistics_over_an_image_are_found_out():
    assert not measure_receptive_field(Normed()).equivariant


def test_the_buffer_of_a_dense_network_is_plain_concatenation():
    """Output and all gradients, against layers joined by torch.cat."""
    net = make_network({"msdnet": {"depth": 9, "dilations": 4, "width": 2}}, 3).double()
    awake(net)
    x = torch.randn(2, 3, 14, 15, dtype=torch.float64, requires_grad=True)

    def plain(x: torch.Tensor) -> torch.Tensor:
        for i, (kernel, dilation) in enumerate(zip(net.kernels, net.dilations, strict=True)):
            made = nn.functional.conv2d(
                x, kernel, net.biases[2 * i : 2 * i + 2], padding=dilation, dilation=dilation
            )
            x = torch.cat([x, made.relu()], dim=1)
        return net.last(x)

    inputs = [x, *net.parameters()]
    found = torch.autograd.grad(net(x).sin().sum(), inputs)
    expected = torch.autograd.grad(plain(x).sin().sum(), inputs)
    torch.testing.assert_close(net(x), plain(x), rtol=1e-12, atol=1e-12)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_a_dense_networks_published_size():
    """Pelt and Sethian's network for tomography: 45,652 parameters in 100 layers."""
    assert sum(p.numel() for p in make_network({"msdnet": {}}).parameters()) == 45652


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_go_out_and_in(name):
    net, other = awake(make_network({name: SMALL[name]})), make_network({name: SMALL[name]})
    arrays = to_arrays(net)
    assert all(array.flags.c_contiguous for array in arrays.values())
    from_arrays(other, arrays)
    x = torch.randn(1, 1, 16, 16)
    np.testing.assert_array_equal(net(x).detach().numpy(), other(x).detach().numpy())


def test_weights_of_another_size_are_refused_by_name():
    arrays = to_arrays(make_network({"nano": {"features": 4}}))
    with pytest.raises(FormatError, match="weights of another network: 'layers"):
        from_arrays(make_network({"nano": {"features": 8}}), arrays)


def test_an_unknown_network_is_refused_with_the_nearest():
    with pytest.raises(RecipeError, match="did you mean 'unet'"):
        load_network("u-net")


@pytest.mark.parametrize("parameters", [{"features": 0}, {"depth": 9}, {"dims": 4}, {"convs": 0}])
def test_options_out_of_range_are_refused(parameters):
    with pytest.raises(InputError):
        load_network("unet")(**parameters)
