"""The loss of what is held out: whole slabs that training never sees, compared place by place.

It is the error against another split, whose noise it holds as well: gains are small against it, and
are judged in pairs, the same patches with the same noise each time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tomodask.learn.patches import Batch, Patches, held_out_batches

EVALUATIONS = 20  # in a whole training
SHARE = 0.15  # of the voxels trained on between two of them: a voxel costs a third of a trained one
LEAST_PLACES = 4
MOST_VOXELS = 2**22
SURE = 2.0  # standard errors


@dataclass(frozen=True)
class Judgement:
    """The held-out loss at a step; `gained`: surely below the best one before.

    loss : mean squared error in units of the normalisation, the target's noise included.
    """

    step: int
    voxels: int
    loss: float
    gained: bool


class Judge:
    """Looks at what is held out, the same patches every time."""

    def __init__(self, patches: Patches | None) -> None:
        self.patches = patches

    def voxels_for(self, trained: int) -> int:
        """How many to look at where so many are trained on between two judgements."""
        assert self.patches is not None
        shape, num_splits = self.patches.shape, self.patches.store.num_splits
        least = LEAST_PLACES * shape.side**2 * shape.depth * num_splits
        return max(least, min(MOST_VOXELS, int(SHARE * trained)))

    def losses(
        self, squared_errors: Callable[[Batch], tuple[float, float]], most_voxels: int
    ) -> list[float]:
        """The mean squared error of each place, by a function that gives the sum and its voxels."""
        assert self.patches is not None
        found = []
        for batch in held_out_batches(self.patches, most_voxels):
            total, voxels = squared_errors(batch)
            if voxels:
                found.append(total / voxels)
        return found


def compare(losses: Sequence[float], best: Sequence[float], step: int, voxels: int) -> Judgement:
    """Whether the losses, place by place, are surely below the best ones before."""
    mean = float(np.mean(losses)) if losses else math.nan
    if len(best) != len(losses) or not losses:
        return Judgement(step, voxels, mean, gained=True)
    gains = np.subtract(best, losses)
    error = float(np.std(gains, ddof=1) / math.sqrt(len(gains))) if len(gains) > 1 else 0.0
    return Judgement(step, voxels, mean, gained=bool(gains.mean() > SURE * error))


def is_enough(judged: Sequence[Judgement], patience: int | None) -> bool:
    """Whether nothing was gained for so many judgements."""
    if patience is None or len(judged) <= patience:
        return False
    return not any(one.gained for one in judged[-patience:])
