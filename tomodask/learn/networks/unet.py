"""U-Net: features at several scales, joined again from coarse to fine.

After Ronneberger, Fischer and Brox 2015, doi:10.1007/978-3-319-24574-4_28, with what suits tiles
and noise: convolutions keep the size, nothing is normalised by statistics of an image (which would
make a tile differ from the whole), means go down and nearest neighbours come up.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tomodask.errors import InputError
from tomodask.learn.networks.layers import check_slices, conv, initialise, to_fast_layout

SLOPE = 0.1  # of the leaky ReLU below 0


@dataclass(frozen=True)
class UNet:
    """A U-Net of `depth` halvings; its options.

    features : at full size; twice as many at each halving. 16 features and depth 3 have 0.45
        million parameters in 2D.
    convs : convolutions of each scale, down and up.
    dims : 2 (slices, with neighbours as channels) or 3.
    """

    features: int = 16
    depth: int = 3
    convs: int = 2
    dims: int = 2

    def __post_init__(self) -> None:
        for name, least, most in (("features", 1, 256), ("depth", 1, 6), ("convs", 1, 4)):
            if not least <= getattr(self, name) <= most:
                raise InputError(f"{name}={getattr(self, name)}: {least} to {most} are expected")
        if self.dims not in (2, 3):
            raise InputError(f"dims={self.dims}: 2 or 3 are expected")

    def build(self, slices: int = 1) -> nn.Module:
        """A module with random weights; sides of what it is given are multiples of 2**depth."""
        check_slices(slices, self.dims)
        return UNetModule(self, slices)


class UNetModule(nn.Module):
    """Gives the middle slice of what it is given, denoised.

    The last layer begins with zeros, and the input is added with a factor, `kept`, that is learnt:
    a training begins with the share of the input that is no noise. What is mostly noise is better
    forgotten than corrected.
    """

    def __init__(self, options: UNet, slices: int) -> None:
        super().__init__()
        dims, convs = options.dims, options.convs
        widths = [options.features * 2**level for level in range(options.depth + 1)]
        inputs = [1 if dims == 3 else slices, *widths[:-1]]
        self.down = nn.ModuleList(
            _Convs(dims, come, go, convs) for come, go in zip(inputs, widths, strict=True)
        )
        coarse_to_fine = list(pairwise(widths))[::-1]
        self.narrow = nn.ModuleList(conv(dims, wide, fine, 1) for fine, wide in coarse_to_fine)
        self.up = nn.ModuleList(_Convs(dims, 2 * fine, fine, convs) for fine, _ in coarse_to_fine)
        self.last = conv(dims, widths[0], 1, 1)
        self.kept = nn.Parameter(torch.zeros(()))
        self.pool: Any = functional.avg_pool2d if dims == 2 else functional.avg_pool3d
        initialise(self, SLOPE, self.last)
        to_fast_layout(self, dims)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, slices, y, x) or (batch, 1, z, y, x) -> one channel of the same size."""
        middle = x[:, x.shape[1] // 2 : x.shape[1] // 2 + 1]
        passed = []
        for level, convs in enumerate(self.down):
            x = convs(x if level == 0 else self.pool(x, 2))
            passed.append(x)
        x = passed.pop()
        for narrow, convs in zip(self.narrow, self.up, strict=True):
            # narrowed while it is small: the same as after the enlargement, and four times quicker
            x = functional.interpolate(narrow(x), scale_factor=2, mode="nearest")
            x = convs(torch.cat((passed.pop(), x), dim=1))
        output: Tensor = self.last(x) + self.kept * middle
        return output


class _Convs(nn.Sequential):
    """Convolutions over 3 voxels, each followed by a leaky ReLU."""

    def __init__(self, dims: int, come: int, go: int, count: int) -> None:
        layers: list[nn.Module] = []
        for number in range(count):
            layers += [conv(dims, come if number == 0 else go, go, 3)]
            layers += [nn.LeakyReLU(SLOPE, inplace=True)]
        super().__init__(*layers)
