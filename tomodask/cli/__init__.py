"""The command line: `tomodask COMMAND`; each answers in words, or in JSON with --json.

Exit codes: 0 done, 1 our bug, 2 usage or bad input, 3 some blocks failed or are damaged, 4 refused
by the plan, 130 interrupted.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.logging import RichHandler

import tomodask
from tomodask.cli import arrays, clusters, control, learn, look, planning, steps
from tomodask.cli.signals import leaving_on_signals
from tomodask.errors import TomodaskError

INTERRUPTED = 130

app = typer.Typer(
    name="tomodask",
    help=(tomodask.__doc__ or "").partition("\n\n")[0],
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
COMMANDS: tuple[Callable[..., None], ...] = (
    look.demo,
    steps.ingest,
    look.info,
    steps.center,
    look.preview,
    steps.reconstruct,
    learn.train,
    learn.denoise,
    look.export,
    look.doctor,
    look.init,
    planning.plan,
    steps.run,
    arrays.prepare,
    arrays.finalize,
    control.status,
    control.cancel,
    control.resume,
)
GROUPS: dict[str, tuple[Callable[..., None], ...]] = {  # `tomodask cluster script`
    "cluster": (clusters.script, clusters.start, clusters.join),
}


def _errors() -> Console:
    return Console(stderr=True, soft_wrap=True, highlight=False, markup=False)


def _guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Errors of our own become one message on stderr, without a traceback, and an exit code."""

    @functools.wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        try:
            with leaving_on_signals():
                command(*arguments, **options)
        except TomodaskError as error:
            _errors().print(f"tomodask: {error}")
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            told = "interrupted; what is done is kept, the same command goes on"
            _errors().print(f"tomodask: {told}")
            raise typer.Exit(INTERRUPTED) from None

    return run


for _command in COMMANDS:
    app.command()(_guarded(_command))
for _name, _commands in GROUPS.items():
    _group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    for _command in _commands:
        _group.command()(_guarded(_command))
    app.add_typer(_group, name=_name, help=(clusters.__doc__ or "").partition("\n")[0])


@app.callback(invoke_without_command=True)
def _version(
    version: bool = typer.Option(False, "--version", help="Print the version and stop."),
) -> None:
    if version:
        typer.echo(f"tomodask {tomodask.__version__}")
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: runs a command and leaves with its exit code."""
    handler = RichHandler(console=_errors(), show_time=False, show_path=False)
    logging.getLogger("tomodask").handlers = [handler]
    logging.getLogger("tomodask").propagate = False
    app(args=None if arguments is None else list(arguments), prog_name="tomodask")


def execute(arguments: Sequence[str]) -> int:
    """Run a command in this process; returns its exit code."""
    try:
        main(arguments)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    return 0
