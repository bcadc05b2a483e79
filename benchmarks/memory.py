"""Does a worker keep to the memory that it was given, however high the volume is?

Whole reconstructions of 128, 512 and 2048 rows on a local cluster of one worker. A worker's peak
(the kernel's VmHWM, begun anew for each height) is counted over what it had once everything was
imported and the projector compiled; the budget is the memory given less what is set aside for an
idle worker. The peer is the budget.

    python benchmarks/memory.py [--columns 256] [--rows 128 512 2048] [--output FILE.json]
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client
from end_to_end import Repeated
from machine import describe_machine

from tomodask import arrays, steps  # steps imports all that a worker needs
from tomodask.cluster.local import (
    WORKER_BASE_BYTES,
    Workers,
    available_cores,
    local_cluster,
    worker_environment,
)
from tomodask.geometry import Box, ParallelBeam
from tomodask.projectors import make_projector
from tomodask.reconstruct import FBP

BUDGET = 256 * 2**20
LEVELS = 3  # at any height: a higher volume would have a larger pyramid


def resident(field: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM at the peak."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return 1024 * int(line.split()[1])
    raise OSError(f"the kernel does not tell {field}")


def get_ready(threads: int) -> int:
    """Compile the projector on a tiny slice, and let the peak begin; an idle worker's bytes."""
    beam = ParallelBeam(np.linspace(0, 3, 40), 2, 32, center_of_rotation=15.5)
    FBP()(np.zeros((2, 40, 32)), make_projector(Box((0, 0, 0), (2, 32, 32)), beam, threads=threads))
    arrays.forget()
    Path("/proc/self/clear_refs").write_text("5")
    return resident("VmRSS")


def peak_of(
    client: Client, scan: Path, output: Path, threads: int, rows: int, center: float
) -> int:
    """Bytes at the peak of a worker over its idle ones, for a reconstruction of so many rows."""
    (idle,) = client.run(get_ready, threads).values()
    cluster = {"threads": threads, "memory": WORKER_BASE_BYTES + BUDGET}
    result = steps.reconstruct(
        scan, output, client=client, center=center, rows=f"0:{rows}", cluster=cluster,
        volume={"levels": LEVELS},
    )  # fmt: skip
    assert result.progress["reconstruct"].rows_done == rows
    (peak,) = client.run(resident, "VmHWM").values()
    shutil.rmtree(output)
    return peak - idle


def measure(columns: int, heights: list[int], threads: int, repeats: int) -> dict[str, Any]:
    """Greatest peak bytes for each height, each time on a worker of its own.

    Of a few sub-blocks no two may happen to meet between their stages, of many some will.
    """
    peaks: dict[int, int] = {}
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name)
        workers = Workers(1, threads, WORKER_BASE_BYTES + BUDGET)
        source = Repeated(folder, columns, max(heights))
        with local_cluster(Workers(1, threads, 2**31)) as client:
            scan = steps.ingest(source.path, folder / "scan.zarr", client=client)
        for rows in heights * repeats:
            with local_cluster(workers) as client:
                output = folder / "volume.zarr"
                peak = peak_of(client, scan, output, threads, rows, source.center)
            peaks[rows] = max(peak, peaks.get(rows, 0))
    low, high = peaks[min(heights)], peaks[max(heights)]
    return {
        "columns": columns,
        "budget_bytes": BUDGET,
        "peak_bytes": peaks,
        "growth": high / low - 1,
        "over_budget": [rows for rows, peak in peaks.items() if peak > BUDGET],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--columns", type=int, default=256)
    parser.add_argument("--rows", type=int, nargs="+", default=[128, 512, 2048])
    parser.add_argument("--threads", type=int, default=available_cores())
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    answer = {
        "question": "peak memory of a worker over its idle memory, against its budget",
        "threads": options.threads,
        "malloc": worker_environment(options.threads),
        "machine": describe_machine(),
        "repeats": options.repeats,
        "result": measure(options.columns, options.rows, options.threads, options.repeats),
    }
    print(json.dumps(answer, indent=2))
    if options.output:
        options.output.write_text(json.dumps(answer, indent=2) + "\n")


if __name__ == "__main__":
    main()
