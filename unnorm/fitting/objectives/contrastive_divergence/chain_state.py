"""The chains of contrastive divergence, as a pytree, and moves between rows and chains."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from unnorm.core.random_keys import fold_in, key_array, split_keys
from unnorm.declaration.composite.missing_entries import (
    completed,
    counts_in,
    missing_masks,
    missing_name,
    most_missing,
    places,
)
from unnorm.declaration.composite.partly_observed import latent_part
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.fitting.chain_kernels import initial_tuning, prepare_kernel
from unnorm.integration.representative_rows import count_of
from unnorm.sampling.short_runs import adapt_step_size, run_chains


class RowStarts(NamedTuple):
    """Unconstrained positions of the rows; their numbers, where chains belong to rows."""

    starts: dict[str, jax.Array]
    number: jax.Array | None


class LatentChains(NamedTuple):
    """A chain of the latent variables and the missing entries for every row."""

    kernel: Any
    tuning: Any
    positions: dict[str, jax.Array]

    def density(self, density, events: dict) -> Any:
        """The density that these chains follow, the events being its covariates."""
        names = tuple(name for name in density.variables if name in events)
        return latent_part(density, names, counts_in(self.positions), proper=True)

    def move(
        self, density, events: dict, number: jax.Array, key: jax.Array, steps: int, gain: Any
    ) -> tuple["LatentChains", dict, dict]:
        """Move the chains of these rows with the rows fixed; return their positions and values
        too.
        """
        starts = take_rows(self.positions, number)
        target = Unconstrained(self.density(density, events))
        positions, acceptance, _ = run_chains(
            self.kernel, target, starts, key, steps, self.tuning, events
        )
        chains = self._replace(
            tuning=adapt_step_size(self.kernel, self.tuning, acceptance, gain, starts),
            positions=put_rows(self.positions, number, positions),
        )
        return chains, positions, target.events_at(positions)

    def complete(self, rows: dict, latent: dict) -> dict:
        """Rows with their latent variables, and with their missing entries filled in: positions or
        values, both of them.
        """
        counts = dict(counts_in(latent))
        whole = {
            name: jax.vmap(completed)(rows[name], latent[missing_name(name)]) for name in counts
        }
        absent = {name: v for name, v in latent.items() if name not in map(missing_name, counts)}
        return rows | whole | absent


class ChainState(NamedTuple):
    """The negative chains, and where the run stands."""

    kernel: Any
    tuning: Any
    positions: dict[str, jax.Array] | None  # of persistent chains
    latent: LatentChains | None
    nan_count: jax.Array  # negatives so far whose energy was NaN at finite parameters
    iteration: jax.Array
    run_length: jax.Array  # iterations over which noise is annealed


def latent_target(density, events: dict) -> Any:
    """The density of the latent variables and the missing entries of these rows."""
    names = tuple(name for name in density.variables if name in events)
    masks = missing_masks(density.variables, events)
    return latent_part(density, names, most_missing(masks), proper=True)


def latent_chains(kernel: Any, density, events: dict, key: jax.Array) -> LatentChains:
    """Return one chain for every row: latent variables start at random, missing entries at values
    of other rows.
    """
    masks = missing_masks(density.variables, events)
    latent = latent_target(density, events)
    if not masks:  # else other rows have other entries, and another structure
        kernel = prepare_kernel(kernel, latent, events)
    target, dtype = Unconstrained(latent), jnp.result_type(*events.values())
    keys = key_array(fold_in(key, 1), count_of(events))
    positions = jax.vmap(lambda one: target.random_position(one, dtype))(keys)
    known = Unconstrained(density).positions_of({name: events[name] for name in masks})
    for k, name in enumerate(masks):
        drawn = _of_other_rows(known[name], fold_in(key, 2 + k))
        own, missing = known[name], positions[missing_name(name)]
        positions[missing_name(name)] = jax.vmap(_missing_entries)(own, drawn, missing)
    return LatentChains(kernel, initial_tuning(kernel, positions), positions)


def _of_other_rows(values: jax.Array, key: jax.Array) -> jax.Array:
    """For every row and entry an observed value of this entry, from a random row."""
    flat = values.reshape(len(values), -1)
    drawn = []
    for column, one in zip(flat.T, key_array(key, flat.shape[1]), strict=True):
        observed = column[~jnp.isnan(column)]
        drawn.append(jax.random.choice(one, observed, (len(column),)))
    return jnp.stack(drawn, 1).reshape(values.shape)


def _missing_entries(value: jax.Array, drawn: jax.Array, start: jax.Array) -> jax.Array:
    """The drawn values at the missing entries of one row, and `start` beyond these."""
    where = places(value, len(start))
    chosen = jnp.take(drawn.ravel(), where, mode="clip")
    return jnp.where(where < value.size, chosen, start)


def add_noise(positions: dict, deviation: jax.Array, key: jax.Array) -> dict:
    """Return the positions with normal noise."""
    keys = key_array(key, len(positions))
    return {
        name: value + deviation * jax.random.normal(one, value.shape, value.dtype)
        for one, (name, value) in zip(keys, positions.items(), strict=True)
    }


def take_rows(chains: dict, number: jax.Array) -> dict:
    """Return the chains of these rows."""
    return {name: value[number] for name, value in chains.items()}


def put_rows(chains: dict, number: jax.Array, moved: dict) -> dict:
    """Return all chains, with those of these rows replaced."""
    return {name: value.at[number].set(moved[name]) for name, value in chains.items()}


def restart_chains(chains: dict, rows: dict, share: Any, key: jax.Array, own: bool) -> dict:
    """Return the chains, a share of them restarted at random rows, or each at its own row."""
    toss, pick = split_keys(key)
    count, size = (len(next(iter(group.values()))) for group in (chains, rows))
    restarted = jax.random.bernoulli(toss, share, (count,))
    chosen = jnp.arange(count) if own else jax.random.randint(pick, (count,), 0, size)

    def one(old, row):
        return jnp.where(restarted.reshape(-1, *[1] * (old.ndim - 1)), row[chosen], old)

    return {name: one(value, rows[name]) for name, value in chains.items()}
