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
    "Projections": "tomodask.projections:Projections",
    "open_source": "tomodask.ingest:open_source",
    "Scan": "tomodask.scan:Scan",
    "CORRECTIONS": "tomodask.preprocess:CORRECTIONS",
    "find_center": "tomodask.calibrate:find_center",
    "BACKENDS": "tomodask.projectors:BACKENDS",
    "make_projector": "tomodask.projectors:make_projector",
    "ALGORITHMS": "tomodask.reconstruct:ALGORITHMS",
    "FBP": "tomodask.reconstruct:FBP",
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
