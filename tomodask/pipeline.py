"""The whole path on one page: raw files -> scan store -> corrected, reconstructed blocks -> volume.

`reconstruct_block` is the heart: what one task does, from reading to writing. The workers run it as
`stream.stream_block`, which does the same with its stages side by side. Everything before it
prepares one (open, find the centre, cut into blocks), everything after it counts what is done.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from distributed import Client

from tomodask.blocks import (
    Block,
    chunk_rows_done,
    plan_blocks,
    rows_per_block,
    rows_per_sub_block,
)
from tomodask.calibrate import CenterEstimate
from tomodask.cluster.local import Workers
from tomodask.cluster.run import Listener, Progress, run_blocks, silent
from tomodask.cluster.workforce import Workforce, workforce
from tomodask.custody import custody, refuse_foreign, refuse_replaced, tell_what_stays
from tomodask.errors import InputError, OutputExistsError
from tomodask.ingest import open_source
from tomodask.ingest.convert import (
    IngestPlan,
    IngestTask,
    create_scan,
    finish_scan,
    ingest_block,
    plan_ingest,
    scan_metadata,
)
from tomodask.ingest.remove import remove_scan
from tomodask.ingest.source import Source
from tomodask.inventory import scan_ledger
from tomodask.ledger import Ledger
from tomodask.plan import need_of_blocks
from tomodask.preprocess import Correction, apply_corrections
from tomodask.projections import Projections
from tomodask.projectors import make_projector, prepare_backend
from tomodask.provenance import describe_geometry, differing_keys, versions
from tomodask.recipe import Recipe, run_hash
from tomodask.reconstruct import Reconstructor
from tomodask.samples import (
    column_range,
    corrections_for,
    find_center_of,
    read_rows,
    required,
    slice_range,
)
from tomodask.scan import Scan, is_zarr
from tomodask.stream import block_report, in_order, stream_block
from tomodask.volume import Volume, VolumeSpec, create_volume, remove_volume, volume_metadata

log = logging.getLogger(__name__)


# ---- one block -------------------------------------------------------------------------------


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


def reconstruct_block(task: BlockTask) -> dict[str, Any]:
    """Read, correct, reconstruct and write one block: the path of the data through one task.

    The law for `stream_block`, which the workers run.
    """
    job, block = task.job, task.block
    projections = job.load(block.read.start, block.read.stop)
    projections = apply_corrections(job.corrections, projections, job.threads)
    projections = projections.trim_rows(block.needed.start, block.needed.stop)
    A = make_projector(block.write, projections.geometry, job.backend, threads=job.threads)
    volume = job.algorithm(projections.sinograms(), A)
    shards = job.open_volume().write(block.write.start[0], volume)
    report = block_report(job, block, [block], shards, projections.counts)
    job.ledger.record(block.id, in_order(shards), report)
    return report


# ---- READ: raw files -> scan store -----------------------------------------------------------


@dataclass(frozen=True)
class IngestJob:
    """One task of an ingest with the ledger that it enters."""

    task: IngestTask
    ledger: Ledger

    @property
    def id(self) -> str:
        return self.task.id


def ingest_task(job: IngestJob) -> dict[str, Any]:
    """Copy one run of frames and enter it in the ledger."""
    found = scan_metadata(job.task.path) or {"uuid": "nobody's"}
    refuse_replaced(job.task.path, found["uuid"], job.ledger)
    report = ingest_block(job.task)
    shards = report.pop("shards")
    job.ledger.record(job.id, shards, report)
    return report


def ingest(
    recipe: Recipe, *, client: Client | None = None, listener: Listener = silent
) -> tuple[Path, Progress | None]:
    """Copy a raw source into a scan store, on the workers; an interrupted copy goes on.

    Returns the store's path and what was done, None where it was complete already.

    Raises
    ------
    OutputExistsError : the path holds another scan, or something that tomodask didn't make.
    """
    with workforce(_workforce(recipe, client)) as force:
        return _ingest(recipe, force, listener)


def scan_path(recipe: Recipe) -> Path:
    """Where the scan store of a raw source is kept: beside the output unless the recipe says."""
    if recipe.scan is not None:
        return Path(recipe.scan)
    if recipe.output is None:
        raise InputError("say where the scan store goes: `tomodask ingest SOURCE SCAN.zarr`")
    output = Path(recipe.output)
    return output.with_name(output.name.removesuffix(".zarr") + ".scan.zarr")


def _ingest(recipe: Recipe, force: Workforce, listener: Listener) -> tuple[Path, Progress | None]:
    options, path = recipe.ingest, scan_path(recipe)
    source = open_source(required(recipe.source, "source"), options)
    budget = force.size.budget
    plan = plan_ingest(source, path, budget, options.rotate_detector, options.flip)
    metadata = scan_metadata(path)
    known = metadata is not None and metadata["input_digest"] == plan.input_digest
    if metadata is not None and known and metadata["complete"]:
        return path, None
    with custody(path) as lease:
        # planned anew: another driver may have begun or finished the store meanwhile
        plan = plan_ingest(source, path, budget, options.rotate_detector, options.flip)
        ledger = _begin_or_go_on(recipe, plan, source)
        done = ledger.intact(path)
        tasks = [IngestJob(task, ledger) for task in plan.tasks if task.id not in done]
        progress = run_blocks(
            force.client, ingest_task, tasks, stage="ingest", listener=lease.watched(listener)
        )
        lease.check()
        ledger.compact()
        finish_scan(path)
    return path, progress


def _begin_or_go_on(recipe: Recipe, plan: IngestPlan, source: Source) -> Ledger:
    """Make the scan store, or find the one that this source began; the ledger of it."""
    path, metadata = plan.path, scan_metadata(plan.path)
    if metadata is not None and metadata["input_digest"] != plan.input_digest:
        if not recipe.overwrite:
            raise OutputExistsError(
                f"{path} holds another scan, of {metadata['source']}: choose another path, or "
                "give --overwrite to replace it"
            )
        tell_what_stays(path, remove_scan(path))
        metadata = None
    if metadata is None:
        refuse_foreign(path)
        metadata = create_scan(plan, source)
    return scan_ledger(path, metadata["uuid"], plan.input_digest)


# ---- RECONSTRUCT: scan store -> volume -------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """What a run made, and how it went; `progress` has the stages that had something to do."""

    volume: Path
    scan: Path
    center: float
    center_estimate: CenterEstimate | None
    progress: dict[str, Progress]


def reconstruct(
    recipe: Recipe, *, client: Client | None = None, listener: Listener = silent
) -> Result:
    """A raw scan, scan store or Zarr stack becomes a volume; the same call goes on after a kill.

    Raises
    ------
    OutputExistsError : the output was made by another recipe and `overwrite` is not set.
    ChunkLayoutError : an existing Zarr stack would be read more than twice.
    MemoryBudgetError : not even one chunk row fits into a worker's memory.
    BlocksFailedError : blocks that failed after their retries; the others are written.
    """
    progress: dict[str, Progress] = {}
    output = Path(required(recipe.output, "output"))
    with custody(output) as lease, workforce(_workforce(recipe, client)) as force:
        listener = lease.watched(listener)
        scan, ingested = _scan_of(recipe, force, listener)
        if ingested is not None:
            progress["ingest"] = ingested
        plan = _plan(recipe, scan, force.size)
        lease.check()
        volume = _create_or_go_on(recipe, output, plan)
        job = plan.job(output, volume.uuid)
        tasks = [BlockTask(job, block) for block in _blocks_left(plan, job, volume)]
        if tasks:
            prepare_backend(recipe.backend)
            progress["reconstruct"] = run_blocks(
                force.client, stream_block, tasks, stage="reconstruct", listener=listener
            )
        lease.check()
        job.ledger.compact()
        volume.finish()
    return Result(output, Path(scan.path), plan.center, plan.estimate, progress)


def run(recipe: Recipe, *, client: Client | None = None, listener: Listener = silent) -> Result:
    """All steps of a recipe."""
    return reconstruct(recipe, client=client, listener=listener)


@dataclass(frozen=True)
class _Plan:
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

    @property
    def digest(self) -> str:
        """What the ledger is named after: other bytes, another digest."""
        scan = self.scan
        return run_hash(
            self.recipe, scan.signal, center=self.center, input_digest=scan.input_digest
        )

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
        return plan_blocks(
            shape,
            self.scan.geometry,
            first_row=self.rows[0],
            halo=self.halo,
            chunk_rows=chunk_rows,
            block_rows=self.block_rows,
            done=chunk_rows_done(done, chunk_rows, shape[0]),
        )


def _plan(recipe: Recipe, scan: Scan, workers: Workers) -> _Plan:
    """Find the centre and the size of a block; refuse what can't be."""
    rows, columns = slice_range(recipe, scan.geometry), column_range(recipe, scan.geometry)
    corrections = corrections_for(scan, recipe)
    spec = _volume_spec(recipe, scan, rows, columns)
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
    column, estimate = _resolve_center(scan, recipe)
    return _Plan(
        recipe, scan, rows, columns, column, estimate, corrections, need.halo, sub_rows,
        block_rows, workers.threads, spec,
    )  # fmt: skip


