"""The training loop: batch, forward, loss, backward, step, average, judge, save.

A training is a pure function of its job and the step: weights, averages, optimizer and what was
judged are in the checkpoint, patches follow from (seed, step). Killed at any moment and taken up
elsewhere it ends with the same weights, on the same kind of processor with as many threads.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file
from torch import Tensor, nn

from tomodask.errors import DivergedError
from tomodask.learn.checkpoint import Checkpoint, load_last, save_checkpoint
from tomodask.learn.judging import EVALUATIONS, Judge, Judgement, compare, is_enough
from tomodask.learn.networks import make_network
from tomodask.learn.networks.weights import from_arrays
from tomodask.learn.options import Strategy, TrainingOptions
from tomodask.learn.patches import Batch, Batches, Patches, PatchShape
from tomodask.learn.precision import choose_precision
from tomodask.learn.trainlog import TrainLog
from tomodask.splitstore import SplitStore

FINAL_RATE = 0.02  # of the highest learning rate, at the end
CLIP = 1.0  # norm of the gradient at most
CHECKPOINT_SECONDS = 10.0  # between two
MEMORY_SHARE = 0.5  # of a worker's memory, for blocks that patches are drawn from

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainJob:
    """All that decides a training, and where it is kept; small and picklable.

    folder : of its checkpoints and its log. digest : of all that decides the weights.
    shift, scale : the normalisation, (volume - shift) / scale. radius : pixels that all views see.
    signal : share of the input's variance that is the object, as far as the splits tell.
    start : safetensors file of weights to begin with, of the same network.
    """

    folder: Path
    splits: Path
    digest: str
    network: dict[str, Any]
    slices: int
    depth: int
    strategy: Strategy
    options: TrainingOptions
    shift: float
    scale: float
    radius: float
    threads: int
    memory: int
    signal: float = 0.0
    start: Path | None = None

    @property
    def id(self) -> str:
        return "train"

    def shape(self) -> PatchShape:
        """Of a patch."""
        return PatchShape(self.options.patch, self.slices, self.depth)


@dataclass
class Course:
    """How far a training is: what a checkpoint holds beside the tensors."""

    steps: int
    precision: str
    device: str
    step: int = 0
    voxels: int = 0
    seconds: float = 0.0
    waited: float = 0.0  # for batches
    loss: float = math.nan  # of the last steps, on average
    judged: list[Judgement] = field(default_factory=list)
    best: list[float] = field(default_factory=list)  # by place, of the best judgement
    judge_voxels: int = 0  # that are looked at to judge
    turns: int = 0  # of judging
    ended: str = ""  # why

    def done(self, options: TrainingOptions) -> float:
        """The part of the training that is over, by its steps or by its time: 0 to 1."""
        timed = 0.0 if options.seconds is None else self.seconds / options.seconds
        return min(1.0, max(self.step / self.steps, timed))

    def rate(self, options: TrainingOptions) -> float:
        """The learning rate of this step: a ramp, then half a cosine."""
        done, ramp = self.done(options), max(options.warm_up, 1 / self.steps)
        if done < ramp:
            return options.learning_rate * max(done, 1 / self.steps) / ramp
        falling = (1 + math.cos(math.pi * (done - ramp) / max(1 - ramp, 1e-9))) / 2
        return options.learning_rate * (FINAL_RATE + (1 - FINAL_RATE) * falling)

    def report(self, options: TrainingOptions) -> dict[str, Any]:
        """What is told of it; `steps` as far as they can be foreseen."""
        last = self.judged[-1].loss if self.judged else None
        steps = round(self.step / self.done(options)) if self.step else self.steps
        return {
            "step": self.step, "steps": steps, "voxels": self.voxels,
            "seconds": round(self.seconds, 3), "waited": round(self.waited, 3),
            "loss": None if math.isnan(self.loss) else self.loss, "held_out": last,
            "precision": self.precision, "device": self.device, "ended": self.ended,
        }  # fmt: skip


def train(job: TrainJob) -> Iterator[Course]:
    """Train from the last checkpoint on; yields whenever one was written, and at the end.

    Raises
    ------
    DivergedError : the loss is no number any more; the last good weights are kept.
    OSError : no space for a checkpoint; the one before is kept.
    """
    torch.set_num_threads(job.threads)
    net, average, optimizer, course = begin(job)
    judge, saved = Judge(held_out_patches(job)), time.monotonic()
    with (
        Batches(training_patches(job), course.step) as batches,
        TrainLog(job.folder, course.step) as told,
    ):
        for batch in timed(batches, course):
            began = time.perf_counter()
            for group in optimizer.param_groups:
                group["lr"] = course.rate(job.options)
            loss = loss_of(net, batch, job, course)
            if not bool(torch.isfinite(loss)):
                save(job, net, average, optimizer, course)
                raise _diverged(float(loss.detach()), course, job)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(net.parameters(), CLIP)
            optimizer.step()
            follow(average, net, job.options.ema, course.step)
            course.step, course.voxels = course.step + 1, course.voxels + batch.voxels
            course.loss = _smoothed(course.loss, float(loss.detach()))
            course.seconds += time.perf_counter() - began
            if course.done(job.options) * EVALUATIONS >= course.turns + 1:
                judge_average(judge, average, job, course)
            told(
                course.report(job.options) | {"rate": optimizer.param_groups[0]["lr"]}, course.steps
            )
            if course.ended or time.monotonic() - saved >= CHECKPOINT_SECONDS:
                save(job, net, average, optimizer, course)
                yield course
                saved = time.monotonic()


def timed(batches: Iterable[Batch], course: Course) -> Iterator[Batch]:
    """The batches; what is waited for them counts."""
    left = iter(batches)
    while not course.ended:
        began = time.perf_counter()
        batch = next(left)
        waited = time.perf_counter() - began
        course.waited, course.seconds = course.waited + waited, course.seconds + waited
        yield batch


def begin(job: TrainJob) -> tuple[nn.Module, nn.Module, torch.optim.Optimizer, Course]:
    """Network, average of its weights, optimizer and course: of the last checkpoint, or new."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(job.options.seed)
    net = make_network(job.network, job.slices).to(device)
    if isinstance(kept := getattr(net, "kept", None), nn.Parameter):
        nn.init.constant_(kept, job.signal)  # what best predicts by a factor alone
    if job.start is not None:
        from_arrays(net, load_file(job.start))
    average = copy.deepcopy(net).requires_grad_(requires_grad=False)
    optimizer = torch.optim.AdamW(
        net.parameters(), lr=job.options.learning_rate, weight_decay=job.options.weight_decay
    )
    kept = load_last(job.folder, device)
    if kept is not None and kept.numbers["digest"] == job.digest:
        return net, average, optimizer, _take_up(kept, net, average, optimizer)
    precision = choose_precision(net, job.shape(), job.options.precision, device)
    steps = math.ceil(job.options.voxels / voxels_a_step(job))
    course = Course(steps, precision, device)
    save(job, net, average, optimizer, course)
    return net, average, optimizer, course


