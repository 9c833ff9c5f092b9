"""The command line: `unnorm demo`, `unnorm sample`, `unnorm resume`."""

import os
import sys
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


_CHILD = "UNNORM_WATCHED"  # set in the process that another one watches

Model = Annotated[str, typer.Argument(help="FILE.py:NAME, a density declared in a file.")]
Devices = Annotated[int, typer.Option(help="CPU devices of this host, one a core; 0: as JAX finds them.")]
Coordinator = Annotated[str, typer.Option(help="HOST:PORT of the first process, for a run over many hosts.")]
Processes = Annotated[int, typer.Option(help="How many processes the run has.")]
ProcessId = Annotated[int, typer.Option(help="Which of them this is, from 0.")]
Output = Annotated[Path | None, typer.Option(help="A .nc file for the draws (netCDF, which ArviZ reads).")]


@app.command()
def sample(
    model: Model,
    kernel: Annotated[str, typer.Option(help="A kernel's name, such as nuts or mala; empty: chosen.")] = "",
    draws: Annotated[int, typer.Option(help="Kept draws per chain.")] = 1000,
    warmup: Annotated[int, typer.Option(help="Steps of adaptation per chain.")] = 1000,
    chains: Annotated[int, typer.Option(help="How many chains, over all processes.")] = 4,
    thin: Annotated[int, typer.Option(help="Steps per kept draw.")] = 1,
    keep: Annotated[str, typer.Option(help="all, moments or last.")] = "all",
    seed: Annotated[int | None, typer.Option(help="A whole number; none: drawn and recorded.")] = None,
    store: Annotated[Path | None, typer.Option(help="A folder from which the run can go on.")] = None,
    output: Output = None,
    devices: Devices = 0,
    coordinator: Coordinator = "",
    processes: Processes = 1,
    process_id: ProcessId = 0,
) -> None:
    """Sample a density declared in a file; print the diagnosis."""
    _start(devices, coordinator, processes, process_id)
    import unnorm as un

    options = dict(draws=draws, warmup=warmup, chains=chains, thin=thin, keep=keep, seed=seed, store=store)
    _report(lambda p: un.sample(p, kernel or None, **options), model, output, process_id)


@app.command()
def resume(
    store: Annotated[Path, typer.Argument(help="The folder that `unnorm sample --store` wrote.")],
    model: Model,
    output: Output = None,
    devices: Devices = 0,
    coordinator: Coordinator = "",
    processes: Processes = 1,
    process_id: ProcessId = 0,
) -> None:
    """Go on with a stored run, to the draws that it would have had unbroken."""
    _start(devices, coordinator, processes, process_id)
    import unnorm as un

    _report(lambda p: un.resume(store, p), model, output, process_id)


def _start(devices: int, coordinator: str, processes: int, process_id: int) -> None:
    """Set JAX's devices and hosts up before a model file is imported: an array made there would freeze them."""
    import unnorm as un
    from unnorm.sampling.hosts import die_with_parent, join

    shared = processes > 1 or bool(coordinator)
    if shared and _CHILD not in os.environ:
        _watch(processes)
    if shared:
        die_with_parent()
    try:
        if devices:
            un.use_devices(devices)
        if shared:
            join(coordinator, processes, process_id)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _watch(processes: int) -> None:
    """Run this command in a child: JAX aborts a process whose coordinator dies, and the sentence is left to us."""
    from unnorm.sampling.hosts import lost, supervised

    # -P: a file in the current folder must not be taken for a module.
    command = [sys.executable, "-P", "-m", "unnorm.cli", *sys.argv[1:]]
    own = str(Path(__file__).resolve().parents[1])
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    environment = os.environ | {_CHILD: "1", "PYTHONPATH": os.pathsep.join([*paths, own])}
    status, said = supervised(command, environment)
    typer.echo(f"Error: {lost(processes)}" if status < 0 else said, err=True, nl=status < 0)
    raise typer.Exit(1 if status < 0 else status)


def _report(run, model: str, output: Path | None, process_id: int) -> None:
    """Run on the density that a path names; the first process prints and writes. Errors are one sentence."""
    import unnorm as un

    try:
        p = _density(model)
        draws = run(p)
        if process_id:
            return
        typer.echo(str(un.diagnose(draws, p)))
        if output is not None:
            draws.to_netcdf(output, engine="h5netcdf")
            typer.echo(f"Wrote {output}.")
    except (ValueError, RuntimeError) as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from None


def _density(model: str):
    """The density NAME of FILE.py."""
    import importlib.util

    from unnorm import Density

    file, _, name = model.rpartition(":")
    if not file or not name or not Path(file).is_file():
        raise ValueError(f"{model} names no density; expected FILE.py:NAME with an existing file; give such a path.")
    loader = importlib.util.spec_from_file_location(Path(file).stem, file)
    module = importlib.util.module_from_spec(loader)
    loader.loader.exec_module(module)
    found = getattr(module, name, None)
    if not isinstance(found, Density):
        raise ValueError(f"{name} in {file} is {found!r}; expected a density; give the name of one.")
    return found


if __name__ == "__main__":
    app()
