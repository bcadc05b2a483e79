"""How many blocks does a run get through, and what do a hundred thousand of them cost its driver?

Blocks that do nothing and report what real ones do go through `run_blocks` on a local cluster:
blocks a second, and the memory of the driver, which holds the scheduler, as it goes on. The peer is
Dask alone: `client.map` of the same function over the same tasks, on the same cluster, which
submits all of them at once.

Then the ledger of as many blocks, one file each in a store on the disk: seconds to plan them, to
list and check them as a resumed run does, to plan what is left, to merge the ledger's logs, and to
count what is done as `tomodask status` does.

    python benchmarks/scheduler.py [--blocks 100000] [--peer-blocks 10000] [--output FILE.json]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client
from machine import describe_machine

from tomodask.arrays import peak_bytes
from tomodask.blocks import Block, chunk_rows_done, plan_blocks
from tomodask.cluster.local import Workers, local_cluster
from tomodask.cluster.run import Progress, run_blocks
from tomodask.geometry import ParallelBeam
from tomodask.ledger import Ledger
from tomodask.runstate import rate_of
from tomodask.shards import ShardEntry

WORKERS = 2
SAMPLES = 20  # of the driver's memory
COLUMNS = 2048
HALO = 2
SHARD = b"0123456789"
RATE = 300  # blocks a second, of which status looks at those of the last minute
LEFT = 100  # one block of so many is not done when the run is resumed


@dataclass(frozen=True)
class NoTask:
    """A block with nothing to do, as it is sent to a worker."""

    id: str


def no_work(task: NoTask) -> dict[str, Any]:
    """A report as large as a real block's."""
    stages = ("read", "correct", "reconstruct", "write", "wait", "total")
    number = int(task.id[1:8])
    return {
        "block": task.id,
        "rows": 1,
        "bytes_read": 4 * COLUMNS * number,
        "bytes_written": len(SHARD),
        "counts": {"zingers": number % 100, "dead pixels": 3},
        "seconds": {name: number * 1e-4 + 0.123456 * i for i, name in enumerate(stages)},
    }


# ---- through the scheduler -------------------------------------------------------------------


