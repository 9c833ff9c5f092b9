"""Profile likelihood: one entry held, everything else at its maximum; where that falls by half a χ²
quantile.

References: Venzon and Moolgavkar (1988), doi:10.2307/2347496; Nocedal and Wright (2006), chapter 18
(equality constraints by the null space).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.stats import chi2

from unnorm.core.compilation.policy import compiled
from unnorm.core.progress import bar
from unnorm.fitting.base import Refreshable
from unnorm.fitting.inference.sandwich import (
    error_in_unbounded,
    free_entries,
    from_unbounded,
    to_unbounded,
)
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


def profile(fit, level: float, progress: bool) -> pd.DataFrame:
    """The table of `Fit.profile`."""
    _check(fit, level)
    problem, loss = fit._origin
    quantile = chi2.ppf(level, 1)
    with (
        jax.enable_x64(problem.is_double),
        bar("Profile likelihood", 2 * len(fit._estimates), progress) as shown,
    ):
        vector = np.asarray(loss.vector)
        errors = fit.summary()["standard_error"].to_numpy()
        ends = []
        for place, bounds in enumerate(fit._bounds()):
            held = _Held(loss, problem.rows, vector, place, bounds)
            estimate = from_unbounded(held.entry(vector)[0], bounds)
            step = np.sqrt(quantile) * error_in_unbounded(estimate, errors[place], bounds)
            step = step if np.isfinite(step) and step > 0 else 1.0
            for sign in (-1, 1):
                ends.append(_end(held, sign * step, quantile, fit._labels()[place]))
                shown.step(1, fit._labels()[place])
    lower, upper = np.reshape(ends, (-1, 2)).T
    columns = {"estimate": fit._estimates, "lower": lower, "upper": upper}
    return pd.DataFrame(columns, index=fit._index())


def profile_curve(fit, label: str, values: np.ndarray) -> np.ndarray:
    """The deviance 2 (ℓ̂ − ℓ(θ_j)) of one listed entry at these values, sorted; NaN where no
    maximum was found.

    Raises:
        ValueError: what `Fit.profile` raises.
    """
    _check(fit, 0.95)
    problem, loss = fit._origin
    place = fit._labels().index(label)
    with jax.enable_x64(problem.is_double):
        vector = np.asarray(loss.vector)
        held = _Held(loss, problem.rows, vector, place, fit._bounds()[place])
        origin = from_unbounded(held.entry(vector)[0], held.bounds)
        found = np.full(len(values), np.nan)
        middle = int(np.searchsorted(values, origin))
        for places in (range(middle, len(values)), range(middle - 1, -1, -1)):
            near: Any = vector
            for at in places:  # outward, each from the last
                near = _maximum(held, float(to_unbounded(values[at], held.bounds)), near)
                if near is None:
                    break
                found[at] = held.deviance(near)
    return found


def _check(fit, level: float) -> None:
    if not (isinstance(level, float) and 0 < level < 1):
        raise ValueError(
            f"level is {level!r}; it must be between 0 and 1; pass, for example, 0.95."
        )
    fit._refuse_several("profile")
    request = f"profile was asked of a fit of {fit.density.name}"
    other = "use fit.summary() or fit.bootstrap()"
    draws = fit._origin and getattr(fit._origin.problem.objective, "draws", None)
    if fit.objective != "maximum_likelihood" or draws is not None:
        raise ValueError(
            f"{request} by {fit.objective} without an exact log Z; expected maximum likelihood "
            f"with an exact log Z; fit by un.objectives.MaximumLikelihood(), or {other}."
        )
    if fit._origin is None:
        raise ValueError(
            f"{request} that was loaded, without its data; expected one made in this process; fit "
            "again."
        )
    problem, loss = fit._origin
    options = {
        "weights": problem.weights,
        "clusters": problem.clusters,
        "a penalty or prior": problem.penalty,
    }
    for name, value in options.items():
        if value is not None:
            raise ValueError(
                f"{request} with {name}, whose deviance has no χ² distribution; expected none; "
                f"{other}."
            )
    with jax.enable_x64(problem.is_double):
        size, few = len(loss.vector), loss.has_few_parameters()
    if not few or not len(fit._estimates):
        raise ValueError(
            f"{request} with {size} parameters; expected few enough for a Hessian, all of them "
            f"listed; {other}."
        )


# -- the maximum with one entry held ---------------------------------------------------------------
class _Held(NamedTuple):
    """A likelihood, and the entry that is held, on the scale that has no bounds."""

    function: Loss
    rows: int
    best: np.ndarray  # the estimate
    place: int
    bounds: tuple[float, float]

    def loss(self, vector) -> float:
        return float(_mean(self.function, vector))

    def derivatives(self, vector):
        return jax.tree.map(np.asarray, _derivatives(self.function, vector))

    def entry(self, vector):
        """The held entry, its gradient and its Hessian."""
        found = _entry(self.function, vector, self.place, bounds=self.bounds)
        return jax.tree.map(np.asarray, found)

    def deviance(self, vector) -> float:
        return 2 * self.rows * (self.loss(vector) - self.loss(self.best))

    def refresh(self, vector) -> "_Held | None":
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


def _maximum(held: _Held, target: float, start: np.ndarray) -> np.ndarray | None:
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


def _downhill(held: _Held, target: float, vector, step, value: float) -> tuple[np.ndarray, bool]:
    for halving in range(DEFAULTS.halvings):
        trial = _put_back(held, vector + step / 2**halving, target)
        if trial is not None and held.loss(trial) < value:
            return trial, True
    return vector, False


def _put_back(held: _Held, vector: np.ndarray, target: float) -> np.ndarray | None:
    """Onto the vectors whose entry is at the target, by Newton's steps along its gradient."""
    for _ in range(DEFAULTS.steps):
        value, slope, _ = held.entry(vector)
        if not (np.isfinite(value) and np.isfinite(slope).all()):
            return None
        if abs(value - target) <= 1e-12 * (1 + abs(target)):
            return vector
        vector = vector + slope * (target - value) / (slope @ slope)
    return None


