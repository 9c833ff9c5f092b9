"""The automatic proposal, which covers the mass found by climbs and short chains."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from unnorm.core.compilation.policy import compiled
from unnorm.core.random_keys import fold_in, key_array, split_keys
from unnorm.declaration.density import Density
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.integration.quadrature.integrability import not_normalizable
from unnorm.interactions.coloring import changes_by_gradient, changes_by_trial, find_colouring
from unnorm.interactions.couplings import states_of
from unnorm.interactions.ising import couplings_of
from unnorm.partition.base import NotNormalizableError, total_evaluations
from unnorm.partition.proposals.base import (
    IndependentStates,
    Proposal,
    count_names,
    fit_negative_binomials,
    uniform_logits,
)
from unnorm.partition.proposals.given_draws import proposal_of_draws
from unnorm.partition.proposals.mixture import mixture_of_modes
from unnorm.partition.proposals.modes.mode_search import ModeSearch
from unnorm.partition.proposals.pathfinder import pathfinder_modes
from unnorm.partition.proposals.sparse_ising import SparseIsing, sparse_tree
from unnorm.partition.proposals.user_given import PATHFINDER, distributions_in, user_distributions


def make_proposal(
    density: Density, key: jax.Array, given: Any = None
) -> tuple[Proposal, dict[str, int]]:
    """A proposal that covers the modes found, and the evaluations spent.

    Args:
        density: ready for jit.
        key: of the search.
        given: None, "pathfinder", or the distributions or draws that the proposal is made of.
            Distributions and draws are taken as they are: no mode search overrides them.

    Raises:
        NotNormalizableError: the log-density provably does not fall along some direction.
    """
    view = Unconstrained(density)
    couplings, spent = couplings_of(density)
    tree = None if couplings is None or given is not None else sparse_tree(couplings)
    if couplings is not None and tree is not None:
        logits = states_of(couplings.fields, uniform_logits(view.supports, view.density.shapes()))
        discrete = SparseIsing(couplings, tree, logits)
        return Proposal(view, None, discrete, jnp.result_type(float), couplings), spent
    proposal, more = _search(view, key, given)
    return replace(proposal, couplings=couplings), total_evaluations(spent, more)


def _search(view: Unconstrained, key: jax.Array, given: Any) -> tuple[Proposal, dict[str, int]]:
    """`make_proposal` without bonds of the density."""
    climb_key, walk_key, field_key, path_key = split_keys(key, 4)
    discrete, spent = _discrete(view, walk_key, field_key)
    distributions = distributions_in(given)
    if given is not None and given != PATHFINDER and distributions is None:
        return proposal_of_draws(view, given), spent
    proposal = Proposal(view, None, discrete, jnp.result_type(float))
    if distributions is not None:
        return replace(proposal, continuous=user_distributions(distributions)), spent
    if not view.dimension:
        return proposal, spent
    search = ModeSearch(view, climb_key, discrete.counts)
    spent = total_evaluations(spent, search.evaluations)
    if search.improper_direction is not None:
        raise NotNormalizableError(not_normalizable(view, [], search.improper_direction), spent)
    continuous = search.proposal.continuous
    if given == PATHFINDER:
        modes, more = pathfinder_modes(view, path_key)
        continuous = mixture_of_modes(view.dimension, modes)
        spent = total_evaluations(spent, more)
    return replace(proposal, continuous=continuous), spent


# -- discrete variables ------------------------------------------------------------------
def _discrete(
    view: Unconstrained,
    walk_key: jax.Array,
    field_key: jax.Array,
    chains: int = 64,
    steps: int = 300,
    states: int = 256,
) -> tuple[IndependentStates, dict[str, int]]:
    """Sites by their mean fields, counts by short Metropolis chains; and their evaluations."""
    values, gradients, counts, logits = 0, 0, {}, {}
    if count_names(view.supports):
        counts = fit_negative_binomials(
            jax.device_get(_walk_counts(view, walk_key, chains=chains, steps=steps))
        )
        values += chains * steps * 2
    if uniform := uniform_logits(view.supports, view.density.shapes()):
        discrete_only = all(s.states is not None for s in view.supports.values())
        colouring = find_colouring(view) if discrete_only else None
        linear = colouring is not None and colouring.linear
        logits = _mean_fields(view, field_key, linear, states)
        values += 0 if linear else states * sum(one.size for one in uniform.values())
        gradients += states * linear
    return IndependentStates(logits, counts), {"values": values, "gradients": gradients}


@compiled(static_argnames=("linear", "states"))
def _mean_fields(
    view: Unconstrained, key: jax.Array, linear: bool, states: int
) -> dict[str, jax.Array]:
    """Log-probabilities from the mean change of log p̃ over uniform states, which keeps symmetry.

    The mean is shrunk by its noise share (James and Stein, 1961): noise would favour one of two
    symmetric modes.
    """
    dtype = jnp.result_type(float)
    changes = changes_by_gradient if linear else changes_by_trial

    def at(key):
        by_state = changes(view, view.random_position(key, dtype)).by_state
        return jax.tree.map(lambda rise: jnp.where(jnp.isfinite(rise), rise, jnp.nan), by_state)

    found = jax.lax.map(at, key_array(key, states))  # (states, sites, states) by variable
    fields = {
        name: _shrunk_mean(rise - rise.mean(-1, keepdims=True)) for name, rise in found.items()
    }
    uniform = uniform_logits(view.supports, view.density.shapes())
    return {
        name: jax.nn.log_softmax(jnp.clip(field, -5.0, 5.0)).reshape(uniform[name].shape)
        for name, field in fields.items()
    }


def _shrunk_mean(samples: jax.Array) -> jax.Array:
    """The shrunk mean of samples (n, sites, states), NaN where the change was not finite."""
    mean = jnp.nan_to_num(jnp.nanmean(samples, 0))
    noise = jnp.nan_to_num(jnp.nanvar(samples, 0)) / len(samples)
    return mean * jnp.maximum(
        0.0, 1.0 - noise.sum() / jnp.maximum((mean**2).sum(), jnp.finfo(mean.dtype).tiny)
    )


@compiled(static_argnames=("chains", "steps", "octaves"))
def _walk_counts(
    view: Unconstrained, key: jax.Array, chains: int, steps: int, octaves: int = 12
) -> dict[str, jax.Array]:
    """Counts at the end of Metropolis chains with steps of every size up to 2^octaves."""
    dtype, names = jnp.result_type(float), count_names(view.supports)

    def chain(key):
        first, key = split_keys(key)
        position = view.random_position(first, dtype)

        def step(position, key):
            trial, length, _, accept = split_keys(key, 4)
            there = dict(position)
            for i, name in enumerate(names):
                one = fold_in(trial, i)
                moving = jax.random.bernoulli(one, 1 / position[name].size, position[name].shape)
                sign = jnp.where(jax.random.bernoulli(fold_in(one, 1)), 1, -1)
                stride = jnp.floor(2.0 ** jax.random.uniform(length, (), dtype, 0.0, octaves))
                there[name] = position[name] + moving * sign * stride
            gain = view.log_density(there) - view.log_density(position)
            take = -jax.random.exponential(accept, (), dtype) < jnp.nan_to_num(gain, nan=-jnp.inf)
            return jax.tree.map(lambda new, old: jnp.where(take, new, old), there, position), None

        position, _ = jax.lax.scan(step, position, key_array(key, steps))
        return {name: position[name] for name in names}

    return jax.vmap(chain)(key_array(key, chains))


__all__ = ["make_proposal"]
