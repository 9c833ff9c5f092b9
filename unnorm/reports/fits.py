"""The parts of a report on a fit."""

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np

from unnorm.core.method import registry_name
from unnorm.diagnostics.report import Section
from unnorm.fitting.inference.wald import wald
from unnorm.fitting.results import tables
from unnorm.fitting.results.fit import Fit
from unnorm.plots.forest import plot_forest
from unnorm.plots.network import plot_network
from unnorm.plots.predictive import plot_predictive
from unnorm.plots.training import plot_training
from unnorm.sampling.output.datatree import provenance
from unnorm.supports.matrices import Matrix

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def fit_sections(name: str, fit: Fit) -> list[Section]:
    """The header, the estimates, the networks, and data against simulations."""
    verdict = ("passed", True) if fit.passed else ("not passed", False)
    header = Section(
        name, verdict=verdict, facts=fit._facts(), findings=fit.findings, code=source_of(fit),
        folded=_details(fit),
    )  # fmt: skip
    sections = [header]
    if len(fit._estimates):
        sections.append(_estimates(name, fit))
    sections += _networks(name, fit)
    return [*sections, _predictive(name, fit)]


def source_of(fit: Fit) -> str | None:
    """The source of the declared functions, where Python has it."""
    densities = fit.density if isinstance(fit.density, list) else [fit.density]
    parts: list[str] = []
    for p in densities:
        factor: Any
        for factor in getattr(p, "factors", (p,)):
            try:
                parts.append(inspect.cleandoc("\n" + inspect.getsource(factor.function)))
            except (OSError, TypeError):
                parts.append(repr(factor))
    return "\n\n".join(dict.fromkeys(parts)) or None


def _estimates(name: str, fit: Fit, level: float = 0.95) -> Section:
    summary = fit.summary(level)
    shown = tables.in_words(summary, level)
    copies = {"CSV": tables.csv(summary, level), "LaTeX": tables.latex(shown)}
    tests: list[Section] = []
    if fit.passed and not fit._penalized and fit._covariance is not None:
        words = tables.in_words(wald(fit), level)
        tests = [Section("z and p of every entry (Wald)", table=words)]
    return Section(
        f"Estimates: {name}", table=shown, figure=plot_forest(fit, level=level), copies=copies,
        beside=True, folded=tests,
    )  # fmt: skip


def _networks(name: str, fit: Fit) -> list[Section]:
    """A network of each symmetric matrix of three rows or more."""
    densities = fit.density if isinstance(fit.density, list) else [fit.density]
    listed = set(fit.summary().index.get_level_values(0))
    found = {}
    for p in densities:
        for parameter, support in p.supports.items():
            large = isinstance(support, Matrix) and np.shape(p.parameters[parameter])[-1] > 2
            if large and np.ndim(p.parameters[parameter]) == 2 and parameter in listed:
                found[parameter] = plot_network(fit, parameter)
    return [
        Section(f"Network of {parameter}: {name}", figure=figure)
        for parameter, figure in found.items()
    ]


def _predictive(name: str, fit: Fit) -> Section:
    """Data against simulations, or why there are none."""
    heading = f"Data against simulations: {name}"
    if isinstance(fit.density, list):
        return Section(heading, "Not drawn for a fit of several data sets.")
    if not fit.converged:
        return Section(heading, "Not drawn, because the fit did not converge.")
    try:
        figure: Figure = plot_predictive(fit, replicates=50, seed=fit.seed, progress=False)
    except ValueError as reason:
        return Section(heading, f"Not drawn. {reason}")
    words = (
        "Data sets of the same size, drawn from the fit. Data outside a band are what the fit does "
        "not explain."
    )
    return Section(heading, words, figure=figure)


def _details(fit: Fit) -> list[Section]:
    """How the fit was made: the call, the options, the versions, the history."""
    facts = {"seed": str(fit.seed), **{name: version for name, version in provenance().items()}}
    parts = [Section("How it was made", code=call_of(fit), facts=facts)]
    if np.isfinite(np.asarray(fit.history, float)).any():
        parts.append(Section("History of the optimizer", figure=plot_training(fit)))
    return parts


def call_of(fit: Fit) -> str:
    """The call that makes this fit again, with `data` for the data."""
    if fit._origin is None or isinstance(fit.density, list):
        return f"# objective {fit.objective}, seed {fit.seed}; the fit was loaded or is joint"
    problem = fit._origin.problem
    options: dict[str, Any] = {
        "steps": problem.steps,
        "batch_size": problem.batch_size,
        "restarts": problem.restarts or None,
        "seed": fit.seed,
    }
    given = [f"{key}={value!r}" for key, value in options.items() if value is not None]
    named = {
        "sampling_weights": problem.weights,
        "cluster": problem.clusters,
        "optimizer": problem.optimizer,
        "held_out": problem.held_out,
        "callback": problem.callback,
    }
    given += [f"{key}=..." for key, value in named.items() if value is not None]
    given += ["penalty or prior=..."] if fit._penalized else []
    return f"un.fit({fit.density.name}, data, {_method(problem.objective)}, {', '.join(given)})"


def _method(objective: Any) -> str:
    """An objective as it is written, shortened."""
    text = " ".join(repr(objective).split())
    return text if len(text) < 400 else repr(registry_name(type(objective)))
