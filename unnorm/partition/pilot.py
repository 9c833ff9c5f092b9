"""A pilot for densities of many dimensions: the base that reaches where climbs and walks say that the mass is."""

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.density import Density
from unnorm.diagnostics.verdict import Finding
from unnorm.partition.bases import Base, flat_states, mixture
from unnorm.partition.climbs import STARTS, Climbs
from unnorm.partition.nodes import free_size
from unnorm.partition.quadrature import improper
from unnorm.sampling.base import Target

TRIALS = 256  # uniform states at which the pull on every site is looked at
WALK, STRIDES = 300, 12  # steps of a walk over counts, of up to 2^STRIDES


@jax.jit
def _pulls(density: Density, key: jax.Array) -> dict[str, jax.Array]:
    """The mean over uniform states of how each state of each site changes log p̃: a field that breaks no symmetry."""
    target, dtype = Target(density), jnp.result_type(float)
    positions = jax.vmap(lambda one: target.random_position(one, dtype))(jax.random.split(key, TRIALS))

    def of_site(name, site):
        def at(state):
            def changed(position):
                flat = position[name].ravel().at[site].set(state)
                return target.log_density(position | {name: flat.reshape(position[name].shape)})

            return jax.vmap(changed)(positions)

        tried = jax.vmap(at)(jnp.asarray(density.variables[name].states, dtype))  # (states, TRIALS)
        apart = jnp.where(jnp.isfinite(tried), tried, jnp.nan)
        return jnp.nan_to_num(jnp.nanmean(apart - apart.mean(0), axis=1))

    found = {}
    for name, logits in flat_states(density).items():
        sites = logits.size // logits.shape[-1]
        pulls = jax.lax.map(lambda site, name=name: of_site(name, site), jnp.arange(sites))
        found[name] = jax.nn.log_softmax(jnp.clip(pulls, -5.0, 5.0)).reshape(logits.shape)
    return found


@jax.jit
def _strolled(density: Density, key: jax.Array) -> dict[str, jax.Array]:
    """Counts at the end of Metropolis walks with steps of every size, (STARTS, ...) by variable."""
    target, dtype = Target(density), jnp.result_type(float)
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


def base_for(density: Density, key: jax.Array) -> tuple[Base, dict[str, int], Finding | None]:
    """A base that reaches the modes found by a pilot, what that cost, and a finding where Z is infinite."""
    climb_key, walk_key, pull_key = jax.random.split(key, 3)
    values, counts, states = 0, {}, {}
    if any(s.discrete and s.states is None for s in density.variables.values()):
        counts = _negative_binomials({n: np.asarray(v) for n, v in _strolled(density, walk_key).items()})
        values += STARTS * WALK * 2
    if flat := flat_states(density):
        states = _pulls(density, pull_key)
        values += TRIALS * sum(logits.size for logits in flat.values())
    if not free_size(density):
        return (
            mixture([1.0], [np.zeros(0)], [np.zeros((0, 0))], states, counts),
            {"values": values, "gradients": 0},
            None,
        )
    pilot = Climbs(density, climb_key, counts)
    endless = improper(density, [], pilot.ridge) if pilot.ran_away or pilot.ridge is not None else None
    cost = {"values": values + pilot.evaluations, "gradients": pilot.gradients}
    return pilot.base._replace(states=states), cost, endless


__all__ = ["base_for"]
