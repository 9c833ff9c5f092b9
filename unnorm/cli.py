"""The command line: `unnorm demo`, `unnorm sample`, `unnorm resume`.

Exit codes: 0 where the diagnosis passed, 1 where it did not or the run failed, 2 where a value
cannot be used.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Densities known up to a constant: declare, sample, diagnose, fit, normalize.",
    add_completion=False,
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
    output: Annotated[Path, typer.Option(help="Where the report is written.")] = Path(
        "report.html"
    ),
    seed: Annotated[int, typer.Option(help="An integer; the same seed gives the same run.")] = 0,
) -> None:
    """Fit, normalize, sample and diagnose a truncated Gaussian on Ozone and Wind, and write a
    report.
    """
    _check_output(output, (".html", ".htm"))
    with _sentences():
        from unnorm.demo import run

        run(output, seed)


_CHILD = "UNNORM_WATCHED"  # set in the process that another one watches

Model = Annotated[str, typer.Argument(help="FILE.py:NAME, a density declared in a file.")]
Devices = Annotated[
    int, typer.Option(help="CPU devices of this host, one a core; 0: as JAX finds them.")
]
Coordinator = Annotated[
    str, typer.Option(help="HOST:PORT of the first process, for a run over many hosts.")
]
Processes = Annotated[int, typer.Option(help="How many processes the run has.")]
ProcessId = Annotated[int, typer.Option(help="Which of them this is, from 0.")]
Output = Annotated[
    Path | None, typer.Option(help="A .nc file for the draws (netCDF, which ArviZ reads).")
]


@app.command()
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
    seed: Annotated[int | None, typer.Option(help="An integer; none: drawn and recorded.")] = None,
    store: Annotated[
        Path | None, typer.Option(help="A folder from which the run can go on.")
    ] = None,
    output: Output = None,
    devices: Devices = 0,
    coordinator: Coordinator = "",
    processes: Processes = 1,
    process_id: ProcessId = 0,
) -> None:
    """Sample a density declared in a file; print the diagnosis."""
    _check_output(output, (".nc",))
    _start(devices, coordinator, processes, process_id)
    import unnorm as un

    options = dict(
        draws=draws, warmup=warmup, chains=chains, thin=thin, keep=keep, seed=seed, store=store
    )
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
    _check_output(output, (".nc",))
    _start(devices, coordinator, processes, process_id)
    import unnorm as un

    _report(lambda p: un.resume(store, p), model, output, process_id)


def _start(devices: int, coordinator: str, processes: int, process_id: int) -> None:
    """Set JAX's devices and hosts up before a model file is imported: an array made there would
    freeze them.
    """
    import unnorm as un
    from unnorm.sampling.engine.multihost import die_with_parent, join

    shared = processes > 1 or bool(coordinator)
    if processes < 1 or not 0 <= process_id < processes:
        raise typer.BadParameter(
            f"process {process_id} of {processes} cannot run; expected processes numbered from "
            "0; give --processes and "
            "--process-id that fit."
        )
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
    """Run this command in a child: JAX aborts a process whose coordinator dies, and the sentence is
    left to us.
    """
    from unnorm.sampling.engine.multihost import lost, run_child

    # -P: a file in the current folder must not be taken for a module.
    command = [sys.executable, "-P", "-m", "unnorm.cli", *sys.argv[1:]]
    own = str(Path(__file__).resolve().parents[1])
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    environment = os.environ | {_CHILD: "1", "PYTHONPATH": os.pathsep.join([*paths, own])}
    status, said = run_child(command, environment)
    typer.echo(f"Error: {lost(processes)}" if status < 0 else said, err=True, nl=status < 0)
    raise typer.Exit(1 if status < 0 else status)


def _check_output(output: Path | None, suffixes: tuple[str, ...]) -> None:
    """Refuse, before the run, a path that could not be written after it."""
    if output is None:
        return
    if output.suffix.lower() not in suffixes:
        raise typer.BadParameter(
            f"{output} ends with {output.suffix!r}; expected {' or '.join(suffixes)}, the format "
            "that is written; give "
            "such a name."
        )
    parent = output.resolve().parent
    if output.is_dir() or not parent.is_dir() or not os.access(parent, os.W_OK):
        raise typer.BadParameter(
            f"{output} cannot be written; expected a file in an existing folder that you may "
            "write to; give such a "
            "path."
        )


@contextlib.contextmanager
def _sentences() -> Iterator[None]:
    """End with one sentence: a value that cannot be used with exit code 2, a run that failed with
    1.
    """
    try:
        yield
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except OSError as error:
        _end(str(error), 1)
    except (ValueError, RuntimeError) as error:
        _end(str(error), 2 if isinstance(error, ValueError) else 1)
    except Exception as error:  # a density's own function may raise anything
        _end(f"{type(error).__name__}: {error}", 1)


def _end(said: str, code: int) -> None:
    typer.echo(f"Error: {' '.join(said.split())}", err=True)
    raise typer.Exit(code) from None


def _report(run, model: str, output: Path | None, process_id: int) -> None:
    """Run on the density that a path names; the first process prints, writes, and fails if the
    diagnosis does.
    """
    with _sentences():
        import unnorm as un
        from unnorm.model_file import density_of

        p = density_of(model)
        draws = run(p)
        if process_id:
            return
        diagnosis = un.diagnose(draws, p)
        typer.echo(str(diagnosis))
        if output is not None:
            _write(draws, output)
            typer.echo(f"Wrote {output}.")
        if not diagnosis.passed:
            raise typer.Exit(1)


def _write(draws, output: Path) -> None:
    """Write the draws whole or not at all."""
    temporary = output.with_name(f".{output.stem}.{os.getpid()}.tmp.nc")
    try:
        draws.to_netcdf(temporary, engine="h5netcdf")
        os.replace(temporary, output)
    finally:
        temporary.unlink(missing_ok=True)


if __name__ == "__main__":
    app()
