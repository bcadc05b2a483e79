"""A job array with no Dask at all: prepare once, work on shares of the rows, finalize once.

`prepare` does what must happen once: the copy of a raw source, the centre, the empty volume. Then
any number of elements, in any order, at any time and as often as it takes, each write their share;
they touch no metadata and hold no lease of the volume, the ledger alone says what is done.
`finalize` looks whether all of it is there and says so in the volume. An ordinary run of the recipe
does what elements have left, and elements do what it has left.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tomodask.blocks import block_id_of, chunk_rows_done
from tomodask.cluster.local import Workers, size_workers
from tomodask.cluster.run import Listener, Progress, silent
from tomodask.coupled import is_coupled
from tomodask.custody import custody, refuse_replaced, told_if_full
from tomodask.elements import (
    FOLDER,
    Element,
    element_named,
    live_elements,
    parse_element,
)
from tomodask.errors import (
    BlocksLeftError,
    InputError,
    OutputExistsError,
    OutputInUseError,
    RecipeError,
)
from tomodask.inprocess import job_ids, work_through
from tomodask.lease import held, owner_of
from tomodask.ledger import Ledger
from tomodask.pipeline import begin_volume, followed, scan_of, with_jobs
from tomodask.projectors import prepare_backend
from tomodask.provenance import differing_keys
from tomodask.recipe import Recipe, run_hash
from tomodask.runfolder import RunFolder, Status
from tomodask.runlog import RunLog, keep_recipe
from tomodask.runplan import BlockTask, RunPlan, kept_center, known_center, plan_run
from tomodask.samples import required, scan_path
from tomodask.scan import Scan, is_zarr
from tomodask.shards import remove_partials
from tomodask.stream import stream_block
from tomodask.volumestore import Volume, volume_metadata

NOTE = "prepared.json"
ENOUGH_MEMORY = 2**50  # of a plan whose blocks nobody works on


@dataclass(frozen=True)
class Prepared:
    """What elements find: an empty volume and the axis' column.

    digest : of all that decides the bytes; uuid : of the volume.
    chunk_rows : how many rows of chunks there are to share.
    """

    volume: Path
    digest: str
    uuid: str
    center: float
    chunk_rows: int


@dataclass(frozen=True)
class Share:
    """What an element has done: `chunk_rows` are its own, `progress` is of those that were left."""

    volume: Path
    element: Element
    chunk_rows: range
    progress: Progress


# ---- once, before ----------------------------------------------------------------------------


def prepare(recipe: Recipe, *, listener: Listener = silent) -> Prepared:
    """Everything that must happen once; killed in the middle, the same call goes on.

    Raises
    ------
    RecipeError : slices hang together, so that no element could work alone.
    OutputExistsError : the output was made by another recipe and `overwrite` is not set.
    OutputInUseError : another driver has it.
    """
    _refuse_coupled(recipe)
    output = Path(required(recipe.output, "output"))
    folder = RunFolder.of(output)
    with (
        custody(output) as lease,
        RunLog(folder, listener, writer="prepare", is_ours=lease.is_held) as told,
        followed(recipe, None, folder, told) as force,
    ):
        folder.clear_cancel()  # what was asked of an earlier attempt
        listener = lease.watched(with_jobs(told, force))
        scan, _ = scan_of(recipe, force, listener)
        # how many blocks there will be, and whether one fits, is for each element to see
        size = Workers(1, 1, recipe.cluster.memory or ENOUGH_MEMORY)
        plan = plan_run(recipe, scan, size, kept_center(recipe, scan, output))
        lease.check()
        volume = begin_volume(recipe, output, plan)
        prepared = Prepared(output, plan.digest, volume.uuid, plan.center, _count(volume))
        keep_recipe(folder, recipe)
        kept = {name: value for name, value in vars(prepared).items() if name != "volume"}
        folder.write_json(NOTE, kept)  # last: elements begin by it
        told.close("done", "prepared, its elements may begin")
    return prepared


# ---- as many times as it takes ---------------------------------------------------------------


def run_share(recipe: Recipe, shard: str, *, listener: Listener = silent) -> Share:
    """Write the blocks of one element's share that are not done yet, in this process.

    shard : "3/16", the third of 16 elements.

    Raises
    ------
    InputError : no such element, or nothing was prepared.
    OutputExistsError : the volume was prepared with another recipe.
    OutputInUseError : this element is at work already.
    BlocksFailedError : blocks that failed after their retries; the others are written.
    BlocksLeftError : the batch job ends before the next block would.
    CancelledRunError : somebody asked the run to stop.
    DiskFullError : no space is left.
    """
    element = parse_element(shard)
    _refuse_coupled(recipe)
    output = Path(required(recipe.output, "output"))
    prepared = _prepared(recipe, output)
    total = Progress("reconstruct", 0)
    share = Share(output, element, element.share(prepared.chunk_rows), total)
    folder = RunFolder.of(output)
    with (
        told_if_full(output),
        _alone(element, output),
        RunLog(folder, listener, writer=element.writer) as told,
        told_if_full(output),  # in here too, so that the status has the same words
    ):
        told.tell(jobs=job_ids())
        told.check_cancelled()
        tasks = _tasks(recipe, prepared, share)
        total.blocks, total.workers = len(tasks), 1
        if tasks:
            prepare_backend(recipe.backend)
        work_through(stream_block, tasks, total, listener=_at_once(told), worker=element.writer)
    return share


def _at_once(told: RunLog) -> Listener:
    """A listener that says what is begun even where something was said just before: RunLog takes
    what comes often now and then, and an element may say nothing for as long as a block lasts."""

    def listener(progress: Progress) -> None:
        told(progress)
        running = progress.running.items()
        told.tell(running=[{"block": b, "worker": w, "since": since} for b, (w, since) in running])

    return listener


def _tasks(recipe: Recipe, prepared: Prepared, share: Share) -> list[BlockTask]:
    """Blocks of a share that the ledger doesn't list, or whose files are missing or torn."""
    plan = _plan(recipe, prepared, share.element)
    job = plan.job(prepared.volume, prepared.uuid)
    volume = job.open_volume()
    if volume.metadata["complete"] and not job.ledger.path.is_dir():
        return []  # the ledger was deleted, as it may be
    done = job.ledger.intact(volume.path)
    return [BlockTask(job, block) for block in plan.blocks([*done, *_others(share, volume)])]


