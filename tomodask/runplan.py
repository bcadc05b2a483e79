"""What a run is before its first block: the plan of it, and what each of its tasks is sent."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tomodask.blocks import (
    Block,
    chunk_rows_done,
    plan_blocks,
    rows_per_block,
    rows_per_sub_block,
)
from tomodask.calibrate import CenterEstimate
from tomodask.cluster.local import Workers
from tomodask.custody import refuse_replaced
from tomodask.geometry import Box, ViewRows
from tomodask.ledger import Ledger
from tomodask.plan import StreamNeed, need_of_blocks
from tomodask.preprocess import Correction, apply_corrections
from tomodask.projections import Projections
from tomodask.projectors import Projector, make_projector
from tomodask.provenance import describe_geometry, versions
from tomodask.recipe import Recipe, run_hash
from tomodask.reconstruct import Reconstructor
from tomodask.samples import column_range, corrections_for, find_center_of, read_rows, slice_range
from tomodask.scan import Scan
from tomodask.volumestore import Volume, VolumeSpec, volume_metadata

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What all blocks of a run share: paths and parameters, no arrays.

    scan_path, input_digest : of the scan to read; columns : those to use.
    center : detector column of the axis at row 0; it moves by `center_slope` columns a row.
    halo, sub_rows : rows that the corrections need above and below; rows worked on together.
    """

    scan_path: Path
    input_digest: str
    columns: tuple[int, int]
    angle_sign: int
    center: float
    center_slope: float
    corrections: tuple[Correction, ...]
    algorithm: Reconstructor
    backend: str
    threads: int
    halo: int
    sub_rows: int
    volume: Path
    ledger: Ledger

    @property
    def scan(self) -> Scan:
        """The scan, opened once a worker."""
        return _open_scan(self.scan_path, self.input_digest)

    def open_volume(self) -> Volume:
        """The volume to write into; OutputInUseError if another was made at its path since."""
        volume = Volume.open(self.volume)
        refuse_replaced(self.volume, volume.uuid, self.ledger)
        return volume

    def load(self, start: int, stop: int) -> Projections:
        """Raw projections of detector rows [start, stop), their geometry complete."""
        projections = read_rows(self.scan, start, stop, self.columns, self.angle_sign, self.threads)
        center = self.center - self.columns[0] + self.center_slope * start
        geometry = projections.geometry.with_center(center, self.center_slope)
        return projections.replace(geometry=geometry)


def corrected_rows(job: Job, read: ViewRows, needed: ViewRows) -> Projections:
    """Corrected projections of the rows needed, from those read."""
    projections = job.load(read.start, read.stop)
    projections = apply_corrections(job.corrections, projections, job.threads)
    return projections.trim_rows(needed.start, needed.stop)


def slices_of(
    job: Job, projections: Projections, start: int, stop: int
) -> tuple[np.ndarray, Projector]:
    """Sinograms (row, angle, column) of some of the rows of a block, and A of their slices."""
    geometry = projections.geometry.take_rows(start, stop)
    box = Box((0, 0, 0), (stop - start, geometry.det_count, geometry.det_count))
    A = make_projector(box, geometry, job.backend, threads=job.threads)
    return projections.sinograms()[start:stop], A


@lru_cache(maxsize=2)
def _open_scan(path: Path, digest: str) -> Scan:
    """The digest is a key: a store made anew at an old path must not be taken for the old one."""
    return Scan.open(path)


@dataclass(frozen=True)
class BlockTask:
    """One block of a job, as it is sent to a worker."""

    job: Job
    block: Block

    @property
    def id(self) -> str:
        return self.block.id


