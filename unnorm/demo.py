"""The main job on real data: declare, fit, normalize, sample, diagnose, report.

Ozone and Wind (New York, 1973) are not negative, and the Gaussian on the positive quadrant has no
closed-form Z.
"""

import inspect
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import unnorm as un
from unnorm.diagnostics.contours import scatter_with_contours
from unnorm.diagnostics.plots import plot_rank, plot_trace
from unnorm.diagnostics.report import Section, write_report
from unnorm.fitting.results.tables import latex

SUBTITLE = "Ozone and Wind: a Gaussian truncated to the positive quadrant"


@un.density
def truncated_gaussian(
    x: un.Positive["d"],
    *,
    eta: un.Real["d"] = 0.0,
    precision: un.Symmetric(diagonal=True)["d"] = 1.0,
):
    """A Gaussian restricted to x >= 0: log p̃(x) = η'x - x'Kx/2, whose Z has no closed form."""
    return eta @ x - 0.5 * x @ precision @ x


def objectives() -> dict[str, Any]:
    """What is set side by side; maximum likelihood by quadrature is the yardstick."""
    return {
        "maximum likelihood": un.objectives.MaximumLikelihood(),
        "persistent CD": un.objectives.ContrastiveDivergence(persistent=True),
        "CD-10, HMC": un.objectives.ContrastiveDivergence(k=10, kernel=un.kernels.HMC()),
        "CD-10, MALA": un.objectives.ContrastiveDivergence(k=10, kernel=un.kernels.MALA()),
        "score matching": un.objectives.ScoreMatching(),
        "NCE": un.objectives.NCE(noise_ratio=500),
    }


def kernels() -> dict[str, Any]:
    """The kernels that the demo compares, by name."""
    return {
        "random-walk MH": un.kernels.RandomWalkMH(),
        "ULA": un.kernels.ULA(step_size=0.02),
        "MALA": un.kernels.MALA(),
        "NUTS": un.kernels.NUTS(target_acceptance_rate=0.95),
    }


def estimators() -> dict[str, Any]:
    """The estimators of log Z that the demo compares, by name."""
    return {"SMC": un.estimators.SMC(), "quadrature": un.estimators.Quadrature()}


def run(output: Path, seed: int = 0, console: Console | None = None) -> Path:
    """Run the whole path, print its tables, write the report, and return where it is."""
    console, began = console or Console(), time.perf_counter()
    console.rule(f"[bold]unnorm demo[/] · {SUBTITLE}")
    console.print(declaration(), markup=False, highlight=False)
    raw = un.models.load("ozone_wind")
    data = raw / raw.std(ddof=0)
    console.print(
        f"{len(data)} days of airquality (R datasets), each column divided by its standard "
        "deviation.\n"
    )
    with _progress(console) as progress, ThreadPoolExecutor(2) as pool:
        # Two jobs at a time: most of their time is compilation, which leaves Python's lock.
        def start(stage, jobs, work):
            task = progress.add_task(stage, total=len(jobs))
            futures = {name: pool.submit(work, job) for name, job in jobs.items()}
            for future in futures.values():
                future.add_done_callback(lambda _: progress.advance(task))
            return futures

        fitting = start(
            "Fitting",
            objectives(),
            lambda o: un.fit(truncated_gaussian, data, o, seed=seed, progress=False),
        )
        best = fitting[
            "maximum likelihood"
        ]  # the first in the queue, so that those who wait for it do not wait long
        normalizing = start(
            "Normalizing",
            estimators(),
            lambda e: un.log_z(best.result().density, e, seed=seed, progress=False),
        )
        sampling = start("Sampling", kernels(), lambda k: _sample(best.result().density, k, seed))
        fits, constants, draws = (
            {name: future.result() for name, future in stage.items()}
            for stage in (fitting, normalizing, sampling)
        )
    checks = {
        name: un.diagnose(tree, fits["maximum likelihood"].density) for name, tree in draws.items()
    }
    estimates, normalizing = estimates_table(fits), log_z_table(fits, constants)
    path = report(output, data, fits, draws, checks, estimates, normalizing)
    _show(console, "Estimates (standard errors)", estimates)
    _tell(console, {name: fit for name, fit in fits.items() if fit.findings})
    _show(console, "log Z", normalizing)
    for name, check in checks.items():
        _show(
            console,
            f"Convergence: {name} ({'passed' if check.passed else 'not passed'})",
            _short(check.table),
        )
        _tell(console, {name: check} if check.findings else {})
    console.print(f"Report: {path} · {time.perf_counter() - began:.0f} s", highlight=False)
    return path


