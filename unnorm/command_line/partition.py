"""The command logz."""

from pathlib import Path
from typing import Annotated, Any

import typer

from unnorm.command_line.errors import end_by_verdict, sentences
from unnorm.command_line.options import AsJson, Fitted, Model, Seed, Strict


def logz(
    model: Model,
    estimator: Annotated[
        str, typer.Option(help="An estimator's name, such as smc or bridge; empty: chosen.")
    ] = "",
    fit: Fitted = None,
    draws: Annotated[
        Path | None, typer.Option(help="Draws as .nc or a run folder, for bridge sampling.")
    ] = None,
    target_error: Annotated[
        float | None, typer.Option(help="The standard error to reach, in nats.")
    ] = None,
    seed: Seed = None,
    as_json: AsJson = False,
    strict: Strict = False,
) -> None:
    """Estimate log Z of a density declared in a file, at its parameters or at those of a saved fit;
    print it with its error and verdict.
    """
    with sentences():
        import unnorm as un
        from unnorm.command_line.results import show
        from unnorm.command_line.tables import read_draws
        from unnorm.model_file import density_of

        p = density_of(model, fit)
        options: dict[str, Any] = {"seed": seed}
        if target_error is not None:
            options["target_error"] = target_error
        method: Any = estimator or None
        if draws is not None:
            if estimator not in ("", "bridge"):
                raise ValueError(
                    f"estimator is {estimator!r}; it must be bridge where draws are given; leave "
                    "one of the two out."
                )
            method = un.estimators.Bridge(draws=read_draws(draws))
        z = un.log_z(p, method, **options)
        show(z, as_json)
        end_by_verdict(z, strict)


COMMANDS = (logz,)
EXAMPLES = {"logz": "Example: unnorm logz model.py:ising --fit fit.npz --estimator smc --json"}
