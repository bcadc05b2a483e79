"""What a run will take, before it is begun: blocks, bytes, memory, disk, hours.

Blocks, bytes and memory are those of the very functions by which the run is cut; times follow from
rates that were measured or stated (`hardware`), and are None where there are none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tomodask.blocks import Block, sub_blocks
from tomodask.cluster.local import WORKER_BASE_BYTES, Workers
from tomodask.coupled import WORK_SUFFIX, CoupledPlan, is_coupled, plan_coupled
from tomodask.forecast import (
    Forecast,
    Stage,
    check_fits,
    disks_of,
    makespan,
    piped,
    refused_by_name,
)
from tomodask.foresee_coupled import Speed, coupled_stages
from tomodask.hardware import Hardware
from tomodask.ingest import open_source
from tomodask.ingest.convert import IngestPlan, IngestTask, plan_ingest, scan_metadata
from tomodask.ingest.source import Source
from tomodask.plan import need_of_blocks
from tomodask.recipe import Recipe
from tomodask.runplan import RunPlan, plan_run
from tomodask.samples import center_bands, column_range, required, scan_path
from tomodask.scan import Scan, is_zarr
from tomodask.standin import sampled_compression, scan_to_be, stated_scan
from tomodask.volumestore import stored_bytes
from tomodask.workload import slice_work, work_unit

CENTER_COPIES = 3  # of the rows that vote for the centre: as read, corrected, put together
TASK_SECONDS = 0.01  # of scheduler and worker for a task: 100 a second for each worker


def forecast(
    recipe: Recipe,
    hardware: Hardware | None = None,
    *,
    scan: str | None = None,
    dtype: str = "uint16",
    refuse: bool = True,
    workers: Workers | None = None,
) -> Forecast:
    """What a recipe's run will take; nothing is written, and no more read than a few frames.

    Parameters
    ----------
    scan : "STEPSxVIEWSxROWSxCOLUMNS" that stands for a source that is not there yet.
    workers : those of a run that has begun; None: as hardware and recipe say.
    refuse : raise where a disk, a GPU or the memory of all workers is too small.

    Raises
    ------
    MemoryBudgetError : a block does not fit into a worker; says which memory would do.
    PlanError : another part of the machine is too small.
    """
    hardware = hardware or Hardware()
    workers = workers or hardware.size(recipe.cluster)
    foreseen = _Forecast(recipe, hardware, workers, scan, dtype).made()
    if refuse:
        check_fits(foreseen, hardware, recipe)
    return foreseen


@dataclass
class _Forecast:
    """What is found out on the way."""

    recipe: Recipe
    hardware: Hardware
    workers: Workers
    stated: str | None
    dtype: str
    notes: list[str] = field(default_factory=list)

    def made(self) -> Forecast:
        hardware, recipe = self.hardware, self.recipe
        self.gpus = hardware.gpus or recipe.cluster.gpus_per_job * recipe.cluster.jobs
        self.steps = 1
        ingest = self._ingest_plan()
        scan = Scan.open(required(recipe.source, "source")) if ingest is None else None
        if ingest is not None:
            stored = scan_metadata(ingest.path)
            is_made = stored is not None and stored["input_digest"] == ingest.input_digest
            is_made = is_made and stored is not None and bool(stored["complete"])
            scan = Scan.open(ingest.path) if is_made else scan_to_be(ingest)
            ingest = None if is_made else ingest
        assert scan is not None
        stages = [] if ingest is None else [self._ingest_stage(ingest)]
        needs: list[tuple[Path, str, int]] = []
        if ingest is not None:
            needs.append((ingest.path, "scan store", self._scan_bytes(ingest.source)))
        stages += self._stages_of(scan, needs)
        if self.gpus and not any(stage.gpu_memory for stage in stages):
            self.notes.append(
                f"no stage computes on a GPU: the backend {recipe.backend} runs on the CPU"
            )
        rates = hardware.measured
        stages = [self._times_steps(stage) for stage in stages]
        return Forecast(
            stages=tuple(_first_imports(stages, rates.import_s)),
            disks=disks_of(
                [(path, name, self.steps * size) for path, name, size in needs], hardware.disk_free
            ),
            workers=self.workers,
            gpus=self.gpus,
            steps=self.steps,
            start_seconds=rates.start_s,
            notes=tuple(dict.fromkeys(self.notes)),
        )

    # ---- ingest

    def _ingest_plan(self) -> IngestPlan | None:
        """How the source will be copied; None where it is read in place."""
        recipe, options = self.recipe, self.recipe.ingest
        if self.stated is not None:
            self.steps, source = stated_scan(self.stated, self.dtype, options)
        else:
            named = required(recipe.source, "source")
            if is_zarr(named):
                return None
            source = open_source(named, options)
        path = scan_path(recipe)

        def planned(workers: Workers) -> IngestPlan:
            turned = options.rotate_detector, options.flip
            return plan_ingest(source, path, workers.budget, *turned)

        return refused_by_name(planned, self.workers)

    def _ingest_stage(self, plan: IngestPlan) -> Stage:
        rates, tasks = self.hardware.measured, plan.tasks
        sizes = [_task_bytes(task, plan.source) for task in tasks]
        written = round(sum(sizes) * self._compression(plan.source))
        read_s = self._rate(rates.source_bytes, self.hardware.read_gb_s)
        write_s = self._rate(rates.store_bytes, self.hardware.write_gb_s)
        seconds = None
        if read_s is not None and write_s is not None:
            each = [TASK_SECONDS + size / read_s + size / write_s for size in sizes]
            seconds = makespan(each, self.workers.count)
        return Stage(
            "ingest", len(tasks), sum(sizes), written,
            rates.import_bytes + round(rates.ingest_share * plan.peak_bytes),
            WORKER_BASE_BYTES + plan.peak_bytes, 0, seconds,
        )  # fmt: skip

    def _compression(self, source: Source) -> float:
        if self.stated is None:
            sampled = sampled_compression(source)
            if sampled is not None:
                return sampled
        known = self.hardware.measured.compression
        if known is None:
            self.notes.append("how counts compress is not known: the scan store is an upper bound")
        return 1.0 if known is None else known

    def _scan_bytes(self, source: Source) -> int:
        pixels = source.shape[1] * source.shape[2]
        frames = sum(stack.shape[0] for stack in source.stacks().values())
        plain = frames * pixels * source.dtype.itemsize
        return round(plain * self._compression(source))

    # ---- what follows it

    def _stages_of(self, scan: Scan, needs: list[tuple[Path, str, int]]) -> list[Stage]:
        recipe = self.recipe
        output = Path(recipe.output) if recipe.output else Path("volume.zarr")
        if is_coupled(recipe):
            return [*self._center_stage(scan), *self._coupled_stages(scan, output, needs)]
        plan = refused_by_name(
            lambda workers: plan_run(with_some_center(recipe, scan), scan, workers), self.workers
        )
        needs.append((output, "volume", stored_bytes(plan.spec, plan.spec.shape[0])))
        return [*self._center_stage(scan), self._reconstruct_stage(plan)]

    def _coupled_stages(
        self, scan: Scan, output: Path, needs: list[tuple[Path, str, int]]
    ) -> list[Stage]:
        """Foreseen for workers whose memory suffices for every operation, not the plan alone."""
        recipe, rates, hardware = self.recipe, self.hardware.measured, self.hardware
        updates = rates.work if rates.work_unit == "voxel updates" else None
        if hardware.gupdates_s is not None:
            updates = 1e9 * hardware.gupdates_s
        stored = self._rate(rates.write_bytes, hardware.write_gb_s)
        scratch = stored if hardware.write_gb_s is not None else rates.scratch_bytes or stored
        speed = Speed(
            self._rate(rates.read_bytes, hardware.read_gb_s), scratch, stored,
            rates.correct_pixels, updates,
        )  # fmt: skip

        def planned(workers: Workers) -> tuple[CoupledPlan, list[Stage], int]:
            coupled = plan_coupled(
                with_some_center(recipe, scan), scan, workers, has_gpu=self.gpus > 0
            )
            return coupled, *coupled_stages(coupled, workers.count, rates, speed)

        coupled, stages, scratch_bytes = refused_by_name(planned, self.workers)
        spec = coupled.plan.spec
        needs.append((output, "volume", stored_bytes(spec, spec.shape[0])))
        needs.append((output.with_name(output.name + WORK_SUFFIX), "scratch", scratch_bytes))
        return stages

    def _center_stage(self, scan: Scan) -> list[Stage]:
        recipe, rates = self.recipe, self.hardware.measured
        if recipe.center != "auto":
            return []
        starts, height = center_bands(scan, recipe)
        halo = sum(each.halo(scan.geometry) for each in recipe.correction_list(scan.signal))
        last = scan.geometry.det_rows
        bands = [(max(0, int(s) - halo), min(last, int(s) + height + halo)) for s in starts]
        first, stop = column_range(recipe, scan.geometry)
        sinograms = 4 * len(starts) * height * scan.geometry.num_angles * (stop - first)
        memory = rates.idle_bytes + CENTER_COPIES * sinograms
        read = sum(scan.bytes_read(band) for band in bands)
        seconds = None
        if rates.center_bytes is not None:
            seconds = sinograms / rates.center_bytes
        elif self.hardware.read_gb_s is not None:
            seconds = read / (self.hardware.read_gb_s * 1e9 / self.workers.count)
        return [Stage("center", 1, read, 0, memory, memory, 0, seconds)]

    def _reconstruct_stage(self, plan: RunPlan) -> Stage:
        blocks, scan = plan.blocks(()), plan.scan
        det_rows = scan.geometry.det_rows
        parts = [sub_blocks(block, plan.sub_rows, plan.halo, det_rows) for block in blocks]
        read = [[scan.bytes_read((p.read.start, p.read.stop)) for p in each] for each in parts]
        need = need_of_blocks(
            scan, plan.columns, plan.corrections, plan.recipe.reconstructor(), plan.recipe.backend,
            plan.threads, plan.spec,
        ).bytes(plan.sub_rows)  # fmt: skip
        return Stage(
            "reconstruct", len(blocks), sum(map(sum, read)), volume_bytes(plan, blocks),
            self._expected(need), WORKER_BASE_BYTES + need, 0,
            self._reconstruct_seconds(plan, parts, read),
        )  # fmt: skip

    def _reconstruct_seconds(
        self, plan: RunPlan, parts: Sequence[Sequence[Block]], read: Sequence[Sequence[int]]
    ) -> float | None:
        """Reading, computing and writing go on side by side: the slowest of them counts."""
        rates, hardware = self.hardware.measured, self.hardware
        read_s = self._rate(rates.read_bytes, hardware.read_gb_s)
        write_s = self._rate(rates.write_bytes, hardware.write_gb_s)
        computing = self._computing(plan)
        if read_s is None or write_s is None or computing is None:
            return None
        row_bytes = stored_bytes(plan.spec, plan.spec.shape[0]) / plan.spec.shape[0]
        each = []
        for subs, sizes in zip(parts, read, strict=True):
            times = [
                (size / read_s, computing(sub), sub.write.shape[0] * row_bytes / write_s)
                for sub, size in zip(subs, sizes, strict=True)
            ]
            each.append(TASK_SECONDS + rates.stretch * piped(times))
        return makespan(each, self.workers.count)

    def _computing(self, plan: RunPlan) -> Callable[[Block], float] | None:
        """Seconds in which one worker corrects and reconstructs a sub-block; None: not known."""
        rates, stated = self.hardware.measured, self.hardware.slices_s
        if stated is not None:
            return lambda part: part.write.shape[0] / stated
        recipe, scan = plan.recipe, plan.scan
        if rates.work is None or rates.correct_pixels is None:
            return None
        if rates.work_unit != work_unit(recipe.backend):
            self.notes.append(
                f"no times: {rates.work_unit} were measured, the backend {recipe.backend} is "
                f"counted in {work_unit(recipe.backend)}: measure again with this recipe"
            )
            return None
        if rates.corrections != correction_names(recipe, scan):
            self.notes.append(
                f"corrections take as long as those measured ({', '.join(rates.corrections)}), "
                "not these: measure again with this recipe"
            )
        geometry = scan.geometry.take_columns(*plan.columns)
        a_row = geometry.num_angles * geometry.det_count / rates.correct_pixels
        a_slice = slice_work(recipe.reconstructor(), geometry, recipe.backend) / rates.work

        def seconds(part: Block) -> float:
            return (part.read.stop - part.read.start) * a_row + part.write.shape[0] * a_slice

        return seconds

    # ---- for all of them

    def _expected(self, declared: int) -> int:
        rates = self.hardware.measured
        return rates.idle_bytes + round(rates.share * declared)

    def _rate(self, measured: float | None, stated_gb_s: float | None) -> float | None:
        """Bytes a second of one worker."""
        if stated_gb_s is not None:
            return stated_gb_s * 1e9 / self.workers.count
        return measured

    def _times_steps(self, stage: Stage) -> Stage:
        n = self.steps
        return replace(
            stage,
            blocks=n * stage.blocks,
            bytes_read=n * stage.bytes_read,
            bytes_written=n * stage.bytes_written,
            seconds=None if stage.seconds is None else n * stage.seconds,
        )


def with_some_center(recipe: Recipe, scan: Scan) -> Recipe:
    """The recipe with the detector's middle for a centre that is still to be found.

    Where none can be found, the recipe as it is: it will be refused.
    """
    options = recipe.geometry
    if recipe.center != "auto" or options.source_distance_mm is not None or options.tilt_deg:
        return recipe
    return recipe.model_copy(update={"center": (scan.geometry.det_count - 1) / 2})


def volume_bytes(plan: RunPlan, blocks: Iterable[Block]) -> int:
    """Bytes of the files that blocks write."""
    spec = plan.spec
    return sum(stored_bytes(spec, b.write.stop[0]) - stored_bytes(spec, b.write.start[0])
               for b in blocks)  # fmt: skip


def _task_bytes(task: IngestTask, source: Source) -> int:
    frames, rows = task.frames[1] - task.frames[0], task.source_rows
    height = len(range(*rows.indices(source.shape[1])))
    return frames * height * source.shape[2] * source.dtype.itemsize


def correction_names(recipe: Recipe, scan: Scan) -> tuple[str, ...]:
    return tuple(type(each).__name__ for each in recipe.correction_list(scan.signal))


def _first_imports(stages: list[Stage], import_s: float) -> list[Stage]:
    """The first stage on the workers waits until they have imported what they run."""
    for number, stage in enumerate(stages):
        if stage.name != "center" and stage.seconds is not None:
            stages[number] = replace(stage, seconds=stage.seconds + import_s)
            break
    return stages
