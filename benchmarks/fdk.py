"""How long does FDK of a cube of voxels take, and how fast are A and A.T of rays?

    python benchmarks/fdk.py --output benchmarks/results/fdk.json

As many voxels along each axis as detector rows and columns, pixels as large as voxels at the axis,
magnification 1.5, 360 views of a full turn. Before anything is timed, FDK by `numba_cpu` is held to
FDK by the `reference` backend at a small size: an RMSE against the true object at most 1 % larger.
One update is one voxel seen by one view: "cone" are those views as they are, "any rays" the same
views with columns that lean, which each ray is followed alone for. The cases take turns.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe_machine
from timing import take_turns

from tomodask.ellipsoids import Ellipsoids, aligned_ellipsoids
from tomodask.geometry import ProjectionGeometry, VolumeGeometry, cone, volume
from tomodask.projectors.operator import operator
from tomodask.reconstruct import FDK

QUESTION = "seconds of FDK of a cube of voxels, and G updates a second of A and A.T of rays"
MAGNIFICATION = 1.5
DISTANCE = 3.0  # from the source to the axis, in edges of the cube
LEAN = 0.01  # of the columns, in views that only a kernel for any rays can project
GREATEST_EXCESS = 1.01  # of the RMSE of the reference


def main(arguments: list[str] | None = None) -> None:
    options = _parse(arguments)
    report: dict[str, Any] = {"question": QUESTION, "machine": describe_machine()}
    report["accuracy"] = held_to_reference(options.checked, options.threads)
    report["results"] = [bench(size, options) for size in options.sizes]
    for result in report["results"]:
        print(_summary(result, report["accuracy"]), flush=True)
    if options.output is not None:
        options.output.write_text(json.dumps(report, indent=2) + "\n")


def held_to_reference(size: int, threads: int) -> dict[str, Any]:
    """RMSE against the object by both backends; stops where ours is larger."""
    space, views = scan(size, 90)
    thing = balls(size)
    y, truth = thing.line_integrals(views, supersampling=2), thing.volume(space)
    rmse = {
        backend: _rms(FDK()(y, operator(space, views, backend, threads=threads)) - truth)
        for backend in ("numba_cpu", "reference")
    }
    if not rmse["numba_cpu"] <= GREATEST_EXCESS * rmse["reference"]:
        raise SystemExit(f"RMSE {rmse}: not timed")
    return {"size": size, "views": 90, "rmse": rmse}


def bench(size: int, options: argparse.Namespace) -> dict[str, Any]:
    """FDK, and A and A.T of views that fit the kernel for cones and of views that do not."""
    space, views = scan(size, options.views)
    leaning = replace(views, det_v=views.det_v + LEAN * views.det_u)
    A, B = (operator(space, pg, "numba_cpu", threads=options.threads) for pg in (views, leaning))
    thing = balls(size)
    x = thing.volume(space)
    y = A(x)
    fdk = FDK()
    cases: dict[str, Callable[[], object]] = {
        "FDK": lambda: fdk(y, A),
        "cone A": lambda: A(x),
        "cone A.T": lambda: A.T(y),
        "any rays A": lambda: B(x),
        "any rays A.T": lambda: B.T(y),
    }
    seconds = take_turns(cases, options.repeats)
    updates = size**3 * options.views / 1e9
    result: dict[str, Any] = {"size": size, "views": options.views, "threads": options.threads}
    for name, each in seconds.items():
        low, median, high = (float(n) for n in np.percentile(each, [25, 50, 75]))
        result[name] = {"seconds": median, "quartiles": [low, high], "repeats": each.size}
        if name != "FDK":
            result[name]["giga_updates_per_second"] = updates / median
    return result


def scan(size: int, num_angles: int) -> tuple[VolumeGeometry, ProjectionGeometry]:
    """A cube of voxels of size 1 and a full turn around it."""
    views = cone(
        angles=num_angles,
        shape=size,
        size=MAGNIFICATION * size,
        src_orig_dist=DISTANCE * size,
        src_det_dist=MAGNIFICATION * DISTANCE * size,
    )
    return volume(shape=size), views


def balls(size: int) -> Ellipsoids:
    """A large ball with some smaller ones in it, denser and less dense."""
    rng = np.random.default_rng(0)
    middles = rng.uniform(-0.2, 0.2, (12, 3)) * size
    radii, values = rng.uniform(0.02, 0.08, 12) * size, rng.uniform(-0.5, 0.5, 12)
    return aligned_ellipsoids(
        [(0, 0, 0), *map(tuple, middles)],
        [(0.4 * size,) * 3, *((radius,) * 3 for radius in radii)],
        [1.0, *values],
    )


def _rms(error: np.ndarray) -> float:
    return float(np.sqrt(np.mean(error.astype(np.float64) ** 2)))


def _summary(result: dict[str, Any], accuracy: dict[str, Any]) -> str:
    ours, theirs = accuracy["rmse"]["numba_cpu"], accuracy["rmse"]["reference"]
    low, high = result["FDK"]["quartiles"]
    lines = [
        f"FDK of {result['size']}^3 from {result['views']} views, {result['threads']} threads: "
        f"{result['FDK']['seconds']:.2f} s ({low:.2f} to {high:.2f}); RMSE {ours:.5f}, by the "
        f"reference {theirs:.5f} at {accuracy['size']}^3"
    ]
    for name in ("cone A", "cone A.T", "any rays A", "any rays A.T"):
        rate = result[name]["giga_updates_per_second"]
        lines.append(f"  {name:12} {result[name]['seconds']:.2f} s, {rate:.2f} G updates/s")
    return "\n".join(lines)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256])
    parser.add_argument("--views", type=int, default=360)
    parser.add_argument("--checked", type=int, default=48, help="voxels held to the reference")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
