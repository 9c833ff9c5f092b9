"""Intervals on the scale that has no bounds, transformed back so that they respect them."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import t as student


def to_unbounded(value, bounds: tuple[float, float]) -> Any:
    """A number on the scale that has no bounds: its log, its logit, or itself; NumPy or JAX in, the
    same out.
    """
    (low, high), log = bounds, jnp.log if isinstance(value, jax.Array) else np.log
    if np.isfinite(low) and np.isfinite(high):
        return log((value - low) / (high - value))
    return log(value - low) if np.isfinite(low) else value


def from_unbounded(value: Any, bounds: tuple[float, float]) -> Any:
    """The number that `to_unbounded` takes to this one."""
    low, high = bounds
    if np.isfinite(low) and np.isfinite(high):
        return low + (high - low) / (1 + np.exp(-value))
    return low + np.exp(value) if np.isfinite(low) else value


def error_in_unbounded(estimate: float, error: float, bounds: tuple[float, float]) -> float:
    """A standard error on the scale that has no bounds."""
    sides = [1 / np.abs(estimate - bound) for bound in bounds if np.isfinite(bound)]
    return error * (sum(sides) if sides else 1.0)


@functools.cache
def _quantile(level: float, degrees: float) -> float:
    """Student's quantile of an interval, computed once for all entries of a table."""
    return float(student.ppf(0.5 + level / 2, degrees))


def interval(
    estimate: float,
    error: float,
    bounds: tuple[float, float],
    level: float = 0.95,
    degrees: float = np.inf,
) -> tuple[float, float]:
    """An interval on the scale that has no bounds (log, logit), transformed back so that it
    respects them.

    It is Student's with these degrees of freedom, and the normal one where they are infinite.
    """
    with np.errstate(all="ignore"):  # an estimate on its bound has no interval: NaN
        estimate = np.float64(estimate)
        away = (
            _quantile(level, degrees)
            * error_in_unbounded(estimate, error, bounds)
            * np.array([-1.0, 1.0])
        )
        return tuple(from_unbounded(to_unbounded(estimate, bounds) + away, bounds))
