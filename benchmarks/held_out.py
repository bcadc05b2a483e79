"""Views that were held out tell which volume of a measured scan is right: there is no truth.

About 60 views are reconstructed, others choose the parameters, others again are compared with A of
the volume: |A x - y| / |y|, nothing fitted. FBP alone chooses on the views that it is scored on:
the strongest FBP there is.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from methods import grid

from tomodask.geometry import Box, ParallelBeam
from tomodask.ingest import open_source
from tomodask.preprocess import Flatfield, MinusLog
from tomodask.projections import Projections
from tomodask.projectors import Projector, make_projector
from tomodask.reconstruct import CGLS, FBP, FISTATV, SIRT
from tomodask.reconstruct.filters import FILTERS

NOT_NAMED = "TOMODASK_DATA does not name the folder of measured scans"


@dataclass(frozen=True, eq=False)
class HeldOut:
    """One scan: y (row, angle, column) of all views; every `step`-th is reconstructed."""

    y: np.ndarray
    geometry: ParallelBeam
    step: int
    threads: int

    def views(self, part: int) -> tuple[np.ndarray, ParallelBeam]:
        """Of three parts: 0 to reconstruct, 1 to choose parameters, 2 to score."""
        of_part = slice(part * self.step // 3, None, self.step)
        geometry = replace(self.geometry, angles=self.geometry.angles[of_part])
        return np.ascontiguousarray(self.y[:, of_part]), geometry

    def projector(self, part: int, backend: str) -> Projector:
        """A of these views."""
        columns = self.y.shape[2]
        box = Box((0, 0, 0), (len(self.y), columns, columns))
        return make_projector(box, self.views(part)[1], backend, threads=self.threads)

    def error(self, volume: np.ndarray, part: int) -> float:
        """|A x - y| / |y| on the views of a part."""
        y = self.views(part)[0]
        return float(np.linalg.norm(self._seen[part](volume) - y) / np.linalg.norm(y))

    def __post_init__(self) -> None:
        seen = {part: self.projector(part, "numba_cpu") for part in (1, 2)}
        object.__setattr__(self, "_seen", seen)


ALGORITHMS: dict[str, tuple[Callable[..., Any], tuple[dict[str, Any], ...]]] = {
    "fbp": (FBP, grid(filter=tuple(FILTERS), cutoff=(0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0))),
    "cgls": (CGLS, grid(num_iterations=tuple(range(3, 16, 2)))),
    "sirt": (SIRT, grid(num_iterations=(30, 60, 100), relaxation=(1.9,), min_constraint=(0.0,))),
    "fista_tv": (
        FISTATV,
        grid(regularisation=(0.001, 0.002, 0.004), num_iterations=(60,), min_constraint=(0.0,)),
    ),
}


def held_out_errors(threads: int) -> dict[str, Any]:
    """Error and parameters by scan and algorithm, or why there are none."""
    named = os.environ.get("TOMODASK_DATA")
    if not named:
        return {"left_out": NOT_NAMED}
    folder = Path(named)
    scans = {"tooth": tooth(folder, threads), "basalt": basalt(folder, threads)}
    return {name: compare(scan) for name, scan in scans.items()}


def compare(scan: HeldOut, points: int | None = None) -> dict[str, Any]:
    """Error and parameters by algorithm; `points` of each grid alone are tried, if given."""
    y, geometry = scan.views(0)
    result: dict[str, Any] = {"views": geometry.angles.size, "columns": y.shape[2]}
    for name, (algorithm, choices) in ALGORITHMS.items():
        is_fbp = name == "fbp"
        A = scan.projector(0, "fourier" if is_fbp else "numba_cpu")
        tried = []
        for parameters in choices[:: max(1, -(-len(choices) // points)) if points else 1]:
            volume = algorithm(**parameters)(y, A)
            errors = [scan.error(volume, part) for part in (1, 2)]
            tried.append((errors[1 if is_fbp else 0], errors[1], parameters))
        _, error, parameters = min(tried, key=lambda one: one[0])
        result[name] = {"error": error, "parameters": parameters}
    return result


def tooth(folder: Path, threads: int) -> HeldOut:
    """2 rows of 181 views."""
    source = open_source(folder / "tooth_aps" / "tooth.h5")
    rows, columns = source.shape[1:]
    geometry = ParallelBeam(source.angles, rows, columns, center_of_rotation=296.0)
    counts = source.read(slice(None), slice(None)).astype(np.float32)
    block = Projections(counts, geometry, flats=source.flats(), darks=source.darks())
    y = MinusLog()(Flatfield()(block)).sinograms()
    return HeldOut(np.ascontiguousarray(y), geometry, 3, threads)


def basalt(folder: Path, threads: int) -> HeldOut:
    """1 row of 530 views, -log done."""
    stored = scipy.io.loadmat(folder / "basalt" / "sino_basalt.mat")
    y = np.ascontiguousarray(stored["sino_basalt"].T[None], np.float32)
    geometry = ParallelBeam(stored["angles"].ravel(), 1, y.shape[2], center_of_rotation=311.5)
    return HeldOut(y, geometry, 9, threads)
