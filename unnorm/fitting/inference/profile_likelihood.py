"""Profile likelihood: one entry held, everything else at its maximum; where that falls by half a χ²
quantile.

References: Venzon and Moolgavkar (1988), doi:10.2307/2347496; Nocedal and Wright (2006), chapter 18
(equality constraints by the null space).
"""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.stats import chi2

from unnorm.core.progress import bar
from unnorm.fitting.inference.held_entry import DEFAULTS, HeldEntry, constrained_maximum
from unnorm.fitting.inference.intervals import error_in_unbounded, from_unbounded, to_unbounded
from unnorm.statistics.model_variance import is_off


def profile(fit, level: float, progress: bool) -> pd.DataFrame:
    """The table of `Fit.profile`."""
    _check(fit, level)
    _warn_of_other_variances(fit)
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
            held = HeldEntry(loss, problem.rows, vector, place, bounds)
            estimate = from_unbounded(held.entry(vector)[0], bounds)
            step = np.sqrt(quantile) * error_in_unbounded(estimate, errors[place], bounds)
            step = step if np.isfinite(step) and step > 0 else 1.0
            for sign in (-1, 1):
                ends.append(_end(held, sign * step, quantile, fit._labels()[place]))
                shown.step(1, fit._labels()[place])
    lower, upper = np.reshape(ends, (-1, 2)).T
    columns = {"estimate": fit._estimates, "lower": lower, "upper": upper}
    return pd.DataFrame(columns, index=fit._index())


def _warn_of_other_variances(fit) -> None:
    """Warn where the deviance is no χ², because the model does not hold."""
    covariance = fit._covariance
    if covariance is None:
        return
    robust, modelled = (np.diagonal(v) for v in (covariance.total, covariance.inverse_curvature))
    with np.errstate(all="ignore"):
        ratios = robust / modelled
    off = [i for i, one in enumerate(ratios) if one > 0 and is_off(np.array([one]), fit.rows)]
    if off:
        worst = max(off, key=lambda i: abs(np.log(ratios[i])))
        warnings.warn(
            f"Profile likelihood supposes that the model is true, and the robust variance of "
            f"{fit._labels()[worst]} is {ratios[worst]:.2g} times that of the model; use "
            "fit.summary() or fit.bootstrap(), which do not suppose it.",
            stacklevel=5,
        )


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
        held = HeldEntry(loss, problem.rows, vector, place, fit._bounds()[place])
        origin = from_unbounded(held.entry(vector)[0], held.bounds)
        found = np.full(len(values), np.nan)
        middle = int(np.searchsorted(values, origin))
        for places in (range(middle, len(values)), range(middle - 1, -1, -1)):
            near: Any = vector
            for at in places:  # outward, each from the last
                near = constrained_maximum(held, float(to_unbounded(values[at], held.bounds)), near)
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


# -- the ends --------------------------------------------------------------------------------------
def _end(held: HeldEntry, step: float, quantile: float, label: str) -> float:
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
    held: HeldEntry, step: float, quantile: float, near, label: str
) -> tuple[float, np.ndarray | None]:
    """The end and the vector there, on the nodes that log Z has now."""
    origin = float(held.entry(held.best)[0])
    path = {
        0.0: held.best,
        float(held.entry(near)[0]) - origin: near,
    }  # vectors by distance, to start from

    def excess(distance: float) -> float:
        closest = min(path, key=lambda known: abs(known - distance))
        vector = constrained_maximum(held, origin + distance, path[closest])
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
