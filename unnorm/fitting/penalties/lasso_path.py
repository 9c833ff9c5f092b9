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

from unnorm.core.findings import ERROR, NOTE, WARNING, Finding, FindingCode, Result
from unnorm.core.messages import printed
from unnorm.core.method import registry_name
from unnorm.fitting.base import HasClosedForm, Stochastic, start_values
from unnorm.fitting.inference.sandwich import entries
from unnorm.fitting.objectives.auxiliary_noise import event_size
from unnorm.fitting.penalties.penalized_fit import described
from unnorm.fitting.problem import Problem
from unnorm.fitting.results.fit import Fit
from unnorm.fitting.solvers.minimize import minimised
from unnorm.fitting.solvers.newton import lasso_strengths, mean_loss, parameters_of
from unnorm.fitting.solvers.refresh import settled

STRENGTHS, SMALLEST = 30, 0.01  # of the default grid; its last strength as a share of the first
GAMMA = 0.5  # of the extended BIC
_AMPLE = 1e10  # times the largest slope at the start: a strength at which every entry is zero


@dataclass(repr=False)
class Path(Result):
    """Fits along a path of lasso strengths.

    Attributes:
        coefficients: a DataFrame, one row for each strength (largest first), one column for each
            listed entry.
        extended_bic: 2 n loss + df log n + 4 γ df log p by strength, γ = 1/2; NaN where the loss is
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

    def _nonzero(self) -> pd.Series:
        return (self.coefficients[self.penalised] != 0).sum(axis=1)

    def __repr__(self) -> str:
        strengths = self.coefficients.index
        ends = f"{len(strengths)} strengths from {strengths[0]:.4g} to {strengths[-1]:.4g}"
        told = f"Path of {self.name} by {self.objective}: {ends}"
        if self.best is None:
            return told
        at = self.extended_bic.idxmin()
        return (
            f"{told}, best at {at:.4g} with {self._nonzero()[at]} of {len(self.penalised)} entries"
        )

    def __str__(self) -> str:
        columns = {
            "nonzero": self._nonzero(),
            "loss": self.losses,
            "extended_bic": self.extended_bic,
        }
        table = pd.DataFrame(columns)
        table = table.set_axis([f"{at:.4g}" for at in self.coefficients.index])
        told = [self._findings_text()] if self.findings else []
        return "\n".join([repr(self), printed(table.rename_axis("strength"), "strength"), *told])


def along(problem: Problem) -> Path:
    """Follow the path of a problem whose `penalty` has a grid, from the largest strength to the
    smallest.
    """
    objective, events, penalties = problem.objective, problem.events, problem.penalty
    if isinstance(objective, Stochastic):
        raise ValueError(
            f"{type(objective).__name__}, which has a sampler, was given to un.path; expected an "
            "objective with a "
            "loss; use un.objectives.PseudoLikelihood, ScoreMatching, NCE or MaximumLikelihood, "
            "or un.fit at each "
            "strength."
        )
    if problem.restarts:
        raise ValueError(
            f"restarts is {problem.restarts} and a path starts where its last strength ended; "
            "expected 0; leave "
            "restarts out."
        )
    state = dataclasses.replace(problem, penalty=None).prepared(jax.random.key(problem.seed))
    density = problem.density.at(start_values(objective, problem.density, state))
    if isinstance(objective, HasClosedForm):
        state = objective.prepare_path(density, state, events)
    grid = np.asarray(penalties.grid)
    if not grid.size:
        largest, density, state = _largest_strength(problem, density, state)
        grid = np.geomspace(largest, SMALLEST * largest, STRENGTHS)
    ends = []
    for strength in grid:
        state = state._replace(penalty=penalties.at(jnp.asarray(strength, _dtype(density))))
        found = settled(objective, density, state, events)
        density, state = found.density, found.state
        ends.append(found._replace(loss=_loss(objective, density, state, events)))
        problem.shown.step(1 / len(grid), f"strength {strength:.3g}")
    return _told(problem, grid, ends)


def _dtype(density) -> Any:
    return jax.tree.leaves(density.free())[0].dtype


def _largest_strength(problem: Problem, density, state):
    """The smallest strength at which every entry of the path is zero, and the fit there."""
    objective, events, penalties = problem.objective, problem.events, problem.penalty
    moving = dataclasses.replace(penalties.at(jnp.ones((), _dtype(density))), ridge={}, priors={})
    moving = dataclasses.replace(
        moving, lasso={name: moving.lasso[name] for name in penalties.moving}
    )
    none = state._replace(penalty=penalties.at(jnp.zeros((), _dtype(density))))
    ample = _AMPLE * (1 + float(jnp.max(jnp.abs(_slopes(objective, density, none, events)))))
    there = state._replace(penalty=penalties.at(jnp.asarray(ample, _dtype(density))))
    found = settled(objective, density, there, events)
    chosen = np.asarray(lasso_strengths(found.density, found.state._replace(penalty=moving))) > 0
    largest = float(
        np.abs(np.asarray(_slopes(objective, found.density, found.state, events)))[chosen].max()
    )
    if not np.isfinite(largest) or largest <= 0:
        raise ValueError(
            f"The loss of {type(objective).__name__} has the slope {largest} in "
            f"{', '.join(penalties.moving)} where "
            "they are zero; expected a finite number above 0, from which a path starts; pass the "
            "strengths, or check "
            "that the density depends on these parameters there."
        )
    return (
        largest * (1 + 1e-10),
        found.density,
        found.state,
    )  # so that rounding leaves every entry at zero


@jax.jit
def _slopes(objective, density, state, events) -> jax.Array:
    """The gradient of all but the lasso."""
    return jax.grad(lambda v: mean_loss(objective, density, state, events, v))(
        parameters_of(density, state)[0]
    )


@jax.jit
def _loss(objective, density, state, events) -> jax.Array:
    """The mean loss without penalties."""
    return mean_loss(
        objective, density, state._replace(penalty=None), events, parameters_of(density, state)[0]
    )


def _told(problem: Problem, grid: np.ndarray, ends: list) -> Path:
    """The path in the user's terms, and the fit at its smallest extended BIC."""
    objective, findings = problem.objective, problem.findings
    rows = [
        entries(e.density, lambda v, e=e: parameters_of(e.density, e.state)[1](v)[0], e.vector)[0]
        for e in ends
    ]
    index = pd.Index(grid, name="strength")
    labels, penalised = _labels(problem)
    coefficients = pd.DataFrame(np.array(rows), index=index, columns=labels)
    losses = pd.Series([float(end.loss) for end in ends], index, name="loss")
    df, n = (coefficients[penalised] != 0).sum(axis=1), problem.rows
    bic = 2 * n * losses + df * np.log(n) + 4 * GAMMA * df * np.log(event_size(problem.density))
    best = None
    stopped = [
        f"{strength:.4g}" for strength, end in zip(grid, ends, strict=True) if not end.settled
    ]
    if stopped:
        what = f"the optimiser did not reach a minimum at {len(stopped)} strengths ({stopped[0]} first)"
        findings.append(
            Finding(
                what,
                "look for parameters that run away, or raise the smallest strength",
                ERROR,
                code=FindingCode.NOT_CONVERGED,
            )
        )
    if objective.traits.is_deviance:
        at = int(np.argmin(bic))
        best = _best(problem, ends[at], grid[at])
        if at == len(grid) - 1 and len(grid) > 1:
            what = f"the extended BIC is smallest at the smallest strength, {grid[at]:.4g}"
            findings.append(
                Finding(what, "pass smaller strengths too", WARNING, code=FindingCode.GRID_END)
            )
    else:
        bic = bic * np.nan
        what = f"{type(objective).__name__} has no likelihood whose values compare, so there is no extended BIC"
        findings.append(
            Finding(what, "choose by held-out data, or use un.objectives.PseudoLikelihood", NOTE)
        )
    bic = bic.rename("extended_bic")
    name = registry_name(type(objective))
    return Path(coefficients, bic, losses, best, penalised, problem.p.name, name, findings)


def _labels(problem: Problem) -> tuple[list[str], list[str]]:
    """The labels of all listed entries, and of those whose strength the path moves."""
    blank = Fit(problem.p, "", "", False, None, np.zeros(0), 0, 0)
    labels = blank._labels()
    of = [
        name
        for name, s in problem.p.supports.items()
        for _ in s.entries(_shape(problem.p, name, s))
    ]
    return labels, [
        label for label, name in zip(labels, of, strict=True) if name in problem.penalty.moving
    ]


def _shape(p, name: str, support) -> tuple[int, ...]:
    return np.shape(p.parameters[name]) if support.shape_axes else ()


def _best(problem: Problem, end, strength: float) -> Fit:
    penalties = problem.penalty.at(jnp.asarray(strength, _dtype(end.density)))
    chosen = dataclasses.replace(problem, penalty=penalties, density=end.density, findings=[])
    return described(minimised(chosen), penalties)
