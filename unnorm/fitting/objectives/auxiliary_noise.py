"""What objectives with frozen draws share: checks of their options, and the part of the covariance
that is the draws'.

Projections, corruptions and noise points are drawn once, row by row, and enter ψ_i: the sandwich's
J carries them.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from unnorm.fitting.inference.sandwich import row_scores
from unnorm.fitting.solvers.newton import parameters_of


def not_whole(name: str, value: Any, least: int = 1) -> str | None:
    """Why a count is none, as a sentence, or None."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if whole and value >= least:
        return None
    return f"{name} is {value!r}; expected an integer of at least {least}; pass such a one"


def not_positive(name: str, value: Any) -> str | None:
    """Why a length is none, as a sentence, or None."""
    try:
        good = (
            np.ndim(value) == 0 and not isinstance(value, bool) and np.isfinite(value) and value > 0
        )
    except TypeError:
        good = False
    return (
        None if good else f"{name} is {value!r}; expected a finite number above 0; pass such a one"
    )


def not_real(objective: str, why: str, density) -> str | None:
    """Why an objective that steps off the data in any direction does not serve a density, as a
    sentence, or None.
    """
    for name, support in density.variables.items():
        if support.score_matching not in ("plain", "circle"):
            other = (
                "PseudoLikelihood"
                if support.states
                else "ScoreMatching"
                if support.score_matching
                else "NCE"
            )
            return f"{objective} {why}, and {name} is {support!r}; expected Real or Circle; use un.objectives.{other}"
    return None


def refuse_one_row(objective, events: dict) -> None:
    """One lattice or graph is one row: conditionals fit it, an objective that compares rows does
    not.
    """
    if len(next(iter(events.values()))) == 1:
        raise ValueError(
            f"data has 1 row; {type(objective).__name__} expected at least 2, for it learns from "
            "how rows vary; pass "
            "more rows, or fit one observed lattice or graph by un.objectives.PseudoLikelihood."
        )


def point_of(density, event: dict) -> tuple[jax.Array, Any]:
    """The variables of one event as one vector, and log p̃ as a function of it."""
    point, unravel = ravel_pytree({name: event[name] for name in density.variables})
    return point, lambda x: density.log_density(event | unravel(x))


def at_draws(function: Callable, events: dict, draws: Any) -> jax.Array:
    """function(event, draw) at every draw of every row, (n, m): as one batch, for a batch of
    batches is slow.
    """
    rows, each = jax.tree.leaves(draws)[0].shape[:2]
    repeated = jax.tree.map(lambda leaf: jnp.repeat(leaf, each, 0), events)
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), draws)
    return jax.vmap(function)(repeated, flat).reshape(rows, each)


def size_of(density) -> int:
    """The number of coordinates of one event."""
    return sum(int(np.prod(shape)) for shape in density.shapes().values())


def draw(kind: str, key: jax.Array, shape: tuple[int, ...], dtype) -> jax.Array:
    """Directions with E[vv'] = I."""
    return {"rademacher": jax.random.rademacher, "gaussian": jax.random.normal}[kind](
        key, shape, dtype
    )


def with_neighbours_draws(state, names: tuple[str, ...]):
    """Every row with its neighbour's draws, which are as good as its own, for the draws do not
    depend on the rows.
    """
    swapped = {
        name: jax.tree.map(lambda leaf: jnp.roll(leaf, 1, 0), state.per_row[name]) for name in names
    }
    return state._replace(per_row=state.per_row | swapped)


@functools.partial(jax.jit, static_argnames="names")
def drawn_variance(objective, density, state, events, names: tuple[str, ...]) -> jax.Array:
    """E[Var(ψ | x)], the part of Cov(ψ) that other draws would change, without drawing anew.

    Half the squared difference to the score with the neighbour's draws is unbiased.
    """
    vector = parameters_of(density, state)[0]
    psi = row_scores(objective, density, state, events, vector)
    difference = psi - row_scores(
        objective, density, with_neighbours_draws(state, names), events, vector
    )
    difference = difference if state.weights is None else state.weights[:, None] * difference
    return difference.T @ difference / (2 * len(psi))
