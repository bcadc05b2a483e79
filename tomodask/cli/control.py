"""Commands for a run that goes on, or has stopped: status, cancel, resume."""

from __future__ import annotations

from pathlib import Path
from time import sleep
from typing import Annotated, Any

import typer
from rich.console import Console

from tomodask.cli import options as o
from tomodask.cli import steps

console = Console(highlight=False, soft_wrap=True, markup=False)

FAILED = 3  # exit code: blocks failed, or writers have not stopped
WATCH_SECONDS = 2.0

Output = Annotated[
    str, typer.Argument(help="Volume or scan store that a run makes, or the run's recipe.")
]


def status(
    output: Output,
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again every 2 s, until it has ended.")
    ] = False,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="All that is known of why blocks failed.")
    ] = False,
    json: o.Json = False,
) -> None:
    """Say where a run is: done, running, failed and why, time left; from any machine."""
    from tomodask.control import describe
    from tomodask.runstate import run_state

    state = _watched(output, traceback, json) if watch else run_state(output)
    if json:
        o.print_json(state.as_dict())
    elif not watch:
        console.print(describe(state, traceback))
    if state.state == "failed":
        raise typer.Exit(FAILED)


def _watched(output: str, traceback: bool, quiet: bool) -> Any:
    """Redraw until the run has ended; without a terminal, print what has changed."""
    from rich.live import Live
    from rich.text import Text

    from tomodask.control import describe
    from tomodask.runstate import run_state

    state, told = run_state(output), ""
    with Live(console=console, auto_refresh=False) as live:
        while True:
            text = "" if quiet else describe(state, traceback)
            if console.is_terminal:
                live.update(Text(text), refresh=True)
            elif text != told:
                console.print(text)
            told = text
            if not state.goes_on:
                return state
            sleep(WATCH_SECONDS)
            state = run_state(output)


def cancel(
    output: Output,
    wait: Annotated[
        float, typer.Option("--wait", help="Seconds to wait until it has stopped.")
    ] = 60.0,
    json: o.Json = False,
) -> None:
    """Stop a run from any machine that sees its files; what is done is kept."""
    from tomodask import control

    done = control.cancel(output, wait)
    if json:
        o.print_json(done.as_dict())
    else:
        console.print(done.message)
        if done.jobs:
            how = done.remove or f"of your batch system's, on {' '.join(done.jobs)}"
            console.print(f"batch jobs may be left, remove them with the command {how}")
    if done.stopping:
        raise typer.Exit(FAILED)


def resume(
    output: Annotated[
        Path, typer.Argument(help="Volume or scan store whose run stopped before its end.")
    ],
    overrides: o.Overrides = None,
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
    profile: o.Profile = False,
    json: o.Json = False,
) -> None:
    """Run the recipe that a run kept again, to its end; blocks that failed are tried again."""
    own = ("output", "overrides", "profile", "json")
    flags = {k: v for k, v in locals().items() if k not in own}
    from tomodask.control import kept_recipe
    from tomodask.layers import assignments

    recipe = kept_recipe(output, assignments(overrides or []), o.layer_of_flags(flags))
    if recipe.output is None:  # the run was `tomodask ingest`
        steps.ingest_recipe(recipe, json)
    else:
        steps.run_recipe(recipe, json, profile)