@dataclass
class Memory:
    """A listener that samples the driver's memory `SAMPLES` times."""

    every: int
    samples: list[tuple[int, int]] = field(default_factory=list)

    def __call__(self, progress: Progress) -> None:
        if progress.blocks_done >= self.every * (len(self.samples) + 1):
            self.samples.append((progress.blocks_done, resident_bytes()))

    def growth(self) -> float:
        """Bytes that ten thousand blocks add, by a line through the second half."""
        half = np.array(self.samples[len(self.samples) // 2 :], float).T
        return float(1e4 * np.polyfit(*half, 1)[0])


def resident_bytes() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def through_scheduler(blocks: int, peer_blocks: int) -> dict[str, Any]:
    """Blocks a second and the driver's memory, ours first, as the peer's stays behind."""
    tasks = [NoTask(f"z{row:07d}-{row + 1:07d}") for row in range(blocks)]
    memory = Memory(max(1, blocks // SAMPLES))
    with local_cluster(Workers(WORKERS, 1, 2**30)) as client:
        run_blocks(client, no_work, tasks[:100], stage="warm")
        idle = resident_bytes()
        progress = run_blocks(client, no_work, tasks, stage="blocks", listener=memory)
        assert progress.rows_done == blocks  # each once
        ours = {
            "blocks": blocks,
            "blocks_a_second": round(blocks / progress.seconds, 1),
            "idle_bytes": idle,
            "peak_bytes": peak_bytes(),
            "bytes_by_blocks": memory.samples,
            "growth_bytes_a_10000": round(memory.growth()),
            "worker_bytes": sorted(client.run(resident_bytes).values()),
        }
        return {"tomodask": ours, "client.map": peer(client, tasks[:peer_blocks])}


def peer(client: Client, tasks: list[NoTask]) -> dict[str, Any]:
    """The same by Dask alone; its memory is over what the driver had before."""
    before, began = resident_bytes(), time.perf_counter()
    futures = client.map(no_work, tasks, key="peer", pure=False)
    reports = client.gather(futures)
    seconds = time.perf_counter() - began
    assert sum(report["rows"] for report in reports) == len(tasks)
    return {
        "blocks": len(tasks),
        "blocks_a_second": round(len(tasks) / seconds, 1),
        "growth_bytes_a_10000": round(1e4 / len(tasks) * (resident_bytes() - before)),
    }


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call it in a process of its own, as a resumed run is one: no scheduler's threads and heap."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


# ---- in the ledger ---------------------------------------------------------------------------


class Clock:
    """Seconds of each step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, name: str, do: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        answer = do()
        self.seconds[name] = round(time.perf_counter() - began, 3)
        return answer


def in_ledger(blocks: int, folder: Path) -> dict[str, Any]:
    """Seconds of all that a resumed run does with its ledger, and of a look at it."""
    beam = ParallelBeam(np.linspace(0, 3, 1000), blocks, COLUMNS, center_of_rotation=1023.5)
    store = folder / "volume.zarr"
    ledger = Ledger.of(store, "0123abcd", "cafe")
    clock = Clock()

    def plan(done: set[int]) -> list[Block]:
        shape = (blocks, COLUMNS, COLUMNS)
        return plan_blocks(shape, beam, halo=HALO, chunk_rows=1, block_rows=1, done=done)

    planned = clock("plan", lambda: plan(set()))
    finished = [block for row, block in enumerate(planned) if row % LEFT]
    write_all(store, ledger, finished)
    size = sum(file.stat().st_size for file in ledger.path.iterdir())
    intact = clock("list and check the files", lambda: ledger.intact(store))
    rows = clock("chunk rows done", partial(chunk_rows_done, intact, 1, blocks))
    del intact
    left = clock("plan what is left", lambda: plan(rows))
    assert len(finished) + len(left) == blocks
    clock("merge the logs", ledger.compact)
    told = clock("count for status", lambda: count(ledger, blocks))
    assert told["rows"] == len(finished)
    return {
        "blocks": blocks,
        "files": len(finished),
        "ledger_bytes": size,
        "seconds": clock.seconds,
        "seconds_together": round(sum(clock.seconds.values()), 3),
        "peak_bytes": peak_bytes(),
    }


def write_all(store: Path, ledger: Ledger, blocks: list[Block]) -> None:
    """A file for each block, in a folder of its own as a volume's shards, and its record."""
    with _as_recorded_by_a_run(len(blocks)):
        for block in blocks:
            entry = ShardEntry(f"0/c/0/0/{block.write.rows[0]}/0/0", len(SHARD), 0xDEADBEEF)
            file = store / entry.key
            file.parent.mkdir(parents=True)
            file.write_bytes(SHARD)
            ledger.record(block.id, [entry], no_work(NoTask(block.id)))


@contextmanager
def _as_recorded_by_a_run(blocks: int) -> Iterator[None]:
    """Records `RATE` a second until now; unsynced, what the disk takes is not the question here."""
    sync, clock = os.fsync, time.time
    times = itertools.count(clock() - blocks / RATE, 1 / RATE)
    os.fsync, time.time = (lambda _: None), (lambda: next(times))
    try:
        yield
    finally:
        os.fsync, time.time = sync, clock


def count(ledger: Ledger, blocks: int) -> dict[str, float]:
    """What `tomodask status` tells of a ledger: what is done, and the rate of the last minute."""
    done = ledger.done()
    rate = rate_of(list(done.values()), None, time.time())
    assert rate is not None
    return {"rows": len(chunk_rows_done(done, 1, blocks)), "blocks_a_second": rate.blocks}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=100_000)
    parser.add_argument("--peer-blocks", type=int, default=10_000)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        answer = {
            "question": "blocks a second, the driver's memory, seconds for the ledger of a run of "
            "many blocks",
            "workers": WORKERS,
            "machine": describe_machine(),
            "scheduler": through_scheduler(options.blocks, options.peer_blocks),
            "ledger": alone(in_ledger, options.blocks, Path(folder)),
        }
    print(json.dumps(answer, indent=2))
    if options.output:
        options.output.write_text(json.dumps(answer, indent=2) + "\n")


if __name__ == "__main__":
    main()
