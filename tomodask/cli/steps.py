"""The steps of a run, one command each: ingest, center, reconstruct, and run for all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console

from tomodask.cli import options as o
from tomodask.cli.arrays import run_share
from tomodask.cli.progress import LiveLine

console = Console(highlight=False, soft_wrap=True, markup=False)


def ingest(
    source: o.Source,
    scan: Annotated[str, typer.Argument(help="Scan store to make, a Zarr folder.")],
    overrides: o.Overrides = None,
    flats: o.Flats = None,
    darks: o.Darks = None,
    angles: o.Angles = None,
    angles_lines: o.AnglesLines = None,
    angle_units: o.AngleUnits = None,
    data: o.Data = None,
    pixel_size: o.PixelSize = None,
    energy: o.Energy = None,
    distance: o.Distance = None,
    gain: o.Gain = None,
    rotate_detector: o.Rotate = None,
    flip: o.Flip = False,
    cluster: o.Cluster = None,
    jobs: o.Jobs = None,
    gpus_per_job: o.GpusPerJob = None,
    wait: o.Wait = None,
    scheduler_file: o.SchedulerFile = None,
    workers: o.NumWorkers = None,
    threads: o.Threads = None,
    memory: o.Memory = None,
    scheduler: o.Scheduler = None,
    dashboard: o.Dashboard = False,
    overwrite: o.Overwrite = False,
    json: o.Json = False,
) -> None:
    """Copy a raw scan into a chunked scan store; an interrupted copy goes on."""
    flags = {k: v for k, v in locals().items() if k not in ("json", "overrides")}
    recipe, _ = o.recipe_from(flags, overrides)
    ingest_recipe(recipe, json)


def center(
    source: o.Source,
    overrides: o.Overrides = None,
    flats: o.Flats = None,
    darks: o.Darks = None,
    angles: o.Angles = None,
    angles_lines: o.AnglesLines = None,
    angle_units: o.AngleUnits = None,
    data: o.Data = None,
    rows: o.Rows = None,
    columns: o.Columns = None,
    stripes: o.Stripes = False,
    picture: Annotated[
        Path | None,
        typer.Option(help="PNG of the metric and of slices at neighbouring centres."),
    ] = None,
    json: o.Json = False,
) -> None:
    """Find the centre of rotation."""
    flags = {k: v for k, v in locals().items() if k not in ("json", "overrides", "picture")}
    from tomodask import preview, samples

    recipe, _ = o.recipe_from(flags, overrides)
    estimate = samples.center(recipe)
    if picture is not None:
        preview.center_picture(recipe, estimate, picture)
    if json:
        o.print_json({**estimate.as_dict(), "picture": picture and str(picture)})
        return
    sure = "" if estimate.confident else "  NOT CERTAIN: " + estimate.message
    console.print(
        f"center {estimate.center:.2f} +- {estimate.uncertainty:.2f} px "
        f"({estimate.method}, {estimate.rows.size} rows){sure}"
    )
    if picture is not None:
        console.print(f"picture: {picture}")


def reconstruct(
    source: o.Source,
    output: Annotated[str, typer.Argument(help="Volume to make, an OME-Zarr folder.")],
    overrides: o.Overrides = None,
    scan: Annotated[
        str | None, typer.Option(help="Where a raw source's scan store is kept.")
    ] = None,
    flats: o.Flats = None,
    darks: o.Darks = None,
    angles: o.Angles = None,
    angles_lines: o.AnglesLines = None,
    angle_units: o.AngleUnits = None,
    data: o.Data = None,
    pixel_size: o.PixelSize = None,
    energy: o.Energy = None,
    distance: o.Distance = None,
    gain: o.Gain = None,
    rotate_detector: o.Rotate = None,
    flip: o.Flip = False,
    rows: o.Rows = None,
    columns: o.Columns = None,
    center: o.Center = None,
    algorithm: o.Algorithm = None,
    num_iterations: o.NumIterations = None,
    filter: o.Filter = None,
    backend: o.Backend = None,
    source_distance: o.SourceDistance = None,
    tilt: o.Tilt = None,
    pitch: o.Pitch = None,
    poses: o.Poses = None,
    zingers: o.Zingers = False,
    stripes: o.Stripes = False,
    delta_beta: o.DeltaBeta = None,
    cluster: o.Cluster = None,
    jobs: o.Jobs = None,
    gpus_per_job: o.GpusPerJob = None,
    wait: o.Wait = None,
    scheduler_file: o.SchedulerFile = None,
    workers: o.NumWorkers = None,
    threads: o.Threads = None,
    memory: o.Memory = None,
    scheduler: o.Scheduler = None,
    dashboard: o.Dashboard = False,
    overwrite: o.Overwrite = False,
    profile: o.Profile = False,
    json: o.Json = False,
) -> None:
    """Reconstruct a scan into an OME-Zarr volume; the same command goes on after a kill."""
    flags = {k: v for k, v in locals().items() if k not in ("json", "overrides")}
    recipe, _ = o.recipe_from(flags, overrides)
    run_recipe(recipe, json, profile)


def run(
    recipe: Annotated[Path, typer.Argument(help="Recipe, a YAML file (see `tomodask init`).")],
    overrides: o.Overrides = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print every setting and where it came from; stop.")
    ] = False,
    shard: o.Shard = None,
    cluster: o.Cluster = None,
    jobs: o.Jobs = None,
    gpus_per_job: o.GpusPerJob = None,
    wait: o.Wait = None,
    scheduler_file: o.SchedulerFile = None,
    workers: o.NumWorkers = None,
    threads: o.Threads = None,
    memory: o.Memory = None,
    scheduler: o.Scheduler = None,
    dashboard: o.Dashboard = False,
    overwrite: o.Overwrite = False,
    profile: o.Profile = False,
    json: o.Json = False,
) -> None:
    """Run all steps of a recipe; key=value and flags go before what it says."""
    flags = {k: v for k, v in locals().items() if k in o.PATHS}
    resolved, origins = o.recipe_from(flags, overrides, recipe)
    if explain:
        _explain(resolved, origins, json)
    elif shard is not None:
        run_share(resolved, shard, json, {**flags, "profile": profile})
    else:
        run_recipe(resolved, json, profile)


def ingest_recipe(recipe: Any, json: bool) -> None:
    """Copy a recipe's source under a live line, and answer."""
    from tomodask import pipeline

    with LiveLine(quiet=json) as line:
        path, progress = pipeline.ingest(recipe, listener=line)
    if json:
        o.print_json({"scan": str(path), "complete": True, **stage(progress)})
    elif progress is None:
        console.print(f"{path} is complete already")
    else:
        console.print(f"{path}: next, `tomodask reconstruct {path} VOLUME.zarr`")


