"""Step sizes of many chains in warm-up: a search for a reasonable one, then dual averaging."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from blackjax.adaptation.step_size import DualAveragingAdaptationState, dual_averaging_adaptation


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


class Search:
    """The direction of a search for a reasonable step: -1 and 1 while it goes on."""

    BEFORE = 0
    SETTLED = 2


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


def start_averaging(step_size: jax.Array) -> DualAveragingAdaptationState:
    """Dual averaging from these step sizes."""
    init, _, _ = dual_averaging_adaptation(0.0)  # the target matters in updates alone
    return jax.vmap(init)(step_size)


def update_steps(state: Steps, acceptance: jax.Array, options: WarmupOptions) -> Steps:
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
    averaging = start_averaging(
        jnp.exp(jnp.where(turned, settled_at, log_step + way * np.log(2.0)))
    )
    settled = state.direction == Search.SETTLED
    direction = jnp.where(settled | turned, Search.SETTLED, way)
    return state._replace(
        averaging=averaging, direction=direction, searched=state.searched + ~settled
    )


def one_step_for_all(state: Steps, now: jax.Array, options: WarmupOptions) -> Steps:
    """Where it is time, every chain searches again from the common step, and pools its acceptance
    with the others'.
    """
    fresh = start_averaging(
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


def sources(lost: jax.Array) -> jax.Array:
    """For each chain the one whose state it takes: its own, unless it is lost and another is
    not.
    """
    order, moving = jnp.argsort(lost, stable=True), jnp.sum(~lost)
    index = jnp.arange(len(lost))
    return jnp.where(lost & (moving > 0), order[index % jnp.maximum(moving, 1)], index)