# -- the ends --------------------------------------------------------------------------------------
def _end(held: _Held, step: float, quantile: float, label: str) -> float:
    """Where the profile's deviance reaches the quantile, on one side of the estimate; the bound
    where it never does.
    """
    vector: np.ndarray | None = held.best
    for _ in range(DEFAULTS.refreshes):
        found, vector = _crossing(held, step, quantile, vector, label)
        fresh = None if vector is None else held.refresh(vector)
        if fresh is None:
            return found
        held = fresh
    return np.nan


def _crossing(
    held: _Held, step: float, quantile: float, near, label: str
) -> tuple[float, np.ndarray | None]:
    """The end and the vector there, on the nodes that log Z has now."""
    origin = float(held.entry(held.best)[0])
    path = {
        0.0: held.best,
        float(held.entry(near)[0]) - origin: near,
    }  # vectors by distance, to start from

    def excess(distance: float) -> float:
        closest = min(path, key=lambda known: abs(known - distance))
        vector = _maximum(held, origin + distance, path[closest])
        if vector is None:
            return np.nan
        path[distance] = vector
        deviance = held.deviance(vector)
        if deviance < -DEFAULTS.higher:
            raise ValueError(
                f"The profile of {label} found a likelihood that is higher than the fit's, by "
                f"{-deviance / 2:.3g}; "
                "expected the fit at its highest maximum; fit again with restarts=10."
            )
        return np.sqrt(max(deviance, 0.0)) - np.sqrt(quantile)  # nearly linear

    def value_at(distance: float) -> float:
        return from_unbounded(origin + distance, held.bounds)

    inner, outer = _bracket(excess, step, value_at)
    if inner is None:
        return np.nan, None
    if outer is None:
        return held.bounds[int(step > 0)], path[inner]
    root = float(brentq(excess, inner, outer, xtol=1e-9 * abs(step), rtol=1e-12))
    return float(from_unbounded(origin + root, held.bounds)), path[
        min(path, key=lambda known: abs(known - root))
    ]


def _bracket(
    excess: Callable, step: float, value_at: Callable
) -> tuple[float | None, float | None]:
    """Distances on both sides of the end: (inside, outside); outside is None where there is no
    end.
    """
    inner, distance, failures = 0.0, step, 0
    with np.errstate(over="ignore"):
        while abs(distance) <= DEFAULTS.reach * abs(step) and np.isfinite(value_at(distance)):
            found = excess(distance)
            if found >= 0:
                return inner, distance
            if found < 0:
                inner, distance = distance, distance + 2 * (distance - inner)
            elif failures < DEFAULTS.halvings:  # no maximum was found there: nearer
                distance, failures = (inner + distance) / 2, failures + 1
            else:
                return None, None
    return inner, None
