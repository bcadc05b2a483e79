"""How fast a worker projects ray by ray, and moves scratch arrays: what coupled runs spend time on.

A slab and a few views, cut as the run cuts them, forth and back by the run's own backend.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tomodask.blockwise.operator import StoredOperator
from tomodask.blockwise.scratch import ITEM, Region, create, opened
from tomodask.blockwise.tasks import backend_of, slab_box, take_views
from tomodask.geometry import footprint

UPDATES = 1e9  # of a projection that is timed: seconds, and little is lost at the slab's edges
LEAST_VIEWS, MOST_VIEWS = 8, 64
TIMED_SECONDS = 1.5
SCRATCH_ROWS = 64  # of 1 MB each


def updates_of(A: StoredOperator) -> Callable[[], float]:
    """A function, to be sent to workers, that gives voxels times views a second."""
    cut = A.cuts["A.T"]
    start, stop = cut.kept[len(cut.kept) // 2].rows  # the detector sees the middle
    a_slice = A.domain.shape[1] * A.domain.shape[2]
    height = min(stop - start, max(1, int(UPDATES / (LEAST_VIEWS * a_slice))))
    wanted = max(LEAST_VIEWS, int(UPDATES / (height * a_slice)))
    num_views = min(wanted, MOST_VIEWS, cut.length, A.num_angles)
    box = slab_box((start, start + height), A.domain)
    few, volume = take_views(A.domain, A.range, slice(0, num_views))
    rows = footprint(volume, few, box).rows
    part, seen = volume.part(box), few.take_rows(rows.start, rows.stop)
    backend, threads = A.backend, A.threads

    def measured() -> float:
        pair = backend_of(part, seen, backend, threads)
        x = np.ones(part.shape, np.float32)
        y = pair.forward(x)
        pair.adjoint(y)  # whatever is compiled or loaded is so now
        began, rounds = time.perf_counter(), 0
        while time.perf_counter() - began < TIMED_SECONDS:
            pair.adjoint(pair.forward(x))
            rounds += 1
        taken = time.perf_counter() - began
        return 2 * rounds * x.size * num_views / taken

    return measured


def scratch_bytes_in(folder: Path) -> float:
    """Bytes a second that go to a scratch file and come back, each counted."""
    path = folder / f"scratch-{time.time_ns()}-{np.random.default_rng().integers(1 << 30)}.float32"
    shape = (SCRATCH_ROWS, 1, 2**18)
    create(path, shape)
    values = np.ones(shape, np.float32)
    began = time.perf_counter()
    with opened() as files:
        files.write(str(path), shape, Region.whole(shape), values)
        files.sync()
        files.read(str(path), shape, Region.whole(shape))
    taken = time.perf_counter() - began
    path.unlink()
    return 2 * ITEM * values.size / taken
