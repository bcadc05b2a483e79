"""What a block will need: declared memory, stage by stage, before anything is submitted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tomodask.blocks import MemoryNeed
from tomodask.preprocess import Correction
from tomodask.projectors import memory_need
from tomodask.reconstruct import Reconstructor
from tomodask.scan import Scan

FLOAT32 = np.dtype(np.float32).itemsize
PYRAMID_SHARE = 1 / 7  # 1/8 + 1/64 + ... of a level's voxels, made while the block is in memory
PROBED_ROWS = 32  # what is declared for so many rows is taken to grow with them
ENCODE_COPIES = 2  # a shard is laid out chunk by chunk, then as one file


def need_of_blocks(
    scan: Scan,
    columns: tuple[int, int],
    corrections: Sequence[Correction],
    algorithm: Reconstructor,
    backend: str,
    threads: int,
) -> MemoryNeed:
    """Declared memory of a block: the largest of reading, correcting, reconstructing, writing.

    columns : detector columns that a block uses; slices are as wide and as high.
    """
    geometry = scan.geometry.take_columns(*columns)
    width, num_angles = geometry.det_count, geometry.num_angles
    raw, corrected = num_angles * width * scan.dtype.itemsize, num_angles * width * FLOAT32
    volume = width * width * FLOAT32
    projector = memory_need(backend, geometry, (width, width), threads)
    rows = min(PROBED_ROWS, geometry.det_rows)
    working = [correct.working_bytes((num_angles, rows, width)) // rows for correct in corrections]
    reading = scan.memory_bytes((0, rows)) // rows
    correcting = max(raw, corrected) + max(working, default=0)  # a correction makes a new block
    reconstructing = corrected + projector.per_row + algorithm.row_bytes(geometry) + volume
    writing = round(volume * (1 + PYRAMID_SHARE + ENCODE_COPIES))
    return MemoryNeed(projector.fixed, max(reading, correcting, reconstructing, writing))
