"""The second step of learning from a scan: a model, trained on the cluster turn by turn."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tomodask.cluster.run import Listener, Progress, run_blocks
from tomodask.cluster.workforce import Workforce
from tomodask.custody import custody
from tomodask.errors import InputError, OutputExistsError
from tomodask.learn.model import CARD, Model, load_model, model_card, save_model, weights_file
from tomodask.learn.networks import make_network
from tomodask.learn.networks.weights import from_arrays
from tomodask.learn.receptive_field import measure_receptive_field
from tomodask.learn.segments import Turn, take_turn
from tomodask.learn.training import TrainJob, averaged_weights, last_report
from tomodask.provenance import versions
from tomodask.recipe import DenoiseOptions
from tomodask.splitstore import SplitStore

TRAINING_SUFFIX = ".training"  # of the folder beside a model that holds checkpoints and the log
DEPTH_STEP = 8  # rows of a 3D patch
PATCH_STEP = 16  # voxels: sides of patches are multiples of it


def train_model(
    options: DenoiseOptions,
    store: SplitStore,
    path: Path,
    force: Workforce,
    listener: Listener,
    *,
    overwrite: bool = False,
) -> tuple[Model, Progress | None]:
    """Train a model on splits, or go on with its training; None where it was there already.

    Raises
    ------
    OutputExistsError : another model is at the path and `overwrite` is not set.
    DivergedError : the loss is no number any more.
    BlocksFailedError : the training failed on every worker that tried.
    """
    digest = training_digest(options, store)
    with custody(path) as lease:
        known = model_card(path) if (path / CARD).is_file() else None
        if known is not None and known["training"].get("digest") == digest:
            return load_model(path), None
        if known is not None and not overwrite:
            raise OutputExistsError(
                f"{path} holds a model of another scan or with other settings: choose another "
                "path, or give --overwrite to replace it"
            )
        job = _job(options, store, path, force, digest)
        listener = lease.watched(listener)
        progress = _take_turns(job, force, listener)
        finish = FinishTask(job, path, _card(options, store, job), known is not None)
        run_blocks(force.client, finish_model, [finish], stage="model", listener=listener)
        lease.check()
        for checkpoint in job.folder.glob("step-*.safetensors"):
            checkpoint.unlink(missing_ok=True)  # the log stays
        return load_model(path), progress


def training_digest(options: DenoiseOptions, store: SplitStore) -> str:
    """Of all that decides a model's weights."""
    begun = None if options.start is None else model_card(options.start)["weights"]["sha256"]
    tree = {
        "splits": store.digest,
        "uuid": store.uuid,
        "method": options.method,
        "network": options.network,
        "slices": options.slices,
        "strategy": options.strategy,
        "training": asdict(options.training),
        "start": begun,
    }
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:16]


def _job(
    options: DenoiseOptions, store: SplitStore, path: Path, force: Workforce, digest: str
) -> TrainJob:
    spec, metadata = store.full.spec, store.metadata
    dims = int(next(iter(options.network.values())).get("dims", 2))
    side = min(spec.shape[1:]) // PATCH_STEP * PATCH_STEP
    if side < PATCH_STEP:
        raise InputError(
            f"slices of {spec.shape[1]} x {spec.shape[2]} voxels: at least {PATCH_STEP} are needed "
            "to learn from"
        )
    depth = 1 if dims == 2 else _depth(store)
    training = replace(options.training, patch=min(options.training.patch, side))
    start = None if options.start is None else weights_file(options.start)
    return TrainJob(
        folder=path.with_name(path.name + TRAINING_SUFFIX),
        splits=store.path,
        digest=digest,
        network=options.network,
        slices=options.slices,
        depth=depth,
        strategy=options.strategy,
        options=training,
        shift=float(metadata["shift"]),
        scale=float(metadata["scale"]),
        radius=float(metadata["radius"]),
        threads=threads_to_train(force),
        memory=force.size.budget,
        signal=float(metadata["signal"]),
        start=start,
    )


