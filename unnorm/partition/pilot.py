"""A pilot for densities of many dimensions: climbs that say where a base must reach."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.scipy.optimize import minimize

from unnorm.density import Density
from unnorm.diagnostics.verdict import Finding
from unnorm.partition.bases import DENSE, Base, base_over, draw, flat_states, log_base, mixture, parts
from unnorm.partition.frame import FAR, Mode, distinct_modes, endless_line
from unnorm.partition.nodes import free_size
from unnorm.partition.quadrature import improper
from unnorm.sampling.base import Target

STARTS = 32
ITERATIONS = 100
POLISH = 20  # Newton steps at most after a climb, for BFGS may stop short of the mode that it is on
AT_REST = 1e-4  # nats: what the last of them may gain where a climb is said to have ended
TRIES = (1.0, 0.3, 0.03, 0.001, 0.0)  # shares of a Newton step
LOOKS = 4096  # draws of the first base, the heaviest of which climb too: a narrow mode may hold most of the mass
TRIALS = 256  # uniform states at which the pull on every site is looked at
WALK, STRIDES = 300, 12  # steps of a walk over counts, of up to 2^STRIDES


@jax.jit
def climb(density: Density, positions: dict):
    """BFGS ascents from positions: ends, heights, minus the Hessians, runaways, those at rest, steps of each method."""
    target = Target(density)

    def one(position):
        continuous, discrete = parts(density, position)
        start, unravel = ravel_pytree(continuous)

        def loss(flat):
            return -target.log_density(unravel(flat) | discrete)

        found = minimize(loss, start, method="BFGS", options={"maxiter": ITERATIONS})
        rose = jnp.isneginf(found.fun) | jnp.any(jnp.abs(found.x) > FAR) & (found.fun < loss(start))
        end = jnp.where(jnp.isfinite(found.fun), found.x, start)
        if end.size > DENSE:
            return end, -loss(end), jnp.diag(1 / jnp.diag(found.hess_inv)), rose, jnp.asarray(True), found.nfev, 0
        end, at_rest, steps = _polished(loss, end)
        return end, -loss(end), jax.hessian(loss)(end), rose, at_rest, found.nfev, steps

    return jax.vmap(one)(positions)


def _polished(loss, end: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The best shares of Newton steps with |eigenvalues| until one gains next to nothing: the end, whether at rest."""

    def step(carry):
        flat, _, count = carry
        values, vectors = jnp.linalg.eigh(jax.hessian(loss)(flat))
        lengths = jnp.maximum(jnp.abs(values), 1e-8 * jnp.max(jnp.abs(values)))
        way = vectors @ (vectors.T @ jax.grad(loss)(flat) / lengths)
        tried = flat - jnp.asarray(TRIES)[:, None] * way
        losses = jax.vmap(loss)(tried)
        best = jnp.nanargmin(jnp.where(jnp.isfinite(losses), losses, jnp.nan))  # the last is where it stands
        return tried[best], losses[-1] - losses[best], count + 1

    def going(carry):
        return (carry[2] < POLISH) & ~(carry[1] < AT_REST)

    end, gain, count = jax.lax.while_loop(going, step, (end, jnp.asarray(jnp.inf, end.dtype), 0))
    return end, gain < AT_REST, count


@jax.jit
def _scattered(density: Density, key: jax.Array) -> dict:
    """Random positions, half of them near and half far."""

    def one(key, width):
        continuous, discrete = parts(density, Target(density).random_position(key, width.dtype))
        return jax.tree.map(lambda leaf: width * leaf, continuous) | discrete

    widths = jnp.where(jnp.arange(STARTS) % 2 == 0, 1.0, 5.0).astype(jnp.result_type(float))
    return jax.vmap(one)(jax.random.split(key, STARTS), widths)


@jax.jit
def _heaviest(density: Density, base: Base, key: jax.Array) -> dict:
    """Positions drawn from the base and drawn again by their weights."""
    walk, choose = jax.random.split(key)
    positions = jax.vmap(lambda one: draw(density, base, one))(jax.random.split(walk, LOOKS))
    ratios = jax.vmap(lambda here: Target(density).log_density(here) - log_base(density, base, here))(positions)
    ratios = jnp.where(jnp.isnan(ratios) | jnp.isposinf(ratios), -jnp.inf, ratios)
    ratios = jnp.where(jnp.isneginf(ratios).all(), 0.0, ratios)
    chosen = jax.random.categorical(choose, ratios, shape=(STARTS,))
    return jax.tree.map(lambda leaf: leaf[chosen], positions)


@jax.jit
def heights_at(density: Density, key: jax.Array, points: jax.Array):
    """log p̃ in unconstrained coordinates at the points (S, D), the discrete variables at one random state."""
    target = Target(density)
    continuous, discrete = parts(density, target.random_position(key, points.dtype))
    _, unravel = ravel_pytree(continuous)
    return jax.vmap(lambda flat: target.log_density(unravel(flat) | discrete))(points)


class Pilot:
    """The base that climbs suggest, the modes they found, and what they cost.

    Climbs start at random, and then at the heaviest of many draws from the base that these suggest.
    """

    def __init__(self, density: Density, key: jax.Array, counts: dict | None = None):
        self.evaluations, self.gradients, self.ridge = 0, 0, None
        start, again = jax.random.split(key)
        found = self._climbed(density, _scattered(density, start))
        ends, heights, curves, _, rose = found
        self.modes = _modes(*found[:4])
        best = max((mode.height for mode in self.modes), default=-np.inf)
        self.ran_away = bool(np.any(rose & ~(heights < best)))
        if not self.ran_away:
            order = np.argsort(-np.nan_to_num(heights, nan=-np.inf), kind="stable")
            self.ridge = endless_line(self._heights(density, key), ends[order], curves[order])
        self.base = base_over(density, self.modes, counts)
        if not self.ran_away and self.ridge is None:
            more = self._climbed(density, _heaviest(density, self.base, again))
            self.evaluations += LOOKS
            both = [np.concatenate(pair) for pair in zip(found, more, strict=True)]
            self.modes = _modes(*both[:4])
            self.base = base_over(density, self.modes, counts)

    def _climbed(self, density: Density, positions: dict) -> tuple[np.ndarray, ...]:
        ends, heights, curves, rose, at_rest, climbing, polishing = map(np.asarray, climb(density, positions))
        self.evaluations += int(climbing.sum()) + len(TRIES) * int(polishing.sum())
        self.gradients += int(climbing.sum()) + int(polishing.sum()) * (ends.shape[1] + 1)
        self.gradients += STARTS * ends.shape[1] * (ends.shape[1] <= DENSE)
        return ends, heights, curves, at_rest, rose

    def _heights(self, density: Density, key: jax.Array):
        def value(points):
            self.evaluations += len(points)
            return np.asarray(heights_at(density, key, jnp.asarray(points, jnp.result_type(float))), float)

        return value


def _modes(ends: np.ndarray, heights: np.ndarray, curves: np.ndarray, at_rest: np.ndarray) -> list[Mode]:
    """The modes among the ends of climbs; one that still climbs is on none, and would widen the base."""
    return distinct_modes(ends, np.where(at_rest, heights, -np.inf), curves)


# -- discrete variables ----------------------------------------------------------------
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
    pilot = Pilot(density, climb_key, counts)
    endless = improper(density, [], pilot.ridge) if pilot.ran_away or pilot.ridge is not None else None
    cost = {"values": values + pilot.evaluations, "gradients": pilot.gradients}
    return pilot.base._replace(states=states), cost, endless


__all__ = ["Pilot", "base_for"]
