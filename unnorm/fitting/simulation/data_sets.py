"""Data sets drawn from a density: exactly where its states can be listed, else by chains that
forgot their starts.
"""

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.compilation.policy import compiled
from unnorm.core.random_keys import fold_in, key_array
from unnorm.fitting.data.latent_variables import latent_variables
from unnorm.fitting.inference.predictive import draw_rows
from unnorm.fitting.inference.sandwich import NoCovarianceError
from unnorm.fitting.simulation.independent_chains import (
    OPTIONS,
    SimulationOptions,
    gibbs_draws,
    sampled_draws,
)
from unnorm.integration.states import count_states, enumerate_states


def data_sets(
    density,
    events: dict,
    key: jax.Array,
    replicates: int,
    rows: int | None = None,
    progress: bool = False,
    options: SimulationOptions = OPTIONS,
) -> dict:
    """Independent data sets as large as the data, or of so many rows: ``{name: (replicates, rows,
    ...)}``.
    """
    if density.covariates:
        if rows not in (None, len(next(iter(events.values())))):
            raise NoCovarianceError(
                f"{density.name} has the covariate {next(iter(density.covariates))}, and {rows} "
                "rows were asked for; expected as many as the data have, each at its covariates",
                "leave rows out",
            )
        return _row_by_row(density, events, key, replicates, options)
    rows = len(next(iter(events.values()))) if rows is None else rows
    count = replicates * rows
    chains = count if rows == 1 else min(count, options.max_chains)
    drawn = _draws(density, events, key, count, chains, progress, options)
    drawn = jax.tree.map(lambda leaf: leaf.reshape((replicates, rows) + leaf.shape[1:]), drawn)
    # Latent variables stay so.
    return {name: value for name, value in drawn.items() if name in events}


def is_listed(density, options: SimulationOptions = OPTIONS) -> bool:
    """Whether draws are made exactly, from the list of all states."""
    if not all(support.discrete for support in density.variables.values()):
        return False
    states = count_states(density)
    return states is not None and states <= options.max_listed_states


def _row_by_row(density, events: dict, key, replicates: int, options: SimulationOptions) -> dict:
    """Every row from its own density, and its covariates with it: from the list of its states, or
    from the table of its one response.
    """
    covariates = {name: jnp.asarray(events[name]) for name in density.covariates}
    repeated = {
        n: jnp.broadcast_to(value, (replicates, *value.shape)) for n, value in covariates.items()
    }
    if is_listed(density, options):
        drawn = _drawn_rows(density, covariates, key, replicates)
        drawn = {name: jnp.swapaxes(leaf, 0, 1) for name, leaf in drawn.items() if name in events}
        return drawn | repeated
    try:
        return draw_rows(density, events, covariates, key, replicates) | repeated
    except ValueError as reason:
        raise NoCovarianceError(
            f"{density.name} has the covariate {next(iter(density.covariates))}, and its rows "
            f"cannot be drawn one by one: {str(reason).rstrip('.')}",
            "give the covariates one value by p.given(...), and use un.sample",
        ) from None


@compiled(static_argnums=3)
def _drawn_rows(density, covariates: dict, key, replicates: int) -> dict:
    """Draw the number of a state for each row and replicate, (rows, replicates)."""
    states = enumerate_states(density)

    def of_row(given):
        row, key = given
        values = jax.vmap(lambda event: density.log_density(event | row))(states)
        return jax.random.categorical(key, values, shape=(replicates,))

    keys = key_array(key, len(next(iter(covariates.values()))))
    chosen = jax.lax.map(of_row, (covariates, keys))
    return jax.tree.map(lambda leaf: leaf[chosen], states)


def _draws(
    density, events, key, count: int, chains: int, progress: bool, options: SimulationOptions
) -> dict:
    if is_listed(density, options):
        return _draws_from_list(density, key, count)
    chains = max(chains, options.min_chains)
    each = -(-count // chains)
    latent = bool(latent_variables(density.variables, events))
    if all(support.states is not None for support in density.variables.values()) and not latent:
        drawn = gibbs_draws(density, events, key, chains, each, progress, options)
    else:
        drawn = sampled_draws(density, key, chains, each, progress, options)
    # Shuffled, so that neighbours in a chain fall into different data sets.
    words = np.asarray(jax.random.key_data(fold_in(key, 1)))
    order = np.random.default_rng(words).permutation(chains * each)[:count]
    return jax.tree.map(lambda leaf: np.asarray(leaf)[order], drawn)


@compiled(static_argnums=2)
def _draws_from_list(density, key, count: int) -> dict:
    states = enumerate_states(density)
    chosen = jax.random.categorical(key, jax.vmap(density.log_density)(states), shape=(count,))
    return jax.tree.map(lambda leaf: leaf[chosen], states)
