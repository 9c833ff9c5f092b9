"""Warm-up: what a kernel adapts, one update a step inside the driver's own scan.

In a first buffer every chain searches and adapts a step size of its own, so that one chain that
accepts nothing cannot shrink the step of the others. Then acceptance and metric are pooled over the
chains that move, and a stuck chain goes on from one of these. Options that the user gave stay as
given.

A strategy has six functions: `begin` makes its state, `current` the tuning of one chain's next
step, `restart` moves stuck chains and `restarts` counts them, `advance` learns from one step of all
chains, `finish` gives the final tuning.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from blackjax.adaptation.window_adaptation import build_schedule
from jax.flatten_util import ravel_pytree

from unnorm.sampling.metric import Moments, metric_of, no_moments, update_moments
from unnorm.sampling.step_sizes import (
    Steps,
    WarmupOptions,
    common_step,
    moves,
    one_step_for_all,
    sources,
    start_averaging,
    stuck,
    update_steps,
)


class Event:
    """What may end at a step of the schedule."""

    BUFFER_ENDS = 1
    WINDOW_ENDS = 2


class NoAdaptation:
    """Nothing is adapted."""

    windows = False  # whether it follows Stan's windows

    def begin(self, kernel: Any, tuning: dict, positions: dict) -> Any:
        """The state before the first step of the chains at `positions`."""
        return ()

    def current(self, kernel: Any, state: Any, tuning: dict, chain: jax.Array) -> dict:
        """The tuning of the next step of the chain of this number."""
        return tuning

    def restart(self, state: Any, states: Any, stage: tuple) -> tuple[Any, Any]:
        """Move chains that are stuck; returns the adaptation's state and the chains'."""
        return state, states

    def restarts(self, state: Any, chains: int) -> jax.Array:
        """How often each chain was restarted."""
        return jnp.zeros(chains, jnp.int32)

    def advance(self, kernel: Any, state: Any, positions: dict, info: Any, stage: tuple) -> Any:
        """One step of adaptation from the positions of all chains and the info of their steps."""
        return state

    def finish(self, kernel: Any, state: Any, tuning: dict) -> dict:
        return tuning


class StepSize(NoAdaptation):
    """A search for a reasonable step, then dual averaging (Hoffman and Gelman, 2014,
    arXiv:1111.4246).
    """

    windows = True
    options = WarmupOptions()

    def begin(self, kernel, tuning, positions) -> Any:
        chains = len(jax.tree.leaves(positions)[0])
        target = jnp.full(chains, kernel.target_acceptance(size_of(first(positions))), float)
        step_size = jnp.broadcast_to(jnp.asarray(tuning["step_size"], float), (chains,))
        whole = jnp.zeros(chains, jnp.int32)
        return Steps(
            start_averaging(step_size), whole, whole, target, target, whole, jnp.zeros((), bool)
        )

    def current(self, kernel, state, tuning, chain) -> dict:
        return unless_given(
            kernel, tuning, {"step_size": jnp.exp(state.averaging.log_step_size[chain])}
        )

    def restart(self, state, states, stage) -> tuple[Any, Any]:
        """At the end of the first buffer and of each window, a stuck chain goes on from a chain
        that moves.
        """

        def look(steps, states):
            source = sources(stuck(steps, getattr(states, "logdensity", None), self.options))
            moved, states = jax.tree.map(
                lambda leaf: leaf[source], (steps._replace(pooled=()), states)
            )
            changed = source != jnp.arange(len(source))
            return moved._replace(restarts=steps.restarts + changed, pooled=steps.pooled), states

        return jax.lax.cond(stage[1] > 0, look, lambda *same: same, state, states)

    def restarts(self, state, chains) -> jax.Array:
        return state.restarts

    def advance(self, kernel, state, positions, info, stage) -> Any:
        rates = jnp.nan_to_num(jax.vmap(kernel.stats)(info)["acceptance_rate"])
        state = update_steps(state, rates, self.options)
        return one_step_for_all(state, stage[1] == Event.BUFFER_ENDS, self.options)

    def finish(self, kernel, state, tuning) -> dict:
        return unless_given(kernel, tuning, {"step_size": common_step(state, self.options)})


class WindowState(NamedTuple):
    """Step sizes, the moments of the present window, and the metric in use."""

    steps: Steps
    moments: Moments
    metric: Any


class Window(StepSize):
    """Stan's windows: steps as in `StepSize`, and a metric from the draws of all chains that
    move.
    """

    def begin(self, kernel, tuning, positions) -> Any:
        moments = no_moments(size_of(first(positions)), kernel.dense)
        return WindowState(
            super().begin(kernel, tuning, positions),
            moments,
            jnp.asarray(tuning[kernel.metric_option], float),
        )

    def current(self, kernel, state, tuning, chain) -> dict:
        return unless_given(
            kernel,
            super().current(kernel, state.steps, tuning, chain),
            {kernel.metric_option: state.metric},
        )

    def restart(self, state, states, stage) -> tuple[Any, Any]:
        steps, states = super().restart(state.steps, states, stage)
        return state._replace(steps=steps), states

    def restarts(self, state, chains) -> jax.Array:
        return state.steps.restarts

    def advance(self, kernel, state, positions, info, stage) -> Any:
        slow, event, _ = stage
        steps = super().advance(kernel, state.steps, positions, info, stage)
        seen = update_moments(state.moments, flat_positions(positions), moves(steps, self.options))
        moments = jax.tree.map(lambda new, old: jnp.where(slow == 1, new, old), seen, state.moments)
        ends = event == Event.WINDOW_ENDS
        metric = self.learn_metric(kernel, moments, state.metric, ends)
        moments = jax.tree.map(lambda leaf: jnp.where(ends, 0, leaf), moments)
        return WindowState(one_step_for_all(steps, ends, self.options), moments, metric)

    def learn_metric(self, kernel, moments: Moments, old: Any, ends: jax.Array) -> Any:
        """The metric in use: a new one where a window ends."""
        return jnp.where(ends, metric_of(moments, old), old)

    def finish(self, kernel, state, tuning) -> dict:
        adapted = {
            "step_size": common_step(state.steps, self.options),
            kernel.metric_option: state.metric,
        }
        return unless_given(kernel, tuning, adapted)


# -- which, and when -------------------------------------------------------------------------------
STRATEGIES = {
    None: NoAdaptation(),
    "step_size": StepSize(),
    "window": Window(),
    "microcanonical": NoAdaptation(),
}


def strategy(kernel: Any) -> NoAdaptation:
    """What the kernel names, or brings along."""
    named = kernel.adapts
    return STRATEGIES[named] if named is None or isinstance(named, str) else named


def schedule(kernel: Any, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each warm-up step its stage (1: the metric learns), what ends with it, and the share of
    the warm-up that is then over.
    """
    over = np.arange(1, steps + 1, dtype=np.float32) / max(steps, 1)
    if not strategy(kernel).windows:
        return np.zeros(steps, np.int32), np.zeros(steps, np.int32), over
    return *_windows(steps), over


@functools.cache
def _windows(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Stan's windows as BlackJAX cuts them."""
    stages, ends = np.asarray(build_schedule(steps), np.int32).reshape(steps, 2).T
    events = Event.WINDOW_ENDS * ends
    begins = np.flatnonzero(np.diff(stages) == 1)  # the last steps before a first slow window
    events[begins] = Event.BUFFER_ENDS
    return stages, events


def unless_given(kernel: Any, tuning: dict, adapted: dict) -> dict:
    """The tuning with what was adapted, but for the options that the user gave."""
    return tuning | {
        name: value for name, value in adapted.items() if getattr(kernel, name) is None
    }


def first(positions: dict) -> dict:
    """The position of the first chain."""
    return jax.tree.map(lambda leaf: leaf[0], positions)


def flat_positions(positions: dict) -> jax.Array:
    """The positions of all chains as (chains, size)."""
    return jax.vmap(lambda one: ravel_pytree(one)[0])(positions)


def size_of(position: dict) -> int:
    """The number of coordinates and sites of a position."""
    return sum(leaf.size for leaf in jax.tree.leaves(position))
