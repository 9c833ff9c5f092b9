"""Devices and hosts of a run, set up before a model file is imported."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

_CHILD = "UNNORM_WATCHED"  # set in the process that another one watches

Devices = Annotated[
    int, typer.Option(help="CPU devices of this host, one a core; 0: as JAX finds them.")
]
Coordinator = Annotated[
    str, typer.Option(help="HOST:PORT of the first process, for a run over many hosts.")
]
Processes = Annotated[int, typer.Option(help="How many processes the run has.")]
ProcessId = Annotated[int, typer.Option(help="Which of them this is, from 0.")]


def start(devices: int, coordinator: str, processes: int, process_id: int) -> None:
    """Set JAX's devices and hosts up: an array made in a model file would freeze them."""
    import unnorm as un
    from unnorm.sampling.engine.multihost import die_with_parent, join

    shared = processes > 1 or bool(coordinator)
    if processes < 1 or not 0 <= process_id < processes:
        raise typer.BadParameter(
            f"process {process_id} of {processes} cannot run; processes must be numbered from 0; "
            "correct --processes or --process-id."
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
    own = str(Path(__file__).resolve().parents[2])
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    environment = os.environ | {_CHILD: "1", "PYTHONPATH": os.pathsep.join([*paths, own])}
    status, said = run_child(command, environment)
    typer.echo(f"Error: {lost(processes)}" if status < 0 else said, err=True, nl=status < 0)
    raise typer.Exit(1 if status < 0 else status)