def _plan(recipe: Recipe, prepared: Prepared, element: Element) -> RunPlan:
    """The run as this process would do it; the blocks are of a size that a share has several."""
    source = required(recipe.source, "source")
    scan = Scan.open(source if is_zarr(source) else scan_path(recipe))
    options = recipe.cluster
    size = size_workers(1, options.threads, options.memory)
    plan = plan_run(recipe, scan, replace(size, count=element.count), prepared.center)
    if plan.digest != prepared.digest:
        raise OutputExistsError(
            f"{prepared.volume} was prepared from another input than {scan.path} is now: prepare "
            "it anew with `tomodask prepare RECIPE --overwrite`"
        )
    return plan


def _others(share: Share, volume: Volume) -> list[str]:
    """The rows above and below a share, named as blocks are."""
    height, rows = volume.spec.shape[0], volume.spec.chunk_rows
    first, last = share.chunk_rows.start * rows, min(height, share.chunk_rows.stop * rows)
    return [block_id_of(low, high) for low, high in ((0, first), (last, height)) if low < high]


@contextlib.contextmanager
def _alone(element: Element, output: Path) -> Iterator[None]:
    """An element is done by one process at a time: two would do the same work, for nothing."""
    place = element.place(output)
    place.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(held(place))
        except OutputInUseError as error:
            raise OutputInUseError(
                f"element {element} of {output} is at work already ({owner_of(place)}): wait until "
                "it has ended; should it fail, the same command goes on"
            ) from error
        yield


# ---- once, after -----------------------------------------------------------------------------


def finalize(recipe: Recipe) -> Prepared:
    """Say in the volume that it is complete, once every row of it is; to repeat it is harmless.

    Raises
    ------
    InputError : nothing was prepared.
    OutputExistsError : the volume was prepared with another recipe.
    BlocksLeftError : rows are missing; `elements` are those whose share they are.
    OutputInUseError : a driver has the volume.
    """
    _refuse_coupled(recipe)
    output = Path(required(recipe.output, "output"))
    prepared = _prepared(recipe, output)
    ledger = Ledger.of(output, prepared.uuid, prepared.digest)
    _refuse_missing(prepared)  # before the lease: what elements are writing stays
    folder = RunFolder.of(output)
    with custody(output) as lease, RunLog(folder, is_ours=lease.is_held) as told:
        rows = prepared.chunk_rows
        told.tell(stage="finalize", blocks=rows, blocks_done=rows)
        volume = Volume.open(output)
        refuse_replaced(output, volume.uuid, ledger)
        lease.check()
        ledger.compact()
        volume.finish()
        _forget_killed(output)
    return prepared


