"""The highest likelihood with one listed entry held, by Newton's steps along its level."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from unnorm.core.compilation.policy import compiled
from unnorm.fitting.base import Refreshable
from unnorm.fitting.inference.delta_method import free_entries
from unnorm.fitting.inference.intervals import to_unbounded
from unnorm.fitting.loss import Loss, hessian


@dataclass(frozen=True)
class ProfileOptions:
    """Budgets and tolerances of a profile.

    Attributes:
        steps: Newton steps of one maximization.
        halvings: of one of its steps.
        decrement: squared distance to the optimum in the curvature's metric.
        reach: first steps from the estimate at which an end is searched for at most.
        refreshes: how often log Z may be put on new nodes.
        higher: of a deviance below the estimate's, from which the estimate is not the maximum.
    """

    steps: int = 100
    halvings: int = 40
    decrement: float = 1e-16
    reach: float = 2.0**12
    refreshes: int = 5
    higher: float = 1e-6


DEFAULTS = ProfileOptions()


class HeldEntry(NamedTuple):
    """A likelihood, and the entry that is held, on the scale that has no bounds."""

    function: Loss
    rows: int
    best: np.ndarray  # the estimate
    place: int
    bounds: tuple[float, float]

    def loss(self, vector) -> float:
        return float(_mean(self.function, vector))

    def derivatives(self, vector) -> Any:
        return jax.tree.map(np.asarray, _derivatives(self.function, vector))

    def entry(self, vector) -> Any:
        """The held entry, its gradient and its Hessian."""
        found = _entry(self.function, vector, self.place, bounds=self.bounds)
        return jax.tree.map(np.asarray, found)

    def deviance(self, vector) -> float:
        return 2 * self.rows * (self.loss(vector) - self.loss(self.best))

    def refresh(self, vector) -> "HeldEntry | None":
        """The same on new nodes, where those of log Z no longer hold at this vector."""
        if not isinstance(self.function.objective, Refreshable):
            return None
        there = self.function.at(vector)
        state = there.objective.refresh(there.density, self.function.state, there.events)
        return (
            None if state is None else self._replace(function=self.function._replace(state=state))
        )


@compiled
def _mean(loss: Loss, vector: jax.Array) -> jax.Array:
    return loss.mean(vector)


@compiled
def _derivatives(loss: Loss, vector: jax.Array):
    return *jax.value_and_grad(loss.mean)(vector), hessian(loss.mean, vector)


@compiled(static_argnames="bounds")
def _entry(loss: Loss, vector, place, bounds):
    def value(vector):
        return to_unbounded(free_entries(loss.density, loss.free_at, vector)[place], bounds)

    return *jax.value_and_grad(value)(vector), jax.hessian(value)(vector)


def constrained_maximum(held: HeldEntry, target: float, start: np.ndarray) -> np.ndarray | None:
    """The vector of highest likelihood whose entry is at the target: Newton's steps along it, put
    back onto it.
    """
    vector = _put_back(held, start, target)
    for _ in range(DEFAULTS.steps if vector is not None else 0):
        assert vector is not None
        value, gradient, curvature = held.derivatives(vector)
        _, slope, bend = held.entry(vector)
        if not (np.isfinite(value) and np.isfinite(curvature).all()):
            return None
        if len(vector) == 1:
            return vector
        along = np.linalg.qr(slope[:, None], mode="complete")[0][
            :, 1:
        ]  # what leaves the entry as it is
        reduced = along.T @ (curvature - (slope @ gradient) / (slope @ slope) * bend) @ along
        sizes, axes = np.linalg.eigh((reduced + reduced.T) / 2)
        sizes = np.maximum(
            np.abs(sizes), 1e-14 * np.abs(sizes).max() + 1e-300
        )  # where it is not convex, downhill
        slopes = axes.T @ along.T @ gradient
        if slopes @ (slopes / sizes) < DEFAULTS.decrement * (1 + abs(value)):
            return vector
        vector, moved = _downhill(held, target, vector, -along @ axes @ (slopes / sizes), value)
        if not moved:  # what is left is rounding
            return vector
    return None


def _downhill(
    held: HeldEntry, target: float, vector, step, value: float
) -> tuple[np.ndarray, bool]:
    for halving in range(DEFAULTS.halvings):
        trial = _put_back(held, vector + step / 2**halving, target)
        if trial is not None and held.loss(trial) < value:
            return trial, True
    return vector, False


def _put_back(held: HeldEntry, vector: np.ndarray, target: float) -> np.ndarray | None:
    """Onto the vectors whose entry is at the target, by Newton's steps along its gradient."""
    for _ in range(DEFAULTS.steps):
        value, slope, _ = held.entry(vector)
        if not (np.isfinite(value) and np.isfinite(slope).all()):
            return None
        if abs(value - target) <= 1e-12 * (1 + abs(target)):
            return vector
        vector = vector + slope * (target - value) / (slope @ slope)
    return None