def _sample(fitted: Any, kernel: Any, seed: int):
    """Draws of one kernel; all but NUTS take small steps, so that 20 of them make a draw."""
    thin = 1 if isinstance(kernel, un.kernels.NUTS) else 20
    return un.sample(fitted, kernel, draws=2000, thin=thin, seed=seed, progress=False)


def declaration() -> str:
    """The density's own source."""
    return inspect.getsource(truncated_gaussian.function)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<12}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


def estimates_table(fits: dict[str, Any]) -> pd.DataFrame:
    """One row a method, cells 'estimate (standard error)'."""

    def cell(row) -> str:
        error = "none" if np.isnan(row.standard_error) else f"{row.standard_error:.4f}"
        return f"{row.estimate:.4f} ({error})"

    tables = {name: fit.summary() for name, fit in fits.items()}
    rows = {name: table.apply(cell, axis=1).to_numpy() for name, table in tables.items()}
    return pd.DataFrame(rows, index=next(iter(tables.values())).index.flat).T


def log_z_table(fits: dict[str, Any], constants: dict[str, Any]) -> pd.DataFrame:
    """log Z with both its errors, each at the estimate it belongs to."""
    rows = {}
    for name in ("maximum likelihood", "NCE"):
        z = fits[name].log_z
        rows[f"{name}, at its own estimate"] = (z.value, z.monte_carlo_error, z.sampling_error)
    own = un.log_z(fits["NCE"].density, un.estimators.Quadrature(), progress=False)
    rows["quadrature, at NCE's estimate"] = (own.value, own.standard_error, np.nan)
    for name, z in constants.items():
        rows[f"{name}, at the maximum likelihood estimate"] = (z.value, z.standard_error, np.nan)
    return pd.DataFrame(rows, index=["log Z", "Monte Carlo error", "sampling error"]).T


def _short(table: pd.DataFrame) -> pd.DataFrame:
    return table[["mean", "sd", "mcse_mean", "ess_bulk", "ess_tail", "r_hat"]]


def _show(console: Console, title: str, frame: pd.DataFrame) -> None:
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("", overflow="fold")
    for column in frame.columns:
        table.add_column(str(column).replace("[", "\n["), justify="right", overflow="fold")
    for label, row in frame.iterrows():
        table.add_row(str(label), *(_number(value) for value in row))
    console.print(table)


def _number(value: Any) -> str:
    if isinstance(value, str):
        return value
    if np.isnan(value):
        return ""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4f}"


def _tell(console: Console, results: dict[str, Any]) -> None:
    for name, result in results.items():
        for finding in result.findings:
            color = {"error": "red", "warning": "yellow"}.get(finding.severity, "cyan")
            console.print(
                f"[{color}]{finding.severity}[/] {name}: {finding.sentence}",
                highlight=False,
            )
    console.print()


def contour_grid(fit: Any, data: pd.DataFrame, points: int = 120) -> Any:
    """The normalized log-density of a fit on a grid around the data."""
    x, y = (np.linspace(1e-3, 1.15 * data[name].max(), points) for name in data.columns)
    mesh = np.stack(np.meshgrid(x, y, indexing="ij"), -1)
    return x, y, np.asarray(fit.density(mesh)) - fit.log_z.value


def report(output: Path, data, fits, draws, checks, estimates, normalizing) -> Path:
    """Write the self-contained page."""
    best, nuts = fits["maximum likelihood"], draws["NUTS"]
    kept = nuts.posterior["x"].values.reshape(-1, 2)[::10]
    contours = scatter_with_contours(
        data,
        kept,
        contour_grid(best, data),
        title="Data, NUTS draws, and the fitted 50, 80 and 95% regions",
    )
    sections = [
        Section(
            "The declaration",
            "One Python function declares the density; Z is nowhere in it.",
            code=declaration(),
        ),
        Section(
            "Data and fitted density", "Units: standard deviations of each column.", figure=contours
        ),
        Section(
            "Estimates",
            "Standard errors in brackets: robust (sandwich) ones for the per-example objectives, "
            "those of the theory of contrastive divergence for CD.",
            table=estimates,
            copies={"CSV": estimates.to_csv(), "LaTeX": latex(estimates)},
            findings=[finding for fit in fits.values() for finding in fit.findings],
        ),
        Section(
            "log Z",
            "The sampling error is that of log Z at the true parameters; the Monte Carlo error "
            "that at this estimate.",
            table=normalizing.map(_number),
        ),
    ]
    for name, tree in draws.items():
        passed = checks[name].passed
        sections.append(
            Section(
                name,
                table=checks[name].table,
                findings=checks[name].findings,
                verdict=("passed" if passed else "not passed", passed),
                folded=[
                    Section("Traces", figure=plot_trace(tree)),
                    Section("Ranks", figure=plot_rank(tree)),
                ],
            )
        )
    write_report(output, f"unnorm · {SUBTITLE}", sections)
    return output
