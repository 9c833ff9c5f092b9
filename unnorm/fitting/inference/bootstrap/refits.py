"""Refits to resampled rows: the same objective fitted again, from the estimate on.

References: Efron (1979), doi:10.1214/aos/1176344552; Davison and Hinkley (1997),
doi:10.1017/CBO9780511802843.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.random_keys import fold_in, split_keys
from unnorm.fitting.existence.finite_estimate import divergent_parameters
from unnorm.fitting.loss import Loss
from unnorm.fitting.solvers.minimize import minimize


@dataclass(frozen=True)
class BootstrapOptions:
    """How many replicates, and how many of them must have a finite estimate.

    Attributes:
        replicates: of the covariance of one observed lattice or graph.
        least_finite: share below which there is no covariance.
        mostly_finite: share below which percentiles are no longer those of all: a warning.
        least_for_percentiles: below so many, 2.5% and 97.5% lie beyond the replicates' extremes.
    """

    replicates: int = 200
    least_finite: float = 0.5
    mostly_finite: float = 0.95
    least_for_percentiles: int = 40


DEFAULTS = BootstrapOptions()


def refit_resamples(
    objective,
    density,
    events: dict,
    key: jax.Array,
    replicates: int = DEFAULTS.replicates,
    penalty: Any = None,
    cluster: Any = None,
) -> Any:
    """Fit rows that are redrawn with replacement, or whole clusters of rows.

    Args:
        objective: a per-example objective.
        density: the fitted density, bare, in the dtype of the fit.
        events: the data ``{name: (n, ...)}``.
        key: of the draws, and of what the objective draws.
        replicates: how many data sets.
        penalty: the fit's `Penalties`.
        cluster: the cluster of every row (n,); None: the rows are drawn one by one. Clusters of
            unequal sizes give data sets of many sizes, each of which compiles.

    Returns:
        The estimates (replicates, p) in the vector of all that is estimated (`parameters_of`), and
        which of them are finite and converged.
    """
    draw_key, key = split_keys(key)
    rows = len(next(iter(events.values())))
    chosen = bootstrap_rows(draw_key, rows, replicates, cluster)
    return refit_rows(objective, density, events, chosen, key, penalty)


def bootstrap_rows(
    key: jax.Array, rows: int, replicates: int, cluster: Any = None
) -> Iterator[np.ndarray]:
    """The rows of each resample: drawn with replacement, one by one or by whole clusters."""
    random, members = _generator(key), _members(rows, cluster)
    for _ in range(replicates):
        yield np.concatenate([members[i] for i in random.integers(len(members), size=len(members))])


def subset_rows(
    key: jax.Array, rows: int, replicates: int, dropped: float, cluster: Any = None
) -> Iterator[np.ndarray]:
    """The rows of each subset, in their order: this share of them dropped at random, one by one or
    by whole clusters.
    """
    random, members = _generator(key), _members(rows, cluster)
    kept = round((1 - dropped) * len(members))
    for _ in range(replicates):
        which = random.choice(len(members), kept, replace=False)
        yield np.sort(np.concatenate([members[i] for i in which]))


def _generator(key: jax.Array) -> np.random.Generator:
    return np.random.default_rng(np.asarray(jax.random.bits(key, (4,))))


def _members(rows: int, cluster: Any) -> list[np.ndarray]:
    """The rows of each cluster; each row by itself where there are no clusters."""
    _, numbers = np.unique(
        np.arange(rows) if cluster is None else np.asarray(cluster), return_inverse=True
    )
    return np.split(np.argsort(numbers, kind="stable"), np.cumsum(np.bincount(numbers))[:-1])


def refit_rows(
    objective, density, events: dict, chosen: Iterable[np.ndarray], key: jax.Array, penalty: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Fit the data of these rows, each time; as `refit_all`."""
    replicated = (
        jax.tree.map(lambda leaf: jnp.asarray(leaf)[rows], events)  # noqa: B023 - used at once
        for rows in chosen
    )
    return refit_all(objective, density, replicated, key, penalty)


def refit_all(objective, density, replicated, key, penalty) -> tuple[np.ndarray, np.ndarray]:
    """Fit every data set: the estimates, NaN where a fit failed, and which fits converged."""
    fits = [
        _refit(objective, density, data, fold_in(key, b), penalty)
        for b, data in enumerate(replicated)
    ]
    size = max((vector.size for vector, _ in fits), default=0)
    kept = np.array([good for _, good in fits])
    return np.stack([vector if good else np.full(size, np.nan) for vector, good in fits]), kept


def _refit(objective, density, events, key, penalty) -> tuple[np.ndarray, bool]:
    """The estimate from one data set, starting at the density, and whether it is one.

    The program is that of the fit itself, compiled already where the sizes are the same.
    """
    if penalty is not None:
        penalty = penalty.of_rows(len(next(iter(events.values()))))
    try:
        state = objective.prepare(density, events, key)._replace(penalty=penalty)
        found = minimize(Loss(objective, density, state, events))
    except ValueError:  # the objective refuses the data, as in a fit: no spread, sums without end
        return np.zeros(0), False
    good = bool(found.converged and np.isfinite(found.loss))
    if good and found.at.has_few_parameters():
        good = not divergent_parameters(found.at).any()
    return np.asarray(found.vector), good
