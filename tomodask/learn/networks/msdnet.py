"""Mixed-scale dense network: every layer sees all before it, at dilations instead of scales.

Pelt and Sethian 2018, doi:10.1073/pnas.1715832114. Few parameters, so that little data teaches it,
but each voxel passes through `depth` layers at full size: slow beside a U-Net of equal quality. All
layers write into one buffer, and the backward pass is written out over it, so that memory grows
with the depth and not with its square.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv2d_weight

from tomodask.errors import InputError
from tomodask.learn.networks.layers import check_slices


@dataclass(frozen=True)
class MSDNet:
    """A mixed-scale dense network; its options, by default as published for tomography.

    depth : layers. width : channels that each adds. dilations : 1, 2, ... up to this, in turn.
    100 layers have 46 thousand parameters, and see 550 voxels far.
    """

    depth: int = 100
    width: int = 1
    dilations: int = 10
    dims: int = 2

    def __post_init__(self) -> None:
        for name, most in (("depth", 400), ("width", 16), ("dilations", 64)):
            if not 1 <= getattr(self, name) <= most:
                raise InputError(f"{name}={getattr(self, name)}: 1 to {most} are expected")
        if self.dims != 2:
            raise InputError(f"dims={self.dims}: a mixed-scale dense network is 2D here, take unet")

    def build(self, slices: int = 1) -> nn.Module:
        """A module with random weights."""
        check_slices(slices, self.dims)
        return MSDModule(self, slices)


class MSDModule(nn.Module):
    """Gives the middle slice of what it is given, denoised; its last layer begins with zeros."""

    def __init__(self, options: MSDNet, slices: int) -> None:
        super().__init__()
        self.slices, self.width = slices, options.width
        self.dilations = [1 + i % options.dilations for i in range(options.depth)]
        channels = slices + options.width * options.depth
        self.kernels = nn.ParameterList(
            nn.Parameter(torch.empty(options.width, slices + i * options.width, 3, 3))
            for i in range(options.depth)
        )
        self.biases = nn.Parameter(torch.zeros(options.depth * options.width))
        self.last = nn.Conv2d(channels, 1, 1)
        for kernel in self.kernels:  # Pelt and Sethian: by all that the network adds up
            nn.init.normal_(kernel, 0, (2 / (9 * (channels - slices) + slices)) ** 0.5)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(batch, slices, y, x) -> (batch, 1, y, x)."""
        features: Tensor = _DenseLayers.apply(x, self.biases, self.dilations, *self.kernels)  # type: ignore[no-untyped-call]
        output: Tensor = self.last(features)
        return output


class _DenseLayers(torch.autograd.Function):
    """All layers in one buffer (batch, slices + depth * width, y, x), the input its first part."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, biases: Tensor, dilations: list[int], *kernels: Tensor
    ) -> Tensor:
        width, dtype = len(kernels[0]), _working_type(x)
        channels = x.shape[1] + width * len(kernels)
        buffer = x.new_empty((x.shape[0], channels, *x.shape[2:]), dtype=dtype)
        buffer[:, : x.shape[1]] = x
        for i, (kernel, dilation) in enumerate(zip(kernels, dilations, strict=True)):
            seen = kernel.shape[1]
            bias = biases[i * width : (i + 1) * width].to(dtype)
            made = functional.conv2d(
                buffer[:, :seen], kernel.to(dtype), bias, padding=dilation, dilation=dilation
            )
            buffer[:, seen : seen + width] = made.relu_()
        ctx.dilations = dilations
        ctx.save_for_backward(buffer, *kernels)
        return buffer

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        buffer, *kernels = ctx.saved_tensors
        gradient = gradients[0].contiguous().clone()
        of_kernels: list[Tensor] = []
        of_biases: list[Tensor] = []
        for kernel, dilation in zip(reversed(kernels), reversed(ctx.dilations), strict=True):
            width, seen = kernel.shape[:2]
            own = gradient[:, seen : seen + width] * (buffer[:, seen : seen + width] > 0)
            weights = kernel.to(own.dtype)
            of_biases.append(own.sum(dim=(0, 2, 3)).to(kernel.dtype))
            of_kernels.append(
                conv2d_weight(  # type: ignore[no-untyped-call]
                    buffer[:, :seen], weights.shape, own, padding=dilation, dilation=dilation
                ).to(kernel.dtype)
            )
            gradient[:, :seen] += functional.conv_transpose2d(
                own, weights, padding=dilation, dilation=dilation
            )
        slices = kernels[0].shape[1]
        biases = torch.cat(of_biases[::-1])
        return gradient[:, :slices], biases, None, *of_kernels[::-1]


def _working_type(x: Tensor) -> torch.dtype:
    """What autocast asks for: it does not reach into a function of one's own."""
    if torch.is_autocast_enabled(x.device.type):
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype
