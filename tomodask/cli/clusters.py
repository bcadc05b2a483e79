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


def start(
    run: Run,
    host: Host = None,
    interface: Interface = None,
    port: Annotated[int, typer.Option(help="Port to listen on; 0: any that is free.")] = 0,
    idle: Annotated[
        float | None, typer.Option(help="End after so many seconds without driver and workers.")
    ] = None,
    json: o.Json = False,
) -> None:
    """Run the scheduler of a run; it ends at ctrl-C, or with its batch job."""
    from tomodask.cluster.standing import serve
    from tomodask.runfolder import RunFolder

    folder = RunFolder(run)

    def told(address: str) -> None:
        if json:
            o.print_json({"address": address, "file": str(folder.scheduler_file)})
        else:
            typer.echo(f"scheduler at {address}; next, `tomodask cluster join {run}`")

    serve(folder, host=host, interface=interface, port=port, idle_s=idle, told=told)


def join(
    run: Run,
    workers: o.NumWorkers = None,
    threads: o.Threads = None,
    memory: o.Memory = None,
    gpus: Annotated[int, typer.Option(help="GPUs of this machine, a worker for each.")] = 0,
    walltime: Annotated[
        float | None, typer.Option(help="Of the job, seconds: workers leave before it ends.")
    ] = None,
    host: Host = None,
    interface: Interface = None,
    wait: Annotated[float, typer.Option(help="Seconds to wait for the scheduler.")] = 600.0,
    json: o.Json = False,
) -> None:
    """Run workers for a run on this machine; they come back when a connection broke."""
    from tomodask.cluster.joining import JoinOptions
    from tomodask.cluster.joining import join as join_run
    from tomodask.runfolder import RunFolder

    options = JoinOptions(
        workers=workers,
        threads=threads,
        memory=_bytes(memory),
        gpus=gpus,
        walltime_s=walltime,
        host=host,
        interface=interface,
        wait_s=wait,
    )
    started = join_run(RunFolder(run), options)
    if json:
        o.print_json({"run": str(run), "workers_started": started})


def _bytes(text: str | None) -> int | None:
    from dask.utils import parse_bytes

    from tomodask.errors import InputError

    try:
        return None if text is None else int(parse_bytes(text))
    except ValueError as error:
        raise InputError(f"memory is {text!r}: give a number with a unit, such as 8GB") from error
