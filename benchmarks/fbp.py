"""How many slices a second does FBP reconstruct, and how many do FINUFFT, ducc0 and ASTRA?

    python benchmarks/fbp.py --columns 512 1024 2048 --output benchmarks/results/fbp.json

All get the same sinograms of a foam (exact line integrals, averaged over each pixel) with
round(1.57 x columns) views of half a turn, already in memory, and leave slices in memory; each
plans once, before. They take turns, so that a busy machine slows all alike, and a ratio is taken
turn by turn. How each peer is fed stands in its file in `peers/`; one that is not installed is left
out by name. ASTRA is a hundred times slower: it gets one slice a thread, and 1024 columns at most.

The answers are compared before anything is timed: RMSE in the field of view, and the width of an
edge. Then the stages of our own kernel are set beside what the machine could do (`floor.py`).
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import GREATEST_RMSE, edge_width, foam_slices, half_turn, rmse, truths
from first_call import first_call_seconds
from floor import GriddingSizes, beside_floors, stage_floors
from machine import describe_machine, measure_limits
from peers import PEERS, Reconstruct, installed_peers, prepare_peer
from timing import rate, ratio, take_turns

from tomodask.geometry import Box, ParallelBeam
from tomodask.projectors import Projector, make_projector
from tomodask.reconstruct import FBP
from tomodask.reconstruct.fbp import padded_length

QUESTION = "FBP, slices a second, against FINUFFT, ducc0 and ASTRA (CPU, linear) on the same cores"
RIVALS = ("finufft", "ducc0")  # the ratio is to the better of them
ASTRA_COLUMNS = 1024
WORSE = 1.01  # times a rival's error: less is rounding


def main(arguments: list[str] | None = None) -> None:
    options = _parse(arguments)
    limits = measure_limits(options.threads)
    report: dict[str, Any] = {"question": QUESTION, "machine": describe_machine(), "limits": limits}
    report["first_call"] = first_call_seconds(options.backend)
    report["results"] = []
    for columns in options.columns:
        result = bench_fbp(columns, options, limits)
        report["results"].append(result)
        print(_summary(result), flush=True)
    if options.output is not None:
        options.output.write_text(json.dumps(report, indent=2) + "\n")


def bench_fbp(columns: int, options: argparse.Namespace, limits: dict[str, Any]) -> dict[str, Any]:
    """Check all answers, then time them, taking turns."""
    threads, angles = options.threads, half_turn(columns)
    # a turn takes a few tenths of a second at any size: less is spent waking up the processor
    discs = foam_slices(columns, options.slices or max(16, 2**15 // columns))
    sinograms = np.stack([one.sinogram(angles, columns) for one in discs])
    ours = tomodask_fbp(angles, columns, threads, options.backend)
    left_out = _left_out(columns)
    methods: dict[str, Reconstruct] = {"tomodask": ours}
    methods |= {
        name: prepare_peer(name, angles, columns, threads) for name in PEERS if name not in left_out
    }
    few = sinograms[:threads]
    images = truths(discs[:threads], columns)
    quality = {
        name: {
            "rmse": rmse(reconstruct(few), images),
            "edge_width_pixels": edge_width(reconstruct, angles, columns),
        }
        for name, reconstruct in methods.items()
    }
    _refuse_wrong(quality, columns)
    last = rmse(ours(sinograms)[-1:], truths(discs[-1:], columns))
    _refuse_wrong({"tomodask": {"rmse": last}}, columns)
    shares = {name: few if name == "astra" else sinograms for name in methods}
    cases = {name: partial(methods[name], shares[name]) for name in methods}
    seconds = {
        name: each / len(shares[name]) for name, each in take_turns(cases, options.repeats).items()
    }
    return {
        "columns": columns,
        "angles": angles.size,
        "threads": threads,
        "backend": options.backend,
        **{
            name: rate(len(shares[name]) * seconds[name], len(shares[name]))
            | quality[name]
            | {"choice": getattr(methods[name], "choice", None)}
            for name in methods
        },
        "left_out": left_out,
        "ratios": {
            name: ratio(seconds["tomodask"], seconds[name])
            for name in methods
            if name != "tomodask"
        },
        "better_peer": _better_peer(seconds),
        "worse": _worse(quality),
        "stages": stage_table(ours, sinograms, options.repeats, limits),
    }


class TomodaskFBP:
    """FBP as users get it, with all defaults; projectors are kept, as the peers' plans are."""

    def __init__(self, angles: np.ndarray, columns: int, threads: int, backend: str) -> None:
        self._angles, self._columns = angles, columns
        self._threads, self._backend = threads, backend
        self._projectors: dict[int, Projector] = {}

    def __call__(self, sinograms: np.ndarray) -> np.ndarray:
        """(row, angle, column) -> (z, y, x)."""
        return FBP()(sinograms, self.projector(len(sinograms)))

    def projector(self, rows: int) -> Projector:
        """The one for this many rows."""
        if rows not in self._projectors:
            columns = self._columns
            geometry = ParallelBeam(
                self._angles, rows, columns, center_of_rotation=(columns - 1) / 2
            )
            box = Box((0, 0, 0), (rows, columns, columns))
            self._projectors[rows] = make_projector(box, geometry, self._backend, self._threads)
        return self._projectors[rows]


