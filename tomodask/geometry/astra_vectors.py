"""To and from ASTRA's dictionaries of volume and projection geometries, without ASTRA itself.

ASTRA's vectors are (x, y, z), ours (z, y, x). In three dimensions both worlds are the same: y grows
with the second index of a volume. In two dimensions ASTRA's y points up in an image, against the
rows; there y changes its sign between the worlds, so that the arrays stay as they are: an image and
its sinogram belong to ASTRA's geometry and to ours. A row of a detector and a slice of a volume
then are one voxel high (van Aarle et al. 2016, doi:10.1364/OE.24.025129).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from tomodask.errors import GeometryError
from tomodask.geometry.builders import cone, cone_vec, parallel, parallel_vec
from tomodask.geometry.transforms import reflect
from tomodask.geometry.views import ProjectionGeometry
from tomodask.geometry.volumes import VolumeGeometry, volume

_WINDOW = [(f"WindowMin{axis}", f"WindowMax{axis}") for axis in "ZYX"]
_COUNTS = ["GridSliceCount", "GridRowCount", "GridColCount"]


def to_astra(
    geometry: VolumeGeometry | ProjectionGeometry, *, dimensions: Literal[2, 3] = 3
) -> dict[str, Any]:
    """What ASTRA calls this volume or these views.

    Views become `parallel3d_vec` or `cone_vec`; in two dimensions `parallel_vec` or `fanflat_vec`.

    Parameters
    ----------
    dimensions : 2 for a volume of one slice, and views of one row in the plane z = 0.

    Raises
    ------
    GeometryError : a volume that moves or is turned, which ASTRA does not know: take both to the
        volume's frame, with `T = from_perspective(vol=volume)` as `T * volume`, `T * projections`;
        in two dimensions anything that is not in one plane.
    """
    if dimensions not in (2, 3):
        raise GeometryError(f"{dimensions} dimensions: ASTRA has geometries of 2 and of 3")
    if isinstance(geometry, VolumeGeometry):
        return _volume_to_astra(geometry, dimensions)
    if dimensions == 3:
        names = (geometry.source, geometry.det_pos, geometry.det_u, geometry.det_v)
        return {
            "type": "cone_vec" if geometry.is_cone else "parallel3d_vec",
            "DetectorRowCount": geometry.det_shape[0],
            "DetectorColCount": geometry.det_shape[1],
            "Vectors": np.concatenate([vectors[:, ::-1] for vectors in names], axis=1),
        }
    _check_in_plane(geometry)
    in_plane = (_mirrored(v)[:, :0:-1] for v in (geometry.source, geometry.det_pos, geometry.det_u))
    return {
        "type": "fanflat_vec" if geometry.is_cone else "parallel_vec",
        "DetectorCount": geometry.det_shape[1],
        "Vectors": np.concatenate(list(in_plane), axis=1),
    }


def from_astra(geometry: Mapping[str, Any]) -> VolumeGeometry | ProjectionGeometry:
    """The volume or the views that an ASTRA dictionary describes.

    Volumes of two and three dimensions; projections of type parallel, parallel_vec, fanflat,
    fanflat_vec, parallel3d, parallel3d_vec, cone, cone_vec.

    Raises
    ------
    GeometryError : another type, or a dictionary in which something is missing.
    """
    try:
        if "GridColCount" in geometry:
            return _volume_from_astra(geometry)
        kind = geometry["type"]
        if kind not in _READERS:
            raise GeometryError(
                f"ASTRA's geometry {kind!r} can't be read: there are {', '.join(_READERS)}"
            )
        return _READERS[kind](geometry)
    except KeyError as error:
        raise GeometryError(
            f"no geometry of ASTRA: {error} is missing among {sorted(geometry)}"
        ) from error


def _volume_to_astra(geometry: VolumeGeometry, dimensions: int) -> dict[str, Any]:
    still = geometry[0]
    is_resting = all(
        np.allclose(getattr(geometry, n), getattr(still, n), rtol=0, atol=1e-9 * still.size.max())
        for n in ("pos", "w", "v", "u")
    )
    is_aligned = np.allclose(
        still.axes[0], np.diag(still.voxel_size[0]), rtol=0, atol=1e-9 * still.voxel_size.min()
    )
    if not (is_resting and is_aligned):
        raise GeometryError(
            f"ASTRA's volumes rest along x, y and z; this one has {geometry.num_steps} steps and "
            f"voxels along {geometry.axes[0].tolist()}: take volume and views to its frame first, "
            "with T = from_perspective(vol=volume), T * volume, T * projections"
        )
    if dimensions == 2 and geometry.shape[0] != 1:
        raise GeometryError(
            f"a volume of shape {geometry.shape} is no image: one slice is expected"
        )
    middle = _mirrored(still.pos)[0] if dimensions == 2 else still.pos[0]
    used = slice(3 - dimensions, 3)
    window = {}
    for (low, high), pos, size in zip(
        _WINDOW[used], middle[used], still.size[0, used], strict=True
    ):
        window[low], window[high] = float(pos - size / 2), float(pos + size / 2)
    return {"option": window, **dict(zip(_COUNTS[used], list(geometry.shape)[used], strict=True))}


def _volume_from_astra(geometry: Mapping[str, Any]) -> VolumeGeometry:
    flat = "GridSliceCount" not in geometry
    nz, ny, nx = (int(geometry.get(name, 1)) for name in _COUNTS)
    option = geometry["option"]
    y, x = (tuple(float(option[name]) for name in names) for names in _WINDOW[1:])
    if flat:
        height = (x[1] - x[0]) / nx
        return volume(shape=(1, ny, nx), extent=((-height / 2, height / 2), (-y[1], -y[0]), x))
    z = tuple(float(option[name]) for name in _WINDOW[0])
    return volume(shape=(nz, ny, nx), extent=(z, y, x))


def _vectors(geometry: Mapping[str, Any], width: int) -> list[np.ndarray]:
    """The vectors of a dictionary as lists of (z, y, x)."""
    vectors = np.asarray(geometry["Vectors"], dtype=np.float64)
    if vectors.ndim != 2 or vectors.shape[1] != width:
        raise GeometryError(
            f"vectors of shape {vectors.shape} in ASTRA's {geometry['type']}: (num_angles, {width})"
        )
    count = width // (3 if width == 12 else 2)
    parts = np.split(vectors, [k * width // count for k in range(1, count)], axis=1)
    if width == 12:
        return [part[:, ::-1] for part in parts]
    return [np.stack([np.zeros(len(p)), -p[:, 1], p[:, 0]], axis=1) for p in parts]


def _from_vectors(geometry: Mapping[str, Any], kind: Literal["cone", "parallel"]) -> Any:
    source, pos, u, v = _vectors(geometry, 12)
    shape = int(geometry["DetectorRowCount"]), int(geometry["DetectorColCount"])
    if kind == "cone":
        return cone_vec(shape=shape, src_pos=source, det_pos=pos, det_v=v, det_u=u)
    return parallel_vec(shape=shape, ray_dir=source, det_pos=pos, det_v=v, det_u=u)


def _from_flat_vectors(geometry: Mapping[str, Any], kind: Literal["cone", "parallel"]) -> Any:
    source, pos, u = _vectors(geometry, 6)
    shape = 1, int(geometry["DetectorCount"])
    v = np.linalg.norm(u, axis=1, keepdims=True) * (1.0, 0.0, 0.0)
    if kind == "cone":
        return cone_vec(shape=shape, src_pos=source, det_pos=pos, det_v=v, det_u=u)
    return parallel_vec(shape=shape, ray_dir=source, det_pos=pos, det_v=v, det_u=u)


def _detector(geometry: Mapping[str, Any]) -> dict[str, Any]:
    """Angles, shape and size of a detector that turns around the origin."""
    if "DetectorCount" in geometry:
        rows, columns = 1, int(geometry["DetectorCount"])
        height = width = float(geometry["DetectorWidth"])
    else:
        rows, columns = int(geometry["DetectorRowCount"]), int(geometry["DetectorColCount"])
        height, width = float(geometry["DetectorSpacingY"]), float(geometry["DetectorSpacingX"])
    angles = np.atleast_1d(np.asarray(geometry["ProjectionAngles"], dtype=np.float64))
    return {"angles": angles, "shape": (rows, columns), "size": (rows * height, columns * width)}


def _circular_cone(geometry: Mapping[str, Any]) -> ProjectionGeometry:
    near = float(geometry["DistanceOriginSource"])
    far = near + float(geometry["DistanceOriginDetector"])
    return cone(**_detector(geometry), src_orig_dist=near, src_det_dist=far)


_UP = reflect(axis=(0, 1, 0))  # y as ASTRA has it in an image

_READERS: dict[str, Callable[[Mapping[str, Any]], ProjectionGeometry]] = {
    "parallel": lambda g: _UP * parallel(**_detector(g)),
    "parallel_vec": lambda g: _from_flat_vectors(g, "parallel"),
    "fanflat": lambda g: _UP * _circular_cone(g),
    "fanflat_vec": lambda g: _from_flat_vectors(g, "cone"),
    "parallel3d": lambda g: parallel(**_detector(g)),
    "parallel3d_vec": lambda g: _from_vectors(g, "parallel"),
    "cone": _circular_cone,
    "cone_vec": lambda g: _from_vectors(g, "cone"),
}


def _mirrored(vectors: np.ndarray) -> np.ndarray:
    return vectors * (1.0, -1.0, 1.0)


def _check_in_plane(projections: ProjectionGeometry) -> None:
    """Raise unless views of one row lie in the plane z = 0."""
    pixel = projections.det_pixel_size.min()
    vectors = (projections.source, projections.det_pos, projections.det_u)
    heights = np.stack([v[:, 0] for v in vectors], axis=1)
    leaning = np.abs(projections.det_v[:, 1:]).max(axis=1)
    off = np.abs(np.c_[heights, leaning]).max(axis=1) > 1e-9 * pixel
    if projections.det_shape[0] != 1 or off.any():
        view = int(np.flatnonzero(off)[0]) if off.any() else 0
        raise GeometryError(
            f"views of {projections.det_shape[0]} rows, view {view} with source "
            f"{projections.source[view]}, det_pos {projections.det_pos[view]}, det_v "
            f"{projections.det_v[view]} and det_u {projections.det_u[view]} (z, y, x): in two "
            "dimensions ASTRA takes one row in the plane z = 0"
        )
