"""Where the rays go: volumes, projections, how they move, and what a box of voxels needs.

`ParallelBeam` is the aligned scan in detector pixels, slice by slice. `VolumeGeometry` and
`ProjectionGeometry` are any volume and any source and detector, a pose a view, in one world of
coordinates (z, y, x).
"""

from tomodask.geometry.beam import ParallelBeam
from tomodask.geometry.boxes import Box, ViewRows
from tomodask.geometry.views import ProjectionGeometry
from tomodask.geometry.volumes import VolumeGeometry, volume
from tomodask.geometry.voxelviews import VoxelViews, in_voxels

__all__ = [
    "Box",
    "ParallelBeam",
    "ProjectionGeometry",
    "ViewRows",
    "VolumeGeometry",
    "VoxelViews",
    "in_voxels",
    "volume",
]
