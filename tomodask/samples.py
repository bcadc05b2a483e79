"""Corrected rows of a scan, in this process: what a centre search and a preview look at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from tomodask.calibrate import CenterEstimate, find_center
from tomodask.errors import InputError
from tomodask.geometry import Box, ParallelBeam
from tomodask.ingest import open_source
from tomodask.ingest.raw import RawScan
from tomodask.preprocess import Correction, apply_corrections
from tomodask.preprocess.phase import Paganin
from tomodask.projections import Projections
from tomodask.recipe import Recipe
from tomodask.scan import Scan, is_zarr
from tomodask.spread import read_rows as read_rows_of

CENTER_ROWS = 32  # detector rows that vote for the centre of rotation
CENTER_GROUPS = 8  # they are read in groups, as each read costs a whole inner chunk of rows
CENTER_BYTES = 512 * 2**20  # and never more than this


def open_input(recipe: Recipe) -> Scan | RawScan:
    """The source as it lies on the disk, a Zarr store or raw files; nothing is copied."""
    source = required(recipe.source, "source")
    if is_zarr(source):
        return Scan.open(source)
    options = recipe.ingest
    return RawScan(open_source(source, options), options.rotate_detector, options.flip)


def center(recipe: Recipe) -> CenterEstimate:
    """The centre of rotation, found from corrected rows all over the detector."""
    return find_center_of(open_input(recipe), recipe)


def find_center_of(scan: Scan | RawScan, recipe: Recipe) -> CenterEstimate:
    """The centre of rotation of a scan, in columns of the whole detector."""
    sinograms, geometry = center_sinograms(scan, recipe)
    estimate = find_center(sinograms, geometry)
    return estimate.shifted(column_range(recipe, scan.geometry)[0])


def center_sinograms(scan: Scan | RawScan, recipe: Recipe) -> tuple[np.ndarray, ParallelBeam]:
    """Corrected sinograms (row, angle, column) of rows spread over those to reconstruct."""
    starts, height = center_bands(scan, recipe)
    if isinstance(scan, RawScan):  # each read goes through all frames: one for all groups
        rows = np.unique((starts[:, None] + np.arange(height)).ravel())
        return read_spread(scan, recipe, rows)
    parts = [corrected_sinograms(scan, recipe, int(s), int(s) + height) for s in starts]
    return np.concatenate([sinograms for sinograms, _ in parts]), parts[0][1]


def center_bands(scan: Scan | RawScan, recipe: Recipe) -> tuple[np.ndarray, int]:
    """First detector rows of the bands that vote for the centre, and the height of each."""
    first, last = slice_range(recipe, scan.geometry)
    columns = column_range(recipe, scan.geometry)
    row_bytes = 4 * scan.geometry.num_angles * (columns[1] - columns[0])
    wanted = max(2, min(CENTER_ROWS, CENTER_BYTES // row_bytes, last - first))
    height = max(1, wanted // CENTER_GROUPS)
    groups = max(1, wanted // height)
    # The middle of equal parts: the first and last rows of a detector are often dark.
    starts = first + ((np.arange(groups) + 0.5) / groups * (last - first) - height / 2).astype(int)
    return np.clip(starts, first, last - height), height


def corrections_for(scan: Scan | RawScan, recipe: Recipe) -> tuple[Correction, ...]:
    """The recipe's corrections; energy and distance are the scan's where the recipe gives none."""
    return tuple(
        replace(
            correct,
            energy_kev=correct.energy_kev or scan.energy_kev,
            distance_mm=correct.distance_mm or scan.distance_mm,
        )
        if isinstance(correct, Paganin)
        else correct
        for correct in recipe.correction_list(scan.signal)
    )


def corrected_sinograms(
    scan: Scan | RawScan, recipe: Recipe, start: int, stop: int
) -> tuple[np.ndarray, ParallelBeam]:
    """Sinograms of detector rows [start, stop) after all corrections, with their halo."""
    corrections = corrections_for(scan, recipe)
    halo = sum(correct.halo(scan.geometry) for correct in corrections)
    low, high = max(0, start - halo), min(scan.geometry.det_rows, stop + halo)
    columns = column_range(recipe, scan.geometry)
    projections = read_rows(scan, low, high, columns, recipe.angle_sign)
    projections = apply_corrections(corrections, projections)
    projections = projections.trim_rows(start, stop)
    return projections.sinograms(), projections.geometry


def read_spread(
    scan: Scan | RawScan, recipe: Recipe, rows: np.ndarray, view_step: int = 1
) -> tuple[np.ndarray, ParallelBeam]:
    """Sinograms of single rows, every `view_step`-th view; rows that are not neighbours can't
    share a halo, so corrections that need one are left out."""
    columns = column_range(recipe, scan.geometry)
    spread = read_rows_of(scan, rows, columns, slice(None, None, view_step))
    projections = _turned(spread, recipe.angle_sign)
    rowwise = [each for each in corrections_for(scan, recipe) if each.halo(scan.geometry) == 0]
    projections = apply_corrections(rowwise, projections)
    return projections.sinograms(), projections.geometry


def read_rows(
    scan: Scan | RawScan,
    start: int,
    stop: int,
    columns: tuple[int, int] | None = None,
    angle_sign: int = 1,
    threads: int = 1,
) -> Projections:
    """Raw projections of detector rows [start, stop); angles turned as the recipe says."""
    if isinstance(scan, RawScan):
        return _turned(scan.read((start, stop), columns), angle_sign)
    return _turned(scan.read((start, stop), columns, threads=threads), angle_sign)


def _turned(projections: Projections, angle_sign: int) -> Projections:
    geometry = projections.geometry
    return projections.replace(geometry=replace(geometry, angles=angle_sign * geometry.angles))


def required(value: str | None, name: str) -> str:
    if value is None:
        raise InputError(f"the recipe names no {name}: add `{name}: PATH`")
    return value


def slice_range(recipe: Recipe, geometry: ParallelBeam) -> tuple[int, int]:
    """First and last-plus-one detector row to reconstruct."""
    return _within(recipe.rows, geometry.det_rows, "rows")


def column_range(recipe: Recipe, geometry: ParallelBeam) -> tuple[int, int]:
    return _within(recipe.columns, geometry.det_count, "columns")


def scan_path(recipe: Recipe) -> Path:
    """Where the scan store of a raw source is kept: beside the output unless the recipe says."""
    if recipe.scan is not None:
        return Path(recipe.scan)
    if recipe.output is None:
        raise InputError("say where the scan store goes: `tomodask ingest SOURCE SCAN.zarr`")
    output = Path(recipe.output)
    return output.with_name(output.name.removesuffix(".zarr") + ".scan.zarr")


def _within(asked: tuple[int, int] | None, size: int, name: str) -> tuple[int, int]:
    start, stop = asked or (0, size)
    if stop > size:
        raise InputError(f"{name} {start}:{stop} asked of {size}: give {name} within 0:{size}")
    return start, stop


def slab(geometry: ParallelBeam) -> Box:
    """The slices that a geometry's rows project onto, as wide as the detector."""
    return Box((0, 0, 0), (geometry.det_rows, geometry.det_count, geometry.det_count))
