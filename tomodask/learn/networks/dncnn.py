"""DnCNN: a plain stack of convolutions that predicts the noise.

Zhang et al. 2017, doi:10.1109/TIP.2017.2662206, without batch normalisation, whose statistics
differ between training and tiles.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tomodask.errors import InputError
from tomodask.learn.networks.layers import check_slices, conv, initialise, to_fast_layout


@dataclass(frozen=True)
class DnCNN:
    """`depth` convolutions of `features` channels; its options.

    17 layers of 64 features have 0.56 million parameters and 560 thousand multiplications a voxel,
    and see 17 voxels far.
    """

    depth: int = 17
    features: int = 64
    dims: int = 2

    def __post_init__(self) -> None:
        for name, least, most in (("depth", 3, 64), ("features", 1, 256)):
            if not least <= getattr(self, name) <= most:
                raise InputError(f"{name}={getattr(self, name)}: {least} to {most} are expected")
        if self.dims not in (2, 3):
            raise InputError(f"dims={self.dims}: 2 or 3 are expected")

    def build(self, slices: int = 1) -> nn.Module:
        """A module with random weights."""
        check_slices(slices, self.dims)
        return Stack(self.dims, slices, [self.features] * (self.depth - 1), [3] * self.depth)


class Stack(nn.Module):
    """Convolutions one after the other, ReLUs between them, and a part of the middle slice.

    The last one begins with zeros, `kept` with the share of the input that is no noise (`UNet`).
    """

    def __init__(self, dims: int, slices: int, widths: list[int], sizes: list[int]) -> None:
        super().__init__()
        come = [1 if dims == 3 else slices, *widths]
        layers: list[nn.Module] = []
        for number, (inputs, size) in enumerate(zip(come, sizes, strict=True)):
            if number:
                layers.append(nn.ReLU(inplace=True))
            layers.append(conv(dims, inputs, [*widths, 1][number], size))
        self.layers = nn.Sequential(*layers)
        self.kept = nn.Parameter(torch.zeros(()))
        initialise(self, 0.0, layers[-1])
        to_fast_layout(self, dims)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, slices, y, x) or (batch, 1, z, y, x) -> one channel of the same size."""
        middle = x[:, x.shape[1] // 2 : x.shape[1] // 2 + 1]
        output: Tensor = self.kept * middle + self.layers(x)
        return output
