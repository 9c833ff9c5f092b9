"""Fits along a path of lasso strengths, each from where the last one ended, and the one that the
extended BIC chooses.
"""

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from unnorm.core.findings import ERROR, NOTE, WARNING, Finding, FindingCode
from unnorm.core.method import registry_name
from unnorm.core.progress import Bar
from unnorm.core.random_keys import fold_in
from unnorm.fitting.data.read import event_size
from unnorm.fitting.edge_stability.result import EdgeStability
from unnorm.fitting.edge_stability.stability import stability_of
from unnorm.fitting.inference.delta_method import entries
from unnorm.fitting.loss import Loss
from unnorm.fitting.penalties.path_result import Path
from unnorm.fitting.penalties.refit import refit_kept
from unnorm.fitting.penalties.strengths import at_strength, follow_strengths
from unnorm.fitting.problem import Problem
from unnorm.fitting.procedures.minimize import fit_by_minimization
from unnorm.fitting.results.assemble import assemble
from unnorm.fitting.results.entries import entry_labels
from unnorm.fitting.results.fit import Fit


def lasso_path(problem: Problem) -> Path:
    """Follow the path of a problem whose `penalty` has a grid, from the largest strength to the
    smallest.
    """
    grid, ends = follow_strengths(problem)
    return _path(problem, grid, ends)


def _path(problem: Problem, grid: np.ndarray, ends: list) -> Path:
    """The path in the user's terms, and the fit at its smallest extended BIC."""
    objective, findings = problem.objective, problem.findings
    rows = [entries(end.at, end.vector)[0] for end in ends]
    index = pd.Index(grid, name="strength")
    labels, penalized = _labels(problem)
    coefficients = pd.DataFrame(np.array(rows), index=index, columns=labels)
    losses = pd.Series([float(end.loss) for end in ends], index, name="loss")
    bic = _extended_bic(problem, losses, (coefficients[penalized] != 0).sum(axis=1))
    findings += _convergence_findings(grid, ends)
    best = None
    if objective.traits.is_deviance:
        at = int(np.argmin(bic))
        best = _best(problem, ends[at].at, grid[at])
        if at == len(grid) - 1 and len(grid) > 1:
            what = f"the extended BIC is smallest at the smallest strength, {grid[at]:.4g}"
            findings.append(
                Finding(what, "pass smaller strengths too", WARNING, code=FindingCode.GRID_END)
            )
    else:
        bic = bic * np.nan
        what = (
            f"{type(objective).__name__} has no comparable likelihood, so there is no extended BIC"
        )
        findings.append(
            Finding(what, "choose by held-out data, or use un.objectives.PseudoLikelihood", NOTE)
        )
    bic = bic.rename("extended_bic")
    name = registry_name(type(objective))
    again = (
        functools.partial(_without_lasso, problem, grid, [end.at for end in ends]),
        functools.partial(_edge_stability, problem, best),
    )
    head = coefficients, bic, losses, best, penalized, problem.p.name, name, findings
    return Path(*head, *again)


def _edge_stability(problem: Problem, best: Any, edges: str, *options: Any) -> EdgeStability:
    """The stability of the best fit's edges, each resample at a strength of its own."""
    refit = functools.partial(_best_of_rows, problem)
    return stability_of(best, problem, edges, refit, *options)


def _without_lasso(problem: Problem, grid: np.ndarray, losses: list[Loss], at: int) -> Fit:
    """The fit of the entries that one strength kept."""
    with jax.enable_x64(problem.is_double):
        fit = assemble(refit_kept(problem, losses[at], float(grid[at])))
    target = f"{problem.objective.target}, the zeros of the lasso held"
    return dataclasses.replace(fit, target=target)


def _convergence_findings(grid: np.ndarray, ends: list) -> list[Finding]:
    stopped = [f"{at:.4g}" for at, end in zip(grid, ends, strict=True) if not end.converged]
    if not stopped:
        return []
    what = f"the optimizer did not reach a minimum at {len(stopped)} strengths ({stopped[0]} first)"
    advice = "look for parameters that run away, or raise the smallest strength"
    return [Finding(what, advice, ERROR, code=FindingCode.NOT_CONVERGED)]


def _best(problem: Problem, loss: Loss, strength: float) -> Fit:
    penalty = at_strength(loss, problem.penalty, strength).state.penalty
    at = dataclasses.replace(problem, penalty=penalty, density=loss.density, findings=[])
    return assemble(fit_by_minimization(at))


def _extended_bic(problem: Problem, losses: pd.Series, df: pd.Series) -> pd.Series:
    """2 n loss + df log n + 4 γ df log p."""
    n, size = problem.rows, event_size(problem.density.shapes())
    return 2 * n * losses + df * np.log(n) + 4 * problem.penalty.gamma * df * np.log(size)


def _labels(problem: Problem) -> tuple[list[str], list[str]]:
    """The labels of all free entries, and of those whose strength the path moves."""
    p, labels = problem.p, entry_labels(problem.p)
    names = []
    for name, support in p.supports.items():
        shape = np.shape(p.parameters[name]) if support.shape_axes else ()
        names += [name] * len(support.entries(shape))
    moving = problem.penalty.moving
    return labels, [label for label, name in zip(labels, names, strict=True) if name in moving]


def _best_of_rows(
    problem: Problem, chosen: Iterable[np.ndarray], key: jax.Array
) -> tuple[pd.DataFrame, np.ndarray]:
    """The estimates at the smallest extended BIC from these rows, each time, a row for each path
    that converged; and which did.
    """
    found: list[np.ndarray] = []
    finite = []
    for number, rows in enumerate(chosen):
        events = jax.tree.map(lambda leaf: jnp.asarray(leaf)[rows], problem.events)  # noqa: B023
        again = dataclasses.replace(
            problem,
            events=events,
            seed=int(jax.random.bits(fold_in(key, number)) >> 1),
            shown=Bar(),
            penalty=problem.penalty.of_rows(len(rows)),
        )
        best = _best_entries(again)
        finite.append(best is not None)
        found += [] if best is None else [best]
    columns = entry_labels(problem.p)
    estimates = np.reshape(found, (len(found), len(columns)))
    return pd.DataFrame(estimates, columns=columns), np.array(finite)


def _best_entries(problem: Problem) -> np.ndarray | None:
    """The listed entries at the smallest extended BIC; None where the path has not converged."""
    try:
        ends = follow_strengths(problem)[1]
    except ValueError:  # the objective refuses these rows, or nothing depends on the parameters
        return None
    if not all(end.converged and np.isfinite(end.loss) for end in ends):
        return None
    rows = np.array([entries(end.at, end.vector)[0] for end in ends])
    labels, penalized = _labels(problem)
    moving = np.isin(labels, penalized)
    df = pd.Series((rows[:, moving] != 0).sum(1))
    losses = pd.Series([float(end.loss) for end in ends])
    return rows[_extended_bic(problem, losses, df).to_numpy().argmin()]
