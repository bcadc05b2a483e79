"""What a block will need: declared memory, stage by stage, before anything is submitted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tomodask.blocks import MemoryNeed
from tomodask.geometry import ParallelBeam
from tomodask.preprocess import Correction
from tomodask.projectors import memory_need

FLOAT32 = np.dtype(np.float32).itemsize
PYRAMID_SHARE = 1 / 7  # 1/8 + 1/64 + ... of a level's voxels, made while the block is in memory
ENCODE_COPIES = 2  # a shard is laid out chunk by chunk, then as one file


def need_of_blocks(
    geometry: ParallelBeam,
    slice_shape: tuple[int, int],
    dtype: np.dtype,
    corrections: Sequence[Correction],
    backend: str,
    threads: int,
) -> MemoryNeed:
    """Declared memory of a block: the largest of reading, correcting, reconstructing, writing.

    Parameters
    ----------
    geometry : views and columns that a block reads.
    slice_shape : (y, x) voxels of a slice.
    dtype : of the raw counts.
    """
    samples = geometry.num_angles * geometry.det_count
    voxels = slice_shape[0] * slice_shape[1]
    raw, corrected = samples * np.dtype(dtype).itemsize, samples * FLOAT32
    volume = voxels * FLOAT32
    working = max(
        (
            correction.working_bytes((geometry.num_angles, 32, geometry.det_count)) // 32
            for correction in corrections
        ),
        default=0,
    )
    projector = memory_need(backend, geometry, slice_shape, threads)
    correcting = raw + corrected + working
    reconstructing = corrected + projector.per_row + volume
    writing = round(volume * (1 + PYRAMID_SHARE + ENCODE_COPIES))
    return MemoryNeed(projector.fixed, max(correcting, reconstructing, writing))
