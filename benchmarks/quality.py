"""How much better than FBP are the iterative methods, where views and photons are few?

    python benchmarks/quality.py --output benchmarks/results/quality.json --picture docs/quality.png

A foam whose projections are known exactly, 64 views of half a turn, 1000 photons in each pixel of
the open beam (`sparse_foam.py`). Each method's parameters, FBP's window and cutoff among them, are
chosen on another foam, of another seed and other sizes of spheres, and scored on this one: PSNR in
the field of view, relative to the solid's attenuation. SIRT, SART and TV hold values between 0 and
that attenuation. Peers get the same data and are tuned in the same way, or run with our iterations
(`peers/`); one that is not installed is left out by name. Seconds are those of all rows of the
tested foam, the cases taking turns.

Where $TOMODASK_DATA names the folder of measured scans, views that were held out tell what no truth
can (`held_out.py`).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from held_out import held_out_errors
from machine import PACKAGES, describe_machine
from matplotlib.figure import Figure
from methods import CLASSICAL, OURS, TV, Method, quick, tune
from peers import QUALITY_PEERS, installed_quality_peers, quality_peer
from sparse_foam import PEAK, PHOTONS, TESTED_ON, TUNED_ON, VIEWS, WIDTH, Case, make_case
from timing import take_turns

QUESTION = "PSNR of iterative methods over FBP with its best window: 64 views, 1000 photons"
WRONG = 0.5  # of the solid, RMSE: a mirrored or shifted volume
SHOWN = ("fbp", "sirt_from_fbp", "fista_tv")
PEER_PACKAGES = ("scikit-image", "algotom", "svmbir")
SETTING = {
    "views": VIEWS,
    "photons": PHOTONS,
    "width": WIDTH,
    "peak_attenuation_of_the_solid": PEAK,
    "tested_on": vars(TESTED_ON),
    "tuned_on": vars(TUNED_ON),
    "box": "0 to the solid's attenuation, of SIRT, SART, TV and what peers have it",
}


def main(arguments: list[str] | None = None) -> None:
    options = _parse(arguments)
    packages = (*PACKAGES, *PEER_PACKAGES)
    report: dict[str, Any] = {"question": QUESTION, "machine": describe_machine(packages)}
    report |= {"setting": SETTING, "results": []}
    for columns in options.columns:
        result, volumes, case = bench_quality(columns, options)
        report["results"].append(result)
        print(_summary(result), flush=True)
        if options.picture is not None and columns == options.columns[0]:
            draw(result, volumes, case, options.picture)
    report["held_out"] = held_out_errors(options.threads)
    print(json.dumps(report["held_out"], indent=2))
    if options.output is not None:
        options.output.write_text(json.dumps(report, indent=2) + "\n")


def bench_quality(
    columns: int, options: argparse.Namespace
) -> tuple[dict[str, Any], dict[str, np.ndarray], Case]:
    """Choose on one foam, score on the other, then time."""
    tuned, tested = (
        make_case(recipe, columns, options.rows, options.threads)
        for recipe in (TUNED_ON, TESTED_ON)
    )
    methods = dict(quick(OURS, options.points)) if options.points else dict(OURS)
    left_out = {
        name: "not installed" for name in QUALITY_PEERS if name not in installed_quality_peers()
    }
    for name in installed_quality_peers():
        methods[name] = quality_peer(name)
    chosen: dict[str, dict[str, Any]] = {}
    volumes: dict[str, np.ndarray] = {}
    for name, method in methods.items():
        chosen[name] = chosen[method.like] if method.like else tune(method, tuned.psnr, tuned)
        volumes[name] = method.solve(tested, **chosen[name])
        _refuse_wrong(name, tested.rmse(volumes[name]))
    cases: dict[str, Callable[[], object]] = {
        name: partial(method.solve, tested, **chosen[name]) for name, method in methods.items()
    }
    seconds = take_turns(cases, options.repeats)
    scores = {name: tested.psnr(volume) for name, volume in volumes.items()}
    result = {
        "columns": columns,
        "rows": options.rows,
        "views": VIEWS,
        "threads": options.threads,
        "porosity": _porosity(tested),
        "methods": {
            name: _entry(method, chosen[name], scores, name, seconds[name])
            for name, method in methods.items()
        },
        "left_out": left_out,
        "tv_over_fbp_db": max(scores[name] for name in TV) - scores["fbp"],
        "classical_over_fbp_db": max(scores[name] for name in CLASSICAL) - scores["fbp"],
    }
    return result, volumes, tested


def draw(result: dict[str, Any], volumes: dict[str, np.ndarray], case: Case, path: Path) -> None:
    """The middle slice: truth, FBP, SIRT and TV, each with its PSNR."""
    panels = [("truth", case.truth)]
    for name in SHOWN:
        one = result["methods"][name]
        panels.append((f"{one['label']}: {one['psnr_db']:.1f} dB", volumes[name]))
    figure = Figure(figsize=(9.2, 2.55), layout="constrained")
    for axes, (title, volume) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        middle = volume[len(volume) // 2]
        axes.imshow(middle, cmap="gray", vmin=-0.2 * case.solid, vmax=1.2 * case.solid)
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _entry(
    method: Method,
    parameters: dict[str, Any],
    scores: dict[str, float],
    name: str,
    seconds: np.ndarray,
) -> dict[str, Any]:
    low, median, high = (float(value) for value in np.percentile(seconds, [25, 50, 75]))
    return {
        "label": method.label,
        "parameters": parameters,
        "tuned": "on the other foam" if len(method.grid) > 1 else "not",
        "psnr_db": scores[name],
        "rmse": 10 ** (-scores[name] / 20),
        "over_fbp_db": scores[name] - scores["fbp"],
        "seconds": median,
        "quartiles": [low, high],
        "repeats": seconds.size,
    }


def _porosity(case: Case) -> float:
    columns = case.truth.shape[-1]
    area = np.pi * (WIDTH / 2 * columns) ** 2
    return float(1 - case.truth.sum() / case.solid / area / len(case.truth))


def _refuse_wrong(name: str, rmse: float) -> None:
    if not rmse < WRONG:
        raise SystemExit(
            f"RMSE {rmse:.2f} of {name}, in parts of the solid: it solves another task"
        )


def _summary(result: dict[str, Any]) -> str:
    lines = [
        f"{result['columns']} columns, {result['rows']} rows, porosity {result['porosity']:.2f}: "
        f"TV {result['tv_over_fbp_db']:+.2f} dB, SIRT or CGLS "
        f"{result['classical_over_fbp_db']:+.2f} dB over FBP"
    ]
    for one in result["methods"].values():
        lines.append(
            f"  {one['label']:26} {one['psnr_db']:6.2f} dB ({one['over_fbp_db']:+.2f}), "
            f"RMSE {one['rmse']:.4f}, {one['seconds']:.3g} s, {one['parameters']}"
        )
    lines += [f"  {name} left out: {reason}" for name, reason in result["left_out"].items()]
    return "\n".join(lines)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--columns", type=int, nargs="+", default=[255])
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--points", type=int, help="try no more parameters of a method than this")
    parser.add_argument("--picture", type=Path, help="PNG file to write")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
