"""A job array with no Dask: prepare it once, `run --shard` its elements, finalize it once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from tomodask.cli import options as o
from tomodask.cli.progress import LiveLine

console = Console(highlight=False, soft_wrap=True, markup=False)

WHOLE_RUN = (
    "cluster", "jobs", "gpus_per_job", "wait", "scheduler_file", "scheduler", "workers",
    "dashboard", "overwrite", "profile",
)  # fmt: skip

RecipeFile = Annotated[Path, typer.Argument(help="Recipe, a YAML file (see `tomodask init`).")]


def prepare(
    recipe: RecipeFile,
    overrides: o.Overrides = None,
    cluster: o.Cluster = None,
    jobs: o.Jobs = None,
    workers: o.NumWorkers = None,
    threads: o.Threads = None,
    memory: o.Memory = None,
    scheduler: o.Scheduler = None,
    overwrite: o.Overwrite = False,
    json: o.Json = False,
) -> None:
    """Do what a job array needs once: copy the scan, find the centre, make an empty volume."""
    flags = {k: v for k, v in locals().items() if k in o.PATHS}
    from tomodask import jobarray

    resolved, _ = o.recipe_from(flags, overrides, recipe)
    with LiveLine(quiet=json) as line:
        prepared = jobarray.prepare(resolved, listener=line)
    if json:
        o.print_json(vars(prepared))
        return
    console.print(f"center of rotation {prepared.center:.2f}")
    console.print(
        f"{prepared.volume} is prepared, {prepared.chunk_rows} chunk rows to share: next, "
        f"`tomodask run {recipe} --shard 1/16` to 16/16 (or of any other number), then "
        f"`tomodask finalize {recipe}`"
    )


def finalize(recipe: RecipeFile, overrides: o.Overrides = None, json: o.Json = False) -> None:
    """Say that the volume of a job array is complete, or list what is missing (exit code 3)."""
    from tomodask import jobarray
    from tomodask.errors import BlocksLeftError

    resolved, _ = o.recipe_from({}, overrides, recipe)
    try:
        prepared = jobarray.finalize(resolved)
    except BlocksLeftError as error:
        if json:
            o.print_json({"volume": resolved.output, "complete": False, "again": error.elements})
        raise
    if json:
        o.print_json({**vars(prepared), "complete": True})
        return
    console.print(
        f"{prepared.volume} is complete: `tomodask preview {prepared.volume}`, or "
        f'xarray.open_dataset("{prepared.volume}", engine="tomodask")'
    )


def run_share(recipe: Any, shard: str, json: bool, flags: Mapping[str, Any]) -> None:
    """`tomodask run --shard`; `flags` are those that were given with it."""
    from tomodask import jobarray
    from tomodask.errors import InputError

    for flag in WHOLE_RUN:
        if flags.get(flag):
            raise InputError(
                f"--{flag.replace('_', '-')} is for a whole run: leave it out with --shard, which "
                "works in this process on what was prepared"
            )

    with LiveLine(quiet=json) as line:
        share = jobarray.run_share(recipe, shard, listener=line)
    progress, rows = share.progress, share.chunk_rows
    if json:
        o.print_json(
            {
                "volume": str(share.volume),
                "element": str(share.element),
                "chunk_rows": [rows.start, rows.stop],
                "blocks": progress.blocks,
                "rows": progress.rows_done,
                "seconds": round(progress.seconds, 3),
                "bytes_read": progress.bytes_read,
                "bytes_written": progress.bytes_written,
                "counts": progress.counts,
            }
        )
    elif progress.blocks:
        console.print(
            f"element {share.element} of {share.volume} is done: {progress.rows_done} rows in "
            f"{progress.seconds:.1f} s"
        )
    else:
        console.print(f"element {share.element} of {share.volume} had nothing left to do")
