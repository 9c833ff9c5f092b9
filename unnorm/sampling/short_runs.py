"""Chains of a fit: short runs of any kernel at parameters that move, and what they tell of
themselves.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from unnorm.core.method import look_up
from unnorm.declaration.density import cast
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.integration.conditional import at_rows
from unnorm.sampling.base import noise_of
from unnorm.sampling.kernels.registry import (
    HMC,
    KERNELS,
    Blockwise,
    Gibbs,
    RandomWalkMH,
    kernels_for,
)

_LENGTHS = 1105  # the seed of what is drawn beside the data, the same in every fit
_SHAKEN = (
    0.1  # by how much the parameters are shaken before a kernel looks at a density's structure
)


class Stretch(NamedTuple):
    """A run of many chains at fixed parameters."""

    positions: dict  # where the chains are (chains, ...), in unconstrained coordinates
    tuning: dict
    events: dict  # by round and chain (rounds, chains, ...)
    acceptance: jax.Array
    rejected: jax.Array  # share of the proposals whose log-density was NaN, in the rounds


def named_kernel(kernel: Any) -> Any:
    """A name becomes its object, for a string is no leaf of a pytree."""
    return look_up(kernel, KERNELS, "kernel", "build") if isinstance(kernel, str) else kernel


def chosen_kernel(kernel: Any, density) -> Any:
    """The kernel given, or the one that is made for the variables: HMC, Gibbs, or a random walk for
    counts.
    """
    if kernel is not None:
        return look_up(kernel, KERNELS, "kernel", "build")
    made_for = {
        (name,): HMC()
        if not support.discrete
        else Gibbs()
        if support.states is not None
        else RandomWalkMH()
        for name, support in density.variables.items()
    }
    kinds = {type(one) for one in made_for.values()}
    return next(iter(made_for.values())) if len(kinds) == 1 else Blockwise(made_for)


def unserved(kernel: Any, density) -> str | None:
    """Which variable the kernel cannot move, as a sentence, or None."""
    for name, support in density.variables.items():
        if not kernel.serves(support):
            return f"{type(kernel).__name__} cannot move {name}, which is {support!r}; use {kernels_for(support)}"
    return None


def prepared_kernel(kernel: Any, density, rows: dict | None = None) -> Any:
    """The kernel with what it finds out about the density's structure, as structure: later calls
    stay compiled.

    It looks at parameters that are shaken a little: at a start of zero, variables seem not to
    interact that do. Of a density with covariates it looks at some of their `rows`, and finds
    nothing where these are not alike.
    """
    vector, unravel = ravel_pytree(density.free())
    shaken = density.at(
        unravel(vector + _SHAKEN * jax.random.normal(jax.random.key(0), vector.shape, vector.dtype))
    )
    if not density.covariates:
        return cast(kernel.prepared(Unconstrained(shaken)), vector.dtype)
    found = [kernel.prepared(Unconstrained(one)) for one in at_rows(shaken, rows)]
    alike = len({jax.tree.structure(one) for one in found}) == 1
    return cast(found[0] if alike else kernel, vector.dtype)


def unconstrained(density, events: dict) -> dict:
    """The data in unconstrained coordinates, those on a bound moved just inside; without the latent
    variables.

    What coordinates hold beyond the value (a direction's length) follows its law, or chains would
    start out of balance.
    """
    free = {}
    for name, support in density.variables.items():
        if name in events:
            values = jnp.asarray(support.inward(np.asarray(events[name])))
            keys = jax.random.split(jax.random.key(_LENGTHS), len(values))
            free[name] = jax.vmap(support.lifted)(values, keys)
    return free


def constrained(density, positions: dict) -> dict:
    """The events at these coordinates."""
    return {
        name: jax.vmap(density.variables[name].constrain)(value)
        for name, value in positions.items()
    }


def starting_tuning(kernel: Any, positions: dict) -> dict:
    """The kernel's own first tuning, a mass matrix replaced by the spread of the data."""
    flat = jax.vmap(lambda one: ravel_pytree(one)[0])(positions)
    if hasattr(kernel, "initial_tunings"):
        tuning = kernel.initial_tunings(jax.tree.map(lambda leaf: leaf[0], positions))
    else:
        tuning = dict(kernel.initial_tuning(flat.shape[1]))
    if "inverse_mass_matrix" in tuning and kernel.inverse_mass_matrix is None:
        tuning["inverse_mass_matrix"] = jnp.where(jnp.var(flat, 0) > 0, jnp.var(flat, 0), 1.0)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, flat.dtype), tuning)


