"""How long a trajectory is: the mean number of leapfrog steps, learned with step size and metric.

The criterion is ChEES, the expected squared change of half the squared distance from the centre,
in the coordinates of the metric, over a power of the trajectory's length. Its slope in the log of
the length is known from the end of each trajectory, so that every step of every chain teaches;
chains are pooled.

References: Hoffman, Radul and Sountsov (2021), Proceedings of Machine Learning Research 130
(AISTATS), 3907-3915; Sountsov and Hoffman (2021), arXiv:2110.11576 (cost); Robnik, Cohn-Gordon and
Seljak (2025), arXiv:2503.01707 (the acceptance rate of adjusted MCLMC).
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from blackjax.mcmc.adjusted_mclmc import rescale
from blackjax.mcmc.dynamic_hmc import halton_sequence

from unnorm.sampling.adaptation import Window, WindowState, flat_positions, unless_given
from unnorm.sampling.step_sizes import Steps, moves


@dataclass(frozen=True)
class TrajectoryOptions:
    """How the mean number of leapfrog steps is learned.

    Args:
        first: steps of a trajectory before anything is known.
        most: steps on average at most; NUTS takes 1,023 at most.
        forgetting: weight of one step of all chains in the running expectations: about the last 30
            count.
        rate: of the first update of the log of the number; later ones shrink as t^-decay.
        decay: below 1, so that updates go on, and above .5, so that their noise is averaged away.
        cost: exponent of the length in the criterion: 0 is ChEES itself, of which the length of an
            isokinetic trajectory has no maximum (512 steps on a Gaussian), 1 is ChEES per gradient,
            under which the means mix badly. On Gaussians of 100 dimensions .5 had the highest ESS
            per gradient.
    """

    first: float = 4.0
    most: float = 512.0
    forgetting: float = 0.03
    rate: float = 0.3
    decay: float = 0.6
    cost: float = 0.5


class TrajectoryState(NamedTuple):
    """What `Trajectory` has learned; expectations are running means over steps and chains."""

    window: WindowState
    positions: jax.Array  # (chains, size), from which the next trajectories start
    centre: jax.Array  # (size,)
    slope: jax.Array  # of the jump in the log of the length
    jump: jax.Array  # squared change of half the squared distance from the centre
    log_steps: jax.Array
    average: jax.Array  # of log_steps over updates
    updates: jax.Array


class Trajectory(Window):
    """Windows for step size and metric, and the mean number of leapfrog steps."""

    lengths = TrajectoryOptions()

    def begin(self, kernel, tuning, positions) -> Any:
        flat = flat_positions(positions)
        zero = jnp.zeros((), flat.dtype)
        log_first = zero + np.log(self.lengths.first)
        return TrajectoryState(
            super().begin(kernel, tuning, positions),
            flat,
            flat.mean(0),
            zero,
            zero,
            log_first,
            log_first,
            jnp.zeros((), jnp.int32),
        )

    def current(self, kernel, state, tuning, chain) -> dict:
        tuning = super().current(kernel, state.window, tuning, chain)
        length = tuning["step_size"] * jnp.exp(state.log_steps)
        return unless_given(kernel, tuning, {"length": length})

    def restart(self, state, states, stage) -> tuple[Any, Any]:
        window, states = super().restart(state.window, states, stage)
        return state._replace(window=window), states

    def restarts(self, state, chains) -> jax.Array:
        return state.window.steps.restarts

    def advance(self, kernel, state, positions, info, stage) -> Any:
        window = super().advance(kernel, state.window, positions, info, stage)
        window = window._replace(steps=_without_overshoot(window.steps))
        flat, moving = flat_positions(positions), moves(window.steps, self.options)
        weights = jnp.where(moving.any(), moving, True).astype(flat.dtype)
        weights = weights / weights.sum()
        share = jnp.maximum(self.lengths.forgetting, 1.0 / (2 + state.updates))
        state = self._learn(kernel, state, weights, info, share)
        return state._replace(
            window=window,
            positions=flat,
            centre=state.centre + self.lengths.forgetting * (weights @ flat - state.centre),
        )

    def _learn(self, kernel, state, weights, info, share) -> TrajectoryState:
        """One update of the number of steps, once the chains share a step size."""
        slope, jump = self._jumps(kernel, state, info)
        slope = state.slope + share * (weights @ slope - state.slope)
        jump = state.jump + share * (weights @ jump - state.jump)
        gain = jnp.nan_to_num(slope / jump) - self.lengths.cost
        updates = state.updates + 1
        rate = self.lengths.rate * updates**-self.lengths.decay
        log_steps = state.log_steps + rate * jnp.clip(gain, -1.0, 1.0)
        log_steps = jnp.clip(log_steps, 0.0, np.log(self.lengths.most))
        average = state.average + (log_steps - state.average) * jnp.maximum(2 / (1 + updates), 0.01)
        new = state._replace(
            slope=slope, jump=jump, log_steps=log_steps, average=average, updates=updates
        )
        pooled = state.window.steps.pooled
        return jax.tree.map(lambda now, old: jnp.where(pooled, now, old), new, state)

    def _jumps(self, kernel, state, info) -> tuple[jax.Array, jax.Array]:
        """For each chain the slope and the size of its jump, weighted with its acceptance."""
        metric, steps = state.window.metric, state.window.steps
        scale = jax.lax.rsqrt(metric)
        end, velocity, count = jax.vmap(lambda one: kernel.end_of_trajectory(one, metric))(info)
        given = kernel.step_size
        time = count * (jnp.exp(steps.averaging.log_step_size) if given is None else given)
        end = flat_positions(end)
        before, after = ((x - state.centre) * scale for x in (state.positions, end))
        change = 0.5 * ((after**2).sum(1) - (before**2).sum(1))
        rates = jax.vmap(kernel.stats)(info)["acceptance_rate"]
        slope = 2 * rates * change * (after * velocity).sum(1) * time
        jump = rates * change**2
        sound = jnp.isfinite(slope) & jnp.isfinite(jump)
        return jnp.where(sound, slope, 0.0), jnp.where(sound, jump, 0.0)

    def finish(self, kernel, state, tuning) -> dict:
        tuning = super().finish(kernel, state.window, tuning)
        length = tuning["step_size"] * jnp.exp(state.average)
        return unless_given(kernel, tuning, {"length": length})


def _without_overshoot(steps: Steps) -> Steps:
    """Dual averaging that begins at the step found and is not drawn to ten times that.

    The acceptance of a microcanonical trajectory falls from .9 to .1 within half of its step size:
    after a first step too large the average would stay too small.
    """
    averaging = steps.averaging
    fresh = averaging.step == 1
    mu = jnp.where(fresh, averaging.log_step_size, averaging.mu)
    return steps._replace(averaging=averaging._replace(mu=mu))


def steps_of_turn(turn: jax.Array, mean: jax.Array, options: Any = Trajectory.lengths) -> jax.Array:
    """The leapfrog steps of this turn: quasi-uniform on 1, ..., of this mean.

    They are the same for all chains, which so wait for none; they depend on no position, so that
    each turn leaves the density invariant.
    """
    spread = rescale(jnp.clip(mean, 1.0, options.most))
    return jnp.maximum(jnp.ceil(halton_sequence(turn) * spread), 1).astype(jnp.int32)
