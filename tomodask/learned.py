"""From a scan to a denoised volume: splits, training, and the model over the whole of it.

Each stage is kept beside the output and is found again by the same command: `NAME.splits`,
`NAME.training` and `NAME.model` beside `NAME.zarr`.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client

from tomodask.blocks import Block, chunk_rows_done, plan_blocks
from tomodask.calibrate import CenterEstimate
from tomodask.cluster.local import Workers
from tomodask.cluster.run import Listener, Progress, run_blocks, silent
from tomodask.cluster.workforce import Workforce
from tomodask.coupled import is_coupled
from tomodask.custody import custody
from tomodask.denoising import DenoiseTask, Inputs, ScanInputs, VolumeInputs, denoise_block
from tomodask.errors import InputError, RecipeError, UnfinishedError
from tomodask.filtering import FilterInputs, train_filters
from tomodask.geometry import ParallelBeam
from tomodask.layers import Layer
from tomodask.learn.apply import activation_bytes, choose_tile
from tomodask.learn.model import Model, check_fits, load_model, model_card
from tomodask.learn.networks import make_network
from tomodask.learn.receptive_field import ReceptiveField
from tomodask.learning import train_model
from tomodask.ledger import Ledger
from tomodask.pipeline import Result, begin_volume, followed, for_workers, scan_of, with_jobs
from tomodask.plan import DenoiseNeed, StoredNeed
from tomodask.projectors import prepare_backend
from tomodask.provenance import versions
from tomodask.recipe import DenoiseOptions, Recipe, run_hash
from tomodask.runfolder import RunFolder
from tomodask.runlog import RunLog, keep_recipe
from tomodask.runplan import RunPlan, plan_run
from tomodask.samples import required
from tomodask.scan import Scan
from tomodask.splitrows import Splitting
from tomodask.splitstore import splits_metadata
from tomodask.splitting import make_splits, plan_splits
from tomodask.volumestore import Volume, VolumeSpec, volume_metadata

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """What `train` made: a model's folder, the splits it learnt from, and how it went."""

    model: Path
    splits: Path
    why: str
    report: Mapping[str, Any]
    progress: dict[str, Progress]


def beside(path: Path, suffix: str) -> Path:
    """`volume.zarr` -> `volume` + suffix, in the same folder."""
    return path.with_name(path.name.removesuffix(".zarr").removesuffix(".model") + suffix)


def model_path(recipe: Recipe) -> Path:
    """Where a recipe's model is, or will be."""
    options = _options(recipe)
    if options.model is not None:
        return Path(options.model)
    return beside(Path(required(recipe.output, "output")), ".model")


def train(
    recipe: Recipe, model: Path, *, client: Client | None = None, listener: Listener = silent
) -> Trained:
    """Learn a model from a scan; the same call goes on after a kill.

    Raises
    ------
    OutputExistsError : the path holds another model, or other splits, and `overwrite` is not set.
    DivergedError : the loss is no number any more; the last good weights are kept.
    """
    recipe, model = for_workers(recipe), model.absolute()
    folder = RunFolder.of(model)
    with RunLog(folder, listener) as told, followed(recipe, client, folder, told) as force:
        listener = with_jobs(told, force)
        scan, ingested = scan_of(recipe, force, listener)
        progress = {} if ingested is None else {"ingest": ingested}
        made = _train(recipe, scan, model, force, listener)
    card = model_card(model)
    why = str(card["data"]["why"])
    return Trained(model, beside(model, ".splits"), why, card["training"], progress | made)


def _train(
    recipe: Recipe, scan: Scan, path: Path, force: Workforce, listener: Listener
) -> dict[str, Progress]:
    _refuse_coupled(recipe)
    options, progress = _options(recipe), dict[str, Progress]()
    if options.method == "noise2filter":
        return train_filters(recipe, scan, path, force, listener)
    splits = beside(path, ".splits")
    split = plan_splits(
        recipe, scan, force.size, _kept_center(recipe, scan, splits_metadata(splits))
    )
    log.info("%s", split.why)
    store, made = make_splits(split, splits, force, listener, overwrite=recipe.overwrite)
    if made is not None:
        progress["split"] = made
    _, trained = train_model(options, store, path, force, listener, overwrite=recipe.overwrite)
    if trained is not None:
        progress["train"] = trained
    return progress


def denoise(recipe: Recipe, *, client: Client | None = None, listener: Listener = silent) -> Result:
    """A raw scan, scan store, Zarr stack or volume becomes a denoised volume.

    A model is trained where the recipe names none. The same call goes on after a kill.

    Raises
    ------
    FormatError, InputError : the model is damaged, of a newer version, or for other values.
    OutputExistsError : the output was made by another recipe and `overwrite` is not set.
    BlocksFailedError : blocks that failed after their retries; the others are written.
    """
    recipe = for_workers(recipe)
    output = Path(required(recipe.output, "output"))
    folder = RunFolder.of(output)
    with (
        custody(output) as lease,
        RunLog(folder, listener, is_ours=lease.is_held) as told,
        followed(recipe, client, folder, told) as force,
    ):
        keep_recipe(folder, recipe)
        listener, progress = lease.watched(with_jobs(told, force)), dict[str, Progress]()
        plan = _plan(recipe, output, force, listener, progress)
        lease.check()
        volume = begin_volume(recipe, output, plan)
        ledger = Ledger.of(output, volume.uuid, plan.digest)
        blocks = plan.blocks_left(volume, ledger)
        if blocks:
            if plan.run is not None:
                prepare_backend(recipe.backend)
            tasks = [plan.task(block, volume, ledger) for block in blocks]
            progress["denoise"] = run_blocks(
                force.client, denoise_block, tasks, stage="denoise", listener=listener
            )
        lease.check()
        ledger.compact()
        volume.finish()
    return Result(output, plan.source, plan.center, plan.estimate, progress)