def run_recipe(recipe: Any, json: bool, profile: bool = False) -> None:
    """Run a recipe to its end under a live line, and answer."""
    from tomodask import pipeline, planfact
    from tomodask.runfolder import RunFolder

    with LiveLine(quiet=json) as line:
        result = pipeline.run(recipe, listener=line)
    if recipe.denoise is not None:
        from tomodask.cli.learn import answer_denoised

        answer_denoised(recipe, result, json)
        return
    compared = planfact.compare(RunFolder.of(result.volume)) if result.progress else {}
    profiled = _profile(recipe, result) if profile else {}
    if json:
        stages = {name: stage(progress) for name, progress in result.progress.items()}
        o.print_json(
            {
                "volume": str(result.volume),
                "scan": str(result.scan),
                "center": result.center,
                "center_confident": result.center_estimate and result.center_estimate.confident,
                "stages": stages,
                "plan_and_fact": compared,
                **({"profile": profiled} if profile else {}),
            }
        )
        return
    console.print(f"center of rotation {result.center:.2f}")
    for progress in result.progress.values():
        for name, number in progress.counts.items():
            if number:
                console.print(f"{name.replace('_', ' ')}: {number}")
    if not {"reconstruct", "write"} & set(result.progress):
        console.print(f"{result.volume} was complete already")
    if compared:
        console.print(planfact.comparison_text(compared))
    console.print(
        f'{result.volume}: xarray.open_dataset("{result.volume}", engine="tomodask"), or '
        f"`tomodask preview {result.volume}`"
    )
    if profile:
        from tomodask.cli.profile import print_profile

        print_profile(console, profiled, profiled["path"])


def _profile(recipe: Any, result: Any) -> dict[str, Any]:
    """Where the time of a run went; kept beside the volume."""
    from tomodask import profiling

    limits = profiling.measure_limits(result.volume.resolve().parent)
    profile = profiling.profile_of(result, next(iter(recipe.algorithm)), limits)
    return {"path": str(profiling.write_profile(result.volume, profile)), **profile}


def stage(progress: Any) -> dict[str, Any]:
    """Figures of a stage, for JSON."""
    if progress is None:
        return {}
    return {
        "blocks": progress.blocks,
        "seconds": round(progress.seconds, 3),
        "bytes_read": progress.bytes_read,
        "bytes_written": progress.bytes_written,
        "rows": progress.rows_done,
        "counts": progress.counts,
    }


def _explain(recipe: Any, origins: dict[str, str], json: bool) -> None:
    settings = recipe.as_dict()
    if json:
        o.print_json({"recipe": settings, "origins": origins})
        return
    for path, value in _flat(settings):
        told = [
            origin for key, origin in origins.items() if path == key or path.startswith(f"{key}.")
        ]
        text = yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()
        console.print(f"{path} = {text}  # {told[-1] if told else 'default'}")


def _flat(tree: dict[str, Any], at: str = "") -> list[tuple[str, Any]]:
    leaves: list[tuple[str, Any]] = []
    for key, value in tree.items():
        path = f"{at}.{key}" if at else key
        leaves += _flat(value, path) if isinstance(value, dict) and value else [(path, value)]
    return leaves
