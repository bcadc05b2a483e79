"""How fast this machine does a recipe's work: a few sub-blocks of it, by the code that runs it all.

The counts are the scan's own where there is a scan store, else noise of the same width. All workers
work at once, as they will in the run; what they write goes to the output's disk and is removed.
"""

from __future__ import annotations

import logging
import math
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client

from tomodask import arrays
from tomodask.cluster.local import Workers, available_cores, local_cluster, size_workers
from tomodask.cluster.run import Progress, run_blocks
from tomodask.cluster.systems import SYSTEMS
from tomodask.coupled import is_coupled, plan_coupled
from tomodask.errors import TomodaskError
from tomodask.forecast import existing_folder, piped
from tomodask.foresee import correction_names, with_some_center
from tomodask.foresee_coupled import counted_operations
from tomodask.geometry import Box, ParallelBeam
from tomodask.hardware import Hardware, Rates
from tomodask.ingest import open_source
from tomodask.ingest.convert import (
    IngestPlan,
    IngestTask,
    create_scan,
    finish_scan,
    ingest_block,
    plan_ingest,
    scan_metadata,
)
from tomodask.ingest.source import Source
from tomodask.measure_rays import scratch_bytes_in, updates_of
from tomodask.plan import need_of_blocks
from tomodask.projectors import make_projector, prepare_backend
from tomodask.recipe import Recipe
from tomodask.reconstruct import FBP
from tomodask.runplan import BlockTask, RunPlan, plan_run
from tomodask.samples import center_bands, find_center_of, required, scan_path, slice_range
from tomodask.scan import Scan, is_zarr
from tomodask.standin import SomeFrames, noise_source, scan_to_be, stated_scan
from tomodask.stream import stream_block
from tomodask.volumestore import create_volume
from tomodask.workload import slice_work, work_unit

log = logging.getLogger(__name__)

TIMED_SECONDS = 6.0  # of reconstructing, about: fewer sub-blocks where they are slow
MOST_SUBS = 4  # of the block that each worker is timed with, as in most runs
SOURCE_BYTES = 128 * 2**20  # of raw frames that each worker copies
SCAN_BYTES = 512 * 2**20  # of noise, at most, where there is no scan store yet


def measure_hardware(
    recipe: Recipe, given: Hardware, *, scan: str | None = None, dtype: str = "uint16"
) -> Hardware:
    """This machine's workers as the recipe sizes them, and the rates at which they do its work.

    scan, dtype : as for `forecast`.

    Raises
    ------
    MemoryBudgetError : a block does not fit into a worker.
    """
    is_here = recipe.cluster.kind not in SYSTEMS
    workers = given.size(recipe.cluster)
    if not is_here:  # jobs have nodes of their own; here as many are timed as this machine holds
        workers = size_workers(threads=min(workers.threads, available_cores()))
    # once on a machine: no part of a run's time
    prepare_backend("auto" if is_coupled(recipe) else recipe.backend)
    output = Path(recipe.output or "volume.zarr")
    began = time.perf_counter()
    with (
        tempfile.TemporaryDirectory(
            prefix=".tomodask-measure-", dir=existing_folder(output)
        ) as name,
        local_cluster(workers) as client,
    ):
        start_s = time.perf_counter() - began
        bench = _Bench(recipe, workers, client, Path(name), Rates(start_s=start_s))
        rates = bench.measured(*_inputs(recipe, scan, dtype))
    if not is_here:
        return Hardware(measured=rates)
    return Hardware(workers.count, workers.threads, workers.memory, measured=rates)


def _inputs(recipe: Recipe, stated: str | None, dtype: str) -> tuple[Source | None, Scan | None]:
    """The raw source, None where it is read in place; the scan store, None where there is none."""
    if stated is not None:
        return stated_scan(stated, dtype, recipe.ingest)[1], None
    named = required(recipe.source, "source")
    if is_zarr(named):
        return None, Scan.open(named)
    source, path = open_source(named, recipe.ingest), scan_path(recipe)
    found = scan_metadata(path)
    return source, Scan.open(path) if found is not None and found["complete"] else None


@dataclass(frozen=True)
class _Copy:
    """A task of an ingest beside others of the same name."""

    task: IngestTask
    number: int

    @property
    def id(self) -> str:
        return f"{self.number}-{self.task.id}"


def _copy(copy: _Copy) -> dict[str, Any]:
    report = ingest_block(copy.task)
    del report["shards"]
    return {**report, "peak_bytes": arrays.peak_bytes()}


def _get_ready(threads: int) -> int:
    """Load what the projector needs, and let the peak begin; an idle worker's bytes."""
    beam = ParallelBeam(np.linspace(0, 3, 40), 2, 32, center_of_rotation=15.5)
    A = make_projector(Box((0, 0, 0), (2, 32, 32)), beam, threads=threads)
    FBP()(np.zeros((2, 40, 32)), A)
    return _begin_peak()


def _begin_peak() -> int:
    """Let the peak of a worker begin anew; its bytes now."""
    arrays.forget()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # the peak then is that of the imports, or of the blocks
        log.debug("the kernel does not let the peak begin anew")
    return arrays.peak_bytes()


