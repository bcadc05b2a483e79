"""Commands that look, and those that start and end the path: demo, info, doctor, preview ..."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tomodask.cli import options as o
from tomodask.cli.progress import LiveLine

console = Console(highlight=False, soft_wrap=True, markup=False)


class Format(StrEnum):
    """What `export` writes."""

    tiff = "tiff"
    hdf5 = "hdf5"


class Dtype(StrEnum):
    """Numbers that `export` writes."""

    uint8 = "uint8"
    uint16 = "uint16"
    float32 = "float32"


def demo(
    output: Annotated[Path, typer.Option(help="Folder for files and pictures.")] = Path("demo"),
    seed: Annotated[int | None, typer.Option(help="Of the sample and its hidden axis.")] = None,
    seconds: Annotated[float, typer.Option(min=0, help="Of training; 0: reconstruct only.")] = 60,
    workers: o.NumWorkers = None,
    json: o.Json = False,
) -> None:
    """Simulate a noisy scan with known truth, reconstruct and denoise it, and score the results."""
    from tomodask import demo as main_job

    with LiveLine(quiet=json) as line:
        answer = main_job.demo(
            output, seed=seed, workers=workers, seconds_to_train=seconds, listener=line
        )
    if json:
        o.print_json(answer)
    else:
        console.print(main_job.describe(answer))


def info(
    path: Annotated[str, typer.Argument(help="Any raw scan, scan store, volume or recipe.")],
    overrides: o.Overrides = None,
    flats: o.Flats = None,
    darks: o.Darks = None,
    angles: o.Angles = None,
    angles_lines: o.AnglesLines = None,
    angle_units: o.AngleUnits = None,
    data: o.Data = None,
    json: o.Json = False,
) -> None:
    """Say in words what is in a file or store."""
    flags = {k: v for k, v in locals().items() if k not in ("json", "overrides", "path")}
    from tomodask import describe

    recipe, _ = o.recipe_from({**flags, "source": path}, overrides)
    facts = describe.info(path, recipe.ingest)
    if json:
        o.print_json(facts)
        return
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        console.print(f"{name.replace('_', ' '):{width}}  {value}")


def doctor(
    store: Annotated[Path, typer.Argument(help="Volume or scan store to look through.")],
    json: o.Json = False,
) -> None:
    """Find damaged, missing and unfinished blocks; the command that made the store mends them."""
    from tomodask.doctor import DAMAGED, describe, doctor

    with LiveLine(quiet=json) as line:
        examination = doctor(store, listener=line)
    if json:
        o.print_json(examination.as_dict())
    else:
        console.print(describe(examination))
    if not examination.is_sound:
        raise typer.Exit(DAMAGED)


def preview(
    source: o.Source,
    picture: Annotated[Path, typer.Argument(help="PNG to write.")] = Path("preview.png"),
    overrides: o.Overrides = None,
    slice: Annotated[
        int | None, typer.Option(help="One detector row, at full size, instead of three cuts.")
    ] = None,
    flats: o.Flats = None,
    darks: o.Darks = None,
    angles: o.Angles = None,
    angles_lines: o.AnglesLines = None,
    angle_units: o.AngleUnits = None,
    data: o.Data = None,
    center: o.Center = None,
    algorithm: o.Algorithm = None,
    num_iterations: o.NumIterations = None,
    filter: o.Filter = None,
    stripes: o.Stripes = False,
    json: o.Json = False,
) -> None:
    """Three orthogonal cuts, or one slice, as a PNG; from raw files, scan stores or volumes."""
    flags = {k: v for k, v in locals().items() if k in o.PATHS}
    from tomodask import preview as pictures

    recipe, _ = o.recipe_from(flags, overrides)
    answer = pictures.preview(recipe, picture, row=slice)
    if json:
        o.print_json(answer)
    else:
        console.print("  ".join(f"{name} {value}" for name, value in answer.items()))


def export(
    volume: Annotated[Path, typer.Argument(help="Volume to export.")],
    output: Annotated[Path, typer.Argument(help="Folder of TIFF files, or HDF5 file.")],
    format: Annotated[Format, typer.Option(help="tiff: a file a slice; hdf5.")] = Format.tiff,
    dtype: Annotated[Dtype, typer.Option(help="Numbers to write.")] = Dtype.uint16,
    grey_range: Annotated[
        str | None,
        typer.Option(help="LOW:HIGH mapped onto the integers; default 0.1-99.9 %."),
    ] = None,
    level: Annotated[int, typer.Option(help="Pyramid level.")] = 0,
    rows: o.Rows = None,
    json: o.Json = False,
) -> None:
    """Write a volume as a TIFF stack or HDF5, with one stated grey range."""
    from tomodask.export import export_volume, parse_grey_range
    from tomodask.recipe import parse_range

    report = export_volume(
        volume,
        output,
        format=format.value,
        dtype=dtype.value,
        grey_range=parse_grey_range(grey_range),
        level=level,
        rows=parse_range(rows),
    )
    if json:
        o.print_json(report)
    else:
        console.print("  ".join(f"{name} {value}" for name, value in report.items()))


def init(
    recipe: Annotated[Path, typer.Argument(help="Recipe to write.")] = Path("recipe.yaml"),
    source: Annotated[str | None, typer.Option(help="Raw scan to name in it.")] = None,
    output: Annotated[str | None, typer.Option(help="Volume to name in it.")] = None,
    json: o.Json = False,
) -> None:
    """Write a recipe with every setting, its default and what it means."""
    from tomodask.commented import write_commented

    write_commented(recipe, source=source, output=output)
    if json:
        o.print_json({"recipe": str(recipe)})
    else:
        console.print(f"{recipe}: edit it, then `tomodask run {recipe}`")
