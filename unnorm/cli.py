"""The command line: `unnorm demo`."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Densities known up to a constant: declare, sample, diagnose, fit, normalize.", add_completion=False
)


def _version(show: bool) -> None:
    if show:
        from unnorm import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Densities known up to a constant: declare, sample, diagnose, fit, normalize."""


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Where the report is written.")] = Path("report.html"),
    seed: Annotated[int, typer.Option(help="A whole number; the same seed gives the same run.")] = 0,
) -> None:
    """Fit, normalize, sample and diagnose a truncated Gaussian on Ozone and Wind, and write a report."""
    if output.is_dir() or not output.resolve().parent.is_dir():
        raise typer.BadParameter(
            f"{output} cannot be written; expected a file in an existing folder; give such a path."
        )
    from unnorm.demo import run

    run(output, seed)


if __name__ == "__main__":
    app()