def samples(job: TrainJob) -> int:
    """Patches in a step."""
    return max(1, round(job.options.batch_voxels / (job.options.patch**2 * job.depth)))


def voxels_a_step(job: TrainJob) -> int:
    return samples(job) * job.options.patch**2 * job.depth


def training_patches(job: TrainJob) -> Patches:
    store = SplitStore.open(job.splits)
    return _patches(job, store, store.training)


def held_out_patches(job: TrainJob) -> Patches | None:
    """None where nothing is held out."""
    store = SplitStore.open(job.splits)
    return _patches(job, store, store.held_out) if store.held_out else None


def _patches(job: TrainJob, store: SplitStore, slabs: list[tuple[int, int]]) -> Patches:
    return Patches(
        store, tuple(slabs), job.shape(), samples(job), job.strategy, job.radius,
        job.options.seed, int(MEMORY_SHARE * job.memory),
    )  # fmt: skip


# ---- one step ----------------------------------------------------------------------------------


def to_tensors(batch: Batch, job: TrainJob, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs and targets normalised, and the mask, on the device."""
    normalised = [
        torch.from_numpy(values).to(device).sub(job.shift).div(job.scale)
        for values in (batch.inputs, batch.targets)
    ]
    return normalised[0], normalised[1], torch.from_numpy(batch.inside).to(device)


def loss_of(net: nn.Module, batch: Batch, job: TrainJob, course: Course) -> Tensor:
    """Mean squared error within the disc, in units of the normalisation."""
    x, y, inside = to_tensors(batch, job, course.device)
    with autocast(course.precision, course.device):
        predicted = net(x)
    error = (predicted.float() - y) * inside
    loss: Tensor = error.square().sum() / inside.sum().clamp(min=1)
    return loss


def autocast(precision: str, device: str) -> torch.autocast:
    """Arithmetic in bfloat16 where it was chosen."""
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16")


def follow(average: nn.Module, net: nn.Module, ema: float, step: int) -> None:
    """Move the average towards the weights; its memory is short at first."""
    decay = min(ema, (1 + step) / (10 + step))
    with torch.no_grad():
        for kept, now in zip(average.parameters(), net.parameters(), strict=True):
            kept.lerp_(now, 1 - decay)


def _diverged(loss: float, course: Course, job: TrainJob) -> DivergedError:
    return DivergedError(
        f"the loss became {loss} at step {course.step} of {course.steps}: the weights before it "
        f"are kept in {job.folder}. Take a lower training.learning_rate than "
        f"{job.options.learning_rate:g}, or look for values in the volume that can't be"
    )


def _smoothed(mean: float, loss: float) -> float:
    """A mean over some twenty steps."""
    return loss if math.isnan(mean) else 0.95 * mean + 0.05 * loss


def judge_average(judge: Judge, average: nn.Module, job: TrainJob, course: Course) -> None:
    """Look at what is held out, and end the training where nothing is gained any more."""
    course.turns = int(course.done(job.options) * EVALUATIONS)
    if judge.patches is not None:
        began = time.perf_counter()
        course.judge_voxels = course.judge_voxels or judge.voxels_for(course.voxels)

        def squared_errors(batch: Batch) -> tuple[float, float]:
            x, y, inside = to_tensors(batch, job, course.device)
            with torch.inference_mode(), autocast(course.precision, course.device):
                error = (average(x).float() - y) * inside
            return float(error.square().sum()), float(inside.sum())

        losses = judge.losses(squared_errors, course.judge_voxels)
        found = compare(losses, course.best, course.step, course.voxels)
        course.judged.append(found)
        if found.gained or not course.best:
            course.best = losses
        if is_enough(course.judged, job.options.patience):
            course.ended = f"no gain in held-out loss for {job.options.patience} evaluations"
        course.seconds += time.perf_counter() - began
    if course.step >= course.steps:
        course.ended = "all voxels of the budget are seen"
    elif course.done(job.options) >= 1:
        course.ended = "its time is over"


# ---- to and from the disk ------------------------------------------------------------------


def save(
    job: TrainJob, net: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer,
    course: Course,
) -> None:  # fmt: skip
    """A checkpoint of this step."""
    state = optimizer.state_dict()["state"]
    tensors = {f"net.{name}": value for name, value in net.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in average.state_dict().items()}
    tensors |= {
        f"optimizer.{number}.{name}": value
        for number, moments in state.items()
        for name, value in moments.items()
    }
    numbers = {**vars(course), "judged": [vars(one) for one in course.judged]}
    numbers |= {"digest": job.digest, "report": course.report(job.options)}
    save_checkpoint(job.folder, Checkpoint(course.step, tensors, numbers))


def _take_up(
    kept: Checkpoint, net: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer
) -> Course:
    """Put a checkpoint's tensors where they belong."""
    net.load_state_dict(_below(kept.tensors, "net."))
    average.load_state_dict(_below(kept.tensors, "average."))
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in _below(kept.tensors, "optimizer.").items():
        number, _, key = name.partition(".")
        moments.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    numbers = {key: kept.numbers[key] for key in kept.numbers if key not in ("digest", "report")}
    numbers["judged"] = [Judgement(**one) for one in numbers["judged"]]
    return Course(**numbers)


def averaged_weights(job: TrainJob) -> dict[str, np.ndarray]:
    """The averaged weights of the last checkpoint, by name."""
    kept = load_last(job.folder)
    assert kept is not None, job.folder
    return {name: value.numpy() for name, value in _below(kept.tensors, "average.").items()}


def last_report(job: TrainJob) -> dict[str, Any]:
    """What the last checkpoint says of the course."""
    kept = load_last(job.folder)
    assert kept is not None, job.folder
    return dict(kept.numbers["report"])


def _below(tensors: dict[str, Tensor], start: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)
    }
