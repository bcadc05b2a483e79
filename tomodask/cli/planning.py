"""`tomodask plan`: what a run will take, as a table, and a refusal of what can't fit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from tomodask.cli import options as o

console = Console(highlight=False, soft_wrap=True, markup=False)

HARDWARE = "Hardware"
WIDE = 110  # columns of the table, where nothing says how many there are


def _hardware(name: str, text: str, metavar: str | None = None) -> Any:
    return typer.Option(name, help=text, rich_help_panel=HARDWARE, metavar=metavar)


def plan(
    recipe: Annotated[Path, typer.Argument(help="Recipe, a YAML file (see `tomodask init`).")],
    overrides: o.Overrides = None,
    scan: Annotated[
        str | None,
        typer.Option(
            help="For a source that is not there yet, such as 100x2400x2048x2048.",
            metavar="STEPSxVIEWSxROWSxCOLUMNS",
        ),
    ] = None,
    dtype: Annotated[str, typer.Option(help="Of the counts, with --scan.")] = "uint16",
    measure: Annotated[
        bool, _hardware("--measure", "Measure this machine, in some 20 seconds.")
    ] = False,
    hardware: Annotated[
        Path | None, _hardware("--hardware", "File of measured or stated hardware.", "FILE")
    ] = None,
    keep: Annotated[
        Path | None, _hardware("--keep", "Keep the hardware in a file, for --hardware.", "FILE")
    ] = None,
    gpus: Annotated[int | None, _hardware("--gpus", "GPUs altogether, one worker each.")] = None,
    gpu_memory: Annotated[
        str | None, _hardware("--gpu-memory", "Memory of a GPU, such as 80GB.")
    ] = None,
    disk_free: Annotated[
        str | None, _hardware("--disk-free", "Free on the disk to write to, such as 10TB.")
    ] = None,
    read_gb_s: Annotated[
        float | None, _hardware("--read-gb-s", "Of the storage, for all workers together.", "GB/S")
    ] = None,
    write_gb_s: Annotated[
        float | None, _hardware("--write-gb-s", "Of the storage, for all workers together.", "GB/S")
    ] = None,
    slices_s: Annotated[
        float | None, _hardware("--slices-s", "Slices that one worker reconstructs a second.")
    ] = None,
    gupdates_s: Annotated[
        float | None,
        _hardware("--gupdates-s", "1e9 voxels times views that one worker projects a second."),
    ] = None,
    cluster: o.Cluster = None,
    jobs: o.Jobs = None,
    gpus_per_job: o.GpusPerJob = None,
    workers: o.NumWorkers = None,
    threads: o.Threads = None,
    memory: o.Memory = None,
    json: o.Json = False,
) -> None:
    """Say what a run will take; refuse what can't fit (exit code 4), naming what to change."""
    paths = ("cluster", "jobs", "gpus_per_job", "workers", "threads", "memory")
    flags = {name: value for name, value in locals().items() if name in paths}
    stated = {
        "gpus": gpus, "gpu_memory": gpu_memory, "disk_free": disk_free,
        "read_gb_s": read_gb_s, "write_gb_s": write_gb_s, "slices_s": slices_s,
        "gupdates_s": gupdates_s,
    }  # fmt: skip
    from tomodask import planning
    from tomodask.forecast import check_fits

    resolved, _ = o.recipe_from(flags, overrides, recipe)
    given = {name: value for name, value in stated.items() if value is not None}
    foreseen, known = planning.plan(
        resolved, given, hardware, measure=measure, scan=scan, dtype=dtype, keep=keep, refuse=False
    )
    if json:
        o.print_json(foreseen.as_dict())
    else:
        _print(foreseen, known)
    check_fits(foreseen, known, resolved)


def _print(foreseen: Any, known: Any) -> None:
    Console(highlight=False, width=max(console.width, WIDE)).print(plan_table(foreseen))
    for disk in foreseen.disks:
        needs = ", ".join(f"{name} {size_text(size)}" for name, size in disk.needs.items())
        console.print(
            f"disk of {disk.path}: {size_text(disk.need)} to be written ({needs}), "
            f"{size_text(disk.free)} free"
        )
    for note in foreseen.notes:
        console.print(f"note: {note}")
    if not known.is_known:
        console.print("no times without rates: give --measure, --hardware FILE or --slices-s")


def plan_table(foreseen: Any) -> Table:
    """A row for each stage, and one for all of them."""
    workers = foreseen.workers
    series = f"{foreseen.steps} steps, " if foreseen.steps > 1 else ""
    table = Table(
        title=f"{series}{workers.count} workers of {workers.threads} threads and "
        f"{size_text(workers.memory)}, {foreseen.gpus} GPUs"
    )
    table.add_column("stage")
    for name in (
        "blocks", "read", "written", "memory", "at most", "all workers", "GPU", "time", "GPU h",
    ):  # fmt: skip
        table.add_column(name, justify="right")
    for stage in foreseen.stages:
        table.add_row(
            stage.name,
            str(stage.blocks),
            size_text(stage.bytes_read),
            size_text(stage.bytes_written),
            size_text(stage.memory),
            size_text(stage.budget),
            size_text(stage.memory * foreseen.workers_of(stage)),
            size_text(stage.gpu_memory),
            time_text(stage.seconds),
            hours_text(foreseen.gpu_hours_of(stage)),
        )
    table.add_section()
    table.add_row(
        "all", "", "", "", size_text(foreseen.memory), "", "", "", time_text(foreseen.seconds),
        hours_text(foreseen.gpu_hours),
    )  # fmt: skip
    return table


def size_text(size: float) -> str:
    """'3.2 GB'"""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def time_text(seconds: float | None) -> str:
    """'2 h 05 min', or '?' where it is not known."""
    if seconds is None:
        return "?"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:02.0f} s"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:02.0f} min"


def hours_text(hours: float | None) -> str:
    """'12.5', or '?' where it is not known."""
    return "?" if hours is None else f"{hours:.3g}"
