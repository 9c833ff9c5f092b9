"""The loss of a fit as a function of one flat vector: all that is estimated, the free parameters
and the objective's nuisance parameters.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial

from unnorm.core.compilation.policy import compiled
from unnorm.fitting.base import HasRowScores, ObjectiveState, ProvidesStart
from unnorm.numerics.newton import NewtonOptions, hessian


def parameters_of(density: Any, state: ObjectiveState) -> tuple[jax.Array, Callable]:
    """All that is estimated as one vector, and the function back to (free, nuisance)."""
    return ravel_pytree((density.free(), state.nuisance))


def lasso_strengths(density: Any, state: ObjectiveState) -> jax.Array | None:
    """The lasso's strengths along the vector of all that is estimated; None without one."""
    if state.penalty is None or not state.penalty.lasso:
        return None
    return state.penalty.strengths(density, state.nuisance)


@compiled
def _vector(density: Any, nuisance: Any) -> jax.Array:
    return ravel_pytree((density.free(), nuisance))[0]


@compiled
def _unravel(density: Any, nuisance: Any, vector: jax.Array) -> tuple[dict, dict]:
    return ravel_pytree((density.free(), nuisance))[1](vector)


class Loss(NamedTuple):
    """An objective on a density and its data, as a function of the flat vector.

    A pytree, so that it is passed to compiled functions as a whole. `density` and `state` hold the
    vector at which the loss stands.
    """

    objective: Any
    density: Any
    state: ObjectiveState
    events: dict[str, Any]

    @property
    def vector(self) -> jax.Array:
        """The vector at which the loss stands."""
        return _vector(self.density, self.state.nuisance)

    def unravel(self, vector: jax.Array) -> tuple[dict[str, Any], dict[str, Any]]:
        """The free parameters and the nuisance parameters of a vector."""
        return _unravel(self.density, self.state.nuisance, vector)

    @property
    def parts(self) -> Partial:
        """`unravel` as an argument of compiled functions."""
        return Partial(_unravel, self.density, self.state.nuisance)

    def free_at(self, vector: jax.Array) -> dict[str, Any]:
        """The free parameters of a vector."""
        return self.unravel(vector)[0]

    def at(self, vector: jax.Array) -> "Loss":
        """The same loss, standing at this vector."""
        free, nuisance = self.unravel(vector)
        return self._replace(
            density=self.density.at(free), state=self.state._replace(nuisance=nuisance)
        )

    def start(self) -> Any:
        """The density where the objective starts: at parameters that it brings, or as it stands."""
        brings = isinstance(self.objective, ProvidesStart)
        found = self.objective.start_values(self.state) if brings else None
        return self.density.at(self.density.free() if found is None else found)

    def rows(self, vector: jax.Array) -> jax.Array:
        """The loss of every row, without weights and penalties."""
        _, density, state, events = self.at(vector)
        return self.objective.losses(density, state._replace(weights=None), events)

    def mean(self, vector: jax.Array) -> jax.Array:
        """The weighted mean over the rows plus the smooth penalties: all but the lasso's."""
        values, state = self.rows(vector), self.state
        mean = values.mean() if state.weights is None else (state.weights * values).mean()
        if state.penalty is None:
            return mean
        return mean + state.penalty.of_free(self.density, self.free_at(vector))

    @property
    def lasso(self) -> jax.Array | None:
        """The lasso's strengths along the vector; None without one."""
        return lasso_strengths(self.density, self.state)

    def penalized(self, vector: jax.Array) -> jax.Array:
        """What is minimized: the mean loss with all penalties."""
        strengths, smooth = self.lasso, self.mean(vector)
        return smooth if strengths is None else smooth + strengths @ jnp.abs(vector)

    def coordinate_names(self) -> list[str]:
        """A name for every coordinate of the vector, for messages."""
        return [
            jax.tree_util.keystr(path, simple=True, separator=".")
            + (f"[{', '.join(map(str, index))}]" if index else "")
            for part in (self.density.free(), self.state.nuisance)
            for path, leaf in jax.tree_util.tree_leaves_with_path(part)
            for index in np.ndindex(np.shape(leaf))
        ]

    def has_few_parameters(self, limit: int = NewtonOptions.parameters) -> bool:
        """Whether a Hessian saves more than it costs."""
        return self.vector.size <= limit


@compiled
def penalty_slope(density: Any, state: ObjectiveState) -> jax.Array:
    """The gradient of the smooth penalties along the vector of all that is estimated."""
    vector, unravel = parameters_of(density, state)
    if state.penalty is None:
        return jnp.zeros_like(vector)
    return jax.grad(lambda v: state.penalty.of_free(density, unravel(v)[0]))(vector)


def row_scores(loss: Loss, vector: jax.Array) -> jax.Array:
    """The score ψ of every row, (n, p), some rows at a time to bound memory."""
    objective, density, state, events = loss
    if isinstance(objective, HasRowScores):
        return objective.row_scores(density, state, events, vector)
    if objective.traits.couples_rows:
        return jax.jacfwd(loss.rows)(vector)

    def one(given):
        row, event = jax.tree.map(lambda leaf: leaf[None], given)
        of_row = loss._replace(state=state._replace(per_row=row), events=event)
        return jax.grad(lambda v: of_row.rows(v)[0])(vector)

    together = objective.row_batch_size(density, state)
    return jax.lax.map(one, (state.per_row, events), batch_size=together)


@compiled
def scores_and_curvature(loss: Loss) -> tuple[jax.Array, jax.Array]:
    """ψ of every row, (n, p), and H, where the loss stands."""
    psi, weights = row_scores(loss, loss.vector), loss.state.weights
    psi = psi if weights is None else weights[:, None] * psi
    return psi, hessian(loss.mean, loss.vector)


def score_function(density) -> Callable[[dict], jax.Array]:
    """Return ∇ log p̃ of one event in the free parameters, as one vector."""
    vector, unravel = ravel_pytree(density.free())
    return lambda event: jax.grad(lambda v: density.at(unravel(v)).log_density(event))(vector)


@compiled
def scores_at(density, events) -> jax.Array:
    """Return ∇ log p̃ in the free parameters at every event, (n, p)."""
    return jax.vmap(score_function(density))(events)


__all__ = [
    "Loss",
    "NewtonOptions",
    "hessian",
    "lasso_strengths",
    "parameters_of",
    "penalty_slope",
    "row_scores",
    "score_function",
    "scores_and_curvature",
    "scores_at",
]
