"""The command `unnorm` and its commands.

Exit codes: 0 where the result passed, 1 where its verdict failed or the run did, 2 where a value
cannot be used. Results go to standard output, progress and errors to standard error.
"""

from typing import Annotated

import typer

from unnorm.command_line import (
    demonstration,
    fitting,
    listing,
    partition,
    reporting,
    sampling,
)

app = typer.Typer(
    help="Densities known up to a constant: declare, sample, diagnose, fit, normalize.",
    epilog="Example: unnorm fit model.py:ising --data answers.csv --objective pseudo-likelihood",
    no_args_is_help=True,
    suggest_commands=True,
)
for module in (demonstration, listing, sampling, fitting, partition, reporting):
    for command in module.COMMANDS:
        text = " ".join((command.__doc__ or "").split())
        app.command(help=text, epilog=module.EXAMPLES[command.__name__])(command)


def _version(show: bool) -> None:
    if show:
        from importlib.metadata import version

        typer.echo(version("unnorm"))
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Densities known up to a constant: declare, sample, diagnose, fit, normalize."""
