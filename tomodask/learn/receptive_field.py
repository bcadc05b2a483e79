"""How far a network sees, and by which shifts it commutes: measured, not read off its layers.

The gradient of one output voxel is not zero where the input matters. Its reach depends on the
voxel's place relative to the strides of a U-Net, so that all places within a stride are tried.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

LENGTHS = (128, 512, 2048)  # of the strips that are tried: longer ones where a network sees farther
MOST_STRIDE = 64
LEAST_WIDTH = 16
TOLERANCE = 1e-4  # of the output, in float32: what depends on a place differs by far more


@dataclass(frozen=True)
class ReceptiveField:
    """radius : (z, y, x) voxels that an output voxel sees to either side, at most.

    stride : (z, y, x) shifts, and their multiples, that the network commutes with.
    equivariant : whether there are such shifts, and an end to what it sees (within 1000 voxels);
        where not, tiles can't be exact.
    """

    radius: tuple[int, int, int]
    stride: tuple[int, int, int]
    equivariant: bool = True


def measure_receptive_field(module: nn.Module, slices: int = 1, dims: int = 2) -> ReceptiveField:
    """By shifts and by gradients, of a copy of the network whose weights are random.

    Weights that were learnt, or zeros that a training begins with, could hide what is connected.
    """
    # positive: nothing cancels, and no ReLU is silent
    positive = _with_weights(module, lambda w, rng: w.uniform_(0.5, 1, generator=rng).div_(_fan(w)))
    # of both signs: details get through all layers, and so does what depends on a place
    signed = _with_weights(module, lambda w, rng: w.normal_(0, _fan(w) ** -0.5, generator=rng))
    signed.float()  # much quicker; positive products of many layers need float64
    for length in LENGTHS:
        stride = _stride(signed, slices, dims, length)
        radius = None if stride is None else _radius(positive, slices, dims, stride, length)
        if stride is not None and radius is not None:
            if dims == 3:
                return ReceptiveField((radius,) * 3, (stride,) * 3)
            return ReceptiveField((slices // 2, radius, radius), (1, stride, stride))
    return ReceptiveField((slices // 2, 0, 0), (1, 1, 1), equivariant=False)


def _with_weights(
    module: nn.Module, fill: Callable[[torch.Tensor, torch.Generator], torch.Tensor]
) -> nn.Module:
    """A copy in float64, its weights filled, its biases and factors small and positive."""
    probe = copy.deepcopy(module).double().cpu().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in probe.parameters():
            if parameter.ndim > 1:
                fill(parameter, generator)
            else:
                parameter.uniform_(0.1, 0.2, generator=generator)
    return probe


def _fan(weight: torch.Tensor) -> int:
    """Values that each output of a layer is a sum of."""
    return weight[0].numel()


def _stride(module: nn.Module, slices: int, dims: int, length: int) -> int | None:
    """The smallest power of two by which a shift of the input shifts the middle of the output."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.rand(_strip(slices, dims, 2 * length, MOST_STRIDE), generator=generator)
    near = slice(length // 2 - 4, length // 2 + 4)
    with torch.inference_mode():
        still = module(noise[..., :length, :])
        stride = 1
        while stride <= min(MOST_STRIDE, length // 4):
            moved = module(noise[..., stride : stride + length, :])
            here = still[..., near.start + stride : near.stop + stride, :]
            if float((here - moved[..., near, :]).abs().max()) <= TOLERANCE * float(
                here.abs().max()
            ):
                return stride
            stride *= 2
    return None


def _radius(module: nn.Module, slices: int, dims: int, stride: int, length: int) -> int | None:
    """The longest reach of the gradient of one voxel over all places within a stride.

    None where it touches the ends of the strip. Along y alone: networks are alike along all axes.
    """
    generator = torch.Generator().manual_seed(2)
    width = max(LEAST_WIDTH, 2 * stride)
    shape = _strip(slices, dims, length, width)
    x = torch.rand(shape, generator=generator, dtype=torch.float64).requires_grad_()
    reach = 0
    for place in range(length // 2, length // 2 + stride):
        (gradient,) = torch.autograd.grad(module(x)[..., place, x.shape[-1] // 2].sum(), x)
        touched = gradient.abs().amax(dim=tuple(i for i in range(x.ndim) if i != x.ndim - 2))
        rows = torch.nonzero(touched > 0).flatten()
        reach = max(reach, place - int(rows[0]), int(rows[-1]) - place)
    return reach if reach < length // 2 - stride else None


def _strip(slices: int, dims: int, length: int, width: int) -> tuple[int, ...]:
    """Long along y, narrow along the others, whose borders are the same wherever it is cut."""
    narrow = LEAST_WIDTH if dims == 3 else width
    return (1, 1, narrow, length, narrow) if dims == 3 else (1, slices, length, width)
