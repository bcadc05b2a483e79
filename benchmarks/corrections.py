"""How long does each correction take, beside the FBP of the same block on the same threads?

    python benchmarks/corrections.py --output benchmarks/results/corrections.json

None may take longer than FBP does, or the fastest projector would wait for its input. A block of a
foam's photon counts, 1.57 views a column, with flats, darks and zingers, already in memory, goes
through every correction of the table with its default parameters (phase retrieval with kernels of
several lengths) and through the whole chains that `apply_corrections` makes of them. All of them
and FBP with the default projector take turns. Each answer is checked before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe_machine

from tomodask.geometry import Box, ParallelBeam
from tomodask.phantom import foam
from tomodask.preprocess import (
    Correction,
    Flatfield,
    MinusLog,
    Outliers,
    Paganin,
    Stripes,
    apply_corrections,
)
from tomodask.projections import Projections
from tomodask.projectors import make_projector
from tomodask.reconstruct import FBP

QUESTION = "Milliseconds a row of each correction, beside the FBP of the same block"
OPEN_BEAM, DARK = 20_000, 100  # counts
ZINGERS = 1e-4  # share of the pixels
KERNEL_PIXELS = (2, 4, 12, 38)  # decay lengths of phase retrieval
GREATEST_ERROR = 0.05  # of the attenuations, which reach 1: photon noise is 0.012 behind the foam

Call = Callable[[], object]


def main(arguments: list[str] | None = None) -> None:
    options = _parse(arguments)
    results = []
    for threads in options.threads:
        result = bench_corrections(options.columns, options.rows, threads, options.repeats)
        results.append(result)
        print(_summary(result), flush=True)
    if options.output is not None:
        report = {"question": QUESTION, "machine": describe_machine(), "results": results}
        options.output.write_text(json.dumps(report, indent=2) + "\n")


def bench_corrections(columns: int, rows: int, threads: int, repeats: int) -> dict[str, Any]:
    """Check all answers, then time the corrections and FBP, taking turns."""
    counts, attenuation = counted_foam(columns, rows)
    transmission = Flatfield()(Outliers()(counts))
    line_integrals = MinusLog()(transmission)
    check(counts, attenuation)

    def calling(correct: Correction, block: Projections) -> Call:
        return lambda: correct(block, threads)

    def chaining(chain: list[Correction]) -> Call:
        return lambda: apply_corrections(chain, counts, threads)

    calls = {
        "outliers": calling(Outliers(), counts),
        "flatfield": calling(Flatfield(), counts),
        "minus_log": calling(MinusLog(), transmission),
        "stripes": calling(Stripes(), line_integrals),
    }
    for pixels in KERNEL_PIXELS:
        calls[f"paganin of {pixels} pixels"] = calling(paganin_of(pixels), transmission)
    most: list[Correction] = [Flatfield(), MinusLog()]
    every: list[Correction] = [Outliers(), Flatfield(), paganin_of(2), MinusLog(), Stripes()]
    calls |= {"flatfield, minus_log": chaining(most), "all five": chaining(every)}
    calls["fbp"] = reconstructing(line_integrals, threads)
    for call in calls.values():
        call()  # plans are made and loops compiled once
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            seconds[name].append(_seconds(call))
    return {
        "columns": columns,
        "angles": len(counts.data),
        "rows": rows,
        "threads": threads,
        "repeats": repeats,
        "steps": {
            name: _measures(times, seconds["fbp"], counts) for name, times in seconds.items()
        },
    }


def counted_foam(columns: int, rows: int) -> tuple[Projections, np.ndarray]:
    """Counts of a scan, and the attenuations (angle, row, column) behind them."""
    rng = np.random.default_rng(0)
    angles = np.arange(round(1.57 * columns)) * np.pi / round(1.57 * columns)
    sample = foam(0.45 * columns, columns // 4, num_spheres=1000, seed=1, attenuation=1.1 / columns)
    heights = np.linspace(0.1, 0.9, rows) * (columns // 4)
    attenuation = np.stack([sample.discs(z).sinogram(angles, columns) for z in heights], axis=1)
    gains = rng.uniform(0.8, 1.2, size=(rows, columns)) * OPEN_BEAM

    def counted(mean: np.ndarray) -> np.ndarray:
        return (DARK + rng.poisson(mean)).astype(np.uint16)

    counts = np.stack([counted(gains * np.exp(-view)) for view in attenuation])
    counts[rng.random(counts.shape) < ZINGERS] = 60_000
    geometry = ParallelBeam(
        angles, rows, columns, center_of_rotation=(columns - 1) / 2, pixel_size_um=1.0
    )
    block = Projections(
        counts,
        geometry,
        flats=counted(np.broadcast_to(gains, (20, rows, columns))),
        darks=np.full((10, rows, columns), DARK, dtype=np.uint16),
        timestamps=np.arange(angles.size, dtype=float),
        flat_times=np.repeat([-1.0, angles.size], 10),
    )
    return block, attenuation


def paganin_of(pixels: float) -> Paganin:
    """With a kernel of that decay length on pixels of 1 um."""
    unit = Paganin(delta_beta=100, energy_kev=20, distance_mm=1)
    one = unit.kernel_length(ParallelBeam(np.zeros(1), 1, 2, pixel_size_um=1.0))
    return Paganin(delta_beta=100, energy_kev=20, distance_mm=(pixels / one) ** 2)


def check(counts: Projections, attenuation: np.ndarray) -> None:
    """Refuse to time corrections that don't give back what was counted."""
    plain = apply_corrections([Outliers(), Flatfield(), MinusLog()], counts)
    _check("outliers, flatfield and minus_log", plain.data, attenuation)
    _check("stripes", Stripes()(plain).data, attenuation)
    for pixels in KERNEL_PIXELS:
        retrieve = paganin_of(pixels)
        fringed = plain.replace(data=np.full(plain.data.shape, 0.7, dtype=np.float32))
        _check(f"paganin of {pixels} pixels", retrieve(fringed).data, fringed.data)


