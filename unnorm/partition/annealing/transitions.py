"""How walkers move along an annealed path: HMC that keeps its gradients, Gibbs sweeps, integer
walks.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from unnorm.declaration.density import Density
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.integration.nodes import is_resolved
from unnorm.interactions.coloring import Colouring, find_colouring
from unnorm.interactions.ising import fields_of, position_of, signs_of
from unnorm.partition.annealing.independence_move import jumped
from unnorm.partition.annealing.swendsen_wang import swendsen_wang_step
from unnorm.partition.proposals.mixture import Base, log_base, parts
from unnorm.sampling.kernels.gibbs import by_colours, one_by_one
from unnorm.sampling.kernels.registry import Gibbs
from unnorm.supports import Support

LEAPFROGS = 4
OUTSIDE = -1e30  # in place of minus infinity, which times a temperature of 0 would be NaN


class Moves(NamedTuple):
    """What a density's moves are made of; hashable, for it is structure."""

    continuous: bool
    states: tuple[str, ...]  # variables that Gibbs sweeps over
    counts: tuple[str, ...]  # variables that walk over the integers
    colouring: Colouring | None  # of the sites that are redrawn together
    jumps: int = 0  # between modes, after each trajectory
    clusters: bool = False  # of two-state sites, by the couplings of the base


class Widths(NamedTuple):
    """How far moves go at one temperature."""

    log_step: jax.Array  # of HMC
    factor: jax.Array  # (D, D), lower triangular, or (D,): the root of the walkers' covariance
    strides: dict[str, jax.Array]  # the standard deviation of every count
    ends: jax.Array  # (D, bins + 1): of bins that hold equal shares of the walkers, by coordinate


class Walker(NamedTuple):
    """A position with what is known of it: log p̃, log q, and their gradients in the continuous
    coordinates.
    """

    position: dict
    log_target: jax.Array
    log_base: jax.Array
    pull: jax.Array  # (D,)
    base_pull: jax.Array
    bad: jax.Array  # how often log p̃ was NaN or +infinity where it was looked at

    @property
    def log_ratio(self) -> jax.Array:
        """log p̃ − log q, the Jacobian counted; finite."""
        return jnp.maximum(self.log_target - self.log_base, OUTSIDE)


class Tempered(NamedTuple):
    """The part of a target that Gibbs asks for, at one temperature."""

    supports: dict[str, Support]
    log_density: Any


def moves_for(density: Density) -> Moves:
    """The moves that serve a density; which of its sites do not interact is found out by a
    probe.
    """
    finite = tuple(
        name for name, support in density.variables.items() if support.states is not None
    )
    counts = tuple(name for name, s in density.variables.items() if s.discrete and s.states is None)
    colouring = find_colouring(Unconstrained(density)) if len(finite) == len(density.variables) else None
    return Moves(Unconstrained(density).dimension > 0, finite, counts, colouring)


def cost_of(density: Density, moves: Moves, count: int) -> dict[str, int]:
    """Evaluations of so many moves of one walker."""
    shapes, values, gradients = density.shapes(), 0, 0
    if moves.continuous:
        gradients += LEAPFROGS + moves.jumps + bool(moves.states or moves.counts)
    if moves.counts:
        values += sum(math.prod(shapes[name]) for name in moves.counts)
    if moves.colouring is not None and moves.colouring.linear:
        gradients += moves.colouring.count + 1
        values += 1
    elif moves.states:
        sites = {
            name: math.prod(density.variables[name].free_shape(shapes[name]))
            for name in moves.states
        }
        kinds = {name: len(density.variables[name].states) for name in moves.states}
        if (
            moves.colouring is None
        ):  # a site of two states takes one evaluation, for its own value is known
            values += 2 + sum(
                sites[name] * (kinds[name] if kinds[name] > 2 else 1) for name in sites
            )
        else:
            values += 1 + (moves.colouring.count + 1) * sum(
                sites[name] * kinds[name] for name in sites
            )
    values += (
        2 * moves.clusters
    )  # the clusters count as one, the look at where they lead is another
    return {"values": count * values, "gradients": count * gradients}


