"""How many slices a second does FBP reconstruct, and how many does ASTRA on the same cores?

    python benchmarks/fbp.py --columns 512 1024 --output benchmarks/results/fbp.json

Both get the same sinograms of a foam (exact line integrals, averaged over each pixel) with
round(1.57 x columns) views of half a turn, already in memory, and leave slices in memory. ASTRA
runs its CPU algorithm "FBP" with the projector "linear" (Joseph's method). That uses one core a
slice and lets go of Python meanwhile, so it gets as many slices at a time as there are threads; as
a slice takes it seconds, it is timed on that many slices only. The two take turns. The answers are
compared before anything is timed: RMSE in the field of view, and the width of an edge.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import astra
import numpy as np
from machine import describe_machine
from scipy.optimize import curve_fit
from scipy.special import erf

from tomodask.geometry import Box, ParallelBeam
from tomodask.phantom import Discs, disc_sinogram, foam
from tomodask.projectors import make_projector
from tomodask.reconstruct import FBP

QUESTION = "FBP, slices a second, against ASTRA's CPU FBP (linear) on the same cores"
FIELD_OF_VIEW = 0.48  # of the columns: RMSE is taken within this radius
GREATEST_RMSE = 0.15  # of the solid's value; a mirrored slice has about 0.5

Reconstruct = Callable[[np.ndarray], np.ndarray]  # sinograms (row, angle, column) -> (z, y, x)


def main(arguments: list[str] | None = None) -> None:
    options = _parse(arguments)
    results = []
    for columns in options.columns:
        result = bench_fbp(
            columns, options.slices, options.threads, options.repeats, options.backend
        )
        results.append(result)
        print(_summary(result), flush=True)
    if options.output is not None:
        report = {"question": QUESTION, "machine": describe_machine(), "results": results}
        options.output.write_text(json.dumps(report, indent=2) + "\n")


def bench_fbp(
    columns: int, num_slices: int, threads: int, repeats: int, backend: str
) -> dict[str, Any]:
    """Check both answers, then time both, taking turns."""
    angles = np.arange(round(1.57 * columns)) * np.pi / round(1.57 * columns)
    discs = foam_slices(columns, num_slices)
    sinograms = np.stack([one.sinogram(angles, columns) for one in discs])
    ours, theirs = (
        tomodask_fbp(angles, columns, threads, backend),
        astra_fbp(angles, columns, threads),
    )
    few = sinograms[:threads]
    quality = {
        name: {
            "rmse": rmse(reconstruct(few), discs),
            "edge_width_pixels": edge_width(reconstruct, angles, columns),
        }
        for name, reconstruct in (("tomodask", ours), ("astra", theirs))
    }
    _check(quality, columns)
    volume = ours(sinograms)  # makes the plans too, once for a geometry
    _check({"tomodask": {"rmse": rmse(volume, discs)}}, columns)
    seconds: dict[str, list[float]] = {"tomodask": [], "astra": []}
    for _ in range(repeats):
        seconds["tomodask"].append(_seconds(ours, sinograms) / len(sinograms))
        seconds["astra"].append(_seconds(theirs, few) / len(few))
    rates = {name: _rate(each) for name, each in seconds.items()}
    return {
        "columns": columns,
        "angles": angles.size,
        "threads": threads,
        "backend": backend,
        "tomodask": {"slices": len(sinograms), **rates["tomodask"], **quality["tomodask"]},
        "astra": {"slices": len(few), **rates["astra"], **quality["astra"]},
        "speedup": rates["tomodask"]["slices_per_second"] / rates["astra"]["slices_per_second"],
    }


def foam_slices(columns: int, num_slices: int) -> list[Discs]:
    """Slices of value 1 with about 110 voids each, nine tenths as wide as the field of view."""
    height = columns // 4
    sample = foam(0.45 * columns, height, num_spheres=1000, seed=1, attenuation=1.0)
    heights = np.linspace(0.1, 0.9, num_slices) * height
    return [sample.discs(z) for z in heights]


def tomodask_fbp(angles: np.ndarray, columns: int, threads: int, backend: str) -> Reconstruct:
    """FBP as users get it, with all defaults."""

    def reconstruct(sinograms: np.ndarray) -> np.ndarray:
        rows = len(sinograms)
        geometry = ParallelBeam(angles, rows, columns, center_of_rotation=(columns - 1) / 2)
        box = Box((0, 0, 0), (rows, columns, columns))
        return FBP()(sinograms, make_projector(box, geometry, backend, threads))

    return reconstruct


def astra_fbp(angles: np.ndarray, columns: int, threads: int) -> Reconstruct:
    """ASTRA's FBP, a slice for each thread at a time; it turns the other way around."""
    volume = astra.create_vol_geom(columns, columns)
    views = astra.create_proj_geom("parallel", 1.0, columns, -angles)
    projector = astra.create_projector("linear", views, volume)

    def one(sinogram: np.ndarray) -> np.ndarray:
        sinogram_id = astra.data2d.create("-sino", views, sinogram)
        image_id = astra.data2d.create("-vol", volume)
        options = astra.astra_dict("FBP")
        options["ProjectorId"] = projector
        options["ProjectionDataId"] = sinogram_id
        options["ReconstructionDataId"] = image_id
        options["option"] = {"FilterType": "ram-lak"}
        algorithm = astra.algorithm.create(options)
        astra.algorithm.run(algorithm)
        image = astra.data2d.get(image_id)
        astra.algorithm.delete(algorithm)
        astra.data2d.delete([sinogram_id, image_id])
        return np.asarray(image)

    def reconstruct(sinograms: np.ndarray) -> np.ndarray:
        with ThreadPoolExecutor(threads) as pool:
            return np.stack(list(pool.map(one, sinograms)))

    return reconstruct


