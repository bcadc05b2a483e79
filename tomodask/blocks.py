"""Cutting a volume into blocks: the boxes of voxels that one task owns alone.

A block is a run of whole chunk rows (the rows that one shard spans), so two tasks never share a
shard. Done is remembered by chunk row, so a run may be resumed with another memory budget, which
cuts other blocks: the bytes are the same.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from tomodask.errors import MemoryBudgetError
from tomodask.geometry import Box, ParallelBeam, ViewRows

HALO_WORTH = 4  # rows written for each row of halo on one side
TARGET_BYTES = 32 * 2**20  # less, and the scheduler's milliseconds a task begin to show


@dataclass(frozen=True)
class Block:
    """What one task writes, and the detector rows it must read for it.

    write : voxels, whole shards.
    needed : rows of the whole detector that `write` projects onto.
    read : the same, grown by the corrections' halo and cut at the detector's edges.
    """

    write: Box
    needed: ViewRows
    read: ViewRows

    @property
    def id(self) -> str:
        """Name of the block in the ledger."""
        return block_id_of(self.write.start[0], self.write.stop[0])


def block_id_of(start: int, stop: int) -> str:
    """Name of the block that writes volume rows [start, stop)."""
    return f"z{start:07d}-{stop:07d}"


def parse_block_id(block_id: str) -> tuple[int, int]:
    """First and last-plus-one volume row of the block that was named so."""
    start, stop = block_id.removeprefix("z").split("-")
    return int(start), int(stop)


@dataclass(frozen=True)
class MemoryNeed:
    """Declared memory of a block: `fixed` bytes, and `per_row` for each detector row read."""

    fixed: int
    per_row: int

    def bytes(self, rows: int) -> int:
        return self.fixed + self.per_row * rows


def rows_per_block(
    need: MemoryNeed, budget: int, chunk_rows: int, halo: int, bytes_per_row: int
) -> int:
    """Rows a block writes: whole chunks, enough for `TARGET_BYTES` and for the halo, if they fit.

    A halo is read and corrected for nothing: blocks four times as high keep that below a half.

    Raises
    ------
    MemoryBudgetError : not even one chunk row fits into `budget` bytes.
    """
    smallest = need.bytes(chunk_rows + 2 * halo)
    if smallest > budget:
        rows = max(0, (budget - need.fixed) // need.per_row - 2 * halo)
        hint = (
            f"take volume.chunk_rows={1 << (rows.bit_length() - 1)} or give each worker more memory"
            if rows >= 1
            else "give each worker more memory (--memory, fewer --workers)"
        )
        raise MemoryBudgetError(
            f"the smallest block, {chunk_rows} rows and a halo of {halo}, needs "
            f"{smallest / 2**30:.2f} GiB and a worker has {budget / 2**30:.2f} GiB: {hint}"
        )
    fits = (budget - need.fixed) // need.per_row - 2 * halo
    wanted = max(math.ceil(TARGET_BYTES / max(1, bytes_per_row)), HALO_WORTH * halo)
    chunks = max(1, min(fits // chunk_rows, math.ceil(wanted / chunk_rows)))
    return chunks * chunk_rows


def plan_blocks(
    shape: tuple[int, int, int],
    detector: ParallelBeam,
    *,
    first_row: int = 0,
    halo: int = 0,
    chunk_rows: int,
    block_rows: int,
    done: Collection[int] = (),
) -> list[Block]:
    """Blocks that write every chunk row not `done` of a (z, y, x) volume, each chunk row once.

    Parameters
    ----------
    detector : geometry of the whole detector.
    first_row : detector row of the volume's first row (where the scan is cropped).
    halo : rows that the corrections need above and below.
    chunk_rows, block_rows : rows of a shard; rows of a block, a multiple of them.
    done : indices of the chunk rows that need no work.
    """
    nz, ny, nx = shape
    todo = [index for index in range(math.ceil(nz / chunk_rows)) if index not in done]
    blocks = []
    for run in _runs(todo, block_rows // chunk_rows):
        start, stop = run[0] * chunk_rows, min(nz, (run[-1] + 1) * chunk_rows)
        write = Box((start, 0, 0), (stop, ny, nx))
        rows = detector.footprint(Box((first_row + start, 0, 0), (first_row + stop, ny, nx)))
        blocks.append(Block(write, rows, rows.grow(halo, detector.det_rows)))
    return blocks


def chunk_rows_done(block_ids: Collection[str], chunk_rows: int, num_rows: int) -> set[int]:
    """Indices of the chunk rows that the blocks named cover."""
    done: set[int] = set()
    for block_id in block_ids:
        start, stop = parse_block_id(block_id)
        last = math.ceil(num_rows / chunk_rows) if stop >= num_rows else stop // chunk_rows
        done.update(range(start // chunk_rows, last))
    return done


def _runs(indices: list[int], longest: int) -> list[list[int]]:
    """Consecutive indices, at most `longest` together and cut on multiples of it."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][-1] + 1 and index % longest:
            runs[-1].append(index)
        else:
            runs.append([index])
    return runs