def missing_rows(prepared: Prepared) -> list[int]:
    """Chunk rows that the ledger doesn't list, or whose files are missing or torn."""
    volume = Volume.open(prepared.volume)
    ledger = Ledger.of(prepared.volume, prepared.uuid, prepared.digest)
    if volume.metadata["complete"] and not ledger.path.is_dir():
        return []  # the ledger was deleted, as it may be
    spec = volume.spec
    done = chunk_rows_done(ledger.intact(volume.path), spec.chunk_rows, spec.shape[0])
    return [row for row in range(prepared.chunk_rows) if row not in done]


def _refuse_missing(prepared: Prepared) -> None:
    missing = missing_rows(prepared)
    if not missing:
        return
    output, spec = prepared.volume, Volume.open(prepared.volume).spec
    rows, height = spec.chunk_rows, spec.shape[0]
    owners = _owners(output, missing, prepared.chunk_rows)
    told = [
        f"element {element} ({state}): rows {_spans(owned, rows, height)}"
        for element, state, owned in owners
    ] or [f"rows {_spans(missing, rows, height)}, and no element has begun"]
    raise BlocksLeftError(
        f"{output} is not complete, {len(missing)} of {prepared.chunk_rows} chunk rows are missing:"
        f" {'; '.join(told)}. Submit these elements again, or let "
        "`tomodask run RECIPE` do the rest",
        elements=[str(element) for element, _, _ in owners],
    )


def _owners(output: Path, missing: list[int], total: int) -> list[tuple[Element, str, list[int]]]:
    """Elements whose share is missing, how each fared, and what of it; of the array begun last."""
    found = {element_named(status.writer): status for status in RunFolder.of(output).statuses()}
    ran = {element: status for element, status in found.items() if element is not None}
    if not ran:
        return []
    count = max(ran, key=lambda element: ran[element].started).count
    live = live_elements(output)
    owners = []
    for number in range(1, count + 1):
        element = Element(count, number)
        owned = sorted(set(element.share(total)) & set(missing))
        if owned:
            owners.append((element, _state(ran.get(element), element in live), owned))
    return owners


def _state(status: Status | None, is_live: bool) -> str:
    if status is None:
        return "never began"
    if status.state == "running":
        return "at work" if is_live else "killed"
    return status.state


def _spans(chunk_rows: list[int], rows: int, height: int) -> str:
    """'0:64, 96:128': the volume's rows, neighbours together."""
    ends: list[list[int]] = []
    for index in chunk_rows:
        if ends and ends[-1][1] == index:
            ends[-1][1] += 1
        else:
            ends.append([index, index + 1])
    shown = [f"{first * rows}:{min(height, last * rows)}" for first, last in ends]
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")


def _forget_killed(output: Path) -> None:
    """What elements that were killed have left in the run folder."""
    live, folder = live_elements(output), RunFolder.of(output).path
    for lease in (folder / FOLDER).glob("shard-*.lease"):
        if element_named(lease.stem) not in live:
            lease.unlink(missing_ok=True)
    if not live:
        remove_partials(folder)


# ---- what was prepared -----------------------------------------------------------------------


def _prepared(recipe: Recipe, output: Path) -> Prepared:
    """What `prepare` left, if it was of this recipe and is still there."""
    note, metadata = RunFolder.of(output).read_json(NOTE), volume_metadata(output)
    if note is None or metadata is None or metadata["uuid"] != note["uuid"]:
        raise InputError(
            f"{output} is not prepared, or was made anew since: give `tomodask prepare RECIPE` "
            "first, once for all elements"
        )
    prepared = Prepared(output, **note)
    column, source = known_center(recipe, metadata), metadata["input_digest"]
    digest = run_hash(recipe, metadata["signal"], input_digest=source, center=column)
    if digest != prepared.digest:
        changed = differing_keys(metadata["recipe"], recipe.as_dict())
        raise OutputExistsError(
            f"{output} was prepared with another recipe ({changed}): give that one, or prepare it "
            "anew with `tomodask prepare RECIPE --overwrite`"
        )
    return prepared


def _refuse_coupled(recipe: Recipe) -> None:
    if recipe.denoise is not None:
        raise RecipeError(
            "a recipe with `denoise:` trains one network for all of its blocks, which elements "
            "that work alone can't: let `tomodask cluster script` write one for the whole run"
        )
    if is_coupled(recipe):
        (name,) = recipe.algorithm
        raise RecipeError(
            f"{name} in this geometry can't be cut into elements that work alone, its slices hang "
            "together: let `tomodask cluster script` write a batch script for the whole run"
        )


def _count(volume: Volume) -> int:
    return math.ceil(volume.spec.shape[0] / volume.spec.chunk_rows)
