"""Where the time of a run went, stage by stage, beside what the machine can do.

A stage belongs to one thread of a task (`stream`): its share is the part of the task's time that it
was busy. Reading, computing (correcting and reconstructing) and writing go on side by side, so the
largest of the three shares tells which of them the others wait for.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tomodask.cluster.local import available_cores
from tomodask.directfile import DirectFile
from tomodask.geometry import ParallelBeam
from tomodask.pipeline import Result
from tomodask.scan import Scan
from tomodask.shards import swap_in, sync_folder
from tomodask.stream import STAGES
from tomodask.workload import fbp_operations

PROBE_BYTES = 64 * 2**20  # copied, and written to the disk: larger than a cache, a moment's work
PROBE_MATRIX = 1024
REPEATS = 3

ADVICE = {
    "read": "counts arrive slower than they are used: put the scan on a faster disk, and ingest a "
    "Zarr stack whose chunks are not runs of rows",
    "correct": "the corrections take more than the reconstruction: leave out what the scan does "
    "not need, or give more threads or workers",
    "reconstruct": "the projector is the limit, which is as it should be: more cores or workers "
    "make it faster",
    "write": "the volume is written slower than it is made: a faster disk or more of them, "
    "volume.compression=lz4, or fewer workers on one disk",
}


OPERATIONS: Mapping[str, Callable[[ParallelBeam], float]] = {"fbp": fbp_operations}


@dataclass(frozen=True)
class Limits:
    """What this machine reaches: all cores on memory and arithmetic, one file on the disk.

    memory_gb_s : of a copy, bytes read and written.
    compute_gflop_s : of a float32 matrix product, which is near the processor's peak.
    disk_gb_s : of a file written past the page cache and synced.
    """

    memory_gb_s: float
    compute_gflop_s: float
    disk_gb_s: float


def measure_limits(folder: Path, threads: int | None = None) -> Limits:
    """Measure them, in about a second; `folder` is on the disk in question."""
    threads = threads or available_cores()
    source = np.ones((threads, PROBE_BYTES // 4), np.float32)
    target = np.zeros_like(source)
    a = np.ones((threads, PROBE_MATRIX, PROBE_MATRIX), np.float32)
    product = np.zeros_like(a)
    with ThreadPoolExecutor(threads) as pool:

        def best(work: Callable[[int], object]) -> float:
            """Seconds of the best of a few times."""
            taken = []
            for _ in range(REPEATS):
                began = time.perf_counter()
                list(pool.map(work, range(threads)))
                taken.append(time.perf_counter() - began)
            return min(taken)

        copying = best(lambda i: np.copyto(target[i], source[i]))
        multiplying = best(lambda i: np.matmul(a[i], a[i], out=product[i]))
    return Limits(
        memory_gb_s=2 * source.nbytes / copying / 1e9,
        compute_gflop_s=threads * 2 * PROBE_MATRIX**3 / multiplying / 1e9,
        disk_gb_s=PROBE_BYTES / _seconds_to_write(folder, source[0]) / 1e9,
    )


def _seconds_to_write(folder: Path, content: np.ndarray) -> float:
    path = folder / f".tomodask-probe-{uuid.uuid4().hex}"
    began = time.perf_counter()
    try:
        with DirectFile(path) as file:
            file.write(content)
        return time.perf_counter() - began
    finally:
        path.unlink(missing_ok=True)


def profile_of(result: Result, algorithm: str, limits: Limits) -> dict[str, Any]:
    """What `--profile` writes: the blocks of this run, their stages summed up, and the limits."""
    progress = result.progress.get("reconstruct")
    blocks = [] if progress is None else [dict(report) for report in progress.reports]
    totals = {
        stage: sum(block["seconds"][stage] for block in blocks) for stage in (*STAGES, "total")
    }
    rows = sum(block["rows"] for block in blocks)
    geometry = Scan.open(result.scan).geometry
    stages = {
        stage: {
            "seconds": totals[stage],
            "share": totals[stage] / totals["total"] if totals["total"] else 0.0,
            **_rates(stage, totals[stage], blocks, geometry, algorithm),
        }
        for stage in STAGES
    }
    bottleneck = _bottleneck(totals) if blocks else None
    return {
        "rows": rows,
        "slices_s": rows / progress.seconds if progress is not None and rows else 0.0,
        "workers": 0 if progress is None else progress.workers,
        "stages": stages,
        "bottleneck": bottleneck,
        "advice": ADVICE[bottleneck] if bottleneck else "nothing was left to do",
        "limits": asdict(limits),
        "cores": os.cpu_count(),
        "blocks": blocks,
    }


def write_profile(volume: Path, profile: Mapping[str, Any]) -> Path:
    """Write it beside the volume, as VOLUME.profile.json; returns its path."""
    path = volume.with_name(f"{volume.name}.profile.json")
    swap_in(path, json.dumps(profile, indent=2).encode())
    sync_folder(path.parent)
    return path


def _bottleneck(totals: Mapping[str, float]) -> str:
    """The stage that the others wait for; of the computing ones the longer."""
    computing = "correct" if totals["correct"] > totals["reconstruct"] else "reconstruct"
    threads = {
        "read": totals["read"],
        computing: totals["correct"] + totals["reconstruct"],
        "write": totals["write"],
    }
    return max(threads, key=lambda stage: threads[stage])


def _rates(
    stage: str,
    seconds: float,
    blocks: Sequence[Mapping[str, Any]],
    geometry: ParallelBeam,
    algorithm: str,
) -> dict[str, float]:
    """GB/s, and GFLOP/s where operations are known: of one task, while it was in this stage."""
    rows = sum(block["rows"] for block in blocks)
    sinogram, image = 4 * geometry.num_angles * geometry.det_count, 4 * geometry.det_count**2
    moved = {
        "read": sum(block["bytes_read"] for block in blocks),
        "correct": rows * sinogram,  # what comes out of it
        "reconstruct": rows * (sinogram + image),
        "write": sum(block["bytes_written"] for block in blocks),
    }
    if stage not in moved or seconds <= 0:
        return {}
    rates = {"gb_s": moved[stage] / seconds / 1e9}
    if stage == "reconstruct" and algorithm in OPERATIONS:
        rates["gflop_s"] = rows * OPERATIONS[algorithm](geometry) / seconds / 1e9
    return rates
