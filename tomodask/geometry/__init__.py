"""Where the rays go: volumes, projections, how they move, and what a box of voxels needs.

`ParallelBeam` is the aligned scan in detector pixels, slice by slice. `VolumeGeometry` and
`ProjectionGeometry` are any volume and any source and detector, a pose a view, in one world of
coordinates (z, y, x).
"""

from tomodask.geometry.astra_vectors import from_astra, to_astra
from tomodask.geometry.beam import ParallelBeam
from tomodask.geometry.boxes import Box, ViewRows
from tomodask.geometry.builders import (
    cone,
    cone_vec,
    helical,
    laminography,
    parallel,
    parallel_vec,
    posed,
    scatter,
    volume_vec,
)
from tomodask.geometry.footprints import Footprint, box_rows, check_visible, footprint
from tomodask.geometry.transforms import (
    Transform,
    concatenate,
    from_perspective,
    identity,
    reflect,
    rigid,
    rotate,
    scale,
    to_perspective,
    translate,
)
from tomodask.geometry.views import ProjectionGeometry
from tomodask.geometry.volumes import VolumeGeometry, volume
from tomodask.geometry.voxelviews import VoxelViews, in_voxels

__all__ = [
    "Box",
    "Footprint",
    "ParallelBeam",
    "ProjectionGeometry",
    "Transform",
    "ViewRows",
    "VolumeGeometry",
    "VoxelViews",
    "box_rows",
    "check_visible",
    "concatenate",
    "cone",
    "cone_vec",
    "footprint",
    "from_astra",
    "from_perspective",
    "helical",
    "identity",
    "in_voxels",
    "laminography",
    "parallel",
    "parallel_vec",
    "posed",
    "reflect",
    "rigid",
    "rotate",
    "scale",
    "scatter",
    "to_astra",
    "to_perspective",
    "translate",
    "volume",
    "volume_vec",
]
