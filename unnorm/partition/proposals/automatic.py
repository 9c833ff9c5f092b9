"""A pilot for densities of many dimensions: the base that reaches where climbs and walks say that
the mass is.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.findings import Finding
from unnorm.declaration.density import Density
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.integration.quadrature.integrability import not_normalizable
from unnorm.interactions.coloring import changes_by_gradient, changes_by_trial
from unnorm.interactions.ising import couplings_of, states_of
from unnorm.partition.annealing.transitions import moves_for
from unnorm.partition.base import added
from unnorm.partition.proposals.mixture import Base, base_over, flat_states, mixture
from unnorm.partition.proposals.mode_search import STARTS, Climbs
from unnorm.partition.proposals.sparse_ising import thinned
from unnorm.partition.proposals.user_given import (
    PATHFINDER,
    base_of_draws,
    base_of_laws,
    base_of_pathfinder,
    laws_in,
)

TRIALS = 256  # uniform states at which the pull on every site is looked at
WALK, STRIDES = 300, 12  # steps of a walk over counts, of up to 2^STRIDES


@functools.partial(jax.jit, static_argnames="linear")
def _pulls(density: Density, key: jax.Array, linear: bool) -> dict[str, jax.Array]:
    """The mean over uniform states of how each state of each site changes log p̃: a field that
    breaks no symmetry.

    Shrunk by the share of it that is noise (James and Stein, 1961), which would favour one of two
    symmetric modes.
    """
    target, dtype = Unconstrained(density), jnp.result_type(float)
    changes = changes_by_gradient if linear else changes_by_trial

    def at(key):
        by_state = changes(target, target.random_position(key, dtype)).by_state
        return jax.tree.map(lambda rise: jnp.where(jnp.isfinite(rise), rise, jnp.nan), by_state)

    found = jax.lax.map(at, jax.random.split(key, TRIALS))  # (TRIALS, sites, states) by variable
    fields = {
        name: _shrunk_mean(rise - rise.mean(-1, keepdims=True)) for name, rise in found.items()
    }
    shapes = {name: logits.shape for name, logits in flat_states(density).items()}
    return {
        n: jax.nn.log_softmax(jnp.clip(field, -5.0, 5.0)).reshape(shapes[n])
        for n, field in fields.items()
    }


def _shrunk_mean(seen: jax.Array) -> jax.Array:
    """Of (TRIALS, sites, states), NaN where it was not seen."""
    mean = jnp.nan_to_num(jnp.nanmean(seen, 0))
    noise = jnp.nan_to_num(jnp.nanvar(seen, 0)) / TRIALS
    return mean * jnp.maximum(
        0.0, 1.0 - noise.sum() / jnp.maximum((mean**2).sum(), jnp.finfo(mean.dtype).tiny)
    )


@jax.jit
def _strolled(density: Density, key: jax.Array) -> dict[str, jax.Array]:
    """Counts at the end of Metropolis walks with steps of every size, (STARTS, ...) by variable."""
    target, dtype = Unconstrained(density), jnp.result_type(float)
    names = [name for name, s in density.variables.items() if s.discrete and s.states is None]

    def walk(key):
        first, key = jax.random.split(key)
        position = target.random_position(first, dtype)

        def step(position, key):
            trial, length, size, accept = jax.random.split(key, 4)
            there = dict(position)
            for i, name in enumerate(names):
                one = jax.random.fold_in(trial, i)
                moving = jax.random.bernoulli(one, 1 / position[name].size, position[name].shape)
                sign = jnp.where(jax.random.bernoulli(jax.random.fold_in(one, 1)), 1, -1)
                stride = jnp.floor(2.0 ** jax.random.uniform(length, (), dtype, 0.0, STRIDES))
                there[name] = position[name] + moving * sign * stride
            gain = target.log_density(there) - target.log_density(position)
            take = -jax.random.exponential(accept, (), dtype) < jnp.nan_to_num(gain, nan=-jnp.inf)
            return jax.tree.map(lambda new, old: jnp.where(take, new, old), there, position), None

        position, _ = jax.lax.scan(step, position, jax.random.split(key, WALK))
        return {name: position[name] for name in names}

    return jax.vmap(walk)(jax.random.split(key, STARTS))


def _negative_binomials(walked: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """Of the walks' means, and of more than twice a Poisson's and of the walks' variance."""
    dtype, found = jnp.result_type(float), {}
    for name, values in walked.items():
        mean = np.maximum(np.mean(values, axis=0), 0.5)
        variance = np.maximum(2 * np.var(values, axis=0), 2 * mean)
        found[name] = jnp.asarray(np.stack([mean, mean**2 / (variance - mean)]), dtype)
    return found


def base_for(
    density: Density, key: jax.Array, given: Any = None
) -> tuple[Base, dict[str, int], Finding | None]:
    """A base that reaches the modes found by a pilot, what that cost, and a finding where Z is
    infinite.

    Args:
        density: bare.
        key: of the pilot.
        given: None, "pathfinder", distributions or draws that the base is made of. Distributions
            and draws are taken as they are: nothing that climbs would say overrides them.
    """
    couplings, found = couplings_of(density)
    thin = None if couplings is None or given is not None else thinned(couplings)
    if thin is not None:
        base = mixture(
            [1.0],
            [np.zeros(0)],
            [np.zeros((0, 0))],
            states_of(couplings.fields, flat_states(density)),
        )
        return base._replace(couplings=couplings, thinned=thin), found, None
    base, cost, endless = _sought(density, key, given)
    return base._replace(couplings=couplings), added(found, cost), endless


def _sought(
    density: Density, key: jax.Array, given: Any
) -> tuple[Base, dict[str, int], Finding | None]:
    """`base_for` that keeps no bond of the density."""
    climb_key, walk_key, pull_key, path_key = jax.random.split(key, 4)
    values, gradients, counts, states = 0, 0, {}, {}
    if any(s.discrete and s.states is None for s in density.variables.values()):
        counts = _negative_binomials(
            {n: np.asarray(v) for n, v in _strolled(density, walk_key).items()}
        )
        values += STARTS * WALK * 2
    if flat := flat_states(density):
        colouring = moves_for(density).colouring
        linear = colouring is not None and colouring.linear
        states = _pulls(density, pull_key, linear)
        values += 0 if linear else TRIALS * sum(logits.size for logits in flat.values())
        gradients += TRIALS * linear
    cost = {"values": values, "gradients": gradients}
    laws = laws_in(given)
    if laws is not None:
        return (
            base_of_laws(base_over(density, [], counts)._replace(states=states), laws),
            cost,
            None,
        )
    if given is not None and given != PATHFINDER:
        return base_of_draws(density, given, _negative_binomials), cost, None
    if not Unconstrained(density).dimension:
        return mixture([1.0], [np.zeros(0)], [np.zeros((0, 0))], states, counts), cost, None
    pilot = Climbs(density, climb_key, counts)
    cost = added(cost, {"values": pilot.evaluations, "gradients": pilot.gradients})
    if pilot.endless is not None:
        return pilot.base, cost, not_normalizable(Unconstrained(density), [], pilot.endless)
    base = pilot.base
    if given == PATHFINDER:
        base, spent = base_of_pathfinder(density, path_key, counts)
        cost = added(cost, spent)
    return base._replace(states=states), cost, None


__all__ = ["base_for"]
