"""Algorithms on arrays larger than memory: the same code, block by block, on a Dask cluster.

An algorithm is called with a `StoredArray` and a `StoredOperator` instead of arrays in memory and
an operator of them. What it asks for is done as stages of small tasks, and noted in a journal: the
same call goes on after a kill at the block where it stopped, and gives the same bytes.

On the disk are the projections, what the algorithm keeps (SIRT: two weights, x), and the results of
one operation: of SIRT about four volumes and four times the projections.
"""

from tomodask.blockwise.chunkfiles import ChunkFiles
from tomodask.blockwise.operator import StoredOperator
from tomodask.blockwise.run import reconstruct_blockwise
from tomodask.blockwise.stored import StoredArray, scratch_bytes
from tomodask.blockwise.workspace import Workspace

__all__ = [
    "ChunkFiles",
    "StoredArray",
    "StoredOperator",
    "Workspace",
    "reconstruct_blockwise",
    "scratch_bytes",
]