def model_layer(path: Path) -> Layer:
    """The settings that a model's inputs were made with, for a recipe that applies it."""
    card = model_card(path)
    then = card["data"].get("recipe") or {}
    kept = {name: then[name] for name in ("algorithm", "corrections") if then.get(name)}
    splits = {"num_splits": card["num_splits"], "kind": card["data"].get("kind_of_split")}
    return Layer(str(path), {**kept, "denoise": {"splits": splits, "slices": card["slices"]}})


def describe_model(path: Path) -> str:
    """A line on how a model was trained."""
    card = model_card(path)
    training, ((name, _),) = card["training"], card["network"].items()
    million = training.get("voxels_seen", 0) / 1e6
    told = f"{name} on {card['num_splits']} splits, {million:.3g} million voxels"
    if training.get("seconds_taken"):
        told += f" in {training['seconds_taken']:.0f} s"
    if training.get("held_out_loss") is not None:
        told += f", held-out loss {training['held_out_loss']:.4g}"
    return told


# ---- the plan of a denoised volume -------------------------------------------------------------


@dataclass(frozen=True)
class DenoisePlan:
    """All that is known before the first block; `run` is None where a volume is the source."""

    recipe: Recipe
    source: Path
    model_path: Path
    model: Model
    weights: str  # their checksum
    run: RunPlan | None
    input_digest: str
    spec: VolumeSpec
    tile: int | None
    threads: int

    @property
    def center(self) -> float:
        return math.nan if self.run is None else self.run.center

    @property
    def estimate(self) -> CenterEstimate | None:
        return None if self.run is None else self.run.estimate

    @property
    def digest(self) -> str:
        """Of all that decides the bytes: the model's weights, not where they are or how trained."""
        options = _options(self.recipe)
        resolved: dict[str, Any] = {"weights": self.weights, "mode": options.mode}
        if self.run is not None:
            resolved |= {"center": self.run.center, "splits": asdict(options.splits)}
        signal = "transmission" if self.run is None else self.run.scan.signal
        return run_hash(self.recipe.plain(), signal, input_digest=self.input_digest, **resolved)

    def attributes(self) -> dict[str, Any]:
        """What is kept with the volume."""
        own = {
            "recipe": self.recipe.as_dict(),
            "recipe_hash": self.digest,
            "input_digest": self.input_digest,
            "denoised": {
                "model": str(self.model_path),
                "weights": self.weights,
                "kind": self.model.kind,
                "network": dict(self.model.network),
                "mode": _options(self.recipe).mode,
                "training": dict(self.model.training),
            },
            "versions": versions(),
        }
        return own if self.run is None else {**self.run.attributes(), **own}

    def blocks_left(self, volume: Volume, ledger: Ledger) -> list[Block]:
        """Blocks that the ledger doesn't list, or whose files are missing or torn."""
        if volume.metadata["complete"] and not ledger.path.is_dir():
            return []
        (rows, _, width), chunk_rows = self.spec.shape, self.spec.chunk_rows
        return plan_blocks(
            self.spec.shape,
            ParallelBeam(angles=np.zeros(1), det_rows=rows, det_count=width),
            chunk_rows=chunk_rows,
            block_rows=chunk_rows,
            done=chunk_rows_done(ledger.intact(volume.path), chunk_rows, rows),
        )

    def task(self, block: Block, volume: Volume, ledger: Ledger) -> DenoiseTask:
        """One block, as it is sent to a worker."""
        return DenoiseTask(
            self._inputs(volume, ledger), block, self.model_path, self.weights, self.tile,
            self.threads, volume.path, ledger,
        )  # fmt: skip

    def _inputs(self, volume: Volume, ledger: Ledger) -> Inputs:
        if self.run is None:
            return VolumeInputs(self.source)
        job, options = self.run.job(volume.path, volume.uuid), _options(self.recipe)
        if self.model.kind == "noise2filter":
            return FilterInputs(job, self.run.rows[0], self.model_path, self.weights)
        splitting = Splitting(self.model.num_splits, options.splits)
        return ScanInputs(job, self.run.rows[0], splitting, self.model.strategy, options.mode)


