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

from tomodask.projectors import Projector
from tomodask.projectors.lane_grid import WIDTH
from tomodask.projectors.lane_plane import grid_shape

REAL, COMPLEX = 4, 8  # bytes of float32 and complex64


@dataclass(frozen=True)
class GriddingSizes:
    """What the gridding of a slab works on; a real slice needs half lines and half the grid.

    line : columns n of a view's line, of which n / 2 frequencies are kept.
    grid : points of the grid along an axis.
    """

    num_slices: int
    num_angles: int
    columns: int
    line: int
    grid: int

    @classmethod
    def of(cls, A: Projector, line: int) -> GriddingSizes:
        """Those of the backend `fourier` for square slices and lines of `line` columns."""
        grid, _ = grid_shape((A.domain_shape[1], A.domain_shape[2]))
        return cls(*A.range_shape, line, grid)


def stage_floors(sizes: GriddingSizes, limits: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """FLOP, bytes and least seconds of each stage of FBP, by the name the backend gives it.

    rows : padding, FFT, ramp and phase of every view.
    grid : samples onto the grid, and its FFT along x while a strip is in the cache; only columns of
        the slice are kept.
    slices : the FFT along y, the kernel's transform divided out, lanes turned into slices.
    limits : see `machine.measure_limits`.
    """
    slices, line, grid, columns = sizes.num_slices, sizes.line, sizes.grid, sizes.columns
    views = slices * sizes.num_angles
    samples = views * line / 2
    kept = slices * grid / 2 * columns
    flop_bytes = {
        "rows": (
            views * 2.5 * line * log2(line) + 6 * samples,
            REAL * views * columns + COMPLEX * samples,
        ),
        "grid": (
            samples * 4 * (WIDTH**2 + WIDTH / 2) + slices * grid / 2 * 5 * grid * log2(grid),
            COMPLEX * (samples + kept),
        ),
        "slices": (
            slices * columns * 2.5 * grid * log2(grid),
            COMPLEX * kept + REAL * slices * columns**2,
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
