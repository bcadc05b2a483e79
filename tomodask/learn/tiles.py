"""A network over whole slices by tiles, with the result of the whole.

Tiles have one shape and lie on a grid aligned to the network's stride and the volume's origin. Each
is read with a halo at least as wide as the network sees, of which nothing is kept; at the volume's
border the tile ends as the volume does, so that the network's own padding acts there and nowhere
else. What the whole is: normalised, padded with zeros behind the far ends to a multiple of the
stride, put through the network, cropped and put back.

Plain convolutions in 2D give the same bits by tiles on the CPU. In 3D, on a GPU and for layers that
are much smaller than the input kernels depend on the shape, and what they sum agrees to 1e-5.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import pairwise, product
from math import isqrt

import numpy as np
import torch
from torch import nn

from tomodask import arrays
from tomodask.errors import InputError, MemoryBudgetError
from tomodask.learn.receptive_field import ReceptiveField

BATCH_VOXELS = 2**18  # put through the network together, where slices are small
ALONE = 2**15  # voxels; a smaller slice alone gets other kernels of torch, of other roundings
LEAST_BLENDED = 64  # side of a tile that still has statistics somewhat like the whole's

log = logging.getLogger(__name__)

Span = tuple[int, int]


@dataclass(frozen=True)
class Tiling:
    """Tiles along one axis: of `tile` voxels, kept without the halo; all multiples of `stride`.

    length : of the axis, padded to a multiple of the stride.
    """

    length: int
    tile: int
    halo: int
    stride: int

    def __post_init__(self) -> None:
        for name in ("length", "tile", "halo"):
            if getattr(self, name) % self.stride:
                raise InputError(
                    f"{name} {getattr(self, name)} is no multiple of the network's stride "
                    f"{self.stride}: tiles would not lie on its grid"
                )
        if self.tile < self.length and self.tile <= 2 * self.halo:
            raise InputError(
                f"a tile of {self.tile} voxels is all halo, {self.halo} at either end: take at "
                f"least {2 * self.halo + self.stride}"
            )

    @classmethod
    def within(cls, length: int, most: int, halo: int, stride: int) -> Tiling:
        """As few tiles as those of `most` voxels, and no larger than that takes."""
        if most >= length:
            return cls(length, length, 0, stride)
        largest = cls(length, most, halo, stride)
        number = len(list(largest.spans()))
        return cls(length, _up(-(-(length - 2 * halo) // number), stride) + 2 * halo, halo, stride)

    def spans(self) -> Iterator[tuple[Span, Span]]:
        """What each tile reads, and what of it is kept; every voxel is kept once."""
        if self.tile >= self.length:
            yield (0, self.length), (0, self.length)
            return
        step = self.tile - 2 * self.halo
        starts = [*range(0, self.length - self.tile, step), self.length - self.tile]
        edges = [0, *(start + self.halo for start in starts[1:]), self.length]
        for start, kept in zip(starts, pairwise(edges), strict=True):
            yield (start, start + self.tile), kept


class TiledNetwork:
    """A network that is applied to stacks of slices.

    field : its measured receptive field. slices : neighbours that a 2D network sees.
    tile : side in y and x of the square that goes through the network at a time; small slices go
        together as many as fit into it. None: whole slices, small ones up to `BATCH_VOXELS`. It is
        halved where memory runs out, and stays so.
    shift, scale : values are (volume - shift) / scale within the network.
    missing : voxels that were asked for up to now, were NaN or infinite, and are NaN.

    Raises
    ------
    InputError : a scale that is not positive; a 3D network that takes statistics over its input.
    """

    def __init__(
        self,
        module: nn.Module,
        field: ReceptiveField,
        *,
        slices: int = 1,
        dims: int = 2,
        shift: float = 0.0,
        scale: float = 1.0,
        tile: int | None = None,
        device: str = "cpu",
    ) -> None:
        if not scale > 0:
            raise InputError(f"scale={scale}: values are divided by it, more than 0 is expected")
        if dims == 3 and not field.equivariant:
            raise InputError(
                "a 3D network that takes statistics over all that it is given can't be applied to "
                "a part of the rows: take one without instance or group normalisation, or a 2D one"
            )
        self.module = module.to(device).eval().requires_grad_(requires_grad=False)
        self.field, self.slices, self.dims = field, slices, dims
        self.shift, self.scale, self.device = shift, scale, device
        self.stride, self.halo = field.stride[1], halo_of(field)
        self.tile = None if tile is None else _up(tile, self.stride)
        self.missing = 0
        if not field.equivariant:
            log.warning(
                "the network takes statistics over all that it is given: tiles can't be exact, "
                "and are blended where slices do not fit as a whole"
            )

    def reach(self, start: int, stop: int, num_rows: int) -> tuple[int, int]:
        """The rows that rows [start, stop) of a volume of `num_rows` are computed from.

        The first is a multiple of the stride in z, to lie on the grid of a 3D network.
        """
        radius, stride = self.field.radius[0], self.field.stride[0]
        return max(0, start - radius) // stride * stride, min(num_rows, stop + radius)

    def __call__(self, stack: np.ndarray, before: int = 0, after: int = 0) -> np.ndarray:
        """The network's volume (z - before - after, y, x) float32 of a stack (z, y, x).

        What is missing, NaN or infinite, is taken for `shift`, so that it harms no neighbours, and
        is NaN in the result.

        before, after : rows of the stack that are there for their neighbours alone, as `reach`
            says; fewer than the network sees only where the volume ends.

        Raises
        ------
        InputError : no row is left; a tile is all halo; the network's output has another size
            than its input.
        MemoryBudgetError : not even the smallest tile fits into memory.
        """
        num_rows = len(stack) - before - after
        if min(num_rows - 1, before, after) < 0:
            raise InputError(
                f"a stack of {len(stack)} rows, of which {before} before and {after} after are for "
                "their neighbours alone: at least one row is to be left"
            )
        x, is_whole = self._normalised(stack, before, after)
        result = arrays.empty((num_rows, *stack.shape[1:]))
        while (error := self._attempt(x, before, result)) is not None:
            self._halve(x.shape, error)
        result *= np.float32(self.scale)
        result += np.float32(self.shift)
        if not is_whole:
            unknown = ~np.isfinite(stack[before : before + num_rows])
            result[unknown] = np.nan
            self.missing += int(np.count_nonzero(unknown))
        return result

    def _normalised(self, stack: np.ndarray, before: int, after: int) -> tuple[np.ndarray, bool]:
        """What the network is given, padded behind, 0 where values are missing; if none is.

        In 2D the rows that are kept and `slices // 2` beside them, the volume's edge repeated.
        """
        nz, ny, nx = stack.shape
        reach = self.slices // 2
        rows = np.arange(nz)
        if self.dims == 2:
            rows = np.clip(np.arange(before - reach, nz - after + reach), 0, nz - 1)
        stride = self.field.stride[0]
        x = arrays.empty((_up(len(rows), stride), _up(ny, self.stride), _up(nx, self.stride)))
        x[len(rows) :], x[:, ny:], x[:, :, nx:] = 0, 0, 0
        is_whole = True
        for row, target in zip(rows, x[:, :ny, :nx], strict=False):
            np.subtract(stack[row], np.float32(self.shift), out=target)
            target /= np.float32(self.scale)
            if not np.isfinite(target.sum(dtype=np.float64)):
                target[~np.isfinite(target)] = 0
                is_whole = False
        return x, is_whole

    def _attempt(self, x: np.ndarray, before: int, result: np.ndarray) -> Exception | None:
        """Fill the result, in units of the network; the error where memory ran out.

        Returned, not handled here: what the failed call holds is free once its frames are gone.
        """
        try:
            with torch.inference_mode(), _same_sums(self.device):
                if self.field.equivariant or self._is_whole(x.shape):
                    self._put_together(x, before, result)
                else:
                    self._blend(x, result)
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            return error.with_traceback(None)
        return None

    def _is_whole(self, shape: tuple[int, ...]) -> bool:
        return self.tile is None or self.tile >= max(shape[1:])

    def _put_together(self, x: np.ndarray, before: int, result: np.ndarray) -> None:
        ny, nx = result.shape[1:]
        for (y, keep_y), (u, keep_x) in product(*(self._spans(n) for n in x.shape[1:])):
            kept = np.s_[:, keep_y[0] : min(keep_y[1], ny), keep_x[0] : min(keep_x[1], nx)]
            cut = np.s_[:, keep_y[0] - y[0] : keep_y[1] - y[0], keep_x[0] - u[0] : keep_x[1] - u[0]]
            for rows, output in self._outputs(x[:, slice(*y), slice(*u)], before, len(result)):
                target = result[rows][kept]
                target[:] = output[cut][:, : target.shape[1], : target.shape[2]]

    def _spans(self, length: int) -> list[tuple[Span, Span]]:
        most = length if self.tile is None else self.tile
        return list(Tiling.within(length, most, self.halo, self.stride).spans())

    def _outputs(
        self, x: np.ndarray, before: int, num_rows: int
    ) -> Iterator[tuple[slice, np.ndarray]]:
        """The network's rows of one tile, some at a time, and which rows of the result they are."""
        if self.dims == 3:
            volume = torch.from_numpy(x).to(self.device)
            yield slice(num_rows), self._output(volume[None, None])[0, before : before + num_rows]
            return
        area = x.shape[1] * x.shape[2]
        together = max(2 if area < ALONE else 1, self._voxels() // area)
        for start in range(0, num_rows, together):
            stop = min(start + together, num_rows)
            rows = torch.from_numpy(x[start : stop + self.slices - 1]).to(self.device)
            batch = rows.unfold(0, self.slices, 1).movedim(-1, 1)  # views: a row is there once
            if stop - start == 1 and area < ALONE:
                batch = batch.expand(2, -1, -1, -1)
            yield slice(start, stop), self._output(batch)[: stop - start, 0]

    def _voxels(self) -> int:
        """That go through a 2D network together, unless one tile has more."""
        return BATCH_VOXELS if self.tile is None else min(BATCH_VOXELS, self.tile**2)

    def _output(self, batch: torch.Tensor) -> np.ndarray:
        output = self.module(batch)
        if output.shape != (len(batch), 1, *batch.shape[2:]):
            raise InputError(
                f"the network made {tuple(output.shape)} of {tuple(batch.shape)}: one channel of "
                "the same size is expected; do its convolutions pad, is its stride as measured?"
            )
        found = np.asarray(output.float().cpu().numpy())
        return found[:, 0] if self.dims == 3 else found

    def _blend(self, x: np.ndarray, result: np.ndarray) -> None:
        """Tiles that overlap by half, under Hann windows that add up to 1: smooth, not exact."""
        assert self.tile is not None
        ny, nx = result.shape[1:]
        result[:] = 0
        along_y, along_x = (_windows(n, self.tile, self.stride) for n in x.shape[1:])
        for (y, weights_y), (u, weights_x) in product(along_y, along_x):
            window = np.outer(weights_y, weights_x)
            for rows, output in self._outputs(x[:, slice(*y), slice(*u)], 0, len(result)):
                target = result[rows, y[0] : min(y[1], ny), u[0] : min(u[1], nx)]
                target += (output * window)[:, : target.shape[1], : target.shape[2]]

    def _halve(self, shape: tuple[int, ...], error: Exception) -> None:
        """Go on with a quarter of the voxels: fewer slices together, then smaller tiles."""
        side = max(shape[1:]) if self.tile is None else min(self.tile, max(shape[1:]))
        if self.dims == 2 and side**2 < self._voxels():
            side = isqrt(self._voxels())  # small slices went together
        smaller, least = _up(side // 2, self.stride), least_side(self.field, shape[1:])
        if smaller < least or smaller >= side:
            raise MemoryBudgetError(
                f"no memory for a tile of {side} x {side} voxels, and {least} are the least for a "
                f"network that sees {self.field.radius[1]} to either side: give each worker more "
                "memory, or take a network that is smaller or sees less far"
            ) from error
        log.warning("no memory for tiles of %d voxels, going on with %d: %s", side, smaller, error)
        self.tile = smaller
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()


def halo_of(field: ReceptiveField) -> int:
    """What is read around what is kept in y and x: as far as the network sees, on its grid."""
    return _up(field.radius[1], field.stride[1])


def least_side(field: ReceptiveField, shape_yx: Sequence[int]) -> int:
    """The side of the smallest tile of which something is kept; slices need no halo as a whole."""
    stride = field.stride[1]
    least = 2 * halo_of(field) + stride if field.equivariant else _up(LEAST_BLENDED, stride)
    return min(least, _up(max(shape_yx), stride))


def _windows(length: int, tile: int, stride: int) -> list[tuple[Span, np.ndarray]]:
    """Tiles that overlap by half, the last one moved back to end at the border, and their weights.

    They lie alike whatever is asked for, and their weights add up to 1 at every voxel.
    """
    tile = min(tile, length)
    step = max(1, tile // 2 // stride) * stride
    starts = [*range(0, length - tile, step), length - tile]
    hann = np.sin(np.pi * (np.arange(tile) + 0.5) / tile) ** 2
    total = np.zeros(length)
    for start in starts:
        total[start : start + tile] += hann
    return [
        ((start, start + tile), (hann / total[start : start + tile]).astype(np.float32))
        for start in starts
    ]


def _same_sums(device: str) -> AbstractContextManager[None]:
    """On a GPU: the same sums every time, in the float32 that tiles are to agree in."""
    if not device.startswith("cuda"):
        return nullcontext()
    return torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )


def _is_out_of_memory(error: BaseException) -> bool:
    """Of NumPy, of a GPU, or of torch on the CPU, which has no error of its own for it."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return "allocate memory" in str(error) or "out of memory" in str(error)


def _up(value: int, stride: int) -> int:
    """The next multiple of the stride."""
    return -(-value // stride) * stride