def advance(
    kernel: Any,
    density,
    tuning: dict,
    starts: dict,
    key: jax.Array,
    steps: int,
    rows: dict | None = None,
) -> tuple[dict, dict, jax.Array]:
    """Move every chain by some steps of the kernel; acceptance is averaged (NaN counts as a
    rejection).

    Where the density has covariates, `rows` are those of every chain.
    """
    return _moved(kernel, density, tuning, starts, key, steps, rows)[:3]


def _moved(
    kernel: Any, density, tuning: dict, starts: dict, key: jax.Array, steps: int, rows: dict | None
):
    density = jax.lax.stop_gradient(density)

    def one_chain(position, key, row):
        target = Unconstrained(density._at_row(row) if density.covariates else density)
        algorithm = kernel.build(target, tuning)

        def step(state, noise):
            state, info = algorithm.step(noise, state)
            told = kernel.stats(info)
            rate = jnp.nan_to_num(told.get("acceptance_rate", jnp.ones(())))
            return state, (rate, jnp.asarray(told.get("nan_proposal", False), rate.dtype))

        key, first = jax.random.split(key)
        noise = noise_of(kernel, key, position, steps)
        state, told = jax.lax.scan(
            step, algorithm.init(position, first), jax.tree.map(lambda leaf: leaf[:-1], noise)
        )
        # apart, so that what nobody asks of the last state, such as a gradient, is not computed
        state, last = step(state, jax.tree.map(lambda leaf: leaf[-1], noise))
        told = jax.tree.map(lambda before, one: (before.sum() + one) / steps, told, last)
        return state.position, target.constrain(state.position), *told

    count = len(next(iter(starts.values())))
    positions, events, rates, rejected = jax.vmap(one_chain)(
        starts, jax.random.split(key, count), rows
    )
    return positions, events, rates.mean(), rejected.mean()


def adapted(
    kernel: Any, tuning: dict, acceptance: jax.Array, gain: jax.Array, positions: dict
) -> dict:
    """Robbins-Monro on the log step size, for a kernel whose step size was not given."""
    if kernel.adapts is None or getattr(kernel, "step_size", 0.0) is not None:
        return tuning
    size = sum(leaf[0].size for leaf in jax.tree.leaves(positions))
    moved = tuning["step_size"] * jnp.exp(gain * (acceptance - kernel.target_acceptance(size)))
    return tuning | {"step_size": moved}


@functools.partial(jax.jit, static_argnames=("rounds", "steps"))
def stretch(
    kernel: Any,
    density,
    tuning: dict,
    positions: dict,
    key,
    gain,
    rows: dict | None = None,
    *,
    rounds: int,
    steps: int,
) -> Stretch:
    """Let chains run for some rounds of some steps; the step size adapts where `gain` is not
    zero.
    """

    def one(carry, given):
        positions, tuning = carry
        key, round_number = given
        positions, events, rate, rejected = _moved(
            kernel, density, tuning, positions, key, steps, rows
        )
        tuning = adapted(kernel, tuning, rate, gain * (1.0 + round_number) ** -0.5, positions)
        return (positions, tuning), (events, rate, rejected)

    (positions, tuning), (events, rates, rejected) = jax.lax.scan(
        one, (positions, tuning), (jax.random.split(key, rounds), jnp.arange(rounds))
    )
    return Stretch(positions, tuning, events, rates.mean(), rejected.mean())


def r_hat(values: np.ndarray) -> float:
    """Split R-hat of (chains, rounds), by Gelman et al. (2013), Bayesian Data Analysis, ch. 11; 1
    if nothing varies.
    """
    length = values.shape[1] // 2
    halves = np.concatenate([values[:, :length], values[:, length : 2 * length]])
    within, between = halves.var(1, ddof=1).mean(), halves.mean(1).var(ddof=1)
    if within + between <= 1e-20 * (1 + np.mean(values**2)):
        return 1.0
    return float(np.sqrt((length - 1) / length + between / within)) if within > 0 else np.inf


__all__ = [
    "Stretch", "adapted", "advance", "chosen_kernel", "constrained", "named_kernel", "prepared_kernel", "r_hat",
    "starting_tuning", "stretch", "unconstrained", "unserved",
]  # fmt: skip
