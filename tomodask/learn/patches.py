"""Patches to learn from: which ones is a pure function of seed, step and number within the step.

The splits are read in blocks, whole inner chunks of a slab. A window of the endless, shuffled
sequence of blocks is in memory, and moves on by one block every few steps, so that memory does not
grow with the volume and nothing of a training's place in it must be remembered: whoever resumes at
a step reads the window of that step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from types import TracebackType
from typing import Self

import numpy as np

from tomodask.errors import MemoryBudgetError
from tomodask.learn.noise2inverse import Pair, draw_pair, mean_of, pairs_of
from tomodask.learn.options import Strategy
from tomodask.splitstore import Slab, SplitStore
from tomodask.volumestore import INNER

BLOCK_SIDE = 1024  # of a block in y and x at most: a shard's
STEPS_A_BLOCK = 8  # until the window moves on by one block
TRIES = 16  # for a patch whose middle all views see
DRAWN, SHUFFLED = 0, 1  # what random numbers are for: of patches, of the order of blocks


@dataclass(frozen=True)
class Region:
    """A block of the splits: rows [z, z + rows) and a square of them."""

    rows: Slab
    y: Slab
    x: Slab

    @property
    def voxels(self) -> int:
        return math.prod(stop - start for start, stop in (self.rows, self.y, self.x))


@dataclass(frozen=True)
class Batch:
    """What a network sees in a step, not normalised: (samples, channels, [z,] y, x) float32.

    inside : 1 where every view has seen the target's voxel, else 0; of the target's shape.
    """

    inputs: np.ndarray
    targets: np.ndarray
    inside: np.ndarray

    @property
    def voxels(self) -> int:
        """That the network is trained on, those outside included."""
        return self.targets.size


@dataclass(frozen=True)
class PatchShape:
    """Of a network's input: `slices` neighbours as channels where depth is 1, else 3D patches."""

    side: int
    slices: int = 1
    depth: int = 1

    @property
    def rows(self) -> int:
        """Volume rows that a patch needs."""
        return self.depth if self.depth > 1 else self.slices


@dataclass(frozen=True)
class Patches:
    """Where patches come from, and how many there are in a step.

    slabs : rows of the store to draw from. radius : pixels around the middle of a slice that all
        views see. memory : bytes that blocks may take.
    """

    store: SplitStore
    slabs: Sequence[Slab]
    shape: PatchShape
    count: int
    strategy: Strategy
    radius: float
    seed: int
    memory: int

    @cached_property
    def regions(self) -> list[Region]:
        """All blocks, in the order of the rows."""
        _, ny, nx = self.store.full.spec.shape
        return [
            Region(slab, y, x)
            for slab in self.slabs
            for y in _cuts(ny, self._most(ny))
            for x in _cuts(nx, self._most(nx))
            if self._meets_disc(y, x, ny, nx)
        ]

    @cached_property
    def window(self) -> int:
        """Blocks in memory that patches are drawn from; one more is read meanwhile."""
        largest = 4 * self.store.num_splits * max(region.voxels for region in self.regions)
        most, total = self.memory // largest, len(self.regions)
        if most >= total:
            return total
        if most < 2:
            raise MemoryBudgetError(
                f"two blocks of {self.store.num_splits} splits take {2 * largest / 2**20:.0f} MiB, "
                f"and {self.memory / 2**20:.0f} are there for patches: give the worker more memory"
            )
        return most - 1

    @cached_property
    def disc(self) -> np.ndarray:
        """(y, x) float32, 1 where every view has seen the voxel."""
        _, ny, nx = self.store.full.spec.shape
        y, x = np.arange(ny) - (ny - 1) / 2, np.arange(nx) - (nx - 1) / 2
        return np.asarray(np.hypot(x, y[:, None]) <= self.radius, np.float32)

    def first(self, step: int) -> int:
        """Number of the window's first block, in the endless sequence, at a step."""
        is_all = self.window == len(self.regions)
        return 0 if is_all else step // STEPS_A_BLOCK

    def block(self, number: int) -> Region:
        """Of the endless sequence, in which each block comes once before any comes again."""
        total = len(self.regions)
        if self.window == total:
            return self.regions[number % total]
        rng = _random(self.seed, SHUFFLED, number // total, 0)
        return self.regions[int(rng.permutation(total)[number % total])]

    def _most(self, length: int) -> int:
        """Of a block's side: whole slices where they are not large."""
        return length if length <= BLOCK_SIDE else BLOCK_SIDE // 2

    def _meets_disc(self, y: Slab, x: Slab, ny: int, nx: int) -> bool:
        nearest = [
            max(start - middle, middle - (stop - 1), 0.0)
            for (start, stop), middle in ((y, (ny - 1) / 2), (x, (nx - 1) / 2))
        ]
        return math.hypot(*nearest) < self.radius


class Batches:
    """The batches of steps one after the other; blocks are read, and batches cut, ahead of time."""

    def __init__(self, patches: Patches, step: int = 0) -> None:
        self.patches = patches
        self._cutter = ThreadPoolExecutor(1, thread_name_prefix="patches")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="patch-blocks")
        self._blocks: dict[int, Future[np.ndarray]] = {}
        self._step = step
        self._next = self._cutter.submit(self._cut, step)

    def __iter__(self) -> Iterator[Batch]:
        while True:
            batch = self._next.result()
            self._step += 1
            self._next = self._cutter.submit(self._cut, self._step)
            yield batch

    def close(self) -> None:
        """Wait for what is being read; nothing is, after it."""
        self._cutter.shutdown(wait=True, cancel_futures=True)
        self._reader.shutdown(wait=True, cancel_futures=True)
        self._blocks.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _cut(self, step: int) -> Batch:
        first, ahead = self.patches.first(step), self.patches.window < len(self.patches.regions)
        wanted = range(first, first + self.patches.window + ahead)
        for number in [known for known in self._blocks if known not in wanted]:
            del self._blocks[number]
        for number in wanted:
            if number not in self._blocks:
                region = self.patches.block(number)
                self._blocks[number] = self._reader.submit(read_block, self.patches.store, region)
        return cut_batch(self.patches, step, lambda number: self._blocks[number].result())


