"""How far a network sees, and by which shifts it commutes: measured, not read off its layers.

The gradient of one output voxel is not zero where the input matters. Its reach depends on the
voxel's place relative to the strides of a U-Net, so that all places within a stride are tried.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

FIRST_SIZE = 64
LARGEST_SIZE = 2048
MOST_STRIDE = 64
TOLERANCE = 1e-9  # of the output: float64 rounds at 1e-16


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
    """By gradients in float64, of a copy of the network whose weights are random.

    Weights that were learnt, or zeros that a training begins with, could hide what is connected.
    """
    probe = copy.deepcopy(module).double().cpu().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in probe.parameters():
            # positive: nothing cancels, and no ReLU is silent
            parameter.uniform_(0.5, 1.0, generator=generator)
            if parameter.ndim > 1:
                parameter.div_(parameter[0].numel())
    stride = _stride(probe, slices, dims)
    if stride is None:
        return ReceptiveField((slices // 2, 0, 0), (1, 1, 1), equivariant=False)
    radius = _radius(probe, slices, dims, stride)
    if radius is None:
        return ReceptiveField((slices // 2, 0, 0), (1, 1, 1), equivariant=False)
    if dims == 3:
        return ReceptiveField((radius,) * 3, (stride,) * 3)
    return ReceptiveField((slices // 2, radius, radius), (1, stride, stride))


def _stride(module: nn.Module, slices: int, dims: int) -> int | None:
    """The smallest power of two by which a shift of the input shifts the output's middle."""
    generator = torch.Generator().manual_seed(1)
    size = 2 * MOST_STRIDE if dims == 3 else 4 * MOST_STRIDE
    seen = size // 8  # an object in the middle, so that both inputs are whole
    blob = torch.rand(_shape(slices, dims, seen, size), generator=generator, dtype=torch.float64)
    stride = 1
    with torch.inference_mode():
        still = module(_placed(blob, size, dims, 0))
        while stride <= MOST_STRIDE // (4 if dims == 3 else 2):
            moved = module(_placed(blob, size, dims, stride))
            middle = slice(size // 4, 3 * size // 4)
            here = still[..., middle, middle]
            there = moved[..., slice(middle.start + stride, middle.stop + stride), middle]
            if float((here - there).abs().max()) <= TOLERANCE * float(here.abs().max()):
                return stride
            stride *= 2
    return None


def _shape(slices: int, dims: int, seen: int, size: int) -> tuple[int, ...]:
    return (1, 1, seen, seen, seen) if dims == 3 else (1, slices, seen, seen)


def _placed(blob: Tensor, size: int, dims: int, shift: int) -> Tensor:
    """The blob in the middle of zeros, moved along y."""
    seen = blob.shape[-1]
    start = (size - seen) // 2
    plane = (size,) if dims == 3 else ()
    whole = torch.zeros((1, blob.shape[1], *plane, size, size), dtype=blob.dtype)
    y, x = slice(start + shift, start + shift + seen), slice(start, start + seen)
    if dims == 3:
        whole[:, :, x, y, x] = blob
    else:
        whole[..., y, x] = blob
    return whole


def _radius(module: nn.Module, slices: int, dims: int, stride: int) -> int | None:
    """The longest reach of the gradient of one voxel, along y, over all places within a stride.

    None where it has no end: statistics over all of an image reach everywhere.
    """
    size = FIRST_SIZE
    while size <= LARGEST_SIZE:
        reach = max(_reach(module, slices, dims, size, phase) for phase in range(stride))
        if reach < size // 2 - stride:
            return reach
        size *= 2
    return None


def _reach(module: nn.Module, slices: int, dims: int, size: int, phase: int) -> int:
    """Along y alone: narrow in x (and z), as networks are alike along all of their axes."""
    narrow = max(8, MOST_STRIDE // 2) if dims == 2 else 32
    plane = (narrow,) if dims == 3 else ()
    shape = (1, 1 if dims == 3 else slices, *plane, size, narrow)
    generator = torch.Generator().manual_seed(2)
    x = torch.rand(shape, generator=generator, dtype=torch.float64).requires_grad_()
    place = size // 2 + phase
    output = module(x)
    output[..., place, narrow // 2].sum().backward()
    assert x.grad is not None
    touched = x.grad.abs().amax(dim=tuple(i for i in range(x.ndim) if i != x.ndim - 2))
    rows = torch.nonzero(touched > 0).flatten()
    return int(max(place - int(rows[0]), int(rows[-1]) - place))
