"""How far each stage of the gridding is from what the machine could do: arithmetic and bytes.

The least that a stage must calculate and move is counted, not measured: every array read once and
written once, FFTs of 5 n log2 n operations. Its floor is the slower of the two at the machine's
measured limits; caches, shuffles and index sums are what a kernel spends beyond it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log2
from typing import Any

import scipy.fft

from tomodask.projectors import Projector
from tomodask.reconstruct.fbp import padded_length

REAL, COMPLEX = 4, 8  # bytes of float32 and complex64
GRID_FACTOR, WIDTH = 1.5, 4  # where the backend does not tell


@dataclass(frozen=True)
class GriddingSizes:
    """What the gridding of a slab works on; two real slices make one complex one.

    line : samples of a view's spectrum. grid : points of the grid along an axis.
    width : grid points that a sample is spread over along an axis.
    """

    num_slices: int
    num_angles: int
    columns: int
    line: int
    grid: int
    width: int


def gridding_sizes(A: Projector) -> GriddingSizes:
    """Those that the backend states in `stage_sizes` ("line", "grid", "width"), else usual ones."""
    num_slices, num_angles, columns = A.range_shape
    usual = {
        "line": padded_length(columns),
        "grid": scipy.fft.next_fast_len(round(GRID_FACTOR * columns)),
        "width": WIDTH,
    }
    sizes: Mapping[str, int] = {**usual, **getattr(A._backend, "stage_sizes", {})}
    return GriddingSizes(
        num_slices, num_angles, columns, sizes["line"], sizes["grid"], sizes["width"]
    )


def stage_floors(sizes: GriddingSizes, limits: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """FLOP, bytes and least seconds of each stage of FBP, by the stage's name.

    lines : padding, FFT, ramp and phase of every view.
    spread : each sample onto `width` x `width` points of the grid.
    transform : the grid's inverse FFT; along the second axis only columns that end in the image.
    output : the kernel's transform divided out, lanes turned into slices.
    limits : see `machine.measure_limits`.
    """
    pairs, points = sizes.num_slices / 2, sizes.columns**2
    samples = pairs * sizes.num_angles * sizes.line
    grid, kept = pairs * sizes.grid**2, pairs * sizes.grid * sizes.columns
    read = REAL * sizes.num_slices * sizes.num_angles * sizes.columns
    flop_bytes = {
        "lines": (
            samples * (5 * log2(sizes.line) + 6),
            read + COMPLEX * samples,
        ),
        "spread": (
            samples * 4 * (sizes.width**2 + sizes.width / 2),
            COMPLEX * (samples + grid),
        ),
        "transform": (
            5 * log2(sizes.grid) * (grid + kept),
            COMPLEX * (grid + kept + kept + pairs * points),
        ),
        "output": (
            2.0 * pairs * points * 2,
            COMPLEX * pairs * points + REAL * sizes.num_slices * points,
        ),
    }
    return {
        name: {
            "flop": float(flop),
            "bytes": float(moved),
            "floor_seconds": max(
                flop / (1e9 * limits["fma_gflop_s"]), moved / (1e9 * limits["triad_gb_s"])
            ),
        }
        for name, (flop, moved) in flop_bytes.items()
    }


def beside_floors(
    stage_seconds: Mapping[str, float], floors: Mapping[str, Mapping[str, float]]
) -> list[dict[str, Any]]:
    """Each stage as measured beside its floor; a stage that has none is shown without."""
    table: list[dict[str, Any]] = []
    for name, seconds in stage_seconds.items():
        row: dict[str, Any] = {"stage": name, "seconds": seconds}
        if name in floors:
            floor = floors[name]
            row |= floor
            row["gflop_s"] = floor["flop"] / seconds / 1e9
            row["gb_s"] = floor["bytes"] / seconds / 1e9
            row["times_floor"] = seconds / floor["floor_seconds"]
        table.append(row)
    return table