def read_block(store: SplitStore, region: Region) -> np.ndarray:
    """(K, rows, y, x) float32 of a region."""
    z, y, x = (slice(*part) for part in (region.rows, region.y, region.x))
    shape = (z.stop - z.start, y.stop - y.start, x.stop - x.start)
    block = np.empty((store.num_splits, *shape), np.float32)
    for k in range(store.num_splits):
        block[k] = store.split(k).read(0, z, y, x)
    return block


# ---- one batch -------------------------------------------------------------------------------


def cut_batch(patches: Patches, step: int, loaded: Callable[[int], np.ndarray]) -> Batch:
    """The samples of a step; `loaded(number)` gives a block of the endless sequence."""
    batch = _empty_batch(patches.shape, patches.count)
    first = patches.first(step)
    for i in range(patches.count):
        rng = _random(patches.seed, DRAWN, step, i)
        number = first + int(rng.integers(patches.window))
        region = patches.block(number)
        place = _place(rng, patches, region)
        pair = draw_pair(rng, patches.store.num_splits, patches.strategy)
        turns, is_mirrored = int(rng.integers(4)), bool(rng.integers(2))

        def turned(array: np.ndarray, n: int = turns, m: bool = is_mirrored) -> np.ndarray:
            array = np.rot90(array, n, axes=(-2, -1))
            return array[..., ::-1] if m else array

        _fill(batch, i, patches, loaded(number), region, place, pair, turned)
    return batch


