"""Learning from a scan: train makes a model, denoise applies one, or trains one before."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from tomodask.cli import options as o
from tomodask.cli.progress import LiveLine
from tomodask.layers import Layer, assignments, environment_layer, resolve, user_layer

console = Console(highlight=False, soft_wrap=True, markup=False)


def train(
    source: o.Source,
    model: Annotated[str, typer.Argument(help="Model to make, a folder.")],
    overrides: o.Overrides = None,
    scan: Annotated[
        str | None, typer.Option(help="Where a raw source's scan store is kept.")
    ] = None,
    method: o.Method = None,
    network: o.Network = None,
    slices: o.Slices = None,
    num_splits: o.NumSplits = None,
    split: o.Split = None,
    strategy: o.Strategy = None,
    seconds: o.Seconds = None,
    voxels: o.Voxels = None,
    seed: o.Seed = None,
    start: o.Start = None,
    keep_splits: o.KeepSplits = False,
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
    filter: o.Filter = None,
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
    json: o.Json = False,
) -> None:
    """Learn to denoise from a scan alone; the same command goes on after a kill."""
    flags = {k: v for k, v in locals().items() if k not in ("json", "overrides", "model")}
    from tomodask import learned

    layers = [Layer("train", {"denoise": {}, "output": f"{model}.zarr"})]
    recipe = _recipe(layers, flags, overrides)
    with LiveLine(quiet=json) as line:
        made = learned.train(recipe, Path(model), listener=line)
    if json:
        report = {name: value for name, value in made.report.items() if name != "judged"}
        o.print_json(
            {"model": str(made.model), "splits": str(made.splits), "why": made.why, **report}
        )
        return
    console.print(made.why)
    console.print(learned.describe_model(made.model))
    console.print(f"{made.model}: next, `tomodask denoise {source} VOLUME.zarr --model {model}`")


def denoise(
    source: Annotated[
        str, typer.Argument(help="Raw scan, scan store, Zarr stack, or a reconstructed volume.")
    ],
    output: Annotated[str, typer.Argument(help="Volume to make, an OME-Zarr folder.")],
    overrides: o.Overrides = None,
    model: o.TrainedModel = None,
    mode: o.Mode = None,
    scan: Annotated[
        str | None, typer.Option(help="Where a raw source's scan store is kept.")
    ] = None,
    method: o.Method = None,
    network: o.Network = None,
    slices: o.Slices = None,
    num_splits: o.NumSplits = None,
    split: o.Split = None,
    strategy: o.Strategy = None,
    seconds: o.Seconds = None,
    voxels: o.Voxels = None,
    seed: o.Seed = None,
    start: o.Start = None,
    keep_splits: o.KeepSplits = False,
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
    filter: o.Filter = None,
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
    json: o.Json = False,
) -> None:
    """Denoise a scan, or a volume, by a model; the same command goes on after a kill."""
    flags = {k: v for k, v in locals().items() if k not in ("json", "overrides")}
    from tomodask import learned

    layers = [Layer("denoise", {"denoise": {}})]
    if model is not None:
        layers.append(learned.model_layer(Path(model)))
    recipe = _recipe(layers, flags, overrides)
    with LiveLine(quiet=json) as line:
        result = learned.denoise(recipe, listener=line)
    answer_denoised(recipe, result, json)


def answer_denoised(recipe: Any, result: Any, json: bool) -> None:
    """Say what was made, by which model."""
    from tomodask import learned
    from tomodask.cli.steps import stage

    used = learned.model_path(recipe)
    if json:
        stages = {name: stage(progress) for name, progress in result.progress.items()}
        o.print_json({"volume": str(result.volume), "model": str(used), "stages": stages})
        return
    if not result.progress:
        console.print(f"{result.volume} was complete already")
    for progress in result.progress.values():
        for name, number in progress.counts.items():
            if number:
                console.print(f"{name.replace('_', ' ')}: {number}")
    console.print(f"{used}: {learned.describe_model(used)}")
    console.print(
        f'{result.volume}: xarray.open_dataset("{result.volume}", engine="tomodask"), or '
        f"`tomodask preview {result.volume}`"
    )


def _recipe(first: list[Layer], flags: dict[str, Any], overrides: list[str] | None) -> Any:
    layers = [*first, user_layer(), environment_layer()]
    return resolve([*layers, assignments(overrides or []), o.layer_of_flags(flags)])[0]
