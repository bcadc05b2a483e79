"""From transmission to attenuation: the logarithm of Beer and Lambert's law."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tomodask.errors import InputError, RecipeError
from tomodask.geometry import ParallelBeam
from tomodask.projections import Projections


def require_transmission(block: Projections, step: str) -> None:
    """Raise InputError where `step`, which needs transmissions, is given anything else."""
    if block.signal != "transmission":
        raise InputError(
            f"{step} needs transmissions, but the signal of this scan is {block.signal}: "
            f"leave {step} out of the corrections"
        )
    if block.data.dtype.kind != "f":
        raise InputError(
            f"{step} needs transmissions, got {block.data.dtype} data, which are raw counts: "
            "put flatfield before it"
        )


@dataclass(frozen=True)
class MinusLog:
    """Line integrals of the attenuation, -log(transmission), without unit.

    Transmissions below `floor` are raised to it and counted as "floored_pixels"; NaN stays NaN.

    Raises
    ------
    InputError : the signal is not transmission, or the data are raw counts.
    """

    floor: float = 1e-6

    mixes_angles: ClassVar[bool] = False

    def __post_init__(self) -> None:
        smallest = float(np.finfo(np.float32).tiny)
        if not smallest <= self.floor < 1:
            raise RecipeError(
                f"floor {self.floor}: a transmission from {smallest:.1e} up to, not including, 1 "
                "is expected; 1e-6 suits most scans"
            )

    def halo(self, geometry: ParallelBeam) -> int:
        """No row needs another."""
        return 0

    def working_bytes(self, shape: tuple[int, int, int]) -> int:
        """The result and one projection's comparison with the floor."""
        return 4 * math.prod(shape) + math.prod(shape[1:])

    def __call__(self, block: Projections) -> Projections:
        """-log(max(transmission, floor)), float32."""
        require_transmission(block, "minus_log")
        floor = np.float32(self.floor)
        result = np.empty(block.data.shape, dtype=np.float32)
        floored = 0
        # one projection at a time stays in the cache over the four passes
        for transmission, line_integrals in zip(block.data, result, strict=True):
            floored += int(np.count_nonzero(transmission < floor))
            np.maximum(transmission, floor, out=line_integrals)
            np.log(line_integrals, out=line_integrals)
            np.negative(line_integrals, out=line_integrals)
        return block.replace(data=result).count(floored_pixels=floored)
