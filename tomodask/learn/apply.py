"""A model, ready to be applied on this machine."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import nn

from tomodask.errors import FormatError, MemoryBudgetError
from tomodask.learn.model import Model, load_model, model_card
from tomodask.learn.networks import make_network
from tomodask.learn.networks.weights import from_arrays
from tomodask.learn.receptive_field import ReceptiveField
from tomodask.learn.tiles import BATCH_VOXELS, TiledNetwork

PROBE = 64  # side of what activations are counted on


def load_applied(
    path: Path, *, tile: int | None = None, threads: int = 1, digest: str | None = None
) -> TiledNetwork:
    """A network as its model says, on the GPU where there is one.

    Raises
    ------
    FormatError : no model, a damaged one, or its weights are not those of `digest`.
    """
    torch.set_num_threads(threads)
    if digest is not None and model_card(path)["weights"]["sha256"] != digest:
        raise FormatError(f"{path} was replaced since the run began: give the command again")
    return applied(load_model(path), tile=tile)


def applied(model: Model, *, tile: int | None = None) -> TiledNetwork:
    """The network of a model that was read."""
    module = make_network(model.network, model.slices)
    from_arrays(module, model.weights)
    return TiledNetwork(
        module,
        ReceptiveField(model.radius, model.stride, model.equivariant),
        slices=model.slices,
        dims=3 if model.depth > 1 else 2,
        shift=model.shift,
        scale=model.scale,
        tile=tile,
        device="cuda" if torch.cuda.is_available() else "cpu",
    )


def activation_bytes(module: nn.Module, slices: int, dims: int) -> float:
    """Bytes of all that a network's layers give, for a voxel: more than are alive at once."""
    total = 0

    def count(_: nn.Module, __: object, output: object) -> None:
        nonlocal total
        if isinstance(output, torch.Tensor):
            total += output.numel() * output.element_size()

    leaves = [layer for layer in module.modules() if not list(layer.children())]
    hooks = [layer.register_forward_hook(count) for layer in leaves]
    side = PROBE // 2 if dims == 3 else PROBE
    shape = (1, 1, side, side, side) if dims == 3 else (1, slices, side, side)
    with torch.inference_mode():
        module(torch.zeros(shape))
    for hook in hooks:
        hook.remove()
    return float(total / side**dims)


def choose_tile(
    memory: int, shape_yx: tuple[int, int], rows: int, bytes_a_voxel: float, field: ReceptiveField
) -> int | None:
    """The side of the largest tile that fits into memory; None where whole slices do.

    rows : that a 3D network is given at a time; 1 for a 2D one.

    Raises
    ------
    MemoryBudgetError : the tile that fits is all halo.
    """
    stride, halo = field.stride[1], math.ceil(field.radius[1] / field.stride[1]) * field.stride[1]
    voxels = memory / bytes_a_voxel / rows
    if voxels >= max(math.prod(shape_yx), BATCH_VOXELS if rows == 1 else 0):
        return None
    side = int(math.sqrt(voxels)) // stride * stride
    least = 2 * halo + stride
    if side < least:
        need = least**2 * rows * bytes_a_voxel
        raise MemoryBudgetError(
            f"the smallest tile, {least} x {least} voxels with a halo of {halo}, needs "
            f"{need / 2**20:.0f} MiB and {memory / 2**20:.0f} are left for it: give each worker "
            "more memory, or take a network that sees less far"
        )
    return min(side, max(shape_yx))
