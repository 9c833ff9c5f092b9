"""Warm-up: what a kernel adapts, pooled over chains, one update a step inside the driver's own scan."""

import warnings
from typing import Any

import blackjax.adaptation.window_adaptation as window_adaptation
import jax
import jax.numpy as jnp
import numpy as np
from blackjax.adaptation.mass_matrix import welford_algorithm
from blackjax.adaptation.step_size import dual_averaging_adaptation
from jax.flatten_util import ravel_pytree


def schedule(kernel: Any, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Stan's windows: for each warm-up step its stage (1: the mass matrix learns) and whether a window ends."""
    pairs = window_adaptation.build_schedule(steps) if kernel.adapts == "window" and steps else [(0, False)] * steps
    stages = np.array([stage for stage, _ in pairs], np.int32)
    return stages, np.array([bool(end) for _, end in pairs])


def _window_base(kernel, size):
    with warnings.catch_warnings():  # BlackJAX means to retire the name; the pin keeps it until we follow
        warnings.simplefilter("ignore", DeprecationWarning)
        return window_adaptation.base(True, kernel.target_acceptance(size))


def begin(kernel: Any, tuning: dict[str, jax.Array], position: dict) -> Any:
    """The state of the adaptation before its first step; `position` is one chain's."""
    size = ravel_pytree(position)[0].size
    if kernel.adapts == "window":
        return _window_base(kernel, size)[0](position, tuning["step_size"])
    if kernel.adapts == "step_size":
        return dual_averaging_adaptation(kernel.target_acceptance(size))[0](tuning["step_size"])
    return ()


def current(kernel: Any, state: Any, tuning: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """The tuning to step with now; options that the user gave stay as given."""
    if kernel.adapts == "window":
        adapted = {"step_size": state.step_size, "inverse_mass_matrix": state.inverse_mass_matrix}
    elif kernel.adapts == "step_size":
        adapted = {"step_size": jnp.exp(state.log_step_size)}
    else:
        adapted = {}
    return tuning | {name: value for name, value in adapted.items() if getattr(kernel, name) is None}


def advance(kernel: Any, state: Any, positions: dict, acceptance: jax.Array, stage: tuple) -> Any:
    """One step of adaptation from the positions and acceptance rates of all chains."""
    size = ravel_pytree(jax.tree.map(lambda leaf: leaf[0], positions))[0].size
    pooled = jnp.nan_to_num(acceptance).mean()
    if kernel.adapts == "step_size":
        return dual_averaging_adaptation(kernel.target_acceptance(size))[1](state, pooled)
    if kernel.adapts == "window":
        first = jax.tree.map(lambda leaf: leaf[0], positions)
        state = _with_other_chains(state, positions, stage[0])
        return _window_base(kernel, size)[1](state, stage, first, pooled)
    return state


def _with_other_chains(state: Any, positions: dict, stage: jax.Array) -> Any:
    """BlackJAX's update takes one position a step; the other chains' go into its Welford moments here."""
    others = jax.vmap(lambda one: ravel_pytree(one)[0])(jax.tree.map(lambda leaf: leaf[1:], positions))
    update = welford_algorithm(True)[1]
    moments = state.imm_state.wc_state
    seen, _ = jax.lax.scan(lambda carry, one: (update(carry, one), None), moments, others)
    moments = jax.tree.map(lambda new, old: jnp.where(stage == 1, new, old), seen, moments)
    return state._replace(imm_state=state.imm_state._replace(wc_state=moments))


def finish(kernel: Any, state: Any, tuning: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """The tuning for sampling: averaged over warm-up."""
    if kernel.adapts == "window":
        step_size, mass = jnp.exp(state.ss_state.log_step_size_avg), state.inverse_mass_matrix
        adapted = {"step_size": step_size, "inverse_mass_matrix": mass}
    elif kernel.adapts == "step_size":
        adapted = {"step_size": jnp.exp(state.log_step_size_avg)}
    else:
        adapted = {}
    return tuning | {name: value for name, value in adapted.items() if getattr(kernel, name) is None}
