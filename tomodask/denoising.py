"""The last step of learning from a scan: the model over the whole volume, block by block.

Blocks, ledger and resume are those of a reconstruction. A task makes its inputs anew from the scan,
which costs little beside the network and saves as many volumes as there are splits; or it reads
them from a volume that is there. It needs as many rows above and below as the network sees.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from tomodask import arrays
from tomodask.blocks import Block
from tomodask.custody import refuse_replaced
from tomodask.geometry import ViewRows
from tomodask.learn.apply import load_applied
from tomodask.learn.noise2inverse import inputs_of, mean_of
from tomodask.learn.options import Strategy
from tomodask.learn.tiles import TiledNetwork
from tomodask.ledger import Ledger
from tomodask.runplan import Job
from tomodask.splitrows import GROUP_ROWS, SplitRows, Splitting, load_split_rows
from tomodask.stream import in_order
from tomodask.volumestore import Volume

Mode = Literal["fast", "quality"]

log = logging.getLogger(__name__)


class Rows(Protocol):
    """Rows of a volume that inputs can be made of."""

    @property
    def counts(self) -> Mapping[str, int]:
        """What the corrections found."""
        ...

    def stacks(self, start: int, stop: int) -> list[np.ndarray]:
        """Inputs of some of the rows, each (z, y, x); the mean of what they give is the result."""
        ...


class Applied(Protocol):
    """What inputs are put through: a network by tiles, or nothing where filters did it all."""

    dims: int
    tile: int | None
    missing: int

    def reach(self, start: int, stop: int, num_rows: int) -> tuple[int, int]: ...

    def __call__(self, stack: np.ndarray, before: int = 0, after: int = 0) -> np.ndarray: ...


class Inputs(Protocol):
    """Where a network's inputs come from; small and picklable."""

    @property
    def after(self) -> Applied | None:
        """What they are put through, where that is not the model's network."""
        ...

    def load(self, start: int, stop: int) -> Rows: ...

    def bytes_read(self, start: int, stop: int) -> int: ...


@dataclass(frozen=True)
class ScanInputs:
    """Reconstructed from the scan: of all of it in `fast` mode, else of all splits but one."""

    job: Job
    first_row: int
    splitting: Splitting
    strategy: Strategy
    mode: Mode
    after: None = None

    def load(self, start: int, stop: int) -> ReconstructedRows:
        with_splits = self.mode == "quality"
        rows = load_split_rows(
            self.job, self.splitting, *self._rows(start, stop), start, with_splits=with_splits
        )
        return ReconstructedRows(rows, self.strategy, self.mode)

    def bytes_read(self, start: int, stop: int) -> int:
        read, _ = self._rows(start, stop)
        return self.job.scan.bytes_read((read.start, read.stop))

    def _rows(self, start: int, stop: int) -> tuple[ViewRows, ViewRows]:
        needed = ViewRows(self.first_row + start, self.first_row + stop)
        return needed.grow(self.job.halo, self.job.scan.geometry.det_rows), needed


@dataclass(frozen=True, eq=False)
class ReconstructedRows:
    """Corrected projections of some rows, of which any are reconstructed when asked."""

    rows: SplitRows
    strategy: Strategy
    mode: Mode

    @property
    def counts(self) -> Mapping[str, int]:
        return self.rows.counts

    def stacks(self, start: int, stop: int) -> list[np.ndarray]:
        if self.mode == "fast":
            return [self.rows.full(start, stop)]
        made = self.rows.splits(start, stop, with_full=False)
        seen = inputs_of(len(made.splits), self.strategy)
        return [mean_of(made.splits, which, made.weights) for which in seen]


@dataclass(frozen=True)
class VolumeInputs:
    """Read from a reconstruction that is there."""

    path: Path
    after: None = None

    def load(self, start: int, stop: int) -> StoredRows:
        return StoredRows(Volume.open(self.path).read(0, z=slice(start, stop)), start)

    def bytes_read(self, start: int, stop: int) -> int:
        _, ny, nx = Volume.open(self.path).spec.shape
        return 4 * (stop - start) * ny * nx


@dataclass(frozen=True, eq=False)
class StoredRows:
    """Rows of a volume from `start` on."""

    rows: np.ndarray
    start: int
    counts: Mapping[str, int] = field(default_factory=dict)

    def stacks(self, start: int, stop: int) -> list[np.ndarray]:
        return [self.rows[start - self.start : stop - self.start]]


@dataclass(frozen=True)
class DenoiseTask:
    """One block to denoise, as it is sent to a worker.

    tile : side of a tile in y and x, None for whole slices. digest : of the model's weights.
    """

    inputs: Inputs
    block: Block
    model: Path
    digest: str
    tile: int | None
    threads: int
    volume: Path
    ledger: Ledger

    @property
    def id(self) -> str:
        return self.block.id


def denoise_block(task: DenoiseTask) -> dict[str, Any]:
    """Make the inputs of a block, put them through the network, and write the mean of what it says.

    One row of shards at a time: memory does not grow with the block.
    """
    volume = Volume.open(task.volume)
    refuse_replaced(task.volume, volume.uuid, task.ledger)
    network: Applied = task.inputs.after or _network(
        task.model, task.digest, task.tile, task.threads
    )
    begun, shards = network.missing, []
    bytes_read, counts = 0, dict[str, int]()
    start, stop = task.block.write.rows
    for low in range(start, stop, volume.spec.chunk_rows):
        high = min(stop, low + volume.spec.chunk_rows)
        span = network.reach(low, high, volume.spec.shape[0])
        rows = task.inputs.load(*span)
        bytes_read += task.inputs.bytes_read(*span)
        for name, number in rows.counts.items():
            counts[name] = counts.get(name, 0) + number
        shards += volume.write(low, denoise_rows(network, rows, low, high, volume.spec.shape[0]))
    counts["missing_voxels"] = network.missing - begun
    report = {
        "block": task.block.id,
        "rows": stop - start,
        "bytes_read": bytes_read,
        "bytes_written": sum(shard.size for shard in shards),
        "counts": counts,
        "tile": network.tile,
        "peak_bytes": arrays.peak_bytes(),
    }
    task.ledger.record(task.block.id, in_order(shards), report)
    return report


def denoise_rows(network: Applied, rows: Rows, start: int, stop: int, num_rows: int) -> np.ndarray:
    """Rows [start, stop) of the denoised volume of `num_rows`, the mean over the inputs."""
    slab: np.ndarray | None = None
    for low, high in _groups(start, stop, network):
        first, last = network.reach(low, high, num_rows)
        total: np.ndarray | None = None
        stacks = rows.stacks(first, last)
        for stack in stacks:
            output = network(stack, low - first, last - high)
            total = output if total is None else np.add(total, output, out=total)
        assert total is not None
        if len(stacks) > 1:
            total /= np.float32(len(stacks))
        total[stacks[0][low - first : high - first] == 0] = 0  # outside the field of view
        if slab is None:
            slab = arrays.empty((stop - start, *total.shape[1:]))
        slab[low - start : high - start] = total
    assert slab is not None
    return slab


def _groups(start: int, stop: int, network: Applied) -> Iterator[tuple[int, int]]:
    """Rows that are denoised together; in 3D all of them, as their halo is wide."""
    together = stop - start if network.dims == 3 else GROUP_ROWS
    for low in range(start, stop, together):
        yield low, min(stop, low + together)


@lru_cache(maxsize=1)
def _network(path: Path, digest: str, tile: int | None, threads: int) -> TiledNetwork:
    """The digest is a key: a model that was trained anew must not be taken for the old one."""
    return load_applied(path, tile=tile, threads=threads, digest=digest)