tomodask_fbp = TomodaskFBP


def stage_table(
    ours: Reconstruct, sinograms: np.ndarray, repeats: int, limits: dict[str, Any]
) -> list[dict[str, Any]]:
    """Median seconds of each stage beside its floor; empty where the backend has no stages."""
    if not isinstance(ours, TomodaskFBP):
        return []
    A = ours.projector(len(sinograms))
    calls: list[dict[str, float]] = []
    for _ in range(repeats):
        ours(sinograms)
        calls.append(dict(getattr(A._backend, "stage_seconds", {})))
    medians = {name: float(np.median([call[name] for call in calls])) for name in calls[0]}
    sizes = GriddingSizes.of(A, padded_length(sinograms.shape[2]))
    return beside_floors(medians, stage_floors(sizes, limits))


def _left_out(columns: int) -> dict[str, str]:
    """Peers that don't run, with the reason."""
    reasons = {name: "not installed" for name in PEERS if name not in installed_peers()}
    if columns > ASTRA_COLUMNS and "astra" not in reasons:
        reasons["astra"] = f"slow: timed up to {ASTRA_COLUMNS} columns"
    return reasons


def _better_peer(seconds: dict[str, np.ndarray]) -> str | None:
    """The faster of the rivals that ran."""
    ran = [name for name in RIVALS if name in seconds]
    return min(ran, key=lambda name: float(np.median(seconds[name])), default=None)


def _refuse_wrong(quality: dict[str, dict[str, float]], columns: int) -> None:
    for name, measures in quality.items():
        if not measures["rmse"] < GREATEST_RMSE:
            raise SystemExit(f"{columns} columns: RMSE {measures['rmse']:.3f} of {name}: not timed")


def _worse(quality: dict[str, dict[str, float]]) -> list[str]:
    """What a peer does better than we, in words."""
    return [
        f"{measure} {value:.4f}, {name}'s {quality[name][measure]:.4f}"
        for measure, value in quality["tomodask"].items()
        for name in quality
        if value > WORSE * quality[name][measure]
    ]


def _summary(result: dict[str, Any]) -> str:
    lines = [f"{result['columns']} columns, {result['angles']} views, {result['threads']} threads"]
    for name in ("tomodask", *PEERS):
        if name in result["left_out"]:
            lines.append(f"  {name:9} left out: {result['left_out'][name]}")
            continue
        one = result[name]
        low, high = one["quartiles"]
        lines.append(
            f"  {name:9} {one['slices_per_second']:8.2f} slices/s ({low:.2f} to {high:.2f}), "
            f"RMSE {one['rmse']:.4f}, edge {one['edge_width_pixels']:.3f} pixels"
            + (f", {one['choice']}" if one["choice"] else "")
        )
    for name, times in result["ratios"].items():
        low, high = times["quartiles"]
        lines.append(f"  {times['median']:.2f} ({low:.2f} to {high:.2f}) times {name}")
    lines += [f"  worse than a peer: {words}" for words in result["worse"]]
    for stage in result["stages"]:
        beyond = f", {stage['times_floor']:.1f} times its floor" if "times_floor" in stage else ""
        lines.append(f"  {stage['stage']:9} {1e3 * stage['seconds']:8.2f} ms{beyond}")
    return "\n".join(lines)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--columns", type=int, nargs="+", default=[512, 1024, 2048])
    parser.add_argument("--slices", type=int, help="16 at 2048 columns, more of smaller ones")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--backend", default="fourier")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
