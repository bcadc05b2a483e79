"""Any algorithm on arrays larger than memory: A, A.T and arithmetic, block by block on a cluster.

`reconstruct_blockwise` runs an algorithm as it is written, on arrays that lie on a disk:

- `scratch`: their files. `trees`: formulas as a task gets them. `tasks`: what one task does.
- `workspace`: operations in their order, with a journal, so that a killed run goes on.
- `arrays`, `passes`: arithmetic, inner products and stencils of stored arrays.
- `plan`, `operator`, `fdk`: A and A.T, cut into blocks by footprints and memory.
"""

from tomodask.blockwise.arrays import StoredArray
from tomodask.blockwise.fdk import fdk_blockwise
from tomodask.blockwise.operator import StoredOperator
from tomodask.blockwise.reconstruct import reconstruct_blockwise, stored
from tomodask.blockwise.workspace import Workspace, forget, open_workspace

__all__ = [
    "StoredArray",
    "StoredOperator",
    "Workspace",
    "fdk_blockwise",
    "forget",
    "open_workspace",
    "reconstruct_blockwise",
    "stored",
]
