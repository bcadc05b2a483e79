"""A look in seconds: three orthogonal cuts or one slice, from raw files, scan stores or volumes.

Three cuts need rows all over the detector; a preview takes some of the rows, views and columns, so
that its cost does not grow with the scan. Corrections that need neighbouring rows are left out.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from tomodask.calibrate import CenterEstimate
from tomodask.errors import InputError
from tomodask.geometry import ParallelBeam
from tomodask.ingest.raw import RawScan
from tomodask.pictures import Cut, save_center, save_cuts
from tomodask.projectors import make_projector
from tomodask.recipe import Recipe
from tomodask.samples import (
    corrected_sinograms,
    find_center_of,
    open_input,
    read_spread,
    slab,
    slice_range,
)
from tomodask.scan import Scan
from tomodask.volumestore import Volume, volume_metadata

CUT_ROWS = 96  # rows of a vertical cut
CUT_COLUMNS = 512  # columns are binned to at most so many
VIEWS_PER_COLUMN = 1.57  # pi / 2: enough views for a full slice
THIN = 16  # a vertical cut of fewer rows than this part of its width shows nothing
SIDE_STEPS = (-2.0, -1.0, 0.0, 1.0, 2.0)  # pixels beside the centre, for its picture


def preview(recipe: Recipe, picture: Path, row: int | None = None) -> dict[str, Any]:
    """Write a PNG of `recipe.source`: one detector row at full size, or three cuts.

    Returns what is shown: centre, rows, grey range, seconds.
    """
    began = time.perf_counter()
    source = recipe.source or ""
    if volume_metadata(source) is not None:
        answer = _preview_volume(Volume.open(source), picture, row)
    else:
        scan = open_input(recipe)
        answer = (
            _preview_cuts(scan, recipe, picture)
            if row is None
            else _preview_slice(scan, recipe, picture, row)
        )
    return {"picture": str(picture), **answer, "seconds": round(time.perf_counter() - began, 2)}


def _preview_volume(volume: Volume, picture: Path, row: int | None) -> dict[str, Any]:
    nz, ny, nx = volume.spec.shape
    if row is not None:
        _check_row(row, nz)
        cuts = [Cut(volume.read(0, slice(row, row + 1), slice(0, ny), slice(0, nx))[0], f"z {row}")]
    else:
        level = volume.level_at_most(CUT_COLUMNS)
        cuts = _three(volume.read_level(level))
    low, high = save_cuts(picture, cuts, volume.spec.value_unit, Path(volume.path).name)
    return {"grey_range": [low, high]}


def _preview_slice(scan: Scan | RawScan, recipe: Recipe, picture: Path, row: int) -> dict[str, Any]:
    _check_row(row, scan.geometry.det_rows)
    column = _center(scan, recipe)
    sinograms, geometry = corrected_sinograms(scan, recipe, row, row + 1)
    image = _reconstruct(recipe, sinograms, geometry.with_center(column))[0]
    title = f"row {row}, centre {column:.2f}"
    low, high = save_cuts(picture, [Cut(image, title)], geometry.value_unit)
    return {"row": row, "center": column, "grey_range": [low, high]}


def _preview_cuts(scan: Scan | RawScan, recipe: Recipe, picture: Path) -> dict[str, Any]:
    first, last = slice_range(recipe, scan.geometry)
    rows = np.unique(np.linspace(first, last - 1, min(CUT_ROWS, last - first)).round().astype(int))
    binning = -(-scan.geometry.det_count // CUT_COLUMNS)
    width = scan.geometry.det_count // binning
    step = max(1, int(scan.geometry.num_angles / (VIEWS_PER_COLUMN * width)))
    column = _center(scan, recipe)
    sinograms, geometry = read_spread(scan, recipe, rows, step)
    sinograms, geometry = bin_columns(sinograms, geometry.with_center(column), binning)
    cuts = _three(_reconstruct(recipe, sinograms, geometry))
    title = f"every {(last - first) / len(rows):.3g} rows, columns / {binning}, views / {step}"
    low, high = save_cuts(picture, cuts, geometry.value_unit, f"centre {column:.2f}; {title}")
    return {"rows": len(rows), "center": column, "grey_range": [low, high]}


def center_picture(recipe: Recipe, estimate: CenterEstimate, picture: Path) -> None:
    """Draw the metric of a centre search, and a slice at the centre and beside it."""
    scan = open_input(recipe)
    first, last = slice_range(recipe, scan.geometry)
    row = (first + last) // 2
    sinograms, geometry = corrected_sinograms(scan, recipe, row, row + 1)
    offset = recipe.columns[0] if recipe.columns else 0
    binning = -(-geometry.det_count // CUT_COLUMNS)
    slices = []
    for step in SIDE_STEPS:
        beam = geometry.with_center(estimate.center - offset + step)
        image = _reconstruct(recipe, *bin_columns(sinograms, beam, binning))[0]
        slices.append(Cut(image, f"{estimate.center + step:.2f}"))
    save_center(
        picture,
        estimate.candidates,
        estimate.metric,
        estimate.center,
        slices,
        f"{estimate.method}: {estimate.center:.2f} +- {estimate.uncertainty:.2f}; row {row} below",
    )


def bin_columns(
    sinograms: np.ndarray, geometry: ParallelBeam, binning: int
) -> tuple[np.ndarray, ParallelBeam]:
    """Average `binning` columns into one; surplus columns at the right end are dropped."""
    if binning == 1:
        return sinograms, geometry
    rows, views, columns = sinograms.shape
    width = columns // binning
    shape = (rows, views, width, binning)
    binned = sinograms[:, :, : width * binning].reshape(shape).mean(axis=3, dtype=np.float32)
    center = geometry.center_of_rotation
    size = geometry.pixel_size_um
    moved = ParallelBeam(
        geometry.angles,
        rows,
        width,
        center_of_rotation=None if center is None else (center + 0.5) / binning - 0.5,
        pixel_size_um=None if size is None else size * binning,
    )
    if size is None:  # line integrals counted in small pixels: values stay 1/(small pixel)
        binned /= binning
    return binned, moved


def _reconstruct(recipe: Recipe, sinograms: np.ndarray, geometry: ParallelBeam) -> np.ndarray:
    A = make_projector(slab(geometry), geometry, recipe.backend)
    return np.asarray(recipe.reconstructor()(np.ascontiguousarray(sinograms), A))


def _center(scan: Scan | RawScan, recipe: Recipe) -> float:
    """Column of the axis, counted from the first column used."""
    offset = recipe.columns[0] if recipe.columns else 0
    if recipe.center != "auto":
        return float(recipe.center) - offset
    return find_center_of(scan, recipe).center - offset


def _three(volume: np.ndarray) -> list[Cut]:
    """Three orthogonal cuts; of a volume of a few rows, the slice alone."""
    nz, ny, nx = volume.shape
    if nz * THIN < max(ny, nx):
        return [Cut(volume[nz // 2], "z middle", ("y", "x"))]
    return [
        Cut(volume[nz // 2], "z middle", ("y", "x")),
        Cut(volume[:, ny // 2], "y middle", ("z", "x")),
        Cut(volume[:, :, nx // 2], "x middle", ("z", "y")),
    ]


def _check_row(row: int, rows: int) -> None:
    if not 0 <= row < rows:
        raise InputError(f"slice {row} asked of {rows} rows: give 0 to {rows - 1}")
