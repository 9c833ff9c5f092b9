"""The strengths of a lasso's path, and where the fit ends at each."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.compilation.policy import compiled
from unnorm.core.random_keys import make_key
from unnorm.fitting.base import HasClosedForm, Stochastic
from unnorm.fitting.loss import Loss
from unnorm.fitting.penalties.terms import Penalties
from unnorm.fitting.problem import Problem
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


def follow_strengths(
    problem: Problem, options: PathOptions = DEFAULTS
) -> tuple[np.ndarray, list[Convergence]]:
    """The strengths, and where the fit ends at each."""
    _refuse(problem)
    objective, penalties = problem.objective, problem.penalty
    loss = dataclasses.replace(problem, penalty=None).loss(make_key(problem.seed))
    loss = loss._replace(density=loss.start())
    if isinstance(objective, HasClosedForm):
        loss = loss._replace(state=objective.prepare_path(*loss[1:]))
    grid = np.asarray(penalties.grid)
    if not grid.size:
        largest, loss = _largest_strength(penalties, loss, options)
        grid = np.geomspace(largest, options.smallest * largest, options.strengths)
    ends = []
    for strength in grid:
        found = minimize(at_strength(loss, penalties, strength))
        loss = found.at
        ends.append(found._replace(loss=mean_without_penalties(loss)))
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


def at_strength(loss: Loss, penalties: Penalties, strength: Any) -> Loss:
    """The loss with the penalties at this strength."""
    dtype = jax.tree.leaves(loss.density.free())[0].dtype
    penalty = penalties.at(jnp.asarray(strength, dtype))
    return loss._replace(state=loss.state._replace(penalty=penalty))


def _largest_strength(penalties: Penalties, loss: Loss, options: PathOptions) -> tuple[float, Loss]:
    """The smallest strength at which every entry of the path is zero, and the loss there."""
    slopes = _slopes(at_strength(loss, penalties, 0.0))
    ample = options.ample * (1 + float(jnp.max(jnp.abs(slopes))))
    there = minimize(at_strength(loss, penalties, ample)).at
    one = at_strength(there, penalties, 1.0).state.penalty
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
def mean_without_penalties(loss: Loss) -> jax.Array:
    """The mean loss without penalties."""
    return loss._replace(state=loss.state._replace(penalty=None)).mean(loss.vector)
