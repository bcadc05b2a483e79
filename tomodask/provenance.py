"""What made a result: versions, and which settings of two recipes differ."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tomodask.cluster.membership import installed
from tomodask.geometry import ParallelBeam
from tomodask.recipe import Recipe

PACKAGES = (
    "tomodask",
    "numpy",
    "scipy",
    "finufft",
    "astra-toolbox",
    "zarr",
    "dask",
    "distributed",
    "h5py",
    "torch",
)
NOT_NUMERIC = ("source", "output", "scan", "cluster", "overwrite")


def versions() -> dict[str, str]:
    """Python and the packages that a result's numbers come from; those not installed are absent."""
    return {"python": platform.python_version(), **installed(PACKAGES)}


def describe_geometry(geometry: ParallelBeam, recipe: Recipe, center: float) -> dict[str, Any]:
    """What is kept of a scan's geometry with a volume; degrees, as people read it."""
    angles = recipe.angle_sign * np.rad2deg(geometry.angles)
    return {
        "beam": "parallel",
        "center_of_rotation": center,
        "center_slope": recipe.center_slope,
        "num_angles": geometry.num_angles,
        "first_angle_deg": round(float(angles[0]), 6),
        "last_angle_deg": round(float(angles[-1]), 6),
        "pixel_size_um": geometry.pixel_size_um,
        "rows": list(recipe.rows or (0, geometry.det_rows)),
        "columns": list(recipe.columns or (0, geometry.det_count)),
    }


def differing_keys(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """'rows: None then, [0, 8] now; ...' for settings that decide the result."""
    old, new = dict(_leaves(before)), dict(_leaves(now))
    changed = [
        f"{key}: {old.get(key)} then, {new.get(key)} now"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and key.split(".")[0] not in NOT_NUMERIC
    ]
    return "; ".join(changed) or "the same settings, so the input or the centre found differs"


def _leaves(tree: object, at: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _leaves(value, f"{at}.{key}" if at else str(key))
    elif isinstance(tree, list) and any(isinstance(item, Mapping) for item in tree):
        for item in tree:
            yield from _leaves(item, at)
    else:
        yield at, tree