@dataclass(frozen=True)
class RunPlan:
    """All that is known before the first block: nothing has been written yet."""

    recipe: Recipe
    scan: Scan
    rows: tuple[int, int]
    columns: tuple[int, int]
    center: float
    estimate: CenterEstimate | None
    corrections: tuple[Correction, ...]
    halo: int
    sub_rows: int
    block_rows: int
    threads: int
    spec: VolumeSpec
    geometry_digest: str | None = None  # of a run whose slices hang together

    def need(self) -> StreamNeed:
        """Declared memory of a block."""
        return need_of_blocks(
            self.scan, self.columns, self.corrections, self.recipe.reconstructor(),
            self.recipe.backend, self.threads, self.spec,
        )  # fmt: skip

    @property
    def digest(self) -> str:
        """What the ledger is named after: other bytes, another digest."""
        scan = self.scan
        resolved: dict[str, Any] = {"center": self.center}
        if self.geometry_digest is not None:
            resolved["geometry_digest"] = self.geometry_digest
        return run_hash(self.recipe, scan.signal, input_digest=scan.input_digest, **resolved)

    def attributes(self) -> dict[str, Any]:
        """What is kept with the volume."""
        return {
            "recipe": self.recipe.as_dict(),
            "recipe_hash": self.digest,
            "input_digest": self.scan.input_digest,
            "signal": self.scan.signal,
            "geometry": describe_geometry(self.scan.geometry, self.recipe, self.center),
            "center": None if self.estimate is None else self.estimate.as_dict(),
            "versions": versions(),
        }

    def job(self, output: Path, uuid: str) -> Job:
        """What each block needs to know."""
        recipe = self.recipe
        return Job(
            scan_path=Path(self.scan.path),
            input_digest=self.scan.input_digest,
            columns=self.columns,
            angle_sign=recipe.angle_sign,
            center=self.center,
            center_slope=recipe.center_slope,
            corrections=self.corrections,
            algorithm=recipe.reconstructor(),
            backend=recipe.backend,
            threads=self.threads,
            halo=self.halo,
            sub_rows=self.sub_rows,
            volume=output,
            ledger=Ledger.of(output, uuid, self.digest),
        )

    def blocks(self, done: Collection[str]) -> list[Block]:
        """Blocks that write what those named `done` have not."""
        shape, chunk_rows = self.spec.shape, self.recipe.volume.chunk_rows
        detector = self.scan.geometry
        if self.geometry_digest is not None:  # a slice needs no row in particular
            detector = replace(detector, det_rows=self.rows[0] + shape[0])
        return plan_blocks(
            shape,
            detector,
            first_row=self.rows[0],
            halo=self.halo,
            chunk_rows=chunk_rows,
            block_rows=self.block_rows,
            done=chunk_rows_done(done, chunk_rows, shape[0]),
        )


def plan_run(recipe: Recipe, scan: Scan, workers: Workers, center: float | None = None) -> RunPlan:
    """Find the centre and the size of a block; refuse what can't be.

    center : the axis' column where it was found before; the search is left out.
    """
    rows, columns = slice_range(recipe, scan.geometry), column_range(recipe, scan.geometry)
    corrections = corrections_for(scan, recipe)
    spec = volume_spec(recipe, scan, rows, columns)
    need = need_of_blocks(
        scan, columns, corrections, recipe.reconstructor(), recipe.backend, workers.threads, spec
    )
    slice_bytes, chunk_rows = 4 * math.prod(spec.shape[1:]), spec.chunk_rows
    grain = scan.chunk_shape[1]
    sub_rows = rows_per_sub_block(
        need.bytes, workers.budget, chunk_rows, need.halo, slice_bytes, grain
    )
    scan.check_layout(sub_rows, need.halo)
    block_rows = rows_per_block(sub_rows, spec.shape[0], workers.count, slice_bytes)
    column, estimate = resolve_center(scan, recipe) if center is None else (center, None)
    return RunPlan(
        recipe, scan, rows, columns, column, estimate, corrections, need.halo, sub_rows,
        block_rows, workers.threads, spec,
    )  # fmt: skip


def volume_spec(
    recipe: Recipe, scan: Scan, rows: tuple[int, int], columns: tuple[int, int]
) -> VolumeSpec:
    """The volume to make: as wide as the columns used, as high as the rows."""
    width, options = columns[1] - columns[0], recipe.volume
    return VolumeSpec(
        shape=(rows[1] - rows[0], width, width),
        voxel_size_um=scan.geometry.pixel_size_um,
        value_unit=scan.geometry.value_unit,
        chunk_rows=options.chunk_rows,
        compression=options.compression,
        levels=options.levels,
    )


def resolve_center(scan: Scan, recipe: Recipe) -> tuple[float, CenterEstimate | None]:
    if recipe.center != "auto":
        return float(recipe.center), None
    estimate = find_center_of(scan, recipe)
    if not estimate.confident:
        log.warning("centre of rotation %.2f is uncertain: %s", estimate.center, estimate.message)
    return estimate.center, estimate


def kept_center(recipe: Recipe, scan: Scan, output: Path) -> float | None:
    """The centre of a volume that this very recipe began, so that it isn't searched for again."""
    metadata = volume_metadata(output)
    column = None if metadata is None else known_center(recipe, metadata)
    if metadata is None or column is None:
        return None
    digest = run_hash(recipe, scan.signal, input_digest=scan.input_digest, center=column)
    return column if digest == metadata.get("recipe_hash") else None


def known_center(recipe: Recipe, metadata: Mapping[str, Any]) -> float | None:
    """The recipe's centre, or what the search for it found when a volume was begun, else None.

    metadata : of the volume. One that was made with a given centre says nothing of a search.
    """
    if recipe.center != "auto":
        return float(recipe.center)
    if metadata.get("recipe", {}).get("center") != "auto":
        return None
    return float(metadata["geometry"]["center_of_rotation"])
