"""What objectives with random draws for every row share: functions of them, and their part of the
covariance.

Projections, corruptions and noise points are drawn once, row by row, and enter ψ_i, so that the
sandwich's J counts them.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from unnorm.core.compilation.policy import compiled
from unnorm.fitting.loss import Loss, row_scores


def refuse_bounds(objective: str, why: str, density) -> str | None:
    """Return why an objective that moves the data in all directions does not serve a density, as a
    sentence, or None.
    """
    for name, support in density.variables.items():
        if support.score_matching not in ("plain", "circle"):
            alone = all(one.states for one in density.variables.values())
            other = (
                "PseudoLikelihood"
                if support.states and alone
                else "ScoreMatching"
                if support.score_matching and not support.states
                else "NCE"
            )
            return (
                f"{objective} {why}, and {name} is {support!r}; expected Real or Circle; use "
                f"un.objectives.{other}"
            )
    return None


def label_names(density, max_states: int = 1024) -> tuple[str, ...]:
    """Return the variables of few joint states beside continuous ones; none where all are alike."""
    labels = {name: s for name, s in density.variables.items() if s.states is not None}
    if len(labels) == len(density.variables) or hasattr(density, "factors"):
        return ()
    shapes = density.shapes()
    count = math.prod(len(s.states) ** math.prod(shapes[name]) for name, s in labels.items())
    plain = all(s.free_shape(shapes[name]) == shapes[name] for name, s in labels.items())
    return tuple(labels) if plain and count <= max_states else ()


def refuse_one_row(objective, events: dict) -> None:
    """Refuse data of one row, such as a graph, for an objective that learns from how rows vary."""
    if len(next(iter(events.values()))) == 1:
        raise ValueError(
            f"data has 1 row; {type(objective).__name__} expects at least 2, because it learns "
            "from how rows vary; pass more rows, or fit one observed lattice or graph by "
            "un.objectives.PseudoLikelihood."
        )


def point_of(density, event: dict) -> tuple[jax.Array, Any]:
    """Return the variables of one event as one vector, and log p̃ as a function of it."""
    point, unravel = ravel_pytree({name: event[name] for name in density.variables})
    return point, lambda x: density.log_density(event | unravel(x))


def at_draws(function: Callable, events: dict, draws: Any) -> jax.Array:
    """Return function(event, draw) at every draw of every row, (n, m), computed as one batch."""
    rows, each = jax.tree.leaves(draws)[0].shape[:2]
    repeated = jax.tree.map(lambda leaf: jnp.repeat(leaf, each, 0), events)
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), draws)
    return jax.vmap(function)(repeated, flat).reshape(rows, each)


def draw_directions(kind: str, key: jax.Array, shape: tuple[int, ...], dtype) -> jax.Array:
    """Draw directions v with E[vv'] = I."""
    return {"rademacher": jax.random.rademacher, "gaussian": jax.random.normal}[kind](
        key, shape, dtype
    )


def shift_draws(draws: Any) -> Any:
    """Give every row the draws of its neighbour, which are as good as its own: draws do not depend
    on rows.
    """
    return jax.tree.map(lambda leaf: jnp.roll(leaf, 1, 0), draws)


@compiled
def draw_variance(objective, density, state, events, shifted) -> jax.Array:
    """Return E[Var(ψ | x)], the part of Cov(ψ) that other draws would change.

    Half the squared difference to the score with a neighbour's draws is unbiased; `shifted` is the
    state with `shift_draws`.
    """
    loss = Loss(objective, density, state, events)
    psi = row_scores(loss, loss.vector)
    difference = psi - row_scores(loss._replace(state=shifted), loss.vector)
    difference = difference if state.weights is None else state.weights[:, None] * difference
    return difference.T @ difference / (2 * len(psi))
