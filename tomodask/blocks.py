"""Cutting a volume into blocks: the boxes of voxels that one task owns alone.

A block is a run of whole chunk rows (the rows that one shard spans), so two tasks never share a
shard. Done is remembered by chunk row, so a run may be resumed with another memory budget, which
cuts other blocks: the bytes are the same.

Within a task a block is worked through in sub-blocks, again runs of whole chunk rows: one is read
while another is reconstructed and a third is written. Memory decides how high a sub-block is, the
number of workers how many of them make a block.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

from tomodask.errors import MemoryBudgetError
from tomodask.garbage import collector_paused
from tomodask.geometry import Box, ParallelBeam, ViewRows

HALO_WORTH = 4  # rows written for each row of halo on one side
SUB_BYTES = 4 * 2**20  # of a sub-block at least: less, and opening files begins to show
TARGET_BYTES = 2**30  # of a block at most: seconds of work, all that a killed worker costs
BLOCKS_A_WORKER = 4  # where rows are enough, so that no worker waits long at the end
SUBS_A_BLOCK = 4  # where rows are enough: filling and draining the pipe costs a part of one


@dataclass(frozen=True, slots=True)
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


def rows_per_sub_block(
    need: Callable[[int], int],
    budget: int,
    chunk_rows: int,
    halo: int,
    bytes_per_row: int,
    grain: int = 1,
) -> int:
    """Rows that are worked on together: whole chunks, enough to be worth a halo, if they fit.

    A halo is read and corrected for nothing: sub-blocks four times as high keep that below a half.

    Parameters
    ----------
    need : declared bytes for so many rows, their halo and what goes on beside them included.
    bytes_per_row : of the volume.
    grain : detector rows that are decoded together: multiples of it decode none twice.

    Raises
    ------
    MemoryBudgetError : not even one chunk row fits into `budget` bytes.
    """
    if need(chunk_rows) > budget:
        smaller = [1 << bit for bit in range(chunk_rows.bit_length()) if 1 << bit < chunk_rows]
        rows = max((rows for rows in smaller if need(rows) <= budget), default=0)
        hint = (
            f"take volume.chunk_rows={rows} or give each worker more memory"
            if rows
            else "give each worker more memory (--memory, fewer --workers)"
        )
        raise MemoryBudgetError(
            f"the smallest block, {chunk_rows} rows and a halo of {halo}, needs "
            f"{need(chunk_rows) / 2**30:.2f} GiB and a worker has {budget / 2**30:.2f} GiB: {hint}"
        )
    bytes_per_row = max(1, bytes_per_row)
    enough = math.ceil(min(SUB_BYTES, TARGET_BYTES) / bytes_per_row)
    wanted = math.ceil(max(enough, HALO_WORTH * halo) / chunk_rows) * chunk_rows
    step = math.lcm(chunk_rows, grain)
    whole = math.ceil(wanted / step) * step
    if need(whole) <= budget and whole * bytes_per_row <= TARGET_BYTES:
        return whole
    while need(wanted) > budget:
        wanted -= chunk_rows
    return wanted


def rows_per_block(sub_rows: int, num_rows: int, workers: int, bytes_per_row: int) -> int:
    """Rows that one task writes: a whole number of sub-blocks.

    `SUBS_A_BLOCK` of them, as long as every worker has a block; more where each would have more
    than `BLOCKS_A_WORKER` blocks; never more than `TARGET_BYTES`.
    """
    a_worker = max(1, math.ceil(num_rows / sub_rows) // max(1, workers))
    wanted = max(math.ceil(a_worker / BLOCKS_A_WORKER), min(SUBS_A_BLOCK, a_worker))
    most = TARGET_BYTES // (sub_rows * max(1, bytes_per_row))
    return sub_rows * max(1, min(wanted, most))


def sub_blocks(block: Block, sub_rows: int, halo: int, det_rows: int) -> list[Block]:
    """A block in runs of `sub_rows` rows, from its first on; each reads its own halo."""
    start, stop = block.write.rows
    first_row = block.needed.start - start  # of the volume, on the detector
    _, ny, nx = block.write.stop
    parts = []
    for low in range(start, stop, sub_rows):
        high = min(stop, low + sub_rows)
        rows = ViewRows(first_row + low, first_row + high)
        parts.append(Block(Box((low, 0, 0), (high, ny, nx)), rows, rows.grow(halo, det_rows)))
    return parts


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
    with collector_paused():
        return _cut(shape, detector, first_row, halo, chunk_rows, block_rows, done)


def _cut(
    shape: tuple[int, int, int],
    detector: ParallelBeam,
    first_row: int,
    halo: int,
    chunk_rows: int,
    block_rows: int,
    done: Collection[int],
) -> list[Block]:
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