def _depth(store: SplitStore) -> int:
    """Rows of a 3D patch: as many as the lowest slab has, in whole steps of the network."""
    lowest = min(stop - start for start, stop in (*store.training, *store.held_out))
    if lowest < DEPTH_STEP:
        raise InputError(
            f"a slab of {lowest} rows: a 3D network learns from at least {DEPTH_STEP}, take "
            "dims=2 with denoise.slices=5, say, or other rows"
        )
    return lowest // DEPTH_STEP * DEPTH_STEP


def threads_to_train(force: Workforce) -> int:
    """All of this machine's where its workers are here: all but one are idle meanwhile."""
    size = force.size
    is_here = force.kind == "local" and force.given is None and force.scheduler is None
    return size.count * size.threads if is_here else size.threads


def _take_turns(job: TrainJob, force: Workforce, listener: Listener) -> Progress:
    """One turn after the other until the training has ended, told as one stage of its steps."""
    whole = Progress("train", 1)
    number, ended = 0, False
    while not ended:

        def told(turn: Progress) -> None:
            whole.workers, whole.running, whole.failed = turn.workers, turn.running, turn.failed
            listener(whole)

        turn = run_blocks(
            force.client, take_turn, [Turn(job, number)], stage="train", listener=told
        )
        report = dict(turn.reports[-1])
        whole.blocks, whole.blocks_done = report["steps"], report["step"]
        whole.peak_bytes = max(whole.peak_bytes, turn.peak_bytes)
        whole.note = describe_training(report)
        whole.reports.append(report)
        number, ended = number + 1, bool(report["ended"])
        if ended:
            whole.blocks = whole.blocks_done
            whole.ended = time.monotonic()
        listener(whole)
    return whole


def describe_training(report: Mapping[str, Any]) -> str:
    """'loss 3.561, held-out 3.552, 21.3 million voxels seen, 1.7 a second'"""
    told = []
    if report["loss"] is not None:
        told.append(f"loss {report['loss']:.4g}")
    if report["held_out"] is not None:
        told.append(f"held-out {report['held_out']:.4g}")
    million = report["voxels"] / 1e6
    told.append(f"{million:.3g} million voxels seen")
    if report["seconds"]:
        told.append(f"{million / report['seconds']:.3g} million a second")
    return ", ".join([*told, *([report["ended"]] if report["ended"] else [])])


# ---- the model ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class FinishTask:
    """Making a model of a training's last checkpoint, as it is sent to a worker."""

    job: TrainJob
    path: Path
    card: dict[str, Any]
    overwrite: bool

    @property
    def id(self) -> str:
        return "model"


def finish_model(task: FinishTask) -> dict[str, Any]:
    """Measure what the network sees, and write the model."""
    job = task.job
    dims = 3 if job.depth > 1 else 2
    module = make_network(job.network, job.slices)
    weights = averaged_weights(job)
    from_arrays(module, weights)
    seen = measure_receptive_field(module, job.slices, dims)
    report = last_report(job)
    taken = {
        "voxels_seen": report["voxels"],
        "seconds_taken": report["seconds"],
        "held_out_loss": report["held_out"],
        "arithmetic": report["precision"],
        **{name: report[name] for name in ("steps", "step", "loss", "ended", "device")},
    }
    training = {**task.card["training"], **taken}
    card = {**task.card, "training": training}
    model = Model(
        weights=weights,
        radius=seen.radius,
        stride=seen.stride,
        equivariant=seen.equivariant,
        **card,
    )
    save_model(task.path, model, overwrite=task.overwrite)
    return {"block": "model"}


def _card(options: DenoiseOptions, store: SplitStore, job: TrainJob) -> dict[str, Any]:
    """All that is known of a model before it is trained."""
    metadata, spec = store.metadata, store.full.spec
    kept = ("input_digest", "signal", "num_splits", "num_angles", "kind_of_split", "why", "recipe")
    return {
        "kind": options.method,
        "network": options.network,
        "slices": options.slices,
        "depth": job.depth,
        "strategy": options.strategy,
        "num_splits": store.num_splits,
        "shift": job.shift,
        "scale": job.scale,
        "value_unit": spec.value_unit,
        "pixel_size_um": spec.voxel_size_um,
        "training": {"digest": job.digest, "start": options.start, **asdict(job.options)},
        "data": {name: metadata.get(name) for name in kept} | {"shape": list(spec.shape)},
        "versions": versions(),
    }
