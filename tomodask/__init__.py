"""tomodask: X-ray tomography at scale, from raw detector files to OME-Zarr volumes, on Dask.

The public names load on first use (PEP 562), so that `import tomodask` stays quick.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# In the order of the data's path.
_PUBLIC = {
    "steps": "tomodask.steps",
    "Recipe": "tomodask.recipe:Recipe",
    "ParallelBeam": "tomodask.geometry:ParallelBeam",
    "Box": "tomodask.geometry:Box",
    "volume": "tomodask.geometry:volume",
    "volume_vec": "tomodask.geometry:volume_vec",
    "parallel": "tomodask.geometry:parallel",
    "cone": "tomodask.geometry:cone",
    "laminography": "tomodask.geometry:laminography",
    "helical": "tomodask.geometry:helical",
    "scatter": "tomodask.geometry:scatter",
    "parallel_vec": "tomodask.geometry:parallel_vec",
    "cone_vec": "tomodask.geometry:cone_vec",
    "posed": "tomodask.geometry:posed",
    "rigid": "tomodask.geometry:rigid",
    "identity": "tomodask.geometry:identity",
    "translate": "tomodask.geometry:translate",
    "rotate": "tomodask.geometry:rotate",
    "scale": "tomodask.geometry:scale",
    "reflect": "tomodask.geometry:reflect",
    "to_perspective": "tomodask.geometry:to_perspective",
    "from_perspective": "tomodask.geometry:from_perspective",
    "concatenate": "tomodask.geometry:concatenate",
    "to_astra": "tomodask.geometry:to_astra",
    "from_astra": "tomodask.geometry:from_astra",
    "picture": "tomodask.geometry_picture:picture",
    "footprint": "tomodask.geometry:footprint",
    "VolumeGeometry": "tomodask.geometry:VolumeGeometry",
    "ProjectionGeometry": "tomodask.geometry:ProjectionGeometry",
    "Transform": "tomodask.geometry:Transform",
    "Projections": "tomodask.projections:Projections",
    "open_source": "tomodask.ingest:open_source",
    "Scan": "tomodask.scan:Scan",
    "CORRECTIONS": "tomodask.preprocess:CORRECTIONS",
    "find_center": "tomodask.calibrate:find_center",
    "BACKENDS": "tomodask.projectors:BACKENDS",
    "operator": "tomodask.projectors.operator:operator",
    "make_projector": "tomodask.projectors:make_projector",
    "ALGORITHMS": "tomodask.reconstruct:ALGORITHMS",
    "FBP": "tomodask.reconstruct:FBP",
    "SIRT": "tomodask.reconstruct:SIRT",
    "PDHGTV": "tomodask.reconstruct:PDHGTV",
    "FISTATV": "tomodask.reconstruct:FISTATV",
    "FDK": "tomodask.reconstruct:FDK",
    "SART": "tomodask.reconstruct:SART",
    "CGLS": "tomodask.reconstruct:CGLS",
    "LSQR": "tomodask.reconstruct:LSQR",
    "MLEM": "tomodask.reconstruct:MLEM",
    "History": "tomodask.reconstruct:History",
    "Volume": "tomodask.volumestore:Volume",
    "open_volume": "tomodask.query:open_volume",
    "open_scan": "tomodask.query:open_scan",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, member = _PUBLIC[name].partition(":")
    found = import_module(module)
    return getattr(found, member) if member else found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
