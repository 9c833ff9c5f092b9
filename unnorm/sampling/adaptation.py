"""Warm-up: what a kernel adapts, pooled over chains, one update a step inside the driver's own scan.

A strategy has four functions: `begin` makes its state, `current` the tuning to step with now, `advance` learns from one
step of all chains, and `finish` gives the tuning for sampling. Options that the user gave stay as given.
"""

import functools
import warnings
from typing import Any

import blackjax.adaptation.window_adaptation as window_adaptation
import jax
import jax.numpy as jnp
import numpy as np
from blackjax.adaptation.mass_matrix import welford_algorithm
from blackjax.adaptation.step_size import dual_averaging_adaptation
from jax.flatten_util import ravel_pytree


class Fixed:
    """Nothing is adapted."""

    windows = False  # whether it learns in Stan's windows

    def begin(self, kernel: Any, tuning: dict, position: dict) -> Any:
        """The state before the first step; `position` is one chain's."""
        return ()

    def current(self, kernel: Any, state: Any, tuning: dict) -> dict:
        return tuning

    def advance(self, kernel: Any, state: Any, positions: dict, info: Any, stage: tuple) -> Any:
        """One step of adaptation from the positions of all chains and what their steps told."""
        return state

    def finish(self, kernel: Any, state: Any, tuning: dict) -> dict:
        return tuning


class StepSize(Fixed):
    """Nesterov's dual averaging of the step size, towards the kernel's acceptance rate pooled over chains."""

    def begin(self, kernel, tuning, position):
        return self._averaging(kernel, size_of(position))[0](tuning["step_size"])

    def current(self, kernel, state, tuning):
        return unless_given(kernel, tuning, {"step_size": jnp.exp(state.log_step_size)})

    def advance(self, kernel, state, positions, info, stage):
        return self._averaging(kernel, size_of(first(positions)))[1](state, pooled_acceptance(kernel, info))

    def finish(self, kernel, state, tuning):
        return unless_given(kernel, tuning, {"step_size": jnp.exp(state.log_step_size_avg)})

    def _averaging(self, kernel, size):
        return dual_averaging_adaptation(kernel.target_acceptance(size))


class Window(Fixed):
    """Stan's windows (BlackJAX's): the step size, and the mass matrix or covariance from the draws of all chains."""

    windows = True

    def begin(self, kernel, tuning, position):
        return self._base(kernel, size_of(position))[0](position, tuning["step_size"])

    def current(self, kernel, state, tuning):
        return unless_given(kernel, tuning, {"step_size": state.step_size, kernel.metric: state.inverse_mass_matrix})

    def advance(self, kernel, state, positions, info, stage):
        state = self._with_other_chains(kernel, state, positions, stage[0])
        one = first(positions)
        return self._base(kernel, size_of(one))[1](state, stage, one, pooled_acceptance(kernel, info))

    def finish(self, kernel, state, tuning):
        adapted = {
            "step_size": jnp.exp(state.ss_state.log_step_size_avg),
            kernel.metric: state.inverse_mass_matrix,
        }
        return unless_given(kernel, tuning, adapted)

    def _base(self, kernel, size):
        with warnings.catch_warnings():  # BlackJAX means to retire the name; the pin keeps it until we follow
            warnings.simplefilter("ignore", DeprecationWarning)
            return window_adaptation.base(not kernel.dense, kernel.target_acceptance(size))

    def _with_other_chains(self, kernel, state, positions, stage):
        """BlackJAX's update takes one position a step; the other chains' go into its Welford moments here."""
        others = jax.vmap(lambda one: ravel_pytree(one)[0])(jax.tree.map(lambda leaf: leaf[1:], positions))
        update = welford_algorithm(not kernel.dense)[1]
        moments = state.imm_state.wc_state
        seen, _ = jax.lax.scan(lambda carry, one: (update(carry, one), None), moments, others)
        moments = jax.tree.map(lambda new, old: jnp.where(stage == 1, new, old), seen, moments)
        return state._replace(imm_state=state.imm_state._replace(wc_state=moments))


STRATEGIES = {None: Fixed(), "step_size": StepSize(), "window": Window(), "microcanonical": Fixed()}


def strategy(kernel: Any) -> Fixed:
    """What the kernel names, or brings along."""
    named = kernel.adapts
    return STRATEGIES[named] if named is None or isinstance(named, str) else named


def schedule(kernel: Any, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """For each warm-up step its stage (1: the mass matrix learns) and whether a window ends."""
    if not strategy(kernel).windows:
        return np.zeros(steps, np.int32), np.zeros(steps, bool)
    stages, ends = _windows(steps).T
    return stages, ends.astype(bool)


@functools.cache
def _windows(steps: int) -> np.ndarray:
    """Stan's windows as BlackJAX cuts them, (steps, 2)."""
    return np.asarray(window_adaptation.build_schedule(steps), np.int32).reshape(steps, 2)


def unless_given(kernel: Any, tuning: dict, adapted: dict) -> dict:
    """The tuning with what was adapted, but for the options that the user gave."""
    return tuning | {name: value for name, value in adapted.items() if getattr(kernel, name) is None}


def pooled_acceptance(kernel: Any, info: Any) -> jax.Array:
    """The mean acceptance rate of all chains; a NaN is a rejection."""
    return jnp.nan_to_num(jax.vmap(kernel.stats)(info)["acceptance_rate"]).mean()


def first(positions: dict) -> dict:
    return jax.tree.map(lambda leaf: leaf[0], positions)


def size_of(position: dict) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(position))
