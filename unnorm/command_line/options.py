"""Arguments and options that commands share."""

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[str, typer.Argument(help="FILE.py:NAME, a density declared in a file.")]
Data = Annotated[
    Path, typer.Option(help="A table: .csv, .parquet, .npz or .nc (netCDF), a row an event.")
]
Columns = Annotated[
    str, typer.Option(help="The columns to read, as a,b,c; empty: all but those of weights.")
]
Seed = Annotated[int | None, typer.Option(help="An integer; none: drawn and recorded.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Strict = Annotated[bool, typer.Option(help="End with 1 on warnings too.")]
Objective = Annotated[
    str, typer.Option(help="An objective's name, such as nce or score-matching; empty: chosen.")
]
Fitted = Annotated[
    Path | None, typer.Option("--fit", help="A fit saved by `unnorm fit --output FIT.npz`.")
]
FrequencyWeights = Annotated[str, typer.Option(help="The column that counts equal rows.")]
SamplingWeights = Annotated[
    str, typer.Option(help="The column of one over each row's probability to be sampled.")
]
Cluster = Annotated[str, typer.Option(help="The column of the clusters' labels.")]
