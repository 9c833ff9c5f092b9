"""The command report."""

from pathlib import Path
from typing import Annotated, Any

import typer

from unnorm.command_line.errors import ExitCode, check_output, end, sentences
from unnorm.command_line.options import Columns, Fitted, Model, Objective, Seed


def report(
    model: Model,
    output: Annotated[Path, typer.Option(help="An .html file, replaced if it exists.")] = Path(
        "report.html"
    ),
    data: Annotated[Path | None, typer.Option(help="A table to fit the density to.")] = None,
    columns: Columns = "",
    objective: Objective = "",
    fit: Fitted = None,
    draws: Annotated[Path | None, typer.Option(help="Draws as .nc, or a run folder.")] = None,
    log_z: Annotated[bool, typer.Option("--logz", help="Estimate log Z too.")] = False,
    seed: Seed = None,
) -> None:
    """Write one page of results: a fit, draws with their diagnosis, log Z."""
    check_output(output, (".html", ".htm"))
    with sentences():
        import unnorm as un
        from unnorm.command_line.tables import read_draws, read_table
        from unnorm.model_file import density_of

        results: dict[str, Any] = {}
        p = density_of(model, fit)
        if data is not None:
            fitted = un.fit(p, read_table(data, columns), objective or None, seed=seed)
            results["fit"], p = fitted, fitted.density
        elif fit is not None:
            results["fit"] = un.load(fit, density_of(model))
        if draws is not None:
            results["draws"] = read_draws(draws)
        if log_z:
            results["log Z"] = un.log_z(p, seed=seed)
        if not results:
            raise ValueError(
                "report was given nothing to show; it needs --data, --fit, --draws or --logz; "
                "give one."
            )
        written = un.report(results, output, title=p.name)
        typer.echo(f"Wrote {written}.", err=True)
        failed = [name for name, one in results.items() if getattr(one, "passed", True) is False]
        if failed:
            end(
                f"the verdict of {', '.join(failed)} failed; read the report.",
                ExitCode.VERDICT_FAILED,
            )


COMMANDS = (report,)
EXAMPLES = {
    "report": "Example: unnorm report model.py:ising --data answers.csv --logz --output ising.html"
}
