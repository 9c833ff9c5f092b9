"""What a mean of independent weights says of log Z, and whether to believe it."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import logsumexp

from unnorm.core.findings import ERROR, NOTE, Finding, FindingCode
from unnorm.declaration.density import Density
from unnorm.partition.annealing.particles import Run
from unnorm.partition.base import LogZ, measures
from unnorm.statistics.importance_weights import too_heavy

LEAST_EFFECTIVE = 50.0  # weights, below which their spread tells nothing of the mean's error
# Pareto shape up to which weights have one (funnels: k̂ = .5 to .65, ok and up to .36 too low)
FINITE_VARIANCE = 0.5
# of the weights: below it what they miss shows in no tail (a funnel: 83 of 10,000, k̂ = .47)
LEAST_SHARE = 0.01
SHARE_OF_WALKS = math.exp(
    -1
)  # of walks' weights: below it their logs vary by over one (Neal, 2001: no more)
ADVICE = "anneal with more temperatures, draw more, or use another estimator"


def refuse_small(who: str, **options: tuple[Any, int]) -> None:
    """Raise where an option is not an integer or less than it must be."""
    for name, (given, least) in options.items():
        if not isinstance(given, int) or isinstance(given, bool) or given < least:
            raise ValueError(
                f"{who} was given {name}={given!r}; expected an integer of at least {least}."
            )


def refuse_discrete(who: str, density: Density) -> None:
    """Raise where a variable is discrete."""
    for name, support in density.variables.items():
        if support.discrete:
            raise ValueError(
                f"Variable {name} is {support!r}, which {who} does not serve; expected "
                "continuous ones; use "
                "un.estimators.SMC, AIS or Bennett."
            )


def infinite(density: Density, estimator: str, cost: dict[str, int], endless: Finding) -> LogZ:
    """The answer where Z is not finite."""
    return LogZ(
        math.inf, math.nan, cost, "unreliable", measures(density), estimator, findings=[endless]
    )


def by_ancestor(run: Run) -> np.ndarray:
    """Log weights of the first walkers, each with those of all its descendants; their mean is that
    of all.

    The families are what is independent: the spread of their weights is the genealogical standard
    error (Chan and Lai, 2013, doi:10.1214/13-AOS1172; Lee and Whiteley, 2018,
    doi:10.1093/biomet/asy028).
    """
    logs = np.asarray(run.log_weights, float)
    top = logs.max()
    if not np.isfinite(top):
        return logs
    with np.errstate(divide="ignore"):
        return top + np.log(np.bincount(np.asarray(run.ancestors), np.exp(logs - top), len(logs)))


def worth(logs: np.ndarray) -> float:
    """How many equal weights these are worth, (Σw)² / Σw²."""
    return float(np.exp(2 * logsumexp(logs) - logsumexp(2 * logs)))


def judged(
    density: Density, estimator: str, value: float, error: float, cost: dict, logs: np.ndarray, shape: float,
    findings: Sequence[Finding] = (), bounds: tuple[float, float] | None = None, degrees: float | None = None,
    bounded: bool | None = None, least_share: float = SHARE_OF_WALKS,
) -> LogZ:  # fmt: skip
    """The answer and its verdict, from the independent weights' own logs and the Pareto shape of
    their tail.

    Bounded weights have a variance, whatever the shape of what was seen of their tail. None: those
    that walks gather between finitely many states are. A Pareto shape is known to ±.15 of a
    thousand weights, so that one in twenty runs on a funnel shows none too large, .2 to .4 low;
    `least_share`, of their number that unbounded weights must be worth, refuses these too.
    """
    if bounded is None:
        bounded = all(support.states is not None for support in density.variables.values())
    findings = [
        *findings,
        *_of_weights(density, logs, shape, bounded, LEAST_SHARE if bounded else least_share),
    ]
    return settled(density, estimator, value, error, cost, findings, bounds, degrees)


def settled(
    density: Density, estimator: str, value: float, error: float, cost: dict, findings: list[Finding],
    bounds: tuple[float, float] | None = None, degrees: float | None = None,
) -> LogZ:  # fmt: skip
    """The answer, unreliable where a finding is an error; a value that is lost is NaN."""
    bad = any(finding.severity == ERROR for finding in findings)
    lost = not math.isfinite(value)
    return LogZ(
        value=math.nan if lost else value,
        standard_error=math.nan if lost else error,
        evaluations=cost,
        verdict="unreliable" if bad or lost else "ok",
        measure=measures(density),
        estimator=estimator,
        findings=findings,
        degrees=degrees,
        bounds=None if lost else bounds,
    )


def _of_weights(
    density: Density, logs: np.ndarray, shape: float, bounded: bool, least_share: float
):
    if np.isnan(logs).any() or np.isposinf(logs).any():
        what = f"the log-density of {density.name} was NaN or +infinity at {(~(logs < np.inf)).mean():.1%} of the draws"
        yield Finding(
            what,
            "correct the function where it overflows or leaves its domain",
            code=FindingCode.NOT_FINITE,
        )
        return
    if not (logs > -1e29).any():  # minus infinity, as walkers hold it
        what = f"the log-density of {density.name} was minus infinity at every draw"
        yield Finding(
            what,
            "declare the variables with the supports that the density has",
            code=FindingCode.NOT_FINITE,
        )
        return
    effective, needed = worth(logs), max(LEAST_EFFECTIVE, least_share * len(logs))
    if too_heavy(shape, len(logs)):
        what = f"the weights' tail is too heavy for a mean: Pareto shape k̂ = {shape:.2f}"
        yield Finding(what, ADVICE, code=FindingCode.UNRELIABLE_WEIGHTS)
    elif shape > FINITE_VARIANCE and not bounded:
        what = f"the weights' variance is not finite (Pareto shape k̂ = {shape:.2f}), and no standard error holds"
        yield Finding(what, ADVICE, code=FindingCode.UNRELIABLE_WEIGHTS)
    elif effective < needed:
        what = f"{len(logs):,} independent weights are worth {effective:.1f} equal ones, fewer than {needed:,.0f}"
        yield Finding(what, ADVICE, code=FindingCode.UNRELIABLE_WEIGHTS)
    else:
        what = f"{len(logs):,} independent weights are worth {effective:,.0f} equal ones"
        tail = f", Pareto shape k̂ = {shape:.2f}" if math.isfinite(shape) else ""
        yield Finding(what + tail, "", NOTE)


__all__ = [
    "ADVICE", "LEAST_SHARE", "SHARE_OF_WALKS", "by_ancestor", "infinite", "judged", "refuse_discrete", "refuse_small",
    "settled", "worth",
]  # fmt: skip
