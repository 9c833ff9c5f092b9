"""What a mean of independent weights says of log Z, and whether to believe it."""

import math
from typing import Any

import numpy as np

from unnorm.density import Density
from unnorm.diagnostics.verdict import ERROR, NOTE, Finding
from unnorm.diagnostics.weights import too_heavy
from unnorm.partition.base import LogZ, measures

LEAST_EFFECTIVE = 50.0  # weights, below which their spread tells nothing of the mean's error


def refuse_small(who: str, **options: tuple[Any, int]) -> None:
    """Raise where an option is no whole number or less than it must be."""
    for name, (given, least) in options.items():
        if not isinstance(given, int) or isinstance(given, bool) or given < least:
            raise ValueError(f"{who} was given {name}={given!r}; expected a whole number of at least {least}.")


def infinite(density: Density, estimator: str, cost: dict[str, int], endless: Finding) -> LogZ:
    """The answer where Z is not finite."""
    return LogZ(math.inf, math.nan, cost, "unreliable", measures(density), estimator, findings=[endless])


def judged(
    density: Density, estimator: str, value: float, error: float, cost: dict, logs: np.ndarray, shape: float,
    findings: tuple[Finding, ...] = (), bounds: tuple[float, float] | None = None,
) -> LogZ:  # fmt: skip
    """The answer and its verdict, from the weights' own logs and the Pareto shape of their tail."""
    found = [*findings, *_of_weights(density, logs, shape)]
    bad = any(finding.severity == ERROR for finding in found)
    lost = not math.isfinite(value)
    return LogZ(
        value=math.nan if lost else value,
        standard_error=math.nan if lost else error,
        evaluations=cost,
        verdict="unreliable" if bad else "ok",
        measure=measures(density),
        estimator=estimator,
        findings=found,
        bounds=None if lost else bounds,
    )


def _of_weights(density: Density, logs: np.ndarray, shape: float):
    if np.isnan(logs).any() or np.isposinf(logs).any():
        what = f"the log-density of {density.name} was NaN or +infinity at {(~(logs < np.inf)).mean():.1%} of the draws"
        yield Finding(what, "correct the function where it overflows or leaves its domain")
        return
    if np.isneginf(logs).all():
        what = f"the log-density of {density.name} was minus infinity at every draw"
        yield Finding(what, "declare the variables with the supports that the density has")
        return
    weights = np.exp(logs - logs.max())
    effective = weights.sum() ** 2 / (weights**2).sum()
    if too_heavy(shape, len(logs)):
        what = f"the weights' tail is too heavy for a mean: Pareto shape k̂ = {shape:.2f}"
        yield Finding(what, "anneal with more temperatures, draw more, or use SMC")
    elif effective < LEAST_EFFECTIVE:
        what = f"{len(logs):,} weights are worth {effective:.1f} equal ones"
        yield Finding(what, "anneal with more temperatures, draw more, or use SMC")
    else:
        what = f"{len(logs):,} weights are worth {effective:,.0f} equal ones, Pareto shape k̂ = {shape:.2f}"
        yield Finding(what, "nothing is to be done", NOTE)


__all__ = ["infinite", "judged", "refuse_small"]
