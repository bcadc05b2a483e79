"""What may be chosen of a training: how views are split, what is learnt from them, for how long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tomodask.errors import InputError

SplitKind = Literal["interleaved", "blocks", "half_turn", "thinning"]
Strategy = Literal["X:1", "1:X", "mixed"]
Precision = Literal["auto", "float32", "bfloat16"]

SPLIT_NUMBERS = (2, 3, 4, 8)


@dataclass(frozen=True)
class SplitOptions:
    """How a scan is divided into K scans whose noise is independent.

    num_splits : K, one of 2, 3, 4, 8; None: chosen from the number of views.
    kind : "interleaved" deals the views in turn, in the order of their angles; "blocks" deals runs
        of `block_views` consecutive views, for detectors that carry a part of one frame into the
        next; "half_turn" gives whole half turns of a parallel beam; "thinning" deals the photons of
        every view, which needs a known gain.
    seed : of the thinning.
    """

    num_splits: int | None = None
    kind: SplitKind = "interleaved"
    block_views: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_splits is not None and self.num_splits not in SPLIT_NUMBERS:
            raise InputError(
                f"num_splits={self.num_splits}: one of {SPLIT_NUMBERS} is expected, or null to "
                "let the number of views decide"
            )
        if self.block_views < 1:
            raise InputError(f"block_views={self.block_views}: at least 1 is needed")


@dataclass(frozen=True)
class TrainingOptions:
    """How long a network is trained, on how much, and how fast.

    voxels : that the network sees at most, those of every patch of every step counted.
    seconds : that training may take, None for as long as `voxels` take. What is learnt then
        depends on how quick the machine was; by voxels alone it does not.
    patience : evaluations without a gain in the held-out loss before training ends, None to go on.
    rows : volume rows to learn from at most, in slabs spread over the volume.
    held_out : share of the slabs that are only looked at to judge.
    batch_voxels, patch : voxels of a step, and the side of a patch in y and x.
    learning_rate, warm_up : at its highest; share of the steps over which it rises to that.
    ema : averages of the weights over so many steps (as 1 - 1/steps) are what is kept.
    seed : of the first weights and of the patches.
    precision : of the network's arithmetic; "auto" takes bfloat16 where it is quicker and agrees
        with float32.
    """

    voxels: float = 3e8
    seconds: float | None = None
    patience: int | None = 4
    rows: int = 512
    held_out: float = 0.1
    batch_voxels: int = 2**16
    patch: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    warm_up: float = 0.05
    ema: float = 0.99
    seed: int = 0
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        for name in ("voxels", "rows", "batch_voxels", "learning_rate"):
            if not getattr(self, name) > 0:
                raise InputError(f"training.{name}={getattr(self, name)}: more than 0 is expected")
        if self.seconds is not None and not self.seconds > 0:
            raise InputError(f"training.seconds={self.seconds}: more than 0 is expected, or null")
        if self.patience is not None and self.patience < 1:
            raise InputError(f"training.patience={self.patience}: at least 1, or null for none")
        if not 0 <= self.held_out <= 0.5:
            raise InputError(f"training.held_out={self.held_out}: a share from 0 to 0.5 is needed")
        if self.patch < 16 or self.patch % 16:
            raise InputError(f"training.patch={self.patch}: a multiple of 16 is expected")
        if not 0 <= self.warm_up < 1 or not 0 <= self.ema < 1:
            raise InputError(
                f"training.warm_up={self.warm_up}, ema={self.ema}: from 0 up to, not including, 1"
            )

    def budget(self) -> str:
        """The limits in words."""
        told = [f"{self.voxels:.3g} voxels"]
        told += [f"{self.seconds:g} s"] if self.seconds is not None else []
        told += [f"{self.patience} evaluations without gain"] if self.patience else []
        return " or ".join(told)