def _check(name: str, found: np.ndarray, expected: np.ndarray) -> None:
    error = float(np.sqrt(np.mean(np.square(found - expected))))
    if not error < GREATEST_ERROR:
        raise SystemExit(f"RMSE {error:.3f} of {name}: not timed")


def reconstructing(projections: Projections, threads: int) -> Call:
    """FBP as users get it, with all defaults."""
    rows, columns = projections.geometry.det_rows, projections.geometry.det_count
    box = Box((0, 0, 0), (rows, columns, columns))

    def reconstruct() -> np.ndarray:
        projector = make_projector(box, projections.geometry, "fourier", threads)
        return FBP()(projections.sinograms(), projector)

    return reconstruct


def _seconds(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _measures(seconds: list[float], fbp: list[float], counts: Projections) -> dict[str, Any]:
    """Medians with quartiles: time a row and a pixel, and the share of FBP's time in that turn."""
    shares = np.percentile(np.divide(seconds, fbp), [25, 50, 75])
    low, median, high = np.percentile(seconds, [25, 50, 75]) * 1e3 / counts.geometry.det_rows
    return {
        "milliseconds_per_row": float(median),
        "quartiles": [float(low), float(high)],
        "nanoseconds_per_pixel": float(np.median(seconds) * 1e9 / math.prod(counts.data.shape)),
        "share_of_fbp": float(shares[1]),
        "share_quartiles": [float(shares[0]), float(shares[2])],
    }


def _summary(result: dict[str, Any]) -> str:
    lines = [
        f"{result['columns']} columns, {result['angles']} views, {result['rows']} rows, "
        f"{result['threads']} threads"
    ]
    for name, step in result["steps"].items():
        low, high = step["quartiles"]
        lines.append(
            f"  {name:22} {step['milliseconds_per_row']:8.3f} ms a row ({low:.3f} to {high:.3f}), "
            f"{step['nanoseconds_per_pixel']:6.2f} ns a pixel, {step['share_of_fbp']:6.1%} of FBP"
        )
    return "\n".join(lines)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--columns", type=int, default=1024)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
