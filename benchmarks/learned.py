"""Networks of the denoising benchmark: trained by tomodask on the splits, or on a truth.

What is timed is training, with what it waits for patches and looks at held-out rows, and the pass
over the volume; the splits themselves are there for all who learn.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from noisy_foam import NoisyScan
from timing import seconds_of
from torch import nn

from tomodask.learn.networks import make_network
from tomodask.learn.networks.weights import from_arrays
from tomodask.learn.noise2inverse import inputs_of, mean_of
from tomodask.learn.options import Strategy, TrainingOptions
from tomodask.learn.receptive_field import measure_receptive_field
from tomodask.learn.tiles import TiledNetwork
from tomodask.learn.training import Course, TrainJob, averaged_weights, follow, train
from tomodask.splitstore import SplitStore, create_splits
from tomodask.splitting import choose_slabs
from tomodask.volumestore import VolumeSpec

SLAB_ROWS = 8
CURVE_ROWS = 4  # in the middle: enough to see how a training comes on
MEMORY = 2**32


@dataclass(frozen=True)
class Budget:
    """How long a training lasts: the shorter of the two."""

    seconds: float
    voxels: float


@dataclass(frozen=True)
class Network:
    """A network, and how it learns."""

    label: str
    choice: dict[str, dict[str, Any]]
    slices: int = 1
    strategy: Strategy = "X:1"
    part: float = 1.0  # of the budget
    options: dict[str, Any] = field(default_factory=dict)  # of `TrainingOptions`

    def training(self, budget: Budget, columns: int) -> TrainingOptions:
        """Trained for so long, whatever it gains."""
        limits = {"seconds": self.part * budget.seconds, "voxels": self.part * budget.voxels}
        patch = min(TrainingOptions().patch, columns // 16 * 16)
        return TrainingOptions(**{"patch": patch, "patience": None, **limits, **self.options})


@dataclass(frozen=True, eq=False)
class Denoised:
    """A volume (z, y, x), what it took, and how the training came on.

    seconds : of training and of applying. curve : {"voxels", "seconds", "psnr_db"} on the way.
    """

    volume: np.ndarray
    seconds: float
    voxels_seen: int = 0
    parameters: dict[str, Any] = field(default_factory=dict)
    curve: tuple[dict[str, float], ...] = ()


def noise2inverse(network: Network, scan: NoisyScan, budget: Budget, folder: Path) -> Denoised:
    """Learn from the splits alone, and put the mean of the K outputs in the volume's place."""
    options = network.training(budget, scan.shape[2])
    store = store_splits(scan, folder / "splits", options)
    job = train_job(network, options, store, scan, folder / "training")
    module = make_network(network.choice, network.slices)
    curve: list[dict[str, float]] = []
    for course in train(job):
        from_arrays(module, averaged_weights(job))
        few = _middle(scan, module, job)
        curve.append({"voxels": course.voxels, "seconds": course.seconds, "psnr_db": few})
    volume, applying = _applied(module, job, scan, slice(None))
    told = {"network": network.choice, "slices": network.slices, "strategy": network.strategy}
    told |= {"num_splits": store.num_splits, "steps": course.step, "applying_s": applying}
    return Denoised(volume, course.seconds + applying, course.voxels, told, tuple(curve))


def store_splits(scan: NoisyScan, folder: Path, options: TrainingOptions) -> SplitStore:
    """The splits on the disk, as `tomodask train` leaves them; made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    training, held_out = choose_slabs(scan.shape[0], SLAB_ROWS, options)
    made = scan.splits
    store = create_splits(
        folder,
        VolumeSpec(scan.shape, chunk_rows=SLAB_ROWS, levels=1),
        digest="benchmark",
        weights=list(made.weights),
        training=training,
        held_out=held_out,
        attributes={},
    )
    store.write(0, made.splits, made.full)
    seen = scan.full[:, scan.mask]
    return store.note(shift=float(seen.mean()), scale=float(seen.std()))


def train_job(
    network: Network, options: TrainingOptions, store: SplitStore, scan: NoisyScan, folder: Path
) -> TrainJob:
    """The job that `tomodask train` would give a worker; nothing of an earlier one is left."""
    shutil.rmtree(folder, ignore_errors=True)
    dims = int(next(iter(network.choice.values())).get("dims", 2))
    return TrainJob(
        folder=folder,
        splits=store.path,
        digest="benchmark",
        network=network.choice,
        slices=network.slices,
        depth=1 if dims == 2 else SLAB_ROWS,
        strategy=network.strategy,
        options=options,
        shift=float(store.metadata["shift"]),
        scale=float(store.metadata["scale"]),
        radius=scan.shape[2] / 2,
        threads=scan.threads,
        memory=MEMORY,
        signal=_signal(store, network.strategy),
    )


def _signal(store: SplitStore, strategy: str) -> float:
    """The share of the input's variance that it has in common with its target."""
    a, b = (store.split(k).read(0, slice(*store.training[0])).ravel() for k in range(2))
    common = float(np.cov(a, b)[0, 1])
    inputs = 1 if strategy == "1:X" else store.num_splits - 1
    return common / (common + max(0.0, float(a.var()) - common) / inputs)


