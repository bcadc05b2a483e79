"""What is in any file or store, in words: raw scans, scan stores, Zarr stacks, volumes, recipes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tomodask.errors import AnglesError, UnfinishedError
from tomodask.ingest import describe as describe_source
from tomodask.ingest import open_source
from tomodask.ingest.convert import scan_metadata
from tomodask.ingest.formats import recognise
from tomodask.ingest.source import SourceOptions
from tomodask.layers import recipe_file, resolve
from tomodask.scan import Scan, is_zarr
from tomodask.volumestore import Volume, volume_metadata


def info(path: str | Path, options: SourceOptions | None = None) -> dict[str, str]:
    """Facts about a file or store, by name.

    Raises
    ------
    MissingInputError, FormatError : nothing is there, or nothing that tomodask reads.
    """
    path = Path(path)
    if path.suffix in (".yaml", ".yml"):
        return _recipe(path)
    if not is_zarr(path):
        return _raw(path, options or SourceOptions())
    metadata = volume_metadata(path)
    if metadata is not None:
        return _volume(Volume.open(path), metadata)
    return _scan(path)


def _raw(path: Path, options: SourceOptions) -> dict[str, str]:
    try:
        return dict(describe_source(open_source(path, options)))
    except AnglesError as error:  # all else can be told without them
        return {"input": str(path), "format": recognise(path), "angles": str(error)}


def _recipe(path: Path) -> dict[str, str]:
    layer = recipe_file(path)
    recipe, _ = resolve([layer])
    set_here = ", ".join(layer.settings)
    return {
        "what": "recipe of tomodask",
        "source": recipe.source or "not named",
        "output": recipe.output or "not named",
        "settings": set_here,
    }


def _scan(path: Path) -> dict[str, str]:
    own = scan_metadata(path)
    try:
        scan = Scan.open(path)
    except UnfinishedError as error:
        return {"what": "scan store, unfinished", "what to do": str(error)}
    angles = np.rad2deg(scan.geometry.angles)
    frames, rows, columns = scan.stored_shape
    facts = {
        "what": "scan store of tomodask" if own else "Zarr stack, read in place",
        "projections": f"{frames} frames of {rows} x {columns} pixels, {scan.dtype}",
        "angles": f"{angles.size}, {angles[0]:.3f} to {angles[-1]:.3f} degrees",
        "flats": str(scan.num_flats),
        "darks": str(scan.num_darks),
        "pixel size": _length(scan.geometry.pixel_size_um),
        "signal": scan.signal,
        "chunks": f"{scan.chunk_shape} in shards of {scan.shard_shape}",
    }
    if own:
        facts["source"] = str(own.get("source", ""))
    return {**facts, **{name: str(value) for name, value in scan.metadata.items()}}


def _volume(volume: Volume, metadata: Mapping[str, Any]) -> dict[str, str]:
    spec, geometry = volume.spec, metadata.get("geometry", {})
    recipe = metadata.get("recipe", {})
    return {
        "what": "volume of tomodask, OME-Zarr 0.5",
        "complete": "yes" if metadata.get("complete") else "no: run the same command again",
        "shape": f"{spec.shape[0]} x {spec.shape[1]} x {spec.shape[2]} voxels (z, y, x), float32",
        "levels": str(volume.num_levels),
        "values": spec.value_unit,
        "voxel size": _length(spec.voxel_size_um),
        "center of rotation": str(geometry.get("center_of_rotation", "")),
        "source": str(recipe.get("source", "")),
        "algorithm": ", ".join(recipe.get("algorithm", {})) + f" by {recipe.get('backend', '')}",
        "made with": f"tomodask {metadata.get('versions', {}).get('tomodask', '?')}",
    }


def _length(size_um: float | None) -> str:
    return "unknown" if size_um is None else f"{size_um:g} um"
