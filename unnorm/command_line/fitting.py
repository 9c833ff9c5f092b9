"""The commands fit, compare and simulate."""

from pathlib import Path
from typing import Annotated, Any

import typer

from unnorm.command_line.errors import check_output, end_by_verdict, sentences
from unnorm.command_line.options import (
    AsJson,
    Cluster,
    Columns,
    Data,
    FrequencyWeights,
    Model,
    Objective,
    SamplingWeights,
    Seed,
    Strict,
)

Steps = Annotated[int | None, typer.Option(help="Steps of training, for networks; none: 5,000.")]


def fit(  # noqa: PLR0913, PLR0917  # typer makes an option of each argument
    model: Model,
    data: Data,
    columns: Columns = "",
    objective: Objective = "",
    frequency_weights: FrequencyWeights = "",
    sampling_weights: SamplingWeights = "",
    cluster: Cluster = "",
    steps: Steps = None,
    seed: Seed = None,
    output: Annotated[
        Path | None,
        typer.Option(help="The fit as .npz (for --fit and un.load), or its table as .csv."),
    ] = None,
    as_json: AsJson = False,
    strict: Strict = False,
) -> None:
    """Fit a density declared in a file to a table; print estimates with standard errors."""
    check_output(output, (".npz", ".csv"))
    with sentences():
        from unnorm.command_line.results import show, write_whole

        apart = {
            "frequency_weights": frequency_weights,
            "sampling_weights": sampling_weights,
            "cluster": cluster,
        }
        found = _fitted(model, data, columns, objective, apart, steps, seed)
        show(found, as_json)
        if output is not None:
            write_whole(output, found.save if output.suffix == ".npz" else found.to_csv)
        end_by_verdict(found, strict)


def _fitted(
    model: str,
    data: Path,
    columns: str,
    objective: str,
    apart: dict[str, str],
    steps: int | None = None,
    seed: int | None = None,
) -> Any:
    import unnorm as un
    from unnorm.command_line.tables import options_of, read_table
    from unnorm.model_file import density_of

    p = density_of(model)
    given = options_of(**apart)
    listed = ",".join([columns, *given.values()]) if columns else ""
    options: dict[str, Any] = {"seed": seed, "steps": steps, **given}
    return un.fit(p, read_table(data, listed), objective or None, **options)


def compare(
    models: Annotated[list[str], typer.Argument(help="Two or more of FILE.py:NAME.")],
    data: Data,
    held_out: Annotated[
        Path | None, typer.Option(help="A table that no fit sees; none: a random quarter of --data")
    ] = None,
    columns: Columns = "",
    objective: Objective = "",
    seed: Seed = None,
    as_json: AsJson = False,
    strict: Strict = False,
) -> None:
    """Fit several densities to a table, and compare them on rows that they have not seen."""
    with sentences():
        import unnorm as un
        from unnorm.command_line.results import show
        from unnorm.command_line.tables import read_table
        from unnorm.model_file import density_of

        if len(models) < 2:
            raise ValueError(f"models is {models[0]}; it must name two or more; name another.")
        train = read_table(data, columns)
        seed = 0 if seed is None else seed
        if held_out is None:
            train, test = _split(train, data, seed)
        else:
            test = read_table(held_out, columns)
        fits = {
            model: un.fit(density_of(model), train, objective or None, seed=seed)
            for model in models
        }
        found = un.compare(fits, test)
        show(found, as_json)
        end_by_verdict(found, strict)


def _split(table: Any, path: Path, seed: int) -> tuple[Any, Any]:
    """Three quarters of the rows, and the rest, by the seed."""
    import numpy as np

    if not hasattr(table, "iloc"):
        raise ValueError(
            f"{path} is not a flat table; it must be .csv or .parquet to be split by rows; give "
            "--held-out."
        )
    order = np.random.default_rng(seed).permutation(len(table))
    cut = len(table) // 4
    return table.iloc[np.sort(order[cut:])], table.iloc[np.sort(order[:cut])]


def simulate(
    model: Model,
    data: Data,
    columns: Columns = "",
    objective: Objective = "",
    rows: Annotated[int | None, typer.Option(help="Rows of a data set; none: as observed.")] = None,
    replicates: Annotated[int, typer.Option(help="How many data sets.")] = 1,
    seed: Seed = None,
    output: Annotated[
        Path | None, typer.Option(help="Data sets as .csv or .nc; none: CSV to standard output.")
    ] = None,
) -> None:
    """Fit a density to a table, and draw data sets from the fit."""
    check_output(output, (".csv", ".nc"))
    with sentences():
        import unnorm as un
        from unnorm.command_line.results import write_whole

        found = _fitted(model, data, columns, objective, {}, seed=seed)
        tree = un.simulate(found, rows, replicates, found.seed)
        simulated = tree["posterior_predictive"].to_dataset()
        if output is not None and output.suffix == ".nc":
            write_whole(output, lambda path: tree.to_netcdf(path, engine="h5netcdf"))
        else:
            frame = simulated.to_dataframe().reset_index().drop(columns="chain")
            frame = frame.rename(columns={"draw": "replicate"})
            if output is None:
                typer.echo(frame.to_csv(index=False), nl=False)
            else:
                write_whole(output, lambda path: frame.to_csv(path, index=False))
        end_by_verdict(found)


COMMANDS = (fit, compare, simulate)
EXAMPLES = {
    "fit": "Example: unnorm fit model.py:ising --data answers.csv --columns a,b --objective nce",
    "compare": "Example: unnorm compare model.py:one model.py:other --data answers.csv --seed 0",
    "simulate": "Example: unnorm simulate model.py:ising --data answers.csv --output new.csv",
}
