"""Profile likelihood: one entry held, everything else at its maximum; where that falls by half a χ²
quantile.

References: Venzon and Moolgavkar (1988), doi:10.2307/2347496; Nocedal and Wright (2006), chapter 18
(equality constraints by the null space).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.stats import chi2

from unnorm.core.progress import bar
from unnorm.fitting.base import Refreshable
from unnorm.fitting.inference.sandwich import closed, listed_entries, opened, opened_error
from unnorm.fitting.solvers.newton import NEWTON_LIMIT, hessian, mean_loss, parameters_of

_STEPS, _HALVINGS = 100, 40  # of one maximisation; of one of its steps
_CLOSE = 1e-16  # squared distance to the optimum in the curvature's metric
_FAR = 2.0**12  # first steps from the estimate at which an end is looked for at most
_ROUNDS = 5  # how often log Z may be put on new nodes
_BETTER = 1e-6  # of a deviance below the estimate's, from which the estimate is not the best


def profiled(fit, level: float, progress: bool) -> pd.DataFrame:
    """The table of `Fit.profile`."""
    _check(fit, level)
    problem, density, state = fit._origin
    with (
        jax.enable_x64(problem.is_double),
        bar("Profile likelihood", 2 * len(fit._estimates), progress) as shown,
    ):
        vector = np.asarray(parameters_of(density, state)[0])
        held = _Held(
            problem.objective, density, state, problem.events, problem.rows, vector, 0, (0.0, 0.0)
        )
        errors = fit.summary()["standard_error"].to_numpy()
        ends = []
        for place, bounds in enumerate(fit._bounds()):
            one = held._replace(place=place, bounds=bounds)
            estimate = closed(one.entry(vector)[0], bounds)
            step = np.sqrt(chi2.ppf(level, 1)) * opened_error(estimate, errors[place], bounds)
            step = step if np.isfinite(step) and step > 0 else 1.0
            for sign in (-1, 1):
                ends.append(_end(one, sign * step, chi2.ppf(level, 1), fit._labels()[place]))
                shown.step(1, fit._labels()[place])
    lower, upper = np.reshape(ends, (-1, 2)).T
    columns = {"estimate": fit._estimates, "lower": lower, "upper": upper}
    return pd.DataFrame(columns, index=pd.Index(fit._labels(), name="parameter"))


def _check(fit, level: float) -> None:
    if not (isinstance(level, float) and 0 < level < 1):
        raise ValueError(
            f"level is {level!r}; expected a number between 0 and 1; pass such as 0.95."
        )
    fit._refuse_several("profile")
    asked = f"profile was asked of a fit of {fit.density.name}"
    other = "use fit.summary() or fit.bootstrap()"
    if fit.objective != "maximum_likelihood" or (
        fit._origin and fit._origin.problem.objective.draws is not None
    ):
        raise ValueError(
            f"{asked} by {fit.objective} without an exact log Z; expected maximum likelihood "
            "with one; fit by "
            f"un.objectives.MaximumLikelihood(), or {other}."
        )
    if fit._origin is None:
        raise ValueError(
            f"{asked} that was loaded, without its data; expected one made in this process; fit "
            "again."
        )
    problem, density, state = fit._origin
    asked_for = {
        "weights": problem.weights,
        "clusters": problem.clusters,
        "a penalty or prior": problem.penalty,
    }
    for name, value in asked_for.items():
        if value is not None:
            raise ValueError(
                f"{asked} with {name}, whose deviance has no χ² law; expected none; {other}."
            )
    with jax.enable_x64(problem.is_double):
        size = len(parameters_of(density, state)[0])
    if size > NEWTON_LIMIT or not len(fit._estimates):
        raise ValueError(
            f"{asked} with {size} parameters; expected {NEWTON_LIMIT} at most, all of them "
            f"listed; {other}."
        )


# -- the maximum with one entry held ---------------------------------------------------------------
class _Held(NamedTuple):
    """A likelihood, and the entry that is held, on the scale that has no bounds."""

    objective: Any
    density: Any
    state: Any
    events: dict
    rows: int
    best: np.ndarray  # the estimate
    place: int
    bounds: tuple[float, float]

    def loss(self, vector) -> float:
        return float(_loss(self.objective, self.density, self.state, self.events, vector))

    def derivatives(self, vector):
        return jax.tree.map(
            np.asarray, _derivatives(self.objective, self.density, self.state, self.events, vector)
        )

    def entry(self, vector):
        """The held entry, its gradient and its Hessian."""
        return jax.tree.map(
            np.asarray, _entry(self.density, self.state, vector, self.place, bounds=self.bounds)
        )

    def deviance(self, vector) -> float:
        return 2 * self.rows * (self.loss(vector) - self.loss(self.best))

    def renewed(self, vector) -> "_Held | None":
        """The same on new nodes, where those of log Z no longer hold at this vector."""
        density = self.density.at(parameters_of(self.density, self.state)[1](vector)[0])
        if not isinstance(self.objective, Refreshable):
            return None
        state = self.objective.refresh(density, self.state, self.events)
        return None if state is None else self._replace(state=state)


_loss = jax.jit(mean_loss)


@jax.jit
def _derivatives(objective, density, state, events, vector):
    loss = functools.partial(mean_loss, objective, density, state, events)
    return *jax.value_and_grad(loss)(vector), hessian(loss, vector)


@functools.partial(jax.jit, static_argnames="bounds")
def _entry(density, state, vector, place, bounds):
    unravel = parameters_of(density, state)[1]

    def value(vector):
        return opened(listed_entries(density, lambda v: unravel(v)[0], vector)[place], bounds)

    return *jax.value_and_grad(value)(vector), jax.hessian(value)(vector)


def _maximum(held: _Held, target: float, start: np.ndarray) -> np.ndarray | None:
    """The vector of highest likelihood whose entry is at the target: Newton's steps along it, put
    back onto it.
    """
    vector = _put_back(held, start, target)
    for _ in range(_STEPS if vector is not None else 0):
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
        pull = axes.T @ along.T @ gradient
        if pull @ (pull / sizes) < _CLOSE * (1 + abs(value)):
            return vector
        vector, moved = _downhill(held, target, vector, -along @ axes @ (pull / sizes), value)
        if not moved:  # what is left is rounding
            return vector
    return None


def _downhill(held: _Held, target: float, vector, step, value: float) -> tuple[np.ndarray, bool]:
    for halving in range(_HALVINGS):
        trial = _put_back(held, vector + step / 2**halving, target)
        if trial is not None and held.loss(trial) < value:
            return trial, True
    return vector, False


def _put_back(held: _Held, vector: np.ndarray, target: float) -> np.ndarray | None:
    """Onto the vectors whose entry is at the target, by Newton's steps along its gradient."""
    for _ in range(_STEPS):
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
    vector = held.best
    for _ in range(_ROUNDS):
        found, vector = _crossing(held, step, quantile, vector, label)
        renewed = None if vector is None else held.renewed(vector)
        if renewed is None:
            return found
        held = renewed
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
        if deviance < -_BETTER:
            raise ValueError(
                f"The profile of {label} found a likelihood that is higher than the fit's, by "
                f"{-deviance / 2:.3g}; "
                "expected the fit at its highest maximum; fit again with restarts=10."
            )
        return np.sqrt(max(deviance, 0.0)) - np.sqrt(quantile)  # nearly linear

    inner, outer = _bracket(excess, step, lambda distance: closed(origin + distance, held.bounds))
    if inner is None:
        return np.nan, None
    if outer is None:
        return held.bounds[int(step > 0)], path[inner]
    root = float(brentq(excess, inner, outer, xtol=1e-9 * abs(step), rtol=1e-12))
    return float(closed(origin + root, held.bounds)), path[
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
        while abs(distance) <= _FAR * abs(step) and np.isfinite(value_at(distance)):
            found = excess(distance)
            if found >= 0:
                return inner, distance
            if found < 0:
                inner, distance = distance, distance + 2 * (distance - inner)
            elif failures < _HALVINGS:  # no maximum was found there: nearer
                distance, failures = (inner + distance) / 2, failures + 1
            else:
                return None, None
    return inner, None
