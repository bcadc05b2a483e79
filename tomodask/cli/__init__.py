"""The command line: `tomodask COMMAND`; each answers in words, or in JSON with --json.

Exit codes: 0 done, 1 our bug, 2 usage or bad input, 3 some blocks failed, 130 interrupted.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

import click
import typer
from rich.console import Console
from rich.logging import RichHandler

import tomodask
from tomodask.cli import look, steps
from tomodask.errors import TomodaskError

app = typer.Typer(
    name="tomodask",
    help=(tomodask.__doc__ or "").partition("\n\n")[0],
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
COMMANDS = (
    look.demo,
    steps.ingest,
    look.info,
    steps.center,
    look.preview,
    steps.reconstruct,
    look.export,
    look.init,
    steps.run,
)
for command in COMMANDS:
    app.command()(command)


@app.callback(invoke_without_command=True)
def _version(
    version: bool = typer.Option(False, "--version", help="Print the version and stop."),
) -> None:
    if version:
        typer.echo(f"tomodask {tomodask.__version__}")
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: runs a command and leaves with its exit code."""
    sys.exit(execute(arguments))


def execute(arguments: Sequence[str] | None = None) -> int:
    """Run a command; errors of our own become one message on stderr, without a traceback."""
    errors = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    handler = RichHandler(console=errors, show_time=False, show_path=False)
    logging.getLogger("tomodask").handlers = [handler]
    logging.getLogger("tomodask").propagate = False
    try:
        result = app(
            args=None if arguments is None else list(arguments),
            prog_name="tomodask",
            standalone_mode=False,
        )
    except TomodaskError as error:
        errors.print(f"tomodask: {error}")
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        errors.print("tomodask: interrupted; what is done is kept, the same command goes on")
        return 130
    return result if isinstance(result, int) else 0