# -- looking ---------------------------------------------------------------------------
def within_numbers(density: Density, position: dict) -> jax.Array:
    """Whether coordinates and values are far from overflowing or rounding onto a bound: NaN there
    is the function's.
    """
    view = Unconstrained(density)
    flat = view.flatten(position)
    if not flat.size:
        return jnp.asarray(True)
    values, _ = view.event_at(flat)
    limit = float(jnp.finfo(flat.dtype).max) ** 0.25
    small = jnp.stack([jnp.all(jnp.abs(leaf) < limit) for leaf in [flat, *values.values()]]).all()
    return small & is_resolved(view, flat, values)


def height_of(density: Density, position: dict) -> jax.Array:
    """log p̃, the Jacobian counted; minus infinity where numbers overflow, NaN where the function
    gives it.
    """
    height = Unconstrained(density).log_density(position)
    lost = jnp.isnan(height) | jnp.isposinf(height)
    return jnp.where(lost & ~within_numbers(density, position), -jnp.inf, height)


def looked(density: Density, base: Base, position: dict) -> Walker:
    """A walker at a position; log p̃ is minus infinity there if it is no number, and that is
    counted.
    """
    continuous, discrete = parts(density, position)
    flat, unravel = ravel_pytree(continuous)

    def both(flat):
        here = unravel(flat) | discrete
        return jnp.stack([Unconstrained(density).within_range(here), log_base(density, base, here)])

    if flat.size:
        values, back = jax.vjp(both, flat)
        pull, base_pull = jax.vmap(lambda row: back(row)[0])(jnp.eye(2, dtype=values.dtype))
    else:
        here = position
        values = jnp.stack(
            [Unconstrained(density).log_density(here), log_base(density, base, here)]
        )
        pull = base_pull = jnp.zeros(0, values.dtype)
    lost = jnp.isnan(values[0]) | jnp.isposinf(values[0])
    height = jnp.where(lost, -jnp.inf, values[0])
    bad = lost & within_numbers(density, position)
    return Walker(position, height, values[1], jnp.nan_to_num(pull), base_pull, bad.astype(int))


# -- moving ----------------------------------------------------------------------------
def moved(
    density: Density,
    base: Base,
    moves: Moves,
    power,
    walker: Walker,
    key,
    widths: Widths,
    backward: bool = False,
) -> tuple[Walker, jax.Array]:
    """One move of every kind that leaves q^(1−λ) p̃^λ unchanged, and the acceptance of the first.

    Backward: the reversal of that, its kinds and its sites in the opposite order.
    """
    steps = []

    def look(position):
        return looked(density, base, position)

    def at_power(walker):
        return tempered(power, walker)

    if moves.continuous:
        steps.append(lambda walker, key: leapt(density, base, power, walker, key, widths))
        steps += moves.jumps * [
            lambda walker, key: jumped(density, look, at_power, walker, key, widths)
        ]
    if moves.counts:
        steps.append(lambda walker, key: strode(density, base, moves, power, walker, key, widths))
    if moves.states:
        steps.append(lambda walker, key: swept(density, base, moves, power, walker, key, backward))
    if moves.clusters:
        steps.append(lambda walker, key: clustered(density, base, power, walker, key))
    told = []
    for step, one in zip(
        steps[::-1] if backward else steps, jax.random.split(key, len(steps)), strict=True
    ):
        walker, accepted = step(walker, one)
        told.append(accepted)
    return walker, told[-1 if backward else 0]


def leapt(density, base, power, walker: Walker, key, widths: Widths) -> tuple[Walker, jax.Array]:
    """Hamiltonian Monte Carlo in coordinates whitened by the walkers' covariance; reversible."""
    walk, jitter, accept = jax.random.split(key, 3)
    start, unravel = ravel_pytree(parts(density, walker.position)[0])
    discrete = parts(density, walker.position)[1]
    dense = widths.factor.ndim == 2
    # A spread of step sizes, for one fixed length of path may return to where it began.
    step = jnp.exp(widths.log_step) * jax.random.uniform(jitter, (), start.dtype, 0.5, 1.5)

    def slope(there: Walker):
        pull = there.base_pull + power * (there.pull - there.base_pull)
        return widths.factor.T @ pull if dense else widths.factor * pull

    def leap(carry, _):
        flat, momentum, there = carry
        momentum = momentum + 0.5 * step * slope(there)
        flat = flat + step * (widths.factor @ momentum if dense else widths.factor * momentum)
        there = looked(density, base, unravel(flat) | discrete)
        return (flat, momentum + 0.5 * step * slope(there), there), there.bad

    momentum = jax.random.normal(walk, start.shape, start.dtype)
    (_, last, there), bad = jax.lax.scan(
        leap, (start, momentum, walker._replace(bad=0 * walker.bad)), length=LEAPFROGS
    )
    gain = (
        tempered(power, there) - tempered(power, walker) - 0.5 * (last @ last - momentum @ momentum)
    )
    gain = jnp.where(jnp.isnan(gain), -jnp.inf, gain)
    accepted = jnp.minimum(jnp.exp(gain), 1.0)
    take = -jax.random.exponential(accept, (), start.dtype) < gain
    chosen = jax.tree.map(lambda new, old: jnp.where(take, new, old), there, walker)
    return chosen._replace(bad=walker.bad + bad.sum()), accepted


