"""What commands print and write."""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer


def show(result: Any, as_json: bool) -> None:
    """Print a result: its table, or JSON."""
    typer.echo(json.dumps(to_json(result), indent=2) if as_json else str(result))


def to_json(result: Any) -> dict[str, Any]:
    """Return a result as plain values: verdict, findings with their codes, and its numbers."""
    named = {"kind": type(result).__name__, "passed": bool(result.passed)}
    findings = [
        {"code": str(f.code), "severity": f.severity, "what": f.what, "advice": f.advice}
        for f in result.findings
    ]
    return named | _NUMBERS[type(result).__name__](result) | {"findings": findings}


def _of_fit(fit: Any) -> dict[str, Any]:
    table = fit.summary()
    return {
        "objective": fit.objective,
        "target": fit.target,
        "converged": bool(fit.converged),
        "rows": fit.rows,
        "seed": fit.seed,
        "parameters": _records(table),
        "log_z": None if fit.log_z is None else [_plain(value) for value in fit.log_z],
    }


def _of_log_z(z: Any) -> dict[str, Any]:
    return {
        "value": _plain(z.value),
        "standard_error": _plain(z.standard_error),
        "verdict": z.verdict,
        "estimator": z.estimator,
        "evaluations": z.evaluations,
        "measure": z.measure,
        "seed": z.seed,
    }


def _of_table(result: Any) -> dict[str, Any]:
    return {"table": _records(result.table)}


_NUMBERS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "Fit": _of_fit,
    "LogZ": _of_log_z,
    "Diagnosis": _of_table,
    "Comparison": _of_table,
}


def _records(table: Any) -> list[dict[str, Any]]:
    table = table.reset_index()
    return [
        {str(name): _plain(value) for name, value in row.items() if value != ""}
        for row in table.to_dict("records")
    ]


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_draws(draws: Any, output: Path, diagnosis: Any = None) -> None:
    """Write draws as netCDF or CSV, or into a run folder with their diagnosis."""
    if not output.suffix:
        output.mkdir(exist_ok=True)
        write_draws(draws, output / "draws.nc")
        if diagnosis is not None:
            text = json.dumps(to_json(diagnosis), indent=2)
            write_whole(output / "diagnosis.json", lambda path: path.write_text(text))
            write_whole(output / "summary.csv", diagnosis.table.to_csv)
    elif output.suffix.lower() == ".csv":
        frame = draws["posterior"].to_dataset().to_dataframe().reset_index()
        write_whole(output, lambda path: frame.to_csv(path, index=False))
    else:
        write_whole(output, lambda path: draws.to_netcdf(path, engine="h5netcdf"))


def write_whole(output: Path, write: Callable[[Path], Any]) -> None:
    """Write a file whole or not at all."""
    temporary = output.with_name(f".{output.stem}.{os.getpid()}.tmp{output.suffix}")
    try:
        write(temporary)
        os.replace(temporary, output)
    finally:
        temporary.unlink(missing_ok=True)
    typer.echo(f"Wrote {output}.", err=True)