def held_out_batches(patches: Patches, most_voxels: int) -> Iterator[Batch]:
    """Patches of all slabs on a grid, every one by each of the K pairs; at most so many voxels.

    What is left out where there are more is spread evenly. The same for every call.
    """
    if not (places := _grid(patches)):
        return
    pairs = pairs_of(patches.store.num_splits, patches.strategy)
    each = patches.shape.side**2 * patches.shape.depth * len(pairs)
    keep = max(1, min(len(places), most_voxels // each))
    chosen = [places[i] for i in np.linspace(0, len(places) - 1, keep).round().astype(int)]
    for region, place in chosen:
        rows, y, x = _spans(patches, region, place)
        part = Region((rows[0], rows[-1] + 1), y, x)
        block = read_block(patches.store, part)
        batch = _empty_batch(patches.shape, len(pairs))
        for i, pair in enumerate(pairs):
            _fill(batch, i, patches, block, part, place, pair, np.asarray)
        yield batch


Place = tuple[int, int, int]


def _fill(
    batch: Batch,
    i: int,
    patches: Patches,
    block: np.ndarray,
    region: Region,
    place: Place,
    pair: Pair,
    turned: Callable[[np.ndarray], np.ndarray],
) -> None:
    """Sample i of a batch from a block of the splits (K, rows, y, x)."""
    rows, (y0, y1), (x0, x1) = _spans(patches, region, place)
    picked = [row - region.rows[0] for row in rows]
    at = np.s_[y0 - region.y[0] : y1 - region.y[0], x0 - region.x[0] : x1 - region.x[0]]
    weights, (seen, aimed) = patches.store.weights, pair
    if patches.shape.depth > 1:
        aims, target_rows = picked, np.s_[batch.targets[i, 0]]
    else:
        aims, target_rows = [picked[len(picked) // 2]], np.s_[batch.targets[i]]
    values = [block[k][picked][(..., *at)] for k in seen]
    target = mean_of(
        [block[k][aims][(..., *at)] for k in aimed], range(len(aimed)), weights[list(aimed)]
    )
    source = mean_of(values, range(len(seen)), weights[list(seen)])
    inside = np.broadcast_to(patches.disc[y0:y1, x0:x1], target.shape)
    known = np.isfinite(target)
    if not known.all() or not np.isfinite(source).all():  # rows that are missing teach nothing
        known &= np.isfinite(source).all(axis=0)
        source, target = np.nan_to_num(source), np.where(known, target, 0)
        inside = inside * known
    into = batch.inputs[i, 0] if patches.shape.depth > 1 else batch.inputs[i]
    into[...] = turned(source)
    target_rows[...] = turned(target)
    (batch.inside[i, 0] if patches.shape.depth > 1 else batch.inside[i])[...] = turned(inside)


def _spans(patches: Patches, region: Region, place: Place) -> tuple[list[int], Slab, Slab]:
    """Rows that a patch needs, one where a neighbour is missing again, and its y and x."""
    z, y, x = place
    shape = patches.shape
    side = shape.side
    if shape.depth > 1:
        return list(range(z, z + shape.depth)), (y, y + side), (x, x + side)
    reach = shape.slices // 2
    first, last = region.rows[0], region.rows[1] - 1
    rows = [min(max(row, first), last) for row in range(z - reach, z + reach + 1)]
    return rows, (y, y + side), (x, x + side)


def _place(rng: np.random.Generator, patches: Patches, region: Region) -> Place:
    """First row (the middle one of neighbours), y and x of a patch, its middle in the disc."""
    z = int(rng.choice(_starts(patches, region)))
    side = patches.shape.side
    for _ in range(TRIES):
        y, x = (int(rng.integers(a, b - side + 1)) for a, b in (region.y, region.x))
        if patches.disc[y + side // 2, x + side // 2]:
            break
    return z, y, x


def _starts(patches: Patches, region: Region) -> range:
    """Rows at which a patch may start, or whose neighbours are all there, if there are any."""
    start, stop = region.rows
    if patches.shape.depth > 1:
        return range(start, stop - patches.shape.depth + 1)
    reach = patches.shape.slices // 2
    inner = range(start + reach, stop - reach)
    return inner or range(start, stop)


def _grid(patches: Patches) -> list[tuple[Region, Place]]:
    """Patches side by side, in every row, whose middles all views see."""
    side, step = patches.shape.side, patches.shape.depth
    return [
        (region, (z, y, x))
        for region in patches.regions
        for z in _starts(patches, region)[::step]
        for y in _fits(region.y, side)
        for x in _fits(region.x, side)
        if patches.disc[y + side // 2, x + side // 2]
    ]


def _fits(span: Slab, side: int) -> range:
    return range(span[0], span[1] - side + 1, side)


def _empty_batch(shape: PatchShape, count: int) -> Batch:
    depth = (shape.depth,) if shape.depth > 1 else ()
    channels = 1 if shape.depth > 1 else shape.slices
    plane = (*depth, shape.side, shape.side)
    return Batch(
        np.empty((count, channels, *plane), np.float32),
        np.empty((count, 1, *plane), np.float32),
        np.empty((count, 1, *plane), np.float32),
    )


def _cuts(length: int, most: int) -> list[Slab]:
    """Parts of at most about `most`, as equal as whole inner chunks allow."""
    count = -(-length // most)
    inner = [INNER * round(i * length / count / INNER) for i in range(1, count)]
    return list(pairwise([0, *inner, length]))


def _random(seed: int, purpose: int, first: int, second: int) -> np.random.Generator:
    """Numbers that depend on nothing else: a counter-based generator needs no history."""
    return np.random.Generator(np.random.Philox(key=[seed, purpose], counter=[0, 0, second, first]))
