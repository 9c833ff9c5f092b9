"""Gibbs sampling of sites with a few states: one by one, or all that do not interact together."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from unnorm.core.method import method, static
from unnorm.interactions.coloring import (
    Colouring,
    changes_by_gradient,
    changes_by_trial,
    discrete_names,
    find_colouring,
)
from unnorm.interactions.ties import TieChanges, pack, tie_changes_of_target, unpack
from unnorm.sampling.base import Options, SamplingAlgorithm, tree_where


class GibbsState(NamedTuple):
    """The state of a chain."""

    position: dict
    logdensity: jax.Array


class ColourState(NamedTuple):
    """The state of a chain that updates sites of one colour together."""

    position: dict
    logdensity: jax.Array
    by_state: dict  # what each site's every state would add to the log-density


def drawn_state(gains: jax.Array, uniform: jax.Array) -> jax.Array:
    """The number of a state drawn in proportion to exp(gain) along the last axis, by inversion of a
    uniform.
    """
    if gains.shape[-1] == 2:
        return (uniform < jax.nn.sigmoid(gains[..., 1] - gains[..., 0])).astype(int)
    steps = jnp.cumsum(jax.nn.softmax(gains, -1), -1)
    return jnp.sum(uniform[..., None] * steps[..., -1:] >= steps[..., :-1], -1)


class _Gibbs(Options):
    """What Gibbs and BlockGibbs share."""

    scan: str
    colouring: Colouring | None

    def serves(self, support):
        return support.states is not None

    def stats(self, info):
        return info

    def noise(self, key, position, leading=()):
        """A uniform number for each visit of each site, and one for each choice of whom to
        visit.
        """
        visits = self.colouring.count if self.colouring is not None and self.scan == "random" else 1
        order, key = jax.random.split(key)
        dtype = jnp.result_type(*position.values())
        uniforms = {
            name: jax.random.uniform(one, (*leading, visits, value.size), value.dtype)
            for one, (name, value) in zip(
                jax.random.split(key, len(position)), position.items(), strict=True
            )
        }
        sites = sum(value.size for value in position.values())
        choices = 0 if self.scan == "systematic" else sites if self.colouring is None else visits
        return uniforms, jax.random.uniform(order, (*leading, choices), dtype)

    def block_noise(self, key, position, steps):
        return self.noise(key, position, (steps,))

    def build(self, target, tuning):
        if self.colouring is None:
            changes = tie_changes_of_target(target)
            if changes is not None:
                return tie_by_tie(target, changes, self.scan)
            return one_by_one(target, self.scan)
        return by_colours(target, self.colouring, self.scan)


@method
class Gibbs(_Gibbs):
    """Gibbs sampling of Binary, Spin, Categorical and Graph: every site is resampled from its
    conditional.

    P(x_i = s | rest) ∝ exp f(x with site i in state s). `un.sample` probes which sites interact;
    those that do not are resampled together, by one gradient where the log-density is linear in
    each site (a lattice then takes two of them a sweep). A density without such structure is
    visited site by site, a graph whose density declares the changes by single ties at O(d) steps a
    tie.

    Args:
        scan: "systematic" (every site once, in order) or "random" (as many visits, each to a random
            site or colour).
        colouring: found by the probe; not to be given.

    Example:
        >>> import unnorm as un
        >>> pair = un.Density(lambda x: 0.5 * x[0] * x[1], {"x": un.Spin[2]})
        >>> draws = un.sample(pair, Gibbs(), draws=10, chains=2, seed=0, progress=False)
        >>> draws.posterior["x"].shape
        (2, 10, 2)

    References:
        Geman and Geman (1984), doi:10.1109/TPAMI.1984.4767596; Gonzalez et al. (2011), Parallel
        Gibbs sampling, AISTATS 15, 324-332.
    """

    scan: str = static(default="systematic", choices=("systematic", "random"))
    colouring: Colouring | None = static(default=None)

    def __post_init__(self) -> None:
        if self.scan not in ("systematic", "random"):
            raise ValueError(
                f"scan is {self.scan!r}; expected 'systematic' or 'random'; choose one of the two."
            )

    def prepare(self, target) -> Any:
        changes = tie_changes_of_target(target)
        if changes is not None and changes.ties_interact:  # each with all of its nodes' others
            return dataclasses.replace(self, colouring=None)
        return dataclasses.replace(self, colouring=find_colouring(target))


@method
class BlockGibbs(_Gibbs):
    """Gibbs sampling of whole variables: all entries of a variable are redrawn together, given the
    other variables.

    For two-layer models, such as a restricted Boltzmann machine with a visible and a hidden layer:
    two parallel draws a step. Entries of one variable must not interact; `un.sample` probes that
    they do not.

    Args:
        scan: "systematic" or "random".
        colouring: the variables, filled in by the probe; not to be given.

    Example:
        >>> import unnorm as un
        >>> rbm = un.Density(lambda v, h: 0.5 * v.sum() * h.sum(), {
        ...     "v": un.Binary[3], "h": un.Binary[2]})
        >>> draws = un.sample(rbm, BlockGibbs(), draws=10, chains=2, seed=0, progress=False)
        >>> draws.posterior["h"].shape
        (2, 10, 2)

    References:
        Smolensky (1986), Information processing in dynamical systems; Hinton (2002),
        doi:10.1162/089976602760128018.
    """

    scan: str = static(default="systematic", choices=("systematic", "random"))
    colouring: Colouring | None = static(default=None)

    def prepare(self, target) -> Any:
        found = find_colouring(target, "variables")
        if found is None:
            raise ValueError(
                f"BlockGibbs was given density {target.density.name}, in which entries of one of "
                f"the variables ({', '.join(target.supports)}) interact; expected none within a "
                "variable; use un.kernels.Gibbs."
            )
        return dataclasses.replace(self, colouring=found)


def _stats_of(flips: jax.Array, log_densities: jax.Array) -> dict[str, jax.Array]:
    return {
        "flip_rate": jnp.mean(flips),
        "nan_proposal": jnp.isnan(log_densities).any(),
        "inf_proposal": jnp.isposinf(log_densities).any(),
    }


def by_colours(target: Any, colouring: Colouring, scan: str) -> SamplingAlgorithm:
    """A step visits every colour ("backward": the last one first), and redraws all its sites at
    once.
    """
    changes = changes_by_gradient if colouring.linear else changes_by_trial
    names = discrete_names(target)
    colours = {name: jnp.asarray(colouring.of(name)) for name in names}

    def init(position, key=None):
        return ColourState(position, *changes(target, position))

    def step(noise, state):
        uniforms, choices = noise

        def visit(state, turn):
            last = colouring.count - 1
            in_turn = {"systematic": turn, "backward": last - turn}
            colour = (
                in_turn[scan] if scan in in_turn else (choices[turn] * colouring.count).astype(int)
            )
            row, moved, flips = 0 if scan in in_turn else turn, dict(state.position), []
            for name in names:
                states = jnp.asarray(target.supports[name].states, state.position[name].dtype)
                drawn = states[drawn_state(state.by_state[name], uniforms[name][row])]
                flat = state.position[name].ravel()
                new = jnp.where(colours[name] == colour, drawn, flat)
                flips.append(jnp.sum(new != flat))
                moved[name] = new.reshape(state.position[name].shape)
            state = init(moved)
            return state, (sum(flips), state.logdensity)

        state, (flips, values) = jax.lax.scan(
            visit, state, jnp.arange(colouring.count), unroll=colouring.count < 5
        )
        sites = sum(colour.size for colour in colours.values())
        return state, _stats_of(jnp.sum(flips) / sites, values)

    return SamplingAlgorithm(init, step)


def one_by_one(target: Any, scan: str) -> SamplingAlgorithm:
    """A step visits as many sites as there are ("backward": the last one first).

    A site of two states takes one evaluation, for its value is known.
    """

    def init(position, key=None):
        return GibbsState(position, target.log_density(position))

    def sweep(name, uniforms, order, state):
        states = jnp.asarray(target.supports[name].states, state.position[name].dtype)

        def at(state, index, new):
            flat = state.position[name].ravel().at[index].set(new)
            return init(state.position | {name: flat.reshape(state.position[name].shape)})

        def visit_two(state, site):
            index, uniform = site
            was_high = state.position[name].ravel()[index] == states[1]
            other = at(state, index, jnp.where(was_high, states[0], states[1]))
            gain = jnp.where(
                was_high, state.logdensity - other.logdensity, other.logdensity - state.logdensity
            )
            flip = (uniform < jax.nn.sigmoid(gain)) != was_high
            return tree_where(flip, other, state), (flip, other.logdensity)

        def visit_many(state, site):
            index, uniform = site
            others = jax.vmap(lambda new: at(state, index, new))(states)
            chosen = drawn_state(others.logdensity - jnp.max(others.logdensity), uniform)
            moved = jax.tree.map(lambda leaf: leaf[chosen], others)
            changed = states[chosen] != state.position[name].ravel()[index]
            return moved, (changed, jnp.max(others.logdensity))

        visit = visit_two if len(target.supports[name].states) == 2 else visit_many
        return jax.lax.scan(visit, state, (order, uniforms))

    def step(noise, state):
        uniforms, choices = noise
        seen_logs, start = [], 0
        for name, given in list(uniforms.items())[:: -1 if scan == "backward" else 1]:
            count = given.size
            order = jnp.arange(count)[:: -1 if scan == "backward" else 1]
            if scan == "random":
                order = (choices[start : start + count] * count).astype(int)
            state, seen = sweep(name, given[0], order, state)
            seen_logs.append(seen)
            start += count
        return state, _stats_of(*(jnp.concatenate(part) for part in zip(*seen_logs, strict=True)))

    return SamplingAlgorithm(init, step)


def tie_by_tie(target: Any, changes: TieChanges, scan: str) -> SamplingAlgorithm:
    """A step visits as many ties as there are pairs of nodes ("backward": the last one first).

    A visit takes the change that the density declares; the log-density is evaluated at the end.
    """
    name, pairs = changes.name, jnp.stack(changes.pairs(), 1)
    support = target.supports[name]

    def init(position, key=None):
        return GibbsState(position, target.log_density(position))

    def visit(rows, given):
        (i, j), uniform = given
        gain, tie = changes.gain(rows, i, j)
        flip = (uniform < jax.nn.sigmoid(gain)) != (tie > 0)
        return changes.toggled(rows, i, j, flip), (flip, gain)

    def step(noise, state):
        uniforms, choices = noise
        order = pairs[::-1] if scan == "backward" else pairs
        if scan == "random":
            order = pairs[(choices * len(pairs)).astype(int)]
        free = state.position[name]
        rows, seen = jax.lax.scan(visit, pack(support.constrain(free)), (order, uniforms[name][0]))
        ties = unpack(rows).astype(free.dtype)
        return init({name: support.unconstrain(ties)}), _stats_of(*seen)

    return SamplingAlgorithm(init, step)
