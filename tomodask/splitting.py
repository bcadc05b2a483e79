"""The first step of learning from a scan: the splits' reconstructions, of rows to learn from.

Blocks are those of an ordinary run: each is read, corrected and filtered once, and all splits of it
are written together. Rows are taken in slabs spread over the volume, some of which are held out;
`keep_splits` takes all rows.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tomodask import arrays
from tomodask.blocks import Block, chunk_rows_done, plan_blocks
from tomodask.cluster.local import Workers
from tomodask.cluster.run import Listener, Progress, run_blocks
from tomodask.cluster.workforce import Workforce
from tomodask.custody import custody, refuse_foreign, refuse_replaced, tell_what_stays
from tomodask.errors import InputError, MemoryBudgetError, OutputExistsError
from tomodask.geometry import ParallelBeam
from tomodask.learn.options import TrainingOptions
from tomodask.learn.splits import choose_num_splits
from tomodask.plan import SplitNeed
from tomodask.projectors import prepare_backend
from tomodask.recipe import DenoiseOptions, Recipe, VolumeOptions, run_hash
from tomodask.reconstruct import FBP
from tomodask.reconstruct.fbp import view_radius
from tomodask.reconstruct.splits import SplitSlices, split_shares
from tomodask.runplan import Job, RunPlan, plan_run
from tomodask.scan import Scan
from tomodask.shards import ShardEntry
from tomodask.splitrows import GROUP_ROWS, Splitting, load_split_rows, together
from tomodask.splitstore import Slab, SplitStore, create_splits, remove_splits, splits_metadata
from tomodask.stream import in_order
from tomodask.volumestore import VolumeSpec

SLAB_ROWS = {1: 8, 2: 16, 3: 32}  # plain slices, with neighbours, 3D

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SplitPlan:
    """Splits of a run's plan, nothing written yet.

    splitting : K and how; why : K, in words.
    training, held_out : rows of the volume, in slabs.
    """

    plan: RunPlan
    options: DenoiseOptions
    splitting: Splitting
    why: str
    slab_rows: int
    block_rows: int
    training: tuple[Slab, ...]
    held_out: tuple[Slab, ...]

    @property
    def num_splits(self) -> int:
        return self.splitting.num_splits

    @property
    def views(self) -> tuple[np.ndarray, ...]:
        """Rising indices of each split's views."""
        return self.splitting.views(self.plan.scan.geometry.angles).views

    def shares(self) -> np.ndarray:
        """(K,) weights of the splits."""
        if self.splitting.is_thinning:
            return np.full(self.num_splits, 1 / self.num_splits)
        return split_shares(self.plan.recipe.reconstructor(), self.geometry, self.views)

    @property
    def spec(self) -> VolumeSpec:
        """Of each split's volume."""
        return replace(self.plan.spec, chunk_rows=self.slab_rows, levels=1)

    @property
    def digest(self) -> str:
        """Of all that decides the splits' bytes, and which rows they have."""
        slabs = json.dumps([self.training, self.held_out])
        views = hashlib.sha256(together(self.views)).hexdigest()
        plan = self.plan
        recipe = plan.recipe.plain().model_copy(update={"volume": VolumeOptions()})
        return run_hash(
            recipe, plan.scan.signal, input_digest=plan.scan.input_digest,
            center=plan.center, splits=asdict(self.options.splits), views=views, slabs=slabs,
        )  # fmt: skip

    @property
    def radius(self) -> float:
        """Pixels around the axis that every view sees, in the row that sees least."""
        algorithm = self.plan.recipe.reconstructor()
        seen = algorithm.radius if isinstance(algorithm, FBP) else view_radius
        return float(seen(self.geometry).min())

    @property
    def geometry(self) -> ParallelBeam:
        """Of the rows and columns in use."""
        plan = self.plan
        centered = plan.scan.geometry.with_center(plan.center, plan.recipe.center_slope)
        return centered.take_rows(*plan.rows).take_columns(*plan.columns)

    def blocks(self, done: Collection[str]) -> list[Block]:
        """Slabs that are to be learnt from, held out or kept, and are not done."""
        total = math.ceil(self.spec.shape[0] / self.slab_rows)
        wanted = {slab[0] // self.slab_rows for slab in (*self.training, *self.held_out)}
        if self.options.keep_splits:
            wanted = set(range(total))
        known = chunk_rows_done(done, self.slab_rows, self.spec.shape[0])
        return plan_blocks(
            self.spec.shape,
            self.plan.scan.geometry,
            first_row=self.plan.rows[0],
            halo=self.plan.halo,
            chunk_rows=self.slab_rows,
            block_rows=self.block_rows,
            done={index for index in range(total) if index not in wanted or index in known},
        )


def plan_splits(recipe: Recipe, scan: Scan, workers: Workers, center: float | None) -> SplitPlan:
    """Choose K, the views of each split and the rows to learn from.

    Raises
    ------
    RecipeError : the recipe's slices hang together, or a step after the split would mix views.
    InputError : more splits than the views bear.
    MemoryBudgetError : a slab of all splits does not fit into a worker.
    """
    options = recipe.denoise
    assert options is not None
    plan = plan_run(recipe.plain(), scan, workers, center)
    asked = options.splits
    width = plan.columns[1] - plan.columns[0]
    why = f"{asked.num_splits} splits, as asked"
    num_splits = asked.num_splits
    if num_splits is None:
        num_splits, why = choose_num_splits(scan.geometry.num_angles, width)
    splitting = Splitting(num_splits, asked)
    splitting.views(scan.geometry.angles)  # refused now if it can't be
    kind = 3 if _dims(options) == 3 else 2 if options.slices > 1 else 1
    slab_rows = SLAB_ROWS[kind]
    training, held_out = choose_slabs(plan.spec.shape[0], slab_rows, options.training)
    need = SplitNeed(plan.need(), num_splits, slab_rows, GROUP_ROWS, splitting.copies)
    if need.bytes(slab_rows) > workers.budget:
        raise MemoryBudgetError(
            f"a slab of {slab_rows} rows of {num_splits} splits needs "
            f"{need.bytes(slab_rows) / 2**30:.2f} GiB and a worker has "
            f"{workers.budget / 2**30:.2f} GiB: give each worker more memory, or take fewer splits"
        )
    grain = max(slab_rows, scan.chunk_shape[1] // slab_rows * slab_rows)  # decoded together
    block_rows = grain if need.bytes(grain) <= workers.budget else slab_rows
    return SplitPlan(plan, options, splitting, why, slab_rows, block_rows, training, held_out)


def choose_slabs(
    num_rows: int, slab_rows: int, options: TrainingOptions
) -> tuple[tuple[Slab, ...], tuple[Slab, ...]]:
    """Slabs to learn from, spread evenly over the volume, and those held out among them.

    A volume of one slab has none to hold out.
    """
    total = math.ceil(num_rows / slab_rows)
    count = max(1, min(total, round(options.rows / slab_rows)))
    chosen = np.unique(np.linspace(0, total - 1, count).round().astype(int))
    slabs = [(int(i) * slab_rows, min(num_rows, (int(i) + 1) * slab_rows)) for i in chosen]
    wanted = round(options.held_out * len(slabs)) or int(options.held_out > 0 and len(slabs) > 1)
    apart = set(((np.arange(wanted) + 0.5) * len(slabs) / max(1, wanted)).astype(int).tolist())
    return (
        tuple(slab for i, slab in enumerate(slabs) if i not in apart),
        tuple(slab for i, slab in enumerate(slabs) if i in apart),
    )


def _dims(options: DenoiseOptions) -> int:
    ((_, parameters),) = options.network.items()
    return int(parameters.get("dims", 2))


# ---- one block ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class SplitTask:
    """One slab of all splits, as it is sent to a worker."""

    job: Job
    block: Block
    splitting: Splitting
    store: Path
    slab_rows: int

    @property
    def id(self) -> str:
        return self.block.id


def split_block(task: SplitTask) -> dict[str, Any]:
    """Read and correct a slab, reconstruct every split of it, and write them all."""
    job, block = task.job, task.block
    store = SplitStore.open(task.store)
    refuse_replaced(task.store, store.uuid, job.ledger)
    shards: list[ShardEntry] = []
    moments = np.zeros(7)
    start, stop = block.write.rows
    rows = load_split_rows(job, task.splitting, block.read, block.needed, start)
    for low in range(start, stop, task.slab_rows):
        high = min(stop, low + task.slab_rows)
        made = rows.slab(low, high)
        shards += store.write(low, made.splits, made.full)
        moments += _moments(made)
    report = {
        "block": block.id,
        "rows": stop - start,
        "bytes_read": job.scan.bytes_read((block.read.start, block.read.stop)),
        "bytes_written": sum(shard.size for shard in shards),
        "counts": dict(rows.counts),
        "peak_bytes": arrays.peak_bytes(),
        "moments": moments.tolist(),
    }
    store.ledger.record(block.id, in_order(shards), report)
    return report


def _moments(made: SplitSlices) -> np.ndarray:
    """(7,) sums over the voxels that are neither 0 (outside the disc) nor missing.

    Of 1, the full reconstruction f, f^2, two splits a and b, a b and a^2.
    """
    assert made.full is not None
    known = np.isfinite(made.full) & (made.full != 0)
    f, a, b = (values[known].astype(np.float64) for values in (made.full, *made.splits[:2]))
    return np.array([f.size, f.sum(), f @ f, a.sum(), b.sum(), a @ b, a @ a])


# ---- all of them -------------------------------------------------------------------------------


def make_splits(
    split: SplitPlan, path: Path, force: Workforce, listener: Listener, *, overwrite: bool = False
) -> tuple[SplitStore, Progress | None]:
    """Make the splits at `path`, or go on with them; None where nothing was left to do.

    Raises
    ------
    OutputExistsError : other splits are there and `overwrite` is not set.
    """
    with custody(path) as lease:
        store = _begin(split, path, overwrite)
        job = replace(split.plan.job(path, store.uuid), ledger=store.ledger, sub_rows=GROUP_ROWS)
        done = store.ledger.intact(path)
        tasks = [
            SplitTask(job, block, split.splitting, path, split.slab_rows)
            for block in split.blocks(done)
        ]
        progress = None
        if tasks:
            prepare_backend(job.backend)
            progress = run_blocks(
                force.client, split_block, tasks, stage="split", listener=lease.watched(listener)
            )
        lease.check()
        if "shift" not in store.metadata:
            store = store.note(**_normalisation(store))
        return store, progress


def _begin(split: SplitPlan, path: Path, overwrite: bool) -> SplitStore:
    metadata = splits_metadata(path)
    if metadata is not None and metadata["digest"] == split.digest:
        return SplitStore.open(path)
    if metadata is not None:
        if not overwrite:
            raise OutputExistsError(
                f"{path} holds the splits of another scan or recipe: choose another output, or "
                "give --overwrite to replace them"
            )
        tell_what_stays(path, remove_splits(path))
    elif not _is_begun(path):
        refuse_foreign(path)
    geometry = split.geometry
    shares = split.shares()
    return create_splits(
        path, split.spec, digest=split.digest, weights=list(shares),
        training=split.training, held_out=split.held_out,
        attributes={
            "input_digest": split.plan.scan.input_digest,
            "recipe": split.plan.recipe.as_dict(),
            "signal": split.plan.scan.signal,
            "num_splits": split.num_splits,
            "why": split.why,
            "kind_of_split": split.options.splits.kind,
            "num_angles": geometry.num_angles,
            "center_of_rotation": split.plan.center,
            "radius": split.radius,
        },
    )  # fmt: skip


def _is_begun(path: Path) -> bool:
    """Whether nothing but volumes that a killed call made is in the folder."""
    return path.is_dir() and all(
        entry.name == "full.zarr" or entry.name.startswith("split") for entry in path.iterdir()
    )


def _normalisation(store: SplitStore) -> dict[str, float]:
    """Mean and standard deviation of the full reconstruction over all slabs that were made.

    signal : the share of the variance of K-1 splits' mean that they have in common with another.
    """
    reports = [entry.report for _, entry in sorted(store.ledger.done().items())]
    total = np.sum([report["moments"] for report in reports], axis=0)
    if not total[0]:
        raise InputError(f"{store.path}: the reconstruction holds no number, so nothing is learnt")
    mean, square, a, b, product, a_square = total[1:] / total[0]
    signal, noise = product - a * b, a_square - a**2 - (product - a * b)
    of_input = signal + max(noise, 0.0) / (store.num_splits - 1)
    return {
        "shift": float(mean),
        "scale": math.sqrt(max(square - mean**2, 1e-30)),
        "signal": float(np.clip(signal / max(of_input, 1e-30), 0, 1)),
    }
