"""Is a run what its plan said? Memory, bytes and time of two sizes that nothing was measured on.

Rates are measured by `tomodask plan --measure` on a scan of a third size; then runs of two others,
raw file to volume, are foreseen and done, each on a cluster of its own as the command starts it.
The fact is what the run keeps in fact.json: bytes of all blocks, the peak of the workers, wall time
with the start of the workers. The peer is the plan; the limits are those that it has to keep.

    python benchmarks/plan.py [--sizes 512x384x600 ...] [--repeats 5] [--output FILE.json]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe_machine

from tomodask.demo import write_dxchange
from tomodask.hardware import Hardware
from tomodask.layers import Layer, resolve
from tomodask.phantom import simulate_scan
from tomodask.planfact import compare
from tomodask.recipe import Recipe
from tomodask.runfolder import RunFolder

MEASURED = "256x512x512"  # rows, columns, views
SIZES = ("512x384x600", "256x768x900")
LIMITS = {"memory": 0.20, "bytes_read": 0.05, "bytes_written": 0.05, "seconds": 0.40}
RUN = "import sys; from tomodask.cli import execute; sys.exit(execute(sys.argv[1:]))"


def make_scan(folder: Path, size: str) -> Path:
    """A raw file of shot noise behind spheres."""
    rows, columns, views = map(int, size.split("x"))
    path = folder / f"{size}.h5"
    if not path.exists():
        few = min(rows, 32)  # repeated: simulating takes longer than reconstructing
        truth = simulate_scan(few, columns, views, seed=3, num_spheres=300, photons=1e4)
        copies = -(-rows // few)
        for name in ("projections", "flats", "darks"):
            tiled = np.tile(getattr(truth, name), (1, copies, 1))[:, :rows]
            object.__setattr__(truth, name, tiled)
        write_dxchange(path, truth)
    return path


def recipe_of(source: Path, output: Path, workers: int, memory: str) -> Recipe:
    cluster = {"workers": workers, "memory": memory}
    tree = {"source": str(source), "output": str(output), "cluster": cluster}
    return resolve([Layer("benchmark", tree)])[0]


def tomodask(*arguments: str) -> None:
    """The command, in a process of its own."""
    subprocess.run([sys.executable, "-c", RUN, *arguments], check=True, capture_output=True)


def run_once(recipe: Recipe, hardware: Path) -> dict[str, Any]:
    """Foresee a run and do it in a process of its own; plan and fact of it."""
    assert recipe.output is not None
    folder = RunFolder.of(recipe.output)
    shutil.copy(hardware, folder.make() / "hardware.yaml")  # where the run looks for it
    path = folder.path / "asked.yaml"
    path.write_text(json.dumps(recipe.as_dict()))
    tomodask("run", str(path))
    compared = compare(folder)
    for made in (recipe.output, recipe.output.removesuffix(".zarr") + ".scan.zarr", folder.path):
        shutil.rmtree(made)
    return compared


def measure(
    measured: str, sizes: list[str], repeats: int, workers: int, memory: str
) -> dict[str, Any]:
    """Ratios of fact to plan, by size: medians and all of them."""
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name)
        hardware = folder / "hardware.yaml"
        first = recipe_of(make_scan(folder, measured), folder / "none.zarr", workers, memory)
        asked = folder / "asked.yaml"
        asked.write_text(json.dumps(first.as_dict()))
        tomodask("plan", str(asked), "--measure", "--keep", str(hardware))
        known = Hardware.read(hardware)
        recipes = {
            size: recipe_of(make_scan(folder, size), folder / f"{size}.zarr", workers, memory)
            for size in sizes
        }
        runs: dict[str, list[dict[str, Any]]] = {size: [] for size in sizes}
        for _ in range(repeats):  # in turns, so that a busy machine slows all of them
            for size, recipe in recipes.items():
                runs[size].append(run_once(recipe, hardware))
        rates = known.measured
    for size, compared in runs.items():
        results[size] = {name: summary(name, compared) for name in LIMITS}
        results[size]["stages_seconds"] = {
            stage: summary("seconds", compared, stage) for stage in compared[0] if stage != "all"
        }
    return {
        "measured_on": measured,
        "sizes": results,
        "kept": all(results[size][name]["kept"] for size in sizes for name in LIMITS),
        "rates": {
            "stretch": rates.stretch, "share": rates.share, "idle_bytes": rates.idle_bytes,
            "start_s": rates.start_s, "import_s": rates.import_s, "ready_s": rates.ready_s,
            "compression": rates.compression,
        },
    }  # fmt: skip


def summary(name: str, compared: list[dict[str, Any]], stage: str = "all") -> dict[str, Any]:
    """Plan and median fact, and the ratios of fact to plan of all runs."""
    pairs = [each[stage][name] for each in compared]
    ratios = [pair["fact"] / pair["plan"] for pair in pairs]
    median = statistics.median(ratios)
    return {
        "plan": pairs[0]["plan"],
        "fact": statistics.median(pair["fact"] for pair in pairs),
        "ratio": median,
        "ratios": ratios,
        "limit": LIMITS[name],
        "kept": abs(median - 1) <= LIMITS[name],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measured", default=MEASURED)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, default=max(1, min(2, os.cpu_count() or 1)))
    parser.add_argument("--memory", default="2GiB")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    answer = {
        "question": "what a run takes by what its plan said, on sizes that nothing was measured on",
        "workers": options.workers,
        "memory": options.memory,
        "repeats": options.repeats,
        "machine": describe_machine(),
        "result": measure(
            options.measured, options.sizes, options.repeats, options.workers, options.memory
        ),
    }
    print(json.dumps(answer, indent=2))
    if options.output:
        options.output.write_text(json.dumps(answer, indent=2) + "\n")


if __name__ == "__main__":
    main()
