"""The command demo."""

from pathlib import Path
from typing import Annotated

import typer

from unnorm.command_line.errors import check_output, sentences


def demo(
    output: Annotated[Path, typer.Option(help="Where the report is written.")] = Path(
        "report.html"
    ),
    seed: Annotated[int, typer.Option(help="An integer; the same seed gives the same run.")] = 0,
) -> None:
    """Fit, normalize, sample and diagnose a truncated Gaussian on Ozone and Wind, and write a
    report.
    """
    check_output(output, (".html", ".htm"))
    with sentences():
        from unnorm.demo import run

        run(output, seed)


COMMANDS = (demo,)
EXAMPLES = {"demo": "Example: unnorm demo --output report.html"}
