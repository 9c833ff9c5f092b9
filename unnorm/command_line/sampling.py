"""The commands sample, resume and diagnose."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from unnorm.command_line.errors import check_output, end_by_verdict, sentences
from unnorm.command_line.hosts import Coordinator, Devices, Processes, ProcessId, start
from unnorm.command_line.options import AsJson, Fitted, Model, Seed, Strict

FORMATS = (".nc", ".csv", "")
Output = Annotated[
    Path | None,
    typer.Option(help="Draws as .nc (netCDF, which ArviZ reads) or .csv; else a run folder."),
]


def sample(  # noqa: PLR0913, PLR0917  # typer makes an option of each argument
    model: Model,
    kernel: Annotated[
        str, typer.Option(help="A kernel's name, such as nuts or mala; empty: chosen.")
    ] = "",
    draws: Annotated[int, typer.Option(help="Kept draws per chain.")] = 1000,
    warmup: Annotated[int, typer.Option(help="Steps of adaptation per chain.")] = 1000,
    chains: Annotated[int, typer.Option(help="How many chains, over all processes.")] = 4,
    thin: Annotated[int, typer.Option(help="Steps per kept draw.")] = 1,
    keep: Annotated[str, typer.Option(help="all, moments or last.")] = "all",
    fit: Fitted = None,
    seed: Seed = None,
    store: Annotated[
        Path | None, typer.Option(help="A folder from which the run can go on.")
    ] = None,
    output: Output = None,
    as_json: AsJson = False,
    strict: Strict = False,
    devices: Devices = 0,
    coordinator: Coordinator = "",
    processes: Processes = 1,
    process_id: ProcessId = 0,
) -> None:
    """Sample a density declared in a file, at its parameters or at those of a saved fit; print the
    diagnosis.
    """
    check_output(output, FORMATS)
    start(devices, coordinator, processes, process_id)
    import unnorm as un

    options: dict[str, Any] = dict(
        draws=draws, warmup=warmup, chains=chains, thin=thin, keep=keep, seed=seed, store=store
    )

    def run(p: Any) -> Any:
        return un.sample(p, kernel or None, **options)

    _diagnosed(run, model, fit, output, process_id, as_json, strict)


def resume(  # noqa: PLR0913, PLR0917
    store: Annotated[Path, typer.Argument(help="The folder that `unnorm sample --store` wrote.")],
    model: Model,
    fit: Fitted = None,
    output: Output = None,
    as_json: AsJson = False,
    strict: Strict = False,
    devices: Devices = 0,
    coordinator: Coordinator = "",
    processes: Processes = 1,
    process_id: ProcessId = 0,
) -> None:
    """Go on with a stored run, to the draws that it would have had unbroken."""
    check_output(output, FORMATS)
    start(devices, coordinator, processes, process_id)
    import unnorm as un

    def run(p: Any) -> Any:
        return un.resume(store, p)

    _diagnosed(run, model, fit, output, process_id, as_json, strict)


def diagnose(
    draws: Annotated[Path, typer.Argument(help="Draws as .nc, or a run folder.")],
    model: Annotated[
        str, typer.Argument(help="FILE.py:NAME, to hold the draws against the density; optional.")
    ] = "",
    fit: Fitted = None,
    as_json: AsJson = False,
    strict: Strict = False,
) -> None:
    """Diagnose draws of a file: R-hat, ESS, and, with the density, Stein's identities."""
    with sentences():
        import unnorm as un
        from unnorm.command_line.results import show
        from unnorm.command_line.tables import read_draws
        from unnorm.model_file import density_of

        found = read_draws(draws)
        p = density_of(model, fit) if model else None
        diagnosis = un.diagnose(found, p)
        show(diagnosis, as_json)
        end_by_verdict(diagnosis, strict)


def _diagnosed(
    run: Callable[[Any], Any],
    model: str,
    fit: Path | None,
    output: Path | None,
    process_id: int,
    as_json: bool,
    strict: bool,
) -> None:
    """Run on the density that a path names; the first process prints and writes."""
    with sentences():
        import unnorm as un
        from unnorm.command_line.results import show, write_draws
        from unnorm.model_file import density_of

        p = density_of(model, fit)
        draws = run(p)
        if process_id:
            return
        diagnosis = un.diagnose(draws, p)
        show(diagnosis, as_json)
        if output is not None:
            write_draws(draws, output, diagnosis)
        end_by_verdict(diagnosis, strict)


COMMANDS = (sample, resume, diagnose)
EXAMPLES = {
    "sample": "Example: unnorm sample model.py:normal --kernel nuts --seed 0 --output draws.nc",
    "resume": "Example: unnorm resume run.d model.py:normal --output draws.nc",
    "diagnose": "Example: unnorm diagnose draws.nc model.py:normal --json",
}