def _plan(
    recipe: Recipe,
    output: Path,
    force: Workforce,
    listener: Listener,
    progress: dict[str, Progress],
) -> DenoisePlan:
    """Find or train the model; see whether it fits; cut the volume into blocks."""
    options, path = _options(recipe), model_path(recipe)
    source = Path(required(recipe.source, "source"))
    if volume_metadata(source) is not None:
        return _plan_of_volume(recipe, source, path, force.size)
    _refuse_coupled(recipe)
    scan, ingested = scan_of(recipe, force, listener)
    if ingested is not None:
        progress["ingest"] = ingested
    if options.model is None:
        progress |= _train(recipe, scan, path, force, listener)
    model = load_model(path)
    center = _kept_center(
        recipe, scan, volume_metadata(output), splits_metadata(beside(path, ".splits"))
    )
    run = plan_run(recipe.plain(), scan, force.size, center)
    _check_model(model, run.spec, options, source)
    _tell_other_noise(model, recipe)
    splitting = Splitting(model.num_splits, options.splits)
    tile = _tile(
        model, run.spec, DenoiseNeed(run.need(), model.num_splits, splitting.copies), force.size
    )
    return DenoisePlan(
        recipe, Path(scan.path), path, model, model_card(path)["weights"]["sha256"], run,
        scan.input_digest, run.spec, tile, force.size.threads,
    )  # fmt: skip


def _plan_of_volume(recipe: Recipe, source: Path, path: Path, workers: Workers) -> DenoisePlan:
    options = _options(recipe)
    if options.model is None:
        raise InputError(
            f"{source} is a volume: to learn to denoise takes the scan, whose views can be split; "
            "give the scan, or a trained model with --model"
        )
    if model_card(path)["kind"] == "noise2filter":
        raise RecipeError(
            f"{path} holds filters, which are applied to projections: give the scan, not {source}"
        )
    if options.mode == "quality":
        raise RecipeError(
            f"{source} is a volume, of which there are no splits: take mode fast, or give the scan"
        )
    volume, model = Volume.open(source), load_model(path)
    if not volume.metadata["complete"]:
        raise UnfinishedError(f"{source} is not complete: run the command that makes it again")
    _check_model(model, volume.spec, options, source)
    spec = replace(volume.spec, chunk_rows=recipe.volume.chunk_rows, levels=recipe.volume.levels)
    tile = _tile(model, spec, StoredNeed(spec), workers)
    digest = hashlib.sha256(f"{volume.uuid} {volume.metadata['recipe_hash']}".encode()).hexdigest()
    return DenoisePlan(
        recipe, source, path, model, model_card(path)["weights"]["sha256"], None, digest, spec,
        tile, workers.threads,
    )  # fmt: skip


def _tile(model: Model, spec: VolumeSpec, need: Any, workers: Workers) -> int | None:
    """The side of a tile, in the memory that reading, reconstructing and writing leave."""
    if model.kind == "noise2filter":
        return None
    dims = 3 if model.depth > 1 else 2
    field = ReceptiveField(model.radius, model.stride, model.equivariant)
    rows = spec.chunk_rows + 2 * model.radius[0]
    left = workers.budget - need.bytes(rows)
    a_voxel = activation_bytes(make_network(model.network, model.slices), model.slices, dims)
    return choose_tile(left, spec.shape[1:], rows if dims == 3 else 1, a_voxel, field)


def _kept_center(recipe: Recipe, scan: Scan, *known: Mapping[str, Any] | None) -> float | None:
    """The axis' column as a volume or splits of the same scan and recipe have it."""
    for metadata in known:
        if metadata is None or metadata.get("input_digest") != scan.input_digest:
            continue
        then = Recipe.model_validate(metadata["recipe"]).plain()
        if then.numerics(scan.signal) == recipe.plain().numerics(scan.signal):
            geometry = metadata.get("geometry", metadata)
            return float(geometry["center_of_rotation"])
    return None


def _check_model(model: Model, spec: VolumeSpec, options: DenoiseOptions, source: Path) -> None:
    slices = options.slices if "slices" in options.model_fields_set else None
    check_fits(model, spec.value_unit, source, slices=slices, voxel_size_um=spec.voxel_size_um)


def _tell_other_noise(model: Model, recipe: Recipe) -> None:
    """A model knows the noise of one kind of reconstruction."""
    then = model.data.get("recipe") or {}
    now = recipe.as_dict()
    differing = [name for name in ("algorithm", "corrections") if then.get(name) != now[name]]
    if differing:
        log.warning(
            "the model was trained on another %s, whose noise differs: %s then, %s now",
            " and ".join(differing), [then.get(name) for name in differing],
            [now[name] for name in differing],
        )  # fmt: skip


def _options(recipe: Recipe) -> DenoiseOptions:
    if recipe.denoise is None:
        raise RecipeError("the recipe has no `denoise:`, which says what is to be learnt")
    return recipe.denoise


def _refuse_coupled(recipe: Recipe) -> None:
    if is_coupled(recipe):
        (name,) = recipe.algorithm
        raise RecipeError(
            f"{name} in this geometry reconstructs a volume as a whole, of which splits can't be "
            "made block by block: denoise the finished volume by a model (--model, mode fast), or "
            "take an algorithm that works slice by slice, such as fbp"
        )