def _middle(scan: NoisyScan, module: nn.Module, job: TrainJob) -> float:
    """PSNR of some rows, which see their neighbours."""
    middle = (scan.shape[0] - CURVE_ROWS) // 2
    rows = slice(max(0, middle), middle + CURVE_ROWS)
    return scan.part(rows).psnr(_applied(module, job, scan, rows)[0])


def _applied(
    module: nn.Module, job: TrainJob, scan: NoisyScan, rows: slice
) -> tuple[np.ndarray, float]:
    """Some rows of the mean over the K inputs, and the seconds that they took."""
    made = scan.splits
    inputs = [
        mean_of(made.splits, seen, made.weights)
        for seen in inputs_of(len(made.splits), job.strategy)
    ]
    return apply(module, inputs, job, rows, scan.full == 0)


def apply(
    module: nn.Module, inputs: list[np.ndarray], job: TrainJob, rows: slice, outside: np.ndarray
) -> tuple[np.ndarray, float]:
    """Rows of the mean of a network's outputs (z, y, x), and the seconds; 0 outside."""
    dims = 2 if job.depth == 1 else 3
    network = TiledNetwork(
        module,
        measure_receptive_field(module, job.slices, dims),
        slices=job.slices,
        dims=dims,
        shift=job.shift,
        scale=job.scale,
    )
    start, stop, _ = rows.indices(len(outside))
    low, high = network.reach(start, stop, len(outside))
    total = np.zeros((stop - start, *outside.shape[1:]), np.float32)

    def add_all() -> None:
        for each in inputs:
            total[:] += network(each[low:high], start - low, high - stop)

    seconds = seconds_of(add_all)
    module.requires_grad_(requires_grad=True)  # the tiled network has frozen it
    total /= np.float32(len(inputs))
    total[outside[start:stop]] = 0
    return total, seconds


# ---- with a truth ------------------------------------------------------------------------------


def supervised(
    network: Network, scan: NoisyScan, other: NoisyScan, budget: Budget, folder: Path
) -> Denoised:
    """The same network, steps and rates, trained on another foam whose clean volume is known.

    It sees all views at once where Noise2Inverse sees three quarters, and targets without noise.
    """
    options = network.training(budget, scan.shape[2])
    store = store_splits(scan, folder / "splits", options)
    job = train_job(network, options, store, scan, folder / "training")
    torch.set_num_threads(job.threads)
    torch.manual_seed(options.seed)
    module = make_network(job.network, job.slices)
    average = make_network(job.network, job.slices)
    average.load_state_dict(module.state_dict())
    optimizer = torch.optim.AdamW(module.parameters(), weight_decay=options.weight_decay)
    each = options.patch**2 * job.depth
    count = max(1, round(options.batch_voxels / each))
    course = Course(math.ceil(options.voxels / (count * each)), "float32", "cpu")
    batches = _batches(job, other, count)
    while course.done(options) < 1:
        course.seconds += seconds_of(
            lambda: _step(module, average, optimizer, course, options, next(batches))
        )
        course.step, course.voxels = course.step + 1, course.voxels + count * each
    volume, applying = apply(average, [scan.full], job, slice(None), scan.full == 0)
    told = {"network": network.choice, "slices": network.slices, "steps": course.step}
    told |= {"targets": "clean FBP of another foam", "applying_s": applying}
    return Denoised(volume, course.seconds + applying, course.voxels, told)


def _step(
    module: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.Optimizer,
    course: Course,
    options: TrainingOptions,
    batch: tuple[torch.Tensor, torch.Tensor],
) -> None:
    for group in optimizer.param_groups:
        group["lr"] = course.rate(options)
    loss = nn.functional.mse_loss(module(batch[0]), batch[1])
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimizer.step()
    follow(average, module, options.ema, course.step)


def _batches(
    job: TrainJob, other: NoisyScan, count: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Inputs and targets, normalised: patches anywhere in the other volume, turned and mirrored."""
    rng = np.random.default_rng(job.options.seed)
    noisy, clean = ((each - job.shift) / job.scale for each in (other.full, other.clean))
    side, reach = job.options.patch, job.slices // 2
    rows = job.depth if job.depth > 1 else job.slices
    while True:
        pairs = []
        for _ in range(count):
            z = int(rng.integers(len(noisy) - rows + 1))
            y, x = (int(rng.integers(length - side + 1)) for length in noisy.shape[1:])
            place = np.s_[z : z + rows, y : y + side, x : x + side]
            turns, is_mirrored = int(rng.integers(4)), bool(rng.integers(2))
            pair = [np.rot90(each[place], turns, axes=(1, 2)) for each in (noisy, clean)]
            pairs.append([each[..., ::-1] if is_mirrored else each for each in pair])
        inputs, targets = (np.stack(each) for each in zip(*pairs, strict=True))
        if job.depth > 1:
            inputs, targets = inputs[:, None], targets[:, None]
        else:
            targets = targets[:, reach : reach + 1]
        yield torch.from_numpy(inputs.copy()), torch.from_numpy(targets.copy())
