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
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from blackjax.adaptation.step_size import DualAveragingAdaptationState, dual_averaging_adaptation
from blackjax.adaptation.window_adaptation import build_schedule
from jax.flatten_util import ravel_pytree

from unnorm.sampling.metric import Moments, metric_of, no_moments, update_moments


@dataclass(frozen=True)
class WarmupOptions:
    """How the step sizes of many chains are adapted.

    Args:
        max_search: doublings or halvings at most, in the search for a reasonable step.
        forgetting: weight of one step in a chain's running acceptance: about the last 20 count.
        stuck_acceptance: share of the target rate below which a chain counts as stuck.
        tiny_step: share of the median step below which a chain whose log-density is also the
            lowest counts as lost in a tail.
        min_updates: of dual averaging, before its average is better than its last value.
    """

    max_search: int = 60
    forgetting: float = 0.05
    stuck_acceptance: float = 0.1
    tiny_step: float = 1e-3
    min_updates: int = 3


class Event:
    """What may end at a step of the schedule."""

    BUFFER_ENDS = 1
    WINDOW_ENDS = 2


class Search:
    """The direction of a search for a reasonable step: -1 and 1 while it goes on."""

    BEFORE = 0
    SETTLED = 2


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


class Steps(NamedTuple):
    """The step sizes of all chains; each leaf (chains,), but for `pooled`.

    `direction` is a value of `Search`: SETTLED once dual averaging runs.
    """

    averaging: DualAveragingAdaptationState
    direction: jax.Array
    searched: jax.Array
    acceptance: jax.Array  # a running mean
    target: jax.Array
    restarts: jax.Array
    pooled: jax.Array


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
            _start_averaging(step_size), whole, whole, target, target, whole, jnp.zeros((), bool)
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
            source = _sources(stuck(steps, getattr(states, "logdensity", None), self.options))
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
        state = _update_steps(state, rates, self.options)
        return _one_step_for_all(state, stage[1] == Event.BUFFER_ENDS, self.options)

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
        return WindowState(_one_step_for_all(steps, ends, self.options), moments, metric)

    def learn_metric(self, kernel, moments: Moments, old: Any, ends: jax.Array) -> Any:
        """The metric in use: a new one where a window ends."""
        return jnp.where(ends, metric_of(moments, old), old)

    def finish(self, kernel, state, tuning) -> dict:
        adapted = {
            "step_size": common_step(state.steps, self.options),
            kernel.metric_option: state.metric,
        }
        return unless_given(kernel, tuning, adapted)


# -- step sizes ------------------------------------------------------------------------------------
def _start_averaging(step_size: jax.Array) -> DualAveragingAdaptationState:
    init, _, _ = dual_averaging_adaptation(0.0)  # the target matters in updates alone
    return jax.vmap(init)(step_size)


def _update_steps(state: Steps, acceptance: jax.Array, options: WarmupOptions) -> Steps:
    """One update of each chain's search or averaging, by its own acceptance or by that of all
    chains that move.
    """
    running = state.acceptance + options.forgetting * (acceptance - state.acceptance)
    state = state._replace(acceptance=running)
    moving = moves(state, options)
    counted = jnp.where(moving.any(), moving, True).astype(acceptance.dtype)
    heard = jnp.where(state.pooled, counted @ acceptance / counted.sum(), acceptance)
    found = _search(state, heard, options)
    settled = state.direction == Search.SETTLED
    averaged = jax.vmap(lambda target, one, rate: dual_averaging_adaptation(target)[1](one, rate))(
        state.target, state.averaging, heard
    )
    averaging = jax.tree.map(
        lambda new, old: jnp.where(settled, new, old), averaged, found.averaging
    )
    return found._replace(averaging=averaging)


def _search(state: Steps, acceptance: jax.Array, options: WarmupOptions) -> Steps:
    """One step of the search: double while the chain accepts enough, halve while it does not,
    settle at the turn.

    It tries the steps on the chain's own way, so that it costs no second compiled program.
    """
    good = acceptance > state.target
    way = jnp.where(good, 1, -1)
    log_step = state.averaging.log_step_size
    turned = (state.direction == -way) | (state.searched >= options.max_search)
    # A search upwards ends one doubling too far; one downwards ends at the first step that is good.
    settled_at = jnp.where(good, log_step, log_step - np.log(2.0))
    averaging = _start_averaging(
        jnp.exp(jnp.where(turned, settled_at, log_step + way * np.log(2.0)))
    )
    settled = state.direction == Search.SETTLED
    direction = jnp.where(settled | turned, Search.SETTLED, way)
    return state._replace(
        averaging=averaging, direction=direction, searched=state.searched + ~settled
    )


def _one_step_for_all(state: Steps, now: jax.Array, options: WarmupOptions) -> Steps:
    """Where it is time, every chain searches again from the common step, and pools its acceptance
    with the others'.
    """
    fresh = _start_averaging(
        jnp.full_like(state.averaging.log_step_size, common_step(state, options))
    )
    averaging = jax.tree.map(lambda new, old: jnp.where(now, new, old), fresh, state.averaging)
    direction, searched = (jnp.where(now, 0, leaf) for leaf in (state.direction, state.searched))
    return state._replace(
        averaging=averaging, direction=direction, searched=searched, pooled=state.pooled | now
    )


def common_step(state: Steps, options: WarmupOptions = WarmupOptions()) -> jax.Array:
    """The geometric mean of the steps of the chains that move."""
    averaging, moving = state.averaging, moves(state, options)
    learned = (state.direction == Search.SETTLED) & (averaging.step > options.min_updates)
    logs = jnp.where(learned, averaging.log_step_size_avg, averaging.log_step_size)
    weights = jnp.where(moving.any(), moving, True).astype(logs.dtype)
    return jnp.exp(weights @ logs / weights.sum())


def moves(state: Steps, options: WarmupOptions) -> jax.Array:
    """Which chains accept enough to move."""
    return state.acceptance >= options.stuck_acceptance * state.target


def stuck(
    steps: Steps, log_density: jax.Array | None, options: WarmupOptions = WarmupOptions()
) -> jax.Array:
    """Chains that accept next to nothing, or creep where the log-density is below that of all
    others.

    A small step alone is no sign: the chain may follow a narrow mode, whose log-density is high.
    """
    still = ~moves(steps, options)
    if log_density is None:
        return still
    logs = steps.averaging.log_step_size
    creeps = logs < jnp.median(logs) + np.log(options.tiny_step)
    lowest = jnp.where(still | creeps, jnp.inf, log_density).min()
    return still | (creeps & (log_density < lowest))


def _sources(lost: jax.Array) -> jax.Array:
    """For each chain the one whose state it takes: its own, unless it is lost and another is
    not.
    """
    order, moving = jnp.argsort(lost, stable=True), jnp.sum(~lost)
    index = jnp.arange(len(lost))
    return jnp.where(lost & (moving > 0), order[index % jnp.maximum(moving, 1)], index)


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
