"""Graphs by their statistics, where a density declares what a tie changes.

Such a density is an exponential family, log p̃(y) = θ's(y) + b(y): the statistics s stand for the
graph in every ratio of densities, and the changes of s by the ties are the design matrix of its
pseudo-likelihood.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from unnorm.core.compilation.policy import compiled
from unnorm.interactions.ties import pack, tie_changes
from unnorm.numerics.logistic_regression import LogisticFits, logistic_regressions
from unnorm.supports import Real


class TieDesign(NamedTuple):
    """What the ties of graphs change: the design matrix of a logistic regression of the ties."""

    changes: jax.Array  # (rows, pairs, p), of the statistics
    offset: jax.Array  # (rows, pairs), of what no free parameter multiplies
    ties: jax.Array  # (rows, pairs), 0 or 1

    def log_odds(self, vector: jax.Array) -> jax.Array:
        """log p(y_ij | others) − log p(1 − y_ij | others), (rows, pairs); also of one row."""
        return (2 * self.ties - 1) * (self.changes @ vector + self.offset)


class TieStatistics(NamedTuple):
    """The density as a function of the statistics alone: an event has `statistics` and `offset`."""

    parameters: dict[str, Any]

    def free(self) -> dict[str, Any]:
        """The free parameters, as a density has them."""
        return self.parameters

    def at(self, free: dict[str, Any]) -> "TieStatistics":
        """The same at other free parameters."""
        return TieStatistics(free)

    def log_density(self, event: dict[str, jax.Array]) -> jax.Array:
        """log p̃ of a graph by its statistics."""
        return event["statistics"] @ ravel_pytree(self.parameters)[0] + event["offset"]


def has_tie_statistics(density: Any) -> bool:
    """Whether the density declares what a tie changes, and is linear in what it leaves free."""
    if tie_changes(density) is None or not density.supports:
        return False
    return all(isinstance(support, type(Real)) for support in density.supports.values())


def statistics_of(density: Any, events: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """The events of `TieStatistics`, (rows, p) and (rows,); traceable."""
    vector, unravel = ravel_pytree(density.free())

    def one(event):
        value, statistics = jax.value_and_grad(
            lambda v: density.at(unravel(v)).log_density(event)
        )(vector)  # fmt: skip
        return {"statistics": statistics, "offset": value - vector @ statistics}

    return jax.vmap(one)(events)


@compiled
def tie_design(density: Any, events: dict[str, jax.Array]) -> TieDesign:
    """The design matrix of the ties of every row."""
    changes = tie_changes(density)
    assert changes is not None
    vector, unravel = ravel_pytree(density.free())
    first, second = map(jnp.asarray, changes.pairs())

    def of_graph(ties):
        rows = pack(ties)

        def one(i, j):
            (gained, tie), slope = jax.value_and_grad(
                lambda v: changes._replace(density=density.at(unravel(v))).gain(rows, i, j),
                has_aux=True,
            )(vector)  # fmt: skip
            return slope, gained - vector @ slope, tie

        return jax.vmap(one)(first, second)

    slopes, offset, ties = jax.vmap(of_graph)(events[changes.name])
    return TieDesign(slopes, offset, ties.astype(slopes.dtype))


def tie_regressions(
    design: TieDesign, shape: tuple[int, int], weights: np.ndarray | None = None
) -> LogisticFits:
    """Regressions of the ties of all rows, shared out to so many data sets."""
    count = shape[0]
    return logistic_regressions(
        np.asarray(design.changes, float).reshape(count, -1, design.changes.shape[-1]),
        np.asarray(design.offset, float).reshape(shape),
        np.asarray(design.ties, float).reshape(shape),
        weights,
    )


__all__ = [
    "TieDesign",
    "TieStatistics",
    "has_tie_statistics",
    "statistics_of",
    "tie_design",
    "tie_regressions",
]
