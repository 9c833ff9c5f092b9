"""The commands models and show."""

import json

import typer

from unnorm.command_line.errors import sentences
from unnorm.command_line.options import AsJson, Model


def models(as_json: AsJson = False) -> None:
    """List the declared families of `un.models`, each with what it is for."""
    with sentences():
        import unnorm as un

        lines = {name: _first_line(one) for name, one in un.models.FAMILIES.items()}
        if as_json:
            typer.echo(json.dumps(lines, indent=2))
            return
        width = max(map(len, lines))
        for name, line in lines.items():
            typer.echo(f"{name:{width}}  {line}")


def _first_line(family: object) -> str:
    return " ".join((family.__doc__ or "").strip().split("\n\n")[0].split())


def show(model: Model) -> None:
    """Show a density: its variables, parameters, constants and covariates, and its function."""
    with sentences():
        from unnorm.model_file import density_of

        p = density_of(model)
        typer.echo(repr(p))
        groups = {
            "variable": p.variables,
            "parameter": p.supports,
            "covariate": p.covariates,
            "constant": dict.fromkeys(p.constants, "constant"),
        }
        for kind, named in groups.items():
            for name, support in named.items():
                typer.echo(f"  {kind:10} {name}: {support}")
        source = _source(p)
        if source:
            typer.echo(f"\n{source}")


def _source(p: object) -> str:
    import inspect
    import textwrap

    function = getattr(p, "function", None)
    try:
        return textwrap.dedent(inspect.getsource(function)) if function is not None else ""
    except (OSError, TypeError):  # made in a session, or a product of densities
        return ""


COMMANDS = (models, show)
EXAMPLES = {
    "models": "Example: unnorm models --json",
    "show": "Example: unnorm show model.py:ising",
}