def rmse(volume: np.ndarray, discs: list[Discs]) -> float:
    """Against the averages over each pixel, within the field of view; the solid has value 1."""
    columns = volume.shape[-1]
    y, x = np.mgrid[:columns, :columns] - (columns - 1) / 2
    inside = np.hypot(x, y) < FIELD_OF_VIEW * columns
    errors = [
        (image - one.image(columns, columns))[inside]
        for image, one in zip(volume, discs, strict=False)
    ]
    return float(np.sqrt(np.mean(np.square(errors))))


def edge_width(reconstruct: Reconstruct, angles: np.ndarray, columns: int) -> float:
    """Pixels over which the edge of a disc rises from 10 to 90 %, by a fit of an error function."""
    radius, x0, y0 = 0.3 * columns, 0.05 * columns + 0.3, -0.04 * columns + 0.2
    image = reconstruct(disc_sinogram(angles, columns, None, radius, x0, y0)[None])[0]
    y, x = np.mgrid[:columns, :columns] - (columns - 1) / 2
    outward = np.hypot(x - x0, y - y0) - radius
    near = np.abs(outward) < 6

    def edge(distance: np.ndarray, height: float, place: float, sigma: float) -> np.ndarray:
        return np.asarray(height / 2 * (1 - erf((distance - place) / (np.sqrt(2) * sigma))))

    (_, _, sigma), _ = curve_fit(edge, outward[near], image[near], p0=(1.0, 0.0, 0.5))
    return float(2.563 * abs(sigma))  # from the 10 % to the 90 % point of a normal distribution


def _check(quality: dict[str, dict[str, float]], columns: int) -> None:
    """Refuse to time a wrong answer; say so where ours is the worse one."""
    for name, measures in quality.items():
        if not measures["rmse"] < GREATEST_RMSE:
            raise SystemExit(f"{columns} columns: RMSE {measures['rmse']:.3f} of {name}: not timed")
    for measure, value in quality["tomodask"].items():
        if value > quality.get("astra", quality["tomodask"])[measure]:
            print(f"{columns} columns: the worse {measure} is tomodask's, {value:.4f}")


def _seconds(reconstruct: Reconstruct, sinograms: np.ndarray) -> float:
    start = time.perf_counter()
    reconstruct(sinograms)
    return time.perf_counter() - start


def _rate(seconds: list[float]) -> dict[str, Any]:
    """Median and quartiles of slices a second."""
    low, median, high = np.percentile(1 / np.array(seconds), [25, 50, 75])
    return {
        "slices_per_second": float(median),
        "quartiles": [float(low), float(high)],
        "repeats": len(seconds),
    }


def _summary(result: dict[str, Any]) -> str:
    lines = [f"{result['columns']} columns, {result['angles']} views, {result['threads']} threads"]
    for name in ("tomodask", "astra"):
        one = result[name]
        low, high = one["quartiles"]
        lines.append(
            f"  {name:9} {one['slices_per_second']:8.2f} slices/s ({low:.2f} to {high:.2f}), "
            f"RMSE {one['rmse']:.4f}, edge {one['edge_width_pixels']:.3f} pixels"
        )
    return "\n".join([*lines, f"  {result['speedup']:.0f} times as fast"])


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--columns", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--slices", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--backend", default="fourier")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
