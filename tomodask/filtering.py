"""Noise2Filter on a scan: filters learnt from a few of its rows, and applied as FBP is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tomodask.cluster.run import Listener, Progress, run_blocks
from tomodask.cluster.workforce import Workforce
from tomodask.custody import custody
from tomodask.denoising import Rows
from tomodask.errors import InputError, OutputExistsError
from tomodask.geometry import ViewRows
from tomodask.learn.model import CARD, Model, load_model, model_card, save_model
from tomodask.learn.noise2filter import (
    LearnedFilters,
    Noise2Filter,
    Samples,
    basis_of,
    collect,
    filters_from,
    fit,
)
from tomodask.projections import Projections
from tomodask.projectors.rowfilter import PadMode
from tomodask.provenance import versions
from tomodask.recipe import Recipe
from tomodask.runplan import Job, corrected_rows, slices_of
from tomodask.scan import Scan
from tomodask.splitrows import Splitting
from tomodask.splitstore import Slab
from tomodask.splitting import plan_splits

LEARNT_SLABS = 4  # spread over the volume: more voxels teach little more


@dataclass(frozen=True)
class FilterTask:
    """Learning the filters of a scan, as it is sent to a worker.

    slabs : rows of the volume to learn from; first_row : of the volume, on the detector.
    """

    job: Job
    splitting: Splitting
    slabs: tuple[Slab, ...]
    first_row: int
    options: Noise2Filter
    path: Path
    card: dict[str, Any]
    overwrite: bool

    @property
    def id(self) -> str:
        return "filters"


def learn_filters_of(task: FilterTask) -> dict[str, Any]:
    """Read, correct and filter some slabs, learn from their voxels, and write the model."""
    job, options = task.job, task.options
    views = task.splitting.views(job.scan.geometry.angles).views
    pad_mode: PadMode = getattr(job.algorithm, "pad_mode", "zero")
    samples: list[Samples] = []
    basis: np.ndarray | None = None
    for number, (start, stop) in enumerate(task.slabs):
        inputs = FilterInputs(job, task.first_row, task.path, "")
        projections = inputs.corrected(start, stop)
        sinograms, A = slices_of(job, projections, 0, stop - start)
        basis = basis_of(A) if basis is None else basis
        some = options.voxels // len(task.slabs)
        samples.append(
            collect(sinograms, A, views, options, voxels=some, pad_mode=pad_mode, stream=number)
        )
    assert basis is not None
    together = Samples(
        np.concatenate([one.features for one in samples]),
        np.concatenate([one.targets for one in samples]),
    )
    learned = fit(together, basis, options, pad_mode=pad_mode)
    network = {"noise2filter": {**vars(options), "pad_mode": pad_mode}}
    seen = len(together.targets)
    training = {**task.card.pop("training"), "voxels_seen": seen, "ended": "fitted"}
    model = Model(weights=learned.arrays(), network=network, training=training, **task.card)
    save_model(task.path, model, overwrite=task.overwrite)
    return {"block": task.id, "voxels": seen}


@dataclass(frozen=True)
class FilterInputs:
    """Rows of a scan, reconstructed by learned filters; needs no network after it."""

    job: Job
    first_row: int
    model: Path
    digest: str

    @property
    def after(self) -> PassThrough:
        return PassThrough()

    def load(self, start: int, stop: int) -> Rows:
        return FilteredRows(self, self.corrected(start, stop), start)

    def corrected(self, start: int, stop: int) -> Projections:
        return corrected_rows(self.job, *self._rows(start, stop))

    def bytes_read(self, start: int, stop: int) -> int:
        read, _ = self._rows(start, stop)
        return self.job.scan.bytes_read((read.start, read.stop))

    def _rows(self, start: int, stop: int) -> tuple[ViewRows, ViewRows]:
        needed = ViewRows(self.first_row + start, self.first_row + stop)
        return needed.grow(self.job.halo, self.job.scan.geometry.det_rows), needed


@dataclass(frozen=True, eq=False)
class FilteredRows:
    """Corrected projections of rows from `start` on."""

    inputs: FilterInputs
    projections: Projections
    start: int

    @property
    def counts(self) -> Mapping[str, int]:
        return self.projections.counts

    def stacks(self, start: int, stop: int) -> list[np.ndarray]:
        inputs = self.inputs
        sinograms, A = slices_of(
            inputs.job, self.projections, start - self.start, stop - self.start
        )
        return [_filters(inputs.model, inputs.digest)(sinograms, A)]


@dataclass
class PassThrough:
    """Stands where a network would: the reconstruction is the result."""

    dims: int = 2
    tile: int | None = None
    missing: int = field(default=0, init=False)

    def reach(self, start: int, stop: int, num_rows: int) -> tuple[int, int]:
        return start, stop

    def __call__(self, stack: np.ndarray, before: int = 0, after: int = 0) -> np.ndarray:
        return stack


@lru_cache(maxsize=2)
def _filters(path: Path, digest: str) -> LearnedFilters:
    """The digest is a key: filters that were learnt anew must not be taken for the old ones."""
    return model_filters(load_model(path))


def model_filters(model: Model) -> LearnedFilters:
    """The filters of a model.

    Raises InputError where it is a network.
    """
    if model.kind != "noise2filter":
        raise InputError(f"a model of kind {model.kind} holds a network, no filters")
    options = model.network["noise2filter"]
    return filters_from(model.weights, options.get("pad_mode", "zero"))


def train_filters(
    recipe: Recipe, scan: Scan, path: Path, force: Workforce, listener: Listener
) -> dict[str, Progress]:
    """Learn filters from some slabs of a scan, or find those that this recipe learnt.

    Raises OutputExistsError where another model is at the path and `overwrite` is not set.
    """
    known = model_card(path) if (path / CARD).is_file() else None
    center = None if known is None else float(known["data"].get("center_of_rotation", np.nan))
    if known is None or known["data"].get("input_digest") != scan.input_digest:
        center = None
    split = plan_splits(recipe, scan, force.size, center)
    options = Noise2Filter(seed=split.options.training.seed)
    digest = hashlib.sha256(f"{split.digest} {options}".encode()).hexdigest()[:16]
    if known is not None and known["training"].get("digest") == digest:
        return {}
    if known is not None and not recipe.overwrite:
        raise OutputExistsError(
            f"{path} holds a model of another scan or with other settings: choose another path, or "
            "give --overwrite to replace it"
        )
    slabs = split.training
    chosen = np.unique(np.linspace(0, len(slabs) - 1, LEARNT_SLABS).round().astype(int))
    plan = split.plan
    job = plan.job(path, "filters")
    card = {
        "kind": "noise2filter",
        "num_splits": split.num_splits,
        "value_unit": plan.spec.value_unit,
        "pixel_size_um": plan.spec.voxel_size_um,
        "training": {"digest": digest, **vars(options)},
        "data": {
            "input_digest": scan.input_digest,
            "signal": scan.signal,
            "recipe": recipe.as_dict(),
            "why": split.why,
            "kind_of_split": split.options.splits.kind,
            "center_of_rotation": plan.center,
        },
        "versions": versions(),
    }
    task = FilterTask(
        job, split.splitting, tuple(slabs[i] for i in chosen), plan.rows[0], options, path, card,
        known is not None,
    )  # fmt: skip
    with custody(path) as lease:
        progress = run_blocks(
            force.client, learn_filters_of, [task], stage="train", listener=lease.watched(listener)
        )
    return {"train": progress}
