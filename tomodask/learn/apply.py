"""A model, ready to be applied on this machine."""

from __future__ import annotations

import logging
import math
import weakref
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tomodask.errors import FormatError, MemoryBudgetError
from tomodask.learn.model import Model, load_model, model_card
from tomodask.learn.networks import make_network
from tomodask.learn.networks.weights import from_arrays
from tomodask.learn.receptive_field import ReceptiveField
from tomodask.learn.tiles import BATCH_VOXELS, TiledNetwork, halo_of, least_side

PROBE = 64  # side of what activations are counted on
MARGIN = 1.2  # of the memory that is followed
CHANNELS_A_BLOCK = 16  # of oneDNN
WASTE = 2.0  # times the work of whole slices, from which it is said

log = logging.getLogger(__name__)


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
    """Most bytes that live at once while a network is applied, for a voxel that it is given.

    All that its operations make and have not yet let go of, and beside it what a convolution's
    library copies its input to where it wants another layout. A process took 79 to 90 % of it, of
    U-Nets in 2D and 3D, an MS-D and a DnCNN.
    """
    side = PROBE // 2 if dims == 3 else PROBE
    shape = (1, 1, side, side, side) if dims == 3 else (1, slices, side, side)
    with torch.inference_mode(), _Alive() as alive:
        module(torch.zeros(shape))
    return float(MARGIN * alive.most / side**dims)


class _Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows what operations make; `most` bytes of it were alive at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = 0
        self._alive: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            storage = tensor.untyped_storage() if isinstance(tensor, torch.Tensor) else None
            if storage is None or storage._cdata in self._alive:
                continue  # a view, or changed in place
            self._alive[storage._cdata] = storage.nbytes()
            weakref.finalize(storage, self._alive.pop, storage._cdata, None)
        beside = _copied(args[0], made) if "conv" in str(func) else 0
        self.most = max(self.most, sum(self._alive.values()) + beside)
        return made


def _copied(x: torch.Tensor, made: torch.Tensor) -> int:
    """Bytes of copies in the layout that oneDNN calculates in: channels in blocks of 16.

    2D images whose channels lie together are taken as they are.
    """
    if x.ndim == 4 and x.shape[1] > 1 and x.is_contiguous(memory_format=torch.channels_last):
        return 0
    output = _in_blocks(made.shape[1]) - (made.shape[1] if x.ndim == 4 else 0)
    return x.numel() // x.shape[1] * (_in_blocks(x.shape[1]) + output) * x.element_size()


def _in_blocks(channels: int) -> int:
    return -(-channels // CHANNELS_A_BLOCK) * CHANNELS_A_BLOCK


def choose_tile(
    memory: int, shape_yx: tuple[int, int], rows: int, bytes_a_voxel: float, field: ReceptiveField
) -> int | None:
    """The side of the largest tile that fits into memory; None where whole slices do.

    rows : that a 3D network is given at a time; 1 for a 2D one.

    Raises
    ------
    MemoryBudgetError : the tile that fits is all halo.
    """
    stride, least = field.stride[1], least_side(field, shape_yx)
    voxels = max(0, int(memory / bytes_a_voxel / rows))
    if voxels >= max(math.prod(shape_yx), BATCH_VOXELS if rows == 1 else 0):
        return None
    side = math.isqrt(voxels) // stride * stride
    if side < least:
        need = least**2 * rows * bytes_a_voxel
        raise MemoryBudgetError(
            f"the smallest tile, {least} x {least} voxels for a network that sees "
            f"{field.radius[1]} to either side, needs {need / 2**20:.0f} MiB and "
            f"{memory / 2**20:.0f} are left for it: give each worker more memory, or take a "
            "network that is smaller or sees less far"
        )
    _tell_waste(side, shape_yx, field)
    return side


def _tell_waste(side: int, shape_yx: tuple[int, int], field: ReceptiveField) -> None:
    """Tiles that are mostly halo are exact, but slow."""
    if side >= max(shape_yx) or not field.equivariant:
        return
    work = (side / (side - 2 * halo_of(field))) ** 2
    if work > WASTE:
        log.warning(
            "tiles of %d voxels are mostly halo, %d to either side: %.1f times the work of whole "
            "slices; more memory for each worker makes them larger",
            side, halo_of(field), work,
        )  # fmt: skip