def tempered(power, walker: Walker) -> jax.Array:
    """log q + λ (log p̃ − log q)."""
    return walker.log_base + power * walker.log_ratio


def swept(
    density, base, moves: Moves, power, walker: Walker, key, backward: bool
) -> tuple[Walker, jax.Array]:
    """A Gibbs sweep over the finite variables."""
    position = walker.position
    discrete = {name: position[name] for name in moves.states}
    held = {name: value for name, value in position.items() if name not in discrete}

    def log_density(sites):
        here = held | sites
        heldback = log_base(density, base, here)
        return heldback + power * jnp.maximum(
            Unconstrained(density).log_density(here) - heldback, OUTSIDE
        )

    target = Tempered({name: density.variables[name] for name in moves.states}, log_density)
    scan = "backward" if backward else "systematic"
    built = (
        one_by_one(target, scan)
        if moves.colouring is None
        else by_colours(target, moves.colouring, scan)
    )
    noise = Gibbs(colouring=moves.colouring).noise(key, discrete)
    state, info = built.step(noise, built.init(discrete))
    there = looked(density, base, held | state.position)
    # counted at trials too; a log p̃ that is minus infinity in their place would hide them
    bad = walker.bad + there.bad + info["nan_proposal"] + info["inf_proposal"]
    return there._replace(bad=bad), info["flip_rate"].astype(there.log_target.dtype)


def clustered(density, base, power, walker: Walker, key) -> tuple[Walker, jax.Array]:
    """Clusters of two-state sites flip together; reversible."""
    kept = None if base.thinned is None else base.thinned.kept
    signs = swendsen_wang_step(
        base.couplings, fields_of(base.states), power, signs_of(density, walker.position), key, kept
    )
    there = looked(density, base, position_of(density, signs, walker.position))
    return there._replace(bad=walker.bad + there.bad), jnp.ones((), walker.log_target.dtype)


def strode(
    density, base, moves: Moves, power, walker: Walker, key, widths: Widths
) -> tuple[Walker, jax.Array]:
    """As many Metropolis steps as there are counts, each of one of them, up or down by up to twice
    its deviation.
    """
    sizes = {name: walker.position[name].size for name in moves.counts}
    total = sum(sizes.values())

    def step(walker, key):
        pick, length, sign, accept = jax.random.split(key, 4)
        site, start, position = jax.random.randint(pick, (), 0, total), 0, dict(walker.position)
        for name, size in sizes.items():
            reach = jnp.maximum(2 * widths.strides[name].ravel(), 1.0)
            stride = jnp.ceil(jax.random.uniform(length, (size,), reach.dtype) * reach)
            stride = jnp.maximum(stride, 1.0) * jnp.where(jax.random.bernoulli(sign), 1, -1)
            chosen = jnp.arange(size) == site - start
            position[name] = position[name] + jnp.where(chosen, stride, 0.0).reshape(
                position[name].shape
            )
            start += size
        there = looked(density, base, position)
        gain = tempered(power, there) - tempered(power, walker)
        gain = jnp.where(jnp.isfinite(there.log_target), gain, -jnp.inf)
        take = -jax.random.exponential(accept, (), walker.log_target.dtype) < gain
        bad = walker.bad + there.bad
        chosen = jax.tree.map(lambda new, old: jnp.where(take, new, old), there, walker)
        return chosen._replace(bad=bad), take

    walker, accepted = jax.lax.scan(step, walker, jax.random.split(key, total))
    return walker, accepted.mean()


__all__ = [
    "LEAPFROGS", "OUTSIDE", "Moves", "Walker", "Widths", "cost_of", "height_of", "looked", "moved", "moves_for",
    "tempered",
]  # fmt: skip
