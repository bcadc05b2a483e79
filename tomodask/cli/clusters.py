"""A cluster of one's own, with no driver on a login node: its batch script and what it calls."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tomodask.cli import options as o

Run = Annotated[Path, typer.Argument(help="The run's folder, OUTPUT.run.")]
Host = Annotated[str | None, typer.Option(help="Address of this machine to listen on.")]
Interface = Annotated[
    str | None, typer.Option(help="Network to listen on, such as ib0; else the one that leads out.")
]


def script(
    recipe: Annotated[Path, typer.Argument(help="Recipe, a YAML file (see `tomodask init`).")],
    overrides: o.Overrides = None,
    system: Annotated[str, typer.Option(help="slurm, pbs or lsf.")] = "slurm",
    nodes: Annotated[int, typer.Option(help="Nodes of the job.")] = 1,
    workers_per_node: Annotated[
        int | None, typer.Option(help="Worker processes; else one a GPU, or one for 4 cores.")
    ] = None,
    cores: Annotated[
        int | None, typer.Option(help="Cores of each node; else all, for this job alone.")
    ] = None,
    memory: Annotated[str | None, typer.Option(help="Memory of each node, such as 64GB.")] = None,
    gpus_per_node: Annotated[int, typer.Option(help="GPUs of each node.")] = 0,
    walltime: Annotated[str, typer.Option(help="[D-]HH:MM:SS.")] = "04:00:00",
    queue: Annotated[str | None, typer.Option(help="Queue or partition.")] = None,
    account: Annotated[str | None, typer.Option(help="Account or project to charge.")] = None,
    array: Annotated[
        int | None, typer.Option(help="Print a job array of so many elements, without Dask.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the job; else after the output.")] = None,
    interface: Interface = None,
    json: o.Json = False,
) -> None:
    """Print a batch script that runs a recipe inside one job, or as a job array."""
    from tomodask.cluster.scripts import Request, batch_script
    from tomodask.samples import required

    resolved, _ = o.recipe_from({}, overrides, recipe)
    request = Request(
        nodes=nodes,
        workers=workers_per_node,
        cores=cores,
        memory=_bytes(memory),
        gpus=gpus_per_node,
        walltime=walltime,
        queue=queue,
        account=account,
        array=array,
        name=name,
        interface=interface,
    )
    output = Path(required(resolved.output, "output"))
    text = batch_script(system, recipe, output, request, overrides=overrides or [])
    if json:
        o.print_json({"system": system, "script": text})
    else:
        typer.echo(text, nl=False)


def _bytes(text: str | None) -> int | None:
    from dask.utils import parse_bytes

    from tomodask.errors import InputError

    try:
        return None if text is None else int(parse_bytes(text))
    except ValueError as error:
        raise InputError(f"memory is {text!r}: give a number with a unit, such as 8GB") from error
