"""How many slices a second do Joseph's A and A.T project, and how many do ASTRA's on the CPU?

    python benchmarks/joseph.py --output benchmarks/results/joseph.json

Both are the same operator ("linear" in ASTRA), so their answers are compared first, and for some
views ours with the reference in NumPy. Slices are noise, on which ASTRA's positions in float32 show
most. ASTRA is fed as in `peers/astra_projector.py`, and gets one slice a thread, as its time grows
with the slices alone; we get two vectors of slices. The two take turns.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import half_turn
from machine import describe_machine
from peers.astra_projector import AstraProjector
from timing import rate, ratio, take_turns

from tomodask.geometry import Box, ParallelBeam
from tomodask.projectors import make_projector

QUESTION = "Joseph's A and A.T, slices a second, against ASTRA (CPU, linear) on the same cores"
GREATEST_DIFFERENCE = 0.02  # from ASTRA, relative, in L2 norms: another operator's is ten times it
GREATEST_ERROR = 1e-5  # from the reference
MATCHED = 1e-6  # of <A x, A x>
CHECKED = 7  # views that the reference projects: it takes a second for some

Apply = Callable[[np.ndarray], np.ndarray]


def main(arguments: list[str] | None = None) -> None:
    options = _parse(arguments)
    report: dict[str, Any] = {"question": QUESTION, "machine": describe_machine(), "results": []}
    for columns in options.columns:
        result = bench_joseph(columns, options)
        report["results"].append(result)
        print(_summary(result), flush=True)
    if options.output is not None:
        options.output.write_text(json.dumps(report, indent=2) + "\n")


def bench_joseph(columns: int, options: argparse.Namespace) -> dict[str, Any]:
    """Both directions: the answers first, then speed, taking turns."""
    angles, rows, threads = half_turn(columns), options.slices, options.threads
    geometry = ParallelBeam(angles, rows, columns, center_of_rotation=(columns - 1) / 2)
    box = Box((0, 0, 0), (rows, columns, columns))
    A = make_projector(box, geometry, options.backend, threads)
    astra = AstraProjector(angles, columns, threads)
    x = np.random.default_rng(0).standard_normal(A.domain_shape, np.float32)
    y = A(x)
    return {
        "columns": columns,
        "angles": angles.size,
        "threads": threads,
        "backend": options.backend,
        "adjointness": _adjointness(x, y, A.T(y)),
        "error": _error(geometry, x[:1], options),
        "A": _compare("A", A, astra.forward, x, options),
        "A.T": _compare("A.T", A.T, astra.adjoint, y, options),
    }


def _adjointness(x: np.ndarray, y: np.ndarray, back: np.ndarray) -> float:
    """|<A x, y> - <x, A.T y>| of <A x, y>, for y = A x."""
    there = np.vdot(y.astype(np.float64), y)
    error = float(abs(there - np.vdot(x.astype(np.float64), back)) / there)
    if not error < MATCHED:
        raise SystemExit(f"<A x, y> and <x, A.T y> differ by {error:.2g}: no pair, not timed")
    return error


def _error(geometry: ParallelBeam, x: np.ndarray, options: argparse.Namespace) -> float:
    """The larger of A's and A.T's from the reference, relative, for a slice and some views."""
    few = np.linspace(0, geometry.num_angles - 1, CHECKED).astype(int)
    one = replace(geometry, angles=geometry.angles[few], det_rows=1)
    box = Box((0, 0, 0), x.shape)
    A, law = (
        make_projector(box, one, backend, options.threads)
        for backend in (options.backend, "reference")
    )
    y = law(x)
    pairs = (A(x), y), (A.T(y), law.T(y))
    error = max(relative_error(found, expected) for found, expected in pairs)
    if not error < GREATEST_ERROR:
        raise SystemExit(f"{error:.2g} from the reference: another operator, not timed")
    return error


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """L2 norm of the difference, of that of what was expected."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def _compare(
    name: str, ours: Apply, astra: Apply, values: np.ndarray, options: argparse.Namespace
) -> dict[str, Any]:
    few = values[: options.threads]
    theirs = astra(few)
    difference = relative_error(ours(values)[: len(few)], theirs)
    if not difference < GREATEST_DIFFERENCE:
        raise SystemExit(f"{name}: {difference:.2g} from ASTRA's: another operator, not timed")
    turns = {"tomodask": partial(ours, values), "astra": partial(astra, few)}
    seconds = take_turns(turns, options.repeats)
    per_slice = seconds["tomodask"] / len(values), seconds["astra"] / len(few)
    return {
        "tomodask": rate(seconds["tomodask"], len(values)),
        "astra": rate(seconds["astra"], len(few)),
        "difference": difference,
        "ratio": ratio(*per_slice),
    }


def _summary(result: dict[str, Any]) -> str:
    lines = [
        f"{result['columns']} columns, {result['angles']} views, {result['threads']} threads, "
        f"adjoint to {result['adjointness']:.1e}, {result['error']:.1e} from the reference"
    ]
    for name in ("A", "A.T"):
        one, times = result[name], result[name]["ratio"]
        low, high = times["quartiles"]
        lines.append(
            f"  {name:4} {one['tomodask']['slices_per_second']:.2f} slices/s; ASTRA "
            f"{one['astra']['slices_per_second']:.3f}, {one['difference']:.1e} from it: "
            f"{times['median']:.0f} ({low:.0f} to {high:.0f}) times as fast"
        )
    return "\n".join(lines)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--columns", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--slices", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--backend", default="numba_cpu")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
