"""What the networks share: convolutions in 2D or 3D, their first weights, and their layout."""

from __future__ import annotations

import torch
from torch import nn

from tomodask.errors import InputError


def conv(dims: int, come: int, go: int, size: int, dilation: int = 1) -> nn.Module:
    """A convolution that keeps the size: zeros beyond the border."""
    kind = nn.Conv2d if dims == 2 else nn.Conv3d
    return kind(come, go, size, padding=dilation * (size // 2), dilation=dilation)


def initialise(module: nn.Module, slope: float, last: nn.Module | None = None) -> None:
    """Weights that keep the variance through leaky ReLUs (He et al. 2015), no bias; `last` zeros.

    doi:10.1109/ICCV.2015.123. A network that begins with 0 predicts the mean, and no noise.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(layer.weight, a=slope)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    if isinstance(last, nn.Conv2d | nn.Conv3d):
        nn.init.zeros_(last.weight)


def to_fast_layout(module: nn.Module, dims: int) -> None:
    """Channels last, which oneDNN and cuDNN are quickest with."""
    if dims == 2:  # in 3D a plain layout is as quick, and has had fewer bugs
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def check_slices(slices: int, dims: int) -> None:
    """Raises InputError for slices that a network can't take."""
    if slices < 1 or slices % 2 == 0:
        raise InputError(f"slices={slices}: an odd number is expected, the middle one is denoised")
    if dims == 3 and slices != 1:
        raise InputError(f"slices={slices} with dims=3: a 3D network sees its neighbours anyway")
