"""Fits along a path of lasso strengths, each from where the last one ended, and the one that the
extended BIC chooses.
"""

import dataclasses
import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from unnorm.core.compilation.policy import compiled
from unnorm.core.findings import ERROR, NOTE, WARNING, Finding, FindingCode
from unnorm.core.method import registry_name
from unnorm.core.progress import Bar
from unnorm.core.random_keys import fold_in, make_key
from unnorm.fitting.base import HasClosedForm, Stochastic, start_values
from unnorm.fitting.data.read import event_size
from unnorm.fitting.edge_stability.result import EdgeStability
from unnorm.fitting.edge_stability.stability import stability_of
from unnorm.fitting.inference.delta_method import entries
from unnorm.fitting.loss import Loss
from unnorm.fitting.penalties.path_result import Path
from unnorm.fitting.penalties.refit import refit_kept
from unnorm.fitting.penalties.terms import Penalties
from unnorm.fitting.problem import Problem
from unnorm.fitting.procedures.minimize import fit_by_minimization
from unnorm.fitting.results.assemble import assemble
from unnorm.fitting.results.entries import entry_labels
from unnorm.fitting.results.fit import Fit
from unnorm.fitting.solvers.minimize import Convergence, minimize


@dataclass(frozen=True)
class PathOptions:
    """The default grid of strengths and the criterion.

    Attributes:
        strengths: of the default grid.
        smallest: its last strength, relative to the first.
        ample: times the largest slope at the start: a strength at which every entry is zero.
    """

    strengths: int = 30
    smallest: float = 0.01
    ample: float = 1e10


DEFAULTS = PathOptions()


def lasso_path(problem: Problem) -> Path:
    """Follow the path of a problem whose `penalty` has a grid, from the largest strength to the
    smallest.
    """
    grid, ends = _follow(problem)
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
    penalty = _at_strength(loss, problem.penalty, strength).state.penalty
    at = dataclasses.replace(problem, penalty=penalty, density=loss.density, findings=[])
    return assemble(fit_by_minimization(at))


def _follow(
    problem: Problem, options: PathOptions = DEFAULTS
) -> tuple[np.ndarray, list[Convergence]]:
    """The strengths, and where the fit ends at each."""
    _refuse(problem)
    objective, penalties = problem.objective, problem.penalty
    loss = dataclasses.replace(problem, penalty=None).loss(make_key(problem.seed))
    start = loss.density.at(start_values(objective, loss.density, loss.state))
    loss = loss._replace(density=start)
    if isinstance(objective, HasClosedForm):
        loss = loss._replace(state=objective.prepare_path(*loss[1:]))
    grid = np.asarray(penalties.grid)
    if not grid.size:
        largest, loss = _largest_strength(penalties, loss, options)
        grid = np.geomspace(largest, options.smallest * largest, options.strengths)
    ends = []
    for strength in grid:
        found = minimize(_at_strength(loss, penalties, strength))
        loss = found.at
        ends.append(found._replace(loss=_mean_without_penalties(loss)))
        problem.shown.step(1 / len(grid), f"strength {strength:.3g}")
    return grid, ends


def _refuse(problem: Problem) -> None:
    if isinstance(problem.objective, Stochastic):
        raise ValueError(
            f"{type(problem.objective).__name__}, which draws samples, was given to un.path; "
            "expected an objective with a loss; use un.objectives.PseudoLikelihood, "
            "ScoreMatching, NCE or MaximumLikelihood, or un.fit at each strength."
        )
    if problem.restarts:
        raise ValueError(
            f"restarts is {problem.restarts} and a path starts each strength at the estimate of "
            "the last; expected 0; leave restarts out."
        )


def _at_strength(loss: Loss, penalties: Penalties, strength: Any) -> Loss:
    """The loss with the penalties at this strength."""
    dtype = jax.tree.leaves(loss.density.free())[0].dtype
    penalty = penalties.at(jnp.asarray(strength, dtype))
    return loss._replace(state=loss.state._replace(penalty=penalty))


def _largest_strength(penalties: Penalties, loss: Loss, options: PathOptions) -> tuple[float, Loss]:
    """The smallest strength at which every entry of the path is zero, and the loss there."""
    slopes = _slopes(_at_strength(loss, penalties, 0.0))
    ample = options.ample * (1 + float(jnp.max(jnp.abs(slopes))))
    there = minimize(_at_strength(loss, penalties, ample)).at
    one = _at_strength(there, penalties, 1.0).state.penalty
    moving = dataclasses.replace(
        one, ridge={}, priors={}, lasso={name: one.lasso[name] for name in penalties.moving}
    )
    chosen = np.asarray(there._replace(state=there.state._replace(penalty=moving)).lasso) > 0
    largest = float(np.abs(np.asarray(_slopes(there)))[chosen].max())
    if not np.isfinite(largest) or largest <= 0:
        raise ValueError(
            f"The loss of {type(loss.objective).__name__} has the slope {largest} in "
            f"{', '.join(penalties.moving)} where they are zero; expected a finite positive "
            "number, at which a path starts; pass the strengths, or check that the density "
            "depends on these parameters there."
        )
    return largest * (1 + 1e-10), there  # so that rounding leaves every entry at zero


@compiled
def _slopes(loss: Loss) -> jax.Array:
    """The gradient of all but the lasso."""
    return jax.grad(loss.mean)(loss.vector)


@compiled
def _mean_without_penalties(loss: Loss) -> jax.Array:
    """The mean loss without penalties."""
    return loss._replace(state=loss.state._replace(penalty=None)).mean(loss.vector)


def _extended_bic(problem: Problem, losses: pd.Series, df: pd.Series) -> pd.Series:
    """2 n loss + df log n + 4 γ df log p."""
    n, size = problem.rows, event_size(problem.density)
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
    return pd.DataFrame(np.reshape(found, (len(found), len(columns))), columns=columns), np.array(
        finite
    )


def _best_entries(problem: Problem) -> np.ndarray | None:
    """The listed entries at the smallest extended BIC; None where the path has not converged."""
    try:
        ends = _follow(problem)[1]
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
