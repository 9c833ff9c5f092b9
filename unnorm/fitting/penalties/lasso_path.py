"""Fits along a path of lasso strengths, each from where the last one ended; and what `un.path`
returns.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from unnorm.core.compilation.policy import compiled
from unnorm.core.findings import ERROR, NOTE, WARNING, Finding, FindingCode, Result
from unnorm.core.messages import table_text
from unnorm.core.method import registry_name
from unnorm.core.random_keys import make_key
from unnorm.fitting.base import HasClosedForm, Stochastic, start_values
from unnorm.fitting.data import event_size
from unnorm.fitting.inference.sandwich import entries
from unnorm.fitting.loss import Loss
from unnorm.fitting.penalties.refit import refit_kept
from unnorm.fitting.penalties.terms import Penalties
from unnorm.fitting.problem import Problem
from unnorm.fitting.procedures.minimize import fit_by_minimization
from unnorm.fitting.results.assemble import assemble
from unnorm.fitting.results.entries import entry_labels
from unnorm.fitting.results.fit import Fit
from unnorm.fitting.solvers.minimize import minimize


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


@dataclass(frozen=True, repr=False, eq=False)
class Path(Result):
    """Fits along a path of lasso strengths.

    Attributes:
        coefficients: a DataFrame, one row for each strength (largest first), one column for each
            listed entry.
        extended_bic: 2 n loss + df log n + 4 γ df log p by strength; NaN where the loss is
            no likelihood.
        losses: the mean loss by strength, without penalties.
        best: the `Fit` at the smallest extended BIC, or None where there is none.
        penalised: the columns that the path moves.
    """

    coefficients: pd.DataFrame
    extended_bic: pd.Series
    losses: pd.Series
    best: Fit | None
    penalised: list[str]
    name: str
    objective: str
    findings: list[Finding] = field(default_factory=list)
    _ends: Any = None  # (problem, losses at the end of each strength)

    def refit(self, strength: float | None = None) -> Fit:
        """Fit the entries that the lasso kept again, without its shrinkage.

        θ̂ minimizes the mean loss with the lasso's zeros held; its standard errors do not count
        that the same data chose them, which a finding says.

        Args:
            strength: one of the path's; None: that of `best`.

        Returns:
            A `Fit`; the entries held at zero have the standard error 0.

        Raises:
            ValueError: a strength that is not on the path; None where there is no `best`.

        References:
            Belloni and Chernozhukov (2013), doi:10.3150/11-BEJ410.
        """
        grid = self.coefficients.index.to_numpy()
        if strength is None and self.best is None:
            raise ValueError(
                "refit was called without a strength, and the path has no best fit; expected a "
                "strength of the path; pass one of path.coefficients.index."
            )
        chosen = self.extended_bic.idxmin() if strength is None else strength
        at = int(np.argmin(np.abs(grid - chosen)))
        if not np.isclose(grid[at], chosen, rtol=1e-6):
            raise ValueError(
                f"strength is {strength!r}, which is not on the path; the nearest is "
                f"{grid[at]:.6g}; pass that one."
            )
        problem, losses = self._ends
        with jax.enable_x64(problem.is_double):
            fit = assemble(refit_kept(problem, losses[at], float(grid[at])))
        target = f"{problem.objective.target}, the zeros of the lasso held"
        return dataclasses.replace(fit, target=target)

    def _nonzero(self) -> pd.Series:
        return (self.coefficients[self.penalised] != 0).sum(axis=1)

    def __repr__(self) -> str:
        strengths = self.coefficients.index
        ends = f"{len(strengths)} strengths from {strengths[0]:.4g} to {strengths[-1]:.4g}"
        heading = f"Path of {self.name} by {self.objective}: {ends}"
        if self.best is None:
            return heading
        at = self.extended_bic.idxmin()
        size = f"{self._nonzero()[at]} of {len(self.penalised)} entries"
        return f"{heading}, best at {at:.4g} with {size}"

    def __str__(self) -> str:
        columns = {
            "nonzero": self._nonzero(),
            "loss": self.losses,
            "extended_bic": self.extended_bic,
        }
        table = pd.DataFrame(columns)
        table = table.set_axis([f"{at:.4g}" for at in self.coefficients.index])
        notes = [self._findings_text()] if self.findings else []
        return "\n".join(
            [repr(self), table_text(table.rename_axis("strength"), "strength"), *notes]
        )


def lasso_path(problem: Problem, options: PathOptions = PathOptions()) -> Path:
    """Follow the path of a problem whose `penalty` has a grid, from the largest strength to the
    smallest.
    """
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
        found = minimize(_penalized_by(loss, penalties, strength))
        loss = found.at
        ends.append(found._replace(loss=_unpenalized(loss)))
        problem.shown.step(1 / len(grid), f"strength {strength:.3g}")
    return _path(problem, grid, ends, options)


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


def _penalized_by(loss: Loss, penalties: Penalties, strength: Any) -> Loss:
    dtype = jax.tree.leaves(loss.density.free())[0].dtype
    penalty = penalties.at(jnp.asarray(strength, dtype))
    return loss._replace(state=loss.state._replace(penalty=penalty))


def _largest_strength(penalties: Penalties, loss: Loss, options: PathOptions) -> tuple[float, Loss]:
    """The smallest strength at which every entry of the path is zero, and the loss there."""
    slopes = _slopes(_penalized_by(loss, penalties, 0.0))
    ample = options.ample * (1 + float(jnp.max(jnp.abs(slopes))))
    there = minimize(_penalized_by(loss, penalties, ample)).at
    one = _penalized_by(there, penalties, 1.0).state.penalty
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
def _unpenalized(loss: Loss) -> jax.Array:
    """The mean loss without penalties."""
    return loss._replace(state=loss.state._replace(penalty=None)).mean(loss.vector)


def _path(problem: Problem, grid: np.ndarray, ends: list, options: PathOptions) -> Path:
    """The path in the user's terms, and the fit at its smallest extended BIC."""
    objective, findings = problem.objective, problem.findings
    rows = [entries(end.at, end.vector)[0] for end in ends]
    index = pd.Index(grid, name="strength")
    labels, penalized = _labels(problem)
    coefficients = pd.DataFrame(np.array(rows), index=index, columns=labels)
    losses = pd.Series([float(end.loss) for end in ends], index, name="loss")
    df, n = (coefficients[penalized] != 0).sum(axis=1), problem.rows
    per_entry = 4 * problem.penalty.gamma * df * np.log(event_size(problem.density))
    bic = 2 * n * losses + df * np.log(n) + per_entry
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
    kept = problem, [end.at for end in ends]
    return Path(coefficients, bic, losses, best, penalized, problem.p.name, name, findings, kept)


def _convergence_findings(grid: np.ndarray, ends: list) -> list[Finding]:
    stopped = [f"{at:.4g}" for at, end in zip(grid, ends, strict=True) if not end.converged]
    if not stopped:
        return []
    what = f"the optimizer did not reach a minimum at {len(stopped)} strengths ({stopped[0]} first)"
    advice = "look for parameters that run away, or raise the smallest strength"
    return [Finding(what, advice, ERROR, code=FindingCode.NOT_CONVERGED)]


def _labels(problem: Problem) -> tuple[list[str], list[str]]:
    """The labels of all free entries, and of those whose strength the path moves."""
    p, labels = problem.p, entry_labels(problem.p)
    names = []
    for name, support in p.supports.items():
        shape = np.shape(p.parameters[name]) if support.shape_axes else ()
        names += [name] * len(support.entries(shape))
    moving = problem.penalty.moving
    return labels, [label for label, name in zip(labels, names, strict=True) if name in moving]


def _best(problem: Problem, loss: Loss, strength: float) -> Fit:
    penalty = _penalized_by(loss, problem.penalty, strength).state.penalty
    at = dataclasses.replace(problem, penalty=penalty, density=loss.density, findings=[])
    return assemble(fit_by_minimization(at))
