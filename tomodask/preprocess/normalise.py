"""From transmission to attenuation: the logarithm of Beer and Lambert's law."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tomodask.errors import InputError, RecipeError
from tomodask.geometry import ParallelBeam
from tomodask.preprocess import kernels
from tomodask.preprocess.lines import Lines, result_bytes, result_of, view_runs
from tomodask.projections import Projections
from tomodask.threads import share


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
    in_place: ClassVar[bool] = True

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

    def working_bytes(self, shape: tuple[int, int, int], threads: int = 1) -> int:
        """The result alone."""
        return result_bytes(shape, threads)

    def __call__(
        self, block: Projections, threads: int = 1, out: np.ndarray | None = None
    ) -> Projections:
        """-log(max(transmission, floor)), float32."""
        require_transmission(block, "minus_log")
        result = result_of(block.data, out)
        runs = view_runs(result.shape)
        floored = np.zeros(len(runs), dtype=np.int64)

        def take_logarithm(number: int) -> None:
            run = runs[number]
            lines = Lines.of(block.data[run])
            floored[number] = kernels.transmission.minus_log_views(
                lines.stretch, lines.view_step, lines.row_step, np.float32(self.floor),
                result[run], result is block.data,
            )  # fmt: skip

        share(take_logarithm, len(runs), threads)
        return block.replace(data=result).count(floored_pixels=int(floored.sum()))