@dataclass
class _Bench:
    """The measurements one after the other, and what they found."""

    recipe: Recipe
    workers: Workers
    client: Client
    folder: Path
    rates: Rates

    def measured(self, source: Source | None, scan: Scan | None) -> Rates:
        """Everything that the recipe's stages need."""
        began = time.perf_counter()
        imported = self.client.run(_begin_peak)  # and, to find it, all that blocks need
        self.rates = replace(
            self.rates,
            import_s=time.perf_counter() - began,
            import_bytes=max(imported.values()),
        )
        if source is not None:
            self._ingest(source)
        whole = scan
        if scan is None:
            assert source is not None
            whole = scan_to_be(self._turned(source))
            scan = self._noise_scan(source)
        self._reconstruct(scan)
        if is_coupled(self.recipe):
            assert whole is not None
            self._rays(whole)
        if self.recipe.center == "auto":
            self._center(scan)
        return self.rates

    # ---- ingest

    def _ingest(self, source: Source) -> None:
        frame_bytes = source.shape[1] * source.shape[2] * source.dtype.itemsize
        unit = math.lcm(16, source.chunk_shape[0])
        count = max(unit, SOURCE_BYTES // frame_bytes // unit * unit)
        count = min(count, source.shape[0])
        tasks: list[_Copy] = []
        declared = 1
        for number in range(self.workers.count):
            start = number * count if (number + 1) * count <= source.shape[0] else 0
            part = _part(source, SomeFrames(source.projections, start, count))
            plan = self._store(part, f"part-{number}.zarr")
            declared = plan.peak_bytes
            tasks += [_Copy(task, number) for task in plan.tasks]
        progress = self._run(_copy, tasks)
        read, write = (_total(progress, f"seconds_{name}") for name in ("read", "write"))
        self.rates = replace(
            self.rates,
            source_bytes=progress.bytes_read / read,
            store_bytes=progress.bytes_read / write,
            compression=progress.bytes_written / progress.bytes_read,
            ingest_share=max(0.1, (progress.peak_bytes - self.rates.import_bytes) / declared),
        )

    def _store(self, source: Source, name: str) -> IngestPlan:
        """Make an empty store for a source, and the plan by which it is filled."""
        options = self.recipe.ingest
        turned = options.rotate_detector, options.flip
        plan = plan_ingest(source, self.folder / name, self.workers.budget, *turned)
        create_scan(plan, source)
        return plan

    def _turned(self, source: Source) -> IngestPlan:
        """How the whole source would be copied."""
        degrees = self.recipe.ingest.rotate_detector
        return plan_ingest(source, self.folder / "none.zarr", self.workers.budget, degrees)

    def _noise_scan(self, source: Source) -> Scan:
        """Noise of the source's width, as high as all workers need and with views as time allows.

        Its rows are the columns of a detector that will be turned.
        """
        turned = self._turned(source)
        views, rows, columns = turned.shape
        plan = self._plan(scan_to_be(turned), None)
        rows = min(rows, self.workers.count * MOST_SUBS * plan.sub_rows + 2 * plan.halo)
        views = min(views, max(64, SCAN_BYTES // (rows * columns * source.dtype.itemsize)))
        noise = noise_source((views, rows, columns), source.dtype, self.recipe.ingest)
        plain = replace(
            self, recipe=self.recipe.model_copy(update={"ingest": type(self.recipe.ingest)()})
        )
        stored = plain._store(noise, "noise.zarr")
        self._run(_copy, [_Copy(task, 0) for task in stored.tasks])
        finish_scan(self.folder / "noise.zarr")
        return Scan.open(self.folder / "noise.zarr")

    # ---- reconstruct

    def _plan(self, scan: Scan, rows: tuple[int, int] | None) -> RunPlan:
        """The run of some rows of a scan, all its own where None."""
        recipe = with_some_center(self.recipe, scan)
        changed: dict[str, Any] = {"rows": rows}
        if is_coupled(recipe):  # its slices are made by another way: FBP's reads and writes count
            plain = Recipe()
            changed |= {"geometry": plain.geometry, "algorithm": plain.algorithm, "backend": "auto"}
            if recipe.center == "auto":
                changed["center"] = (scan.geometry.det_count - 1) / 2
        return plan_run(recipe.model_copy(update=changed), scan, self.workers)

    def _blocks(self, plan: RunPlan, name: str) -> Progress:
        volume = create_volume(self.folder / name, plan.spec, plan.attributes())
        job = plan.job(volume.path, volume.uuid)
        return self._run(stream_block, [BlockTask(job, block) for block in plan.blocks(())])

    def _reconstruct(self, scan: Scan) -> None:
        count = self.workers.count
        whole = slice_range(self.recipe, scan.geometry) if self._is_own(scan) else None
        first, last = whole or (0, scan.geometry.det_rows)
        chunk = self.recipe.volume.chunk_rows
        few = self._plan(scan, (max(first, last - count * chunk), last))
        warm = self._blocks(replace(few, sub_rows=chunk, block_rows=chunk), "warm.zarr")
        again = self._blocks(replace(few, sub_rows=chunk, block_rows=chunk), "again.zarr")
        self.rates = replace(self.rates, ready_s=max(0.0, warm.seconds - again.seconds))
        a_row = _total(again, "seconds", "total") / max(1, again.rows_done)
        sub_rows = self._plan(scan, whole).sub_rows
        subs = int(min(MOST_SUBS, max(1, TIMED_SECONDS // (a_row * sub_rows))))
        plan = self._plan(scan, (first, min(last, first + count * subs * sub_rows)))
        idle = self.client.run(_get_ready, self.workers.threads)
        self.rates = replace(self.rates, idle_bytes=max(idle.values()))
        progress = self._blocks(plan, "timed.zarr")
        self._take_rates(plan, progress)

    def _is_own(self, scan: Scan) -> bool:
        return scan.path.parent != self.folder

    def _take_rates(self, plan: RunPlan, progress: Progress) -> None:
        scan, recipe = plan.scan, plan.recipe
        geometry = scan.geometry.take_columns(*plan.columns)
        algorithm = recipe.reconstructor()
        halo_rows = 2 * plan.halo * math.ceil(progress.rows_done / plan.sub_rows)
        pixels = (progress.rows_done + halo_rows) * geometry.num_angles * geometry.det_count
        work = progress.rows_done * slice_work(algorithm, geometry, recipe.backend)
        seconds = {
            stage: max(1e-6, _total(progress, "seconds", stage))
            for stage in ("read", "correct", "reconstruct", "write")
        }
        foreseen = 0.0
        for report in progress.reports:
            subs = math.ceil(int(report["rows"]) / plan.sub_rows)
            taken = report["seconds"]
            computing = taken["correct"] + taken["reconstruct"]
            foreseen += piped([tuple(t / subs for t in (taken["read"], computing, taken["write"]))]
                              * subs)  # fmt: skip
        need = need_of_blocks(
            scan, plan.columns, plan.corrections, algorithm, recipe.backend, plan.threads, plan.spec
        ).bytes(plan.sub_rows)
        self.rates = replace(
            self.rates,
            read_bytes=progress.bytes_read / seconds["read"],
            correct_pixels=pixels / seconds["correct"],
            work=work / seconds["reconstruct"],
            work_unit=work_unit(recipe.backend),
            corrections=correction_names(recipe, scan),
            write_bytes=progress.bytes_written / seconds["write"],
            stretch=_total(progress, "seconds", "total") / foreseen,
            share=max(0.1, (progress.peak_bytes - self.rates.idle_bytes) / need),
        )

    # ---- coupled runs

    def _rays(self, scan: Scan) -> None:
        recipe = with_some_center(self.recipe, scan)
        coupled = plan_coupled(recipe, scan, self.workers)
        prepare_backend(coupled.backend, for_rays=True)
        _, A = counted_operations(coupled)
        measured = updates_of(A)
        updates = self.client.run(measured).values()
        one = next(iter(self.client.nthreads()))
        (alone,) = self.client.run(measured, workers=[one]).values()
        scratch = self.client.run(scratch_bytes_in, self.folder).values()
        self.rates = replace(
            self.rates,
            work=sum(updates) / len(updates),
            work_unit="voxel updates",
            scratch_bytes=sum(scratch) / len(scratch),
            alone=max(1.0, alone * len(updates) / sum(updates)),
        )

    # ---- center

    def _center(self, scan: Scan) -> None:
        """A centre of noise takes as long to find as any."""
        recipe = self.recipe
        if not self._is_own(scan):
            recipe = recipe.model_copy(update={"rows": None})
        starts, height = center_bands(scan, recipe)
        columns = recipe.columns or (0, scan.geometry.det_count)
        sinograms = 4 * len(starts) * height * scan.geometry.num_angles * (columns[1] - columns[0])
        taken = []
        for _ in range(2):  # the first loads what the second has
            began = time.perf_counter()
            try:
                find_center_of(scan, recipe)
            except TomodaskError as error:
                log.debug("no centre: %s", error)
                return
            taken.append(time.perf_counter() - began)
        self.rates = replace(
            self.rates,
            center_bytes=sinograms / taken[1],
            center_ready_s=max(0.0, taken[0] - taken[1]),
        )

    def _run(self, function: Callable[[Any], Any], tasks: Iterable[Any]) -> Progress:
        return run_blocks(self.client, function, list(tasks), stage="measure")


def _part(source: Source, frames: SomeFrames) -> Source:
    """A source of some frames alone."""
    return replace(
        source, projections=frames, angles=source.angles[frames.start :][: frames.count],
        flat_frames=None, dark_frames=None, timestamps=None, flat_times=None, dark_times=None,
    )  # fmt: skip


def _total(progress: Progress, *names: str) -> float:
    """Sum of what the reports have under a name, or under a name within one."""
    total = 0.0
    for report in progress.reports:
        value: Any = report
        for name in names:
            value = value[name]
        total += float(value)
    return total
