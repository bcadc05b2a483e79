"""The whole path on one page: raw files -> scan store -> corrected, reconstructed blocks -> volume.

`reconstruct_block` is the heart: what one task does, from reading to writing. The workers run it as
`stream.stream_block`, which does the same with its stages side by side. Everything before it
prepares one (open, find the centre, cut into blocks), everything after it counts what is done.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from distributed import Client

from tomodask import arrays
from tomodask.blocks import Block
from tomodask.calibrate import CenterEstimate
from tomodask.cluster.run import Listener, Progress, run_blocks, silent
from tomodask.cluster.workforce import Workforce, workforce
from tomodask.coupled import is_coupled, plan_coupled, reconstruct_coupled
from tomodask.custody import custody, refuse_foreign, refuse_replaced, tell_what_stays
from tomodask.elements import refuse_while_elements_live
from tomodask.errors import OutputExistsError
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
from tomodask.planfact import PlanAndFact
from tomodask.preprocess import apply_corrections
from tomodask.projectors import make_projector, prepare_backend
from tomodask.provenance import differing_keys
from tomodask.recipe import Recipe
from tomodask.runfolder import RunFolder
from tomodask.runlog import RunLog, keep_recipe, with_whole_paths
from tomodask.runplan import BlockTask, Job, RunPlan, kept_center, plan_run
from tomodask.samples import required, scan_path
from tomodask.scan import Scan, is_zarr
from tomodask.stream import block_report, in_order, stream_block
from tomodask.volumestore import (
    Volume,
    VolumeSpec,
    create_volume,
    remove_volume,
    volume_metadata,
)

# ---- one block -------------------------------------------------------------------------------


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
    report = {**ingest_block(job.task), "peak_bytes": arrays.peak_bytes()}
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
    recipe = for_workers(recipe)
    folder = RunFolder.of(scan_path(recipe))
    with RunLog(folder, listener) as told, followed(recipe, client, folder, told) as force:
        keep_recipe(folder, recipe)
        return _ingest(recipe, force, with_jobs(told, force))


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
    recipe = for_workers(recipe)
    output = Path(required(recipe.output, "output"))
    folder = RunFolder.of(output)
    with (
        custody(output) as lease,
        RunLog(folder, listener, is_ours=lease.is_held) as told,
        followed(recipe, client, folder, told) as force,
        PlanAndFact(folder, recipe, force, is_ours=lease.is_held) as kept,
    ):
        if volume_metadata(output) is None:  # else it is another recipe's, perhaps, and refused
            keep_recipe(folder, recipe)
        listener = lease.watched(kept.listening(with_jobs(told, force)))
        scan, ingested = scan_of(recipe, force, listener)
        if ingested is not None:
            progress["ingest"] = ingested
        coupled = plan_coupled(recipe, scan, force.size) if is_coupled(recipe) else None
        center = kept_center(recipe, scan, output)
        plan = coupled.plan if coupled else plan_run(recipe, scan, force.size, center)
        kept.planned()
        lease.check()
        volume = begin_volume(recipe, output, plan)
        keep_recipe(folder, recipe)
        job = plan.job(output, volume.uuid)
        blocks = _blocks_left(plan, job, volume)
        if blocks and coupled:
            progress |= reconstruct_coupled(coupled, volume, job, blocks, force, listener)
        elif blocks:
            prepare_backend(recipe.backend)
            tasks = [BlockTask(job, block) for block in blocks]
            progress["reconstruct"] = run_blocks(
                force.client, stream_block, tasks, stage="reconstruct", listener=listener
            )
        lease.check()
        job.ledger.compact()
        volume.finish()
    return Result(output, Path(scan.path), plan.center, plan.estimate, progress)


def run(recipe: Recipe, *, client: Client | None = None, listener: Listener = silent) -> Result:
    """All steps of a recipe."""
    if recipe.denoise is not None:
        learned = import_module("tomodask.learned")  # it needs torch, which takes seconds to import
        result: Result = learned.denoise(recipe, client=client, listener=listener)
        return result
    return reconstruct(recipe, client=client, listener=listener)


def scan_of(recipe: Recipe, force: Workforce, listener: Listener) -> tuple[Scan, Progress | None]:
    """The scan store to read: the source itself where it is Zarr, else what ingest makes of it."""
    source = required(recipe.source, "source")
    if is_zarr(source):
        return Scan.open(source), None
    path, progress = _ingest(recipe, force, listener)
    return Scan.open(path), progress


class VolumePlan(Protocol):
    """What a volume is to be, and the digest of all that decides its bytes."""

    @property
    def digest(self) -> str: ...

    @property
    def spec(self) -> VolumeSpec: ...

    def attributes(self) -> dict[str, Any]: ...


def begin_volume(recipe: Recipe, output: Path, plan: VolumePlan) -> Volume:
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
        refuse_while_elements_live(output)
        tell_what_stays(output, remove_volume(output))
    else:
        refuse_foreign(output)
    return create_volume(output, plan.spec, plan.attributes())


def _blocks_left(plan: RunPlan, job: Job, volume: Volume) -> list[Block]:
    """Blocks to make: those that the ledger doesn't list, or whose files are missing or torn."""
    if volume.metadata["complete"] and not job.ledger.path.is_dir():
        return []  # the ledger was deleted, as it may be
    return plan.blocks(job.ledger.intact(volume.path))


@contextmanager
def followed(
    recipe: Recipe, client: Client | None, folder: RunFolder, told: RunLog
) -> Iterator[Workforce]:
    """The workers of a run; its folder tells which batch jobs they are, and while they wait."""

    def waiting(words: str) -> None:
        told.tell(jobs=force.batch_jobs(), message=words)
        told.check_cancelled()

    options = recipe.cluster.model_dump()
    force = Workforce(**options, given=client, folder=folder, waiting=waiting)
    with workforce(force):
        yield force


def for_workers(recipe: Recipe) -> Recipe:
    """Workers of a batch system begin in a folder of their own: their paths are whole."""
    return recipe if recipe.cluster.kind == "local" else with_whole_paths(recipe)


def with_jobs(told: RunLog, force: Workforce) -> Listener:
    """A listener that adds what is known of the batch jobs."""

    def listener(progress: Progress) -> None:
        told.tell(jobs=force.batch_jobs())
        if not progress.workers:
            progress.note = force.queue_words()
        told(progress)

    return listener
