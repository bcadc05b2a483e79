"""A network over whole slices by tiles, with the result of the whole.

Tiles have one shape and lie on a grid aligned to the network's stride and the volume's origin. Each
is read with a halo at least as wide as the network sees, of which nothing is kept; at the volume's
border the tile ends as the volume does, so that the network's own padding acts there and nowhere
else. What the whole is: normalised, padded with zeros behind the far ends to a multiple of the
stride, put through the network, cropped and put back.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from tomodask.errors import InputError, MemoryBudgetError
from tomodask.learn.receptive_field import ReceptiveField

BATCH_VOXELS = 2**18  # put through the network together, where slices are small

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
    tile : side of a tile in y and x; None for whole slices. It is halved where memory runs out,
        and stays so.
    shift, scale : values are (volume - shift) / scale within the network.
    missing : voxels that were NaN up to now, and were left so.
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
        self.module = module.to(device).eval().requires_grad_(requires_grad=False)
        self.field, self.slices, self.dims = field, slices, dims
        self.shift, self.scale, self.device = shift, scale, device
        self.stride = field.stride[1]
        self.halo = _up(field.radius[1], self.stride)
        self.tile = None if tile is None else _up(tile, self.stride)
        self.missing = 0
        if not field.equivariant:
            log.warning(
                "the network takes statistics over all that it is given: tiles can't be exact, "
                "and are blended where slices do not fit as a whole"
            )

    @property
    def halo_rows(self) -> int:
        """Rows that are needed above and below those wanted, a multiple of the stride in z."""
        return _up(self.field.radius[0], self.field.stride[0])

    def reach(self, start: int, stop: int, num_rows: int) -> tuple[int, int]:
        """The rows that rows [start, stop) of a volume of `num_rows` are computed from."""
        return max(0, start - self.halo_rows), min(num_rows, stop + self.halo_rows)

    def __call__(self, stack: np.ndarray, before: int = 0, after: int = 0) -> np.ndarray:
        """The network's volume (z - before - after, y, x) float32 of a stack (z, y, x).

        before, after : rows of the stack that are there for their neighbours alone; fewer than
            `halo_rows` only where the volume ends.

        Raises
        ------
        MemoryBudgetError : not even the smallest tile fits into memory.
        """
        x, unknown = self._normalised(stack)
        while True:
            try:
                result = self._applied(x, before, after)[:, : stack.shape[1], : stack.shape[2]]
                break
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error):
                    raise
                self._halve(x.shape[1:], error)
        result *= np.float32(self.scale)
        result += np.float32(self.shift)
        if unknown is not None:
            result[unknown[before : len(unknown) - after]] = np.nan
        return np.ascontiguousarray(result)

    def _normalised(self, stack: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """In the network's units, padded behind; where NaN was, which is 0 there."""
        nz, ny, nx = stack.shape
        depth = _up(nz, self.field.stride[0]) if self.dims == 3 else nz
        x = np.zeros((depth, _up(ny, self.stride), _up(nx, self.stride)), np.float32)
        inner = x[:nz, :ny, :nx]
        np.subtract(stack, np.float32(self.shift), out=inner)
        inner *= np.float32(1 / self.scale)
        if np.isfinite(inner.sum(dtype=np.float64)):
            return x, None
        unknown = ~np.isfinite(stack)
        inner[unknown] = 0
        self.missing += int(np.count_nonzero(unknown))
        return x, unknown

    def _applied(self, x: np.ndarray, before: int, after: int) -> np.ndarray:
        rows = range(before, len(x) - after) if self.dims == 2 else range(1)
        depth = len(x) - before - after
        result = np.empty((depth, *x.shape[1:]), np.float32)
        whole = self.tile is None or self.tile >= max(x.shape[1:])
        if not self.field.equivariant and not whole:
            self._blend(x, rows, before, result)
            return result
        with torch.inference_mode():
            for (y, keep_y), (u, keep_x) in self._tiles(x.shape[1], x.shape[2]):
                at = np.s_[:, keep_y[0] : keep_y[1], keep_x[0] : keep_x[1]]
                cut = (
                    slice(keep_y[0] - y[0], keep_y[1] - y[0]),
                    slice(keep_x[0] - u[0], keep_x[1] - u[0]),
                )
                for some, values in self._outputs(x[:, slice(*y), slice(*u)], rows, before, depth):
                    result[some][at] = values[(..., *cut)]
        return result

    def _tiles(self, ny: int, nx: int) -> list[tuple[tuple[Span, Span], tuple[Span, Span]]]:
        along = [
            list(
                Tiling(
                    n, self.tile or n, self.halo if (self.tile or n) < n else 0, self.stride
                ).spans()
            )
            for n in (ny, nx)
        ]
        return [(y, x) for y in along[0] for x in along[1]]

    def _outputs(
        self, x: np.ndarray, rows: range, before: int, depth: int
    ) -> Iterator[tuple[slice, np.ndarray]]:
        """The network's rows of one tile, some at a time, and which rows of the result they are."""
        if self.dims == 3:
            volume = torch.from_numpy(np.ascontiguousarray(x))[None, None].to(self.device)
            yield slice(0, depth), self._numpy(self.module(volume))[0, 0, before : before + depth]
            return
        together = max(1, BATCH_VOXELS // (x.shape[1] * x.shape[2]))
        for start in range(rows.start, rows.stop, together):
            some = range(start, min(start + together, rows.stop))
            batch = torch.from_numpy(self._channels(x, some)).to(self.device)
            yield slice(start - before, some.stop - before), self._numpy(self.module(batch))[:, 0]

    def _channels(self, x: np.ndarray, rows: range) -> np.ndarray:
        """(row, slices, y, x): each row with its neighbours, the edge ones repeated."""
        reach = self.slices // 2
        if reach == 0:
            return np.ascontiguousarray(x[rows.start : rows.stop, None])
        wanted = np.arange(rows.start, rows.stop)[:, None] + np.arange(-reach, reach + 1)
        return np.asarray(x[np.clip(wanted, 0, len(x) - 1)])

    def _numpy(self, output: Tensor) -> np.ndarray:
        return np.asarray(output.float().cpu().numpy())

    def _blend(self, x: np.ndarray, rows: range, before: int, result: np.ndarray) -> None:
        """Tiles that overlap by half, under Hann windows that add up to 1: smooth, not exact."""
        assert self.tile is not None
        half = _up(self.tile // 2, self.stride)
        result[:] = 0
        total = np.zeros(x.shape[1:], np.float32)
        spans = [list(_half_overlapping(n, half)) for n in x.shape[1:]]
        with torch.inference_mode():
            for y in spans[0]:
                for u in spans[1]:
                    window = np.outer(_hann(y[1] - y[0]), _hann(u[1] - u[0]))
                    total[slice(*y), slice(*u)] += window
                    cut = x[:, slice(*y), slice(*u)]
                    for some, values in self._outputs(cut, rows, before, len(result)):
                        result[some, slice(*y), slice(*u)] += values * window
        result /= total

    def _halve(self, shape_yx: tuple[int, ...], error: BaseException) -> None:
        side = max(shape_yx) if self.tile is None else min(self.tile, max(shape_yx))
        smaller, least = _up(side // 2, self.stride), 2 * self.halo + self.stride
        if smaller >= side or smaller < least:
            raise MemoryBudgetError(
                f"no memory for a tile of {side} x {side} voxels, and below {least} there is "
                "nothing but halo: give each worker more memory, or take a smaller network"
            ) from error
        log.warning("no memory for tiles of %d voxels, going on with %d: %s", side, smaller, error)
        self.tile = smaller
        if self.device == "cuda":
            torch.cuda.empty_cache()


def _half_overlapping(length: int, half: int) -> Iterator[Span]:
    for start in range(0, max(1, length - half), half):
        yield start, min(length, start + 2 * half)


def _hann(length: int) -> np.ndarray:
    return np.asarray(np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 2, np.float32)


def _is_out_of_memory(error: BaseException) -> bool:
    is_torch = isinstance(error, RuntimeError) and (
        isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)
    )
    return is_torch or isinstance(error, MemoryError)


def _up(value: int, stride: int) -> int:
    """The next multiple of the stride."""
    return -(-value // stride) * stride