def _volume_spec(
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


def _scan_of(recipe: Recipe, force: Workforce, listener: Listener) -> tuple[Scan, Progress | None]:
    """The scan store to read: the source itself where it is Zarr, else what ingest makes of it."""
    source = required(recipe.source, "source")
    if is_zarr(source):
        return Scan.open(source), None
    path, progress = _ingest(recipe, force, listener)
    return Scan.open(path), progress


def _resolve_center(scan: Scan, recipe: Recipe) -> tuple[float, CenterEstimate | None]:
    if recipe.center != "auto":
        return float(recipe.center), None
    estimate = find_center_of(scan, recipe)
    if not estimate.confident:
        log.warning("centre of rotation %.2f is uncertain: %s", estimate.center, estimate.message)
    return estimate.center, estimate


def _create_or_go_on(recipe: Recipe, output: Path, plan: _Plan) -> Volume:
    """Make the volume, or find the one that this very recipe began."""
    metadata = volume_metadata(output)
    if metadata is not None and metadata.get("recipe_hash") == plan.digest:
        return Volume.open(output)
    if metadata is not None:
        if not recipe.overwrite:
            changed = differing_keys(metadata.get("recipe", {}), recipe.as_dict())
            raise OutputExistsError(
                f"{output} was made by another recipe or from another input ({changed}): choose "
                "another output, or give --overwrite to replace it"
            )
        tell_what_stays(output, remove_volume(output))
    else:
        refuse_foreign(output)
    return create_volume(output, plan.spec, plan.attributes())


def _blocks_left(plan: _Plan, job: Job, volume: Volume) -> list[Block]:
    """Blocks to make: those that the ledger doesn't list, or whose files are missing or torn."""
    if volume.metadata["complete"] and not job.ledger.path.is_dir():
        return []  # the ledger was deleted, as it may be
    return plan.blocks(job.ledger.intact(volume.path))


def _workforce(recipe: Recipe, client: Client | None) -> Workforce:
    return Workforce(**recipe.cluster.model_dump(), given=client)
