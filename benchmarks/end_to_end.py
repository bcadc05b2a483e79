"""From scan store to volume store on a warm cluster: how much of the FBP kernel's speed is left?

The peer is our own kernel (`FBP` on sinograms in memory, no file, no Dask) on as many threads.
Kernel and pipeline take turns, so that a busy machine slows both.

    python benchmarks/end_to_end.py [--columns 1024] [--rows 1024] [--output FILE.json]
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from machine import describe_machine

from tomodask import steps
from tomodask.cluster.local import available_cores, local_cluster, size_workers
from tomodask.cluster.run import Progress
from tomodask.geometry import Box, ParallelBeam
from tomodask.phantom import chiral_phantom
from tomodask.projectors import make_projector
from tomodask.reconstruct import FBP

KERNEL_SLICES = 32
PHOTONS = 5000.0


class Repeated:
    """A source of one noisy sinogram's counts in every row: quick to make, real in size."""

    def __init__(self, folder: Path, columns: int, rows: int) -> None:
        num_angles = round(1.57 * columns)
        self.angles = np.linspace(0, np.pi, num_angles, endpoint=False)
        self.center = (columns - 1) / 2 + 3.3
        self.sinogram = chiral_phantom(0.4 * columns).sinogram(self.angles, columns, self.center)
        self.sinogram *= 2 / self.sinogram.max()
        rng = np.random.default_rng(0)
        noise = rng.poisson(PHOTONS * np.exp(-np.broadcast_to(
            self.sinogram[:, None], (num_angles, 16, columns)
        )))  # fmt: skip
        self.path = folder / "stack.zarr"
        group = zarr.open_group(self.path, mode="w")
        counts = np.tile(noise.astype(np.uint16) + 100, (1, -(-rows // 16), 1))[:, :rows]
        group.create_array("data", data=counts, chunks=(64, rows, columns), compressors=None)
        flat = np.full((10, rows, columns), 100 + PHOTONS, np.uint16)
        group.create_array("flats", data=flat)
        group.create_array("darks", data=np.full_like(flat, 100))
        group.create_array("theta", data=np.rad2deg(self.angles)).attrs["units"] = "degrees"


def measure(columns: int, rows: int, repeats: int, workers: int, threads: int) -> dict[str, Any]:
    """Slices/s of the kernel and of the pipeline, in turns; medians."""
    kernel, pipeline, busy, stages = [], [], [], {}
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name)
        source = Repeated(folder, columns, rows)
        with local_cluster(size_workers(workers, threads // workers)) as client:
            scan = steps.ingest(source.path, folder / "scan.zarr", client=client)
            shutil.rmtree(source.path)
            settings = {"center": source.center, "cluster": {"threads": threads // workers}}
            steps.reconstruct(
                scan, folder / "warm.zarr", client=client, rows=f"0:{min(64, rows)}", **settings
            )
            for repeat in range(repeats):
                kernel.append(kernel_speed(source, columns, threads))
                output = folder / f"volume{repeat}.zarr"
                began = time.perf_counter()
                result = steps.reconstruct(scan, output, client=client, **settings)
                pipeline.append(rows / (time.perf_counter() - began))
                busy.append(rows / result.progress["reconstruct"].seconds)
                stages = stage_ms(result.progress["reconstruct"])
                shutil.rmtree(output)
    return {
        "columns": columns,
        "rows": rows,
        "angles": source.angles.size,
        "kernel_slices_s": summary(kernel),
        "end_to_end_slices_s": summary(pipeline),
        "reconstruct_stage_slices_s": summary(busy),
        "stage_ms_a_slice": stages,
        "share_of_kernel": statistics.median(p / k for p, k in zip(pipeline, kernel, strict=True)),
    }


def stage_ms(progress: Progress) -> dict[str, float]:
    """Milliseconds a slice that the threads of a task spent in each stage, of the last repeat."""
    totals: dict[str, float] = {}
    for report in progress.reports:
        for stage, seconds in report["seconds"].items():
            totals[stage] = totals.get(stage, 0) + 1000 * seconds
    return {stage: round(total / progress.rows_done, 3) for stage, total in totals.items()}


def kernel_speed(source: Repeated, columns: int, threads: int) -> float:
    """Slices a second of FBP alone."""
    beam = ParallelBeam(source.angles, KERNEL_SLICES, columns, center_of_rotation=source.center)
    box = Box((0, 0, 0), (KERNEL_SLICES, columns, columns))
    sinograms = np.repeat(source.sinogram[None], KERNEL_SLICES, axis=0)
    A = make_projector(box, beam, threads=threads)
    FBP()(sinograms, A)
    began = time.perf_counter()
    FBP()(sinograms, A)
    return KERNEL_SLICES / (time.perf_counter() - began)


def summary(values: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return {"median": float(middle), "q25": float(low), "q75": float(high)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--columns", type=int, default=1024)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=available_cores())
    parser.add_argument("--workers", type=int, default=size_workers().count)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    result = measure(
        options.columns, options.rows, options.repeats, options.workers, options.threads
    )
    answer = {
        "question": "slices/s from scan store to volume store against FBP alone, warm cluster",
        "workers": options.workers,
        "threads": options.threads,
        "repeats": options.repeats,
        "machine": describe_machine(),
        "result": result,
    }
    print(json.dumps(answer, indent=2))
    if options.output:
        options.output.write_text(json.dumps(answer, indent=2) + "\n")


if __name__ == "__main__":
    main()
