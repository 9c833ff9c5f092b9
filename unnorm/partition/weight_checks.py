"""Whether a mean of independent importance weights estimates Z reliably."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.special import logsumexp

from unnorm.core.findings import ERROR, NOTE, Finding, FindingCode
from unnorm.declaration.density import Density
from unnorm.partition.base import LogZ, measures
from unnorm.partition.options import WEIGHTS, WeightCriteria
from unnorm.statistics.importance_weights import mean_of, pareto_smooth, too_heavy

ADVICE = "anneal with more temperatures, draw more, or use another estimator"


def refuse_discrete(who: str, density: Density) -> None:
    """Raise where a variable is discrete."""
    for name, support in density.variables.items():
        if support.discrete:
            raise ValueError(
                f"Variable {name} is {support!r}, which {who} does not support; expected "
                "continuous variables; use un.estimators.SMC, AIS or Bennett."
            )


def ess(log_weights: np.ndarray) -> float:
    """The effective sample size of weights, (Σw)² / Σw²."""
    return float(np.exp(2 * logsumexp(log_weights) - logsumexp(2 * log_weights)))


def lower_bound(value: float, risk: float = 0.05) -> tuple[float, float]:
    """Bounds of log Z by Markov's inequality: P(log Ẑ − log Z > log 1/risk) is at most `risk`."""
    return value + math.log(risk), math.inf


def estimate_from_weights(
    density: Density, estimator: str, evaluations: dict[str, int], log_weights: np.ndarray,
    findings: Sequence[Finding] = (), bounds: tuple[float, float] | None = None,
    min_ess_fraction: float | None = None,
) -> LogZ:  # fmt: skip
    """log Z as the log of the mean of independent annealed weights, and its verdict."""
    value, error = mean_of(log_weights)
    shape = pareto_smooth(log_weights)[1]
    found = weight_findings(density, log_weights, shape, min_ess_fraction=min_ess_fraction)
    return estimate(density, estimator, value, error, evaluations, [*findings, *found], bounds)


def weight_findings(
    density: Density,
    log_weights: np.ndarray,
    shape: float,
    *,
    bounded: bool | None = None,
    min_ess_fraction: float | None = None,
    criteria: WeightCriteria = WEIGHTS,
) -> list[Finding]:
    """Findings about independent weights, by their ESS and the Pareto shape of their tail.

    Args:
        density: for its name and supports.
        log_weights: (N,), independent.
        shape: k̂ of their tail.
        bounded: whether the weights are bounded, so that they have a variance whatever the shape of
            their tail. None: where the density has finitely many states.
        min_ess_fraction: for unbounded weights; None: that of annealed weights.
        criteria: see `WeightCriteria`.
    """
    if bounded is None:
        bounded = all(support.states is not None for support in density.variables.values())
    if min_ess_fraction is None:
        min_ess_fraction = criteria.min_ess_fraction_annealed
    least = criteria.min_ess_fraction if bounded else min_ess_fraction
    return list(_weight_findings(density.name, log_weights, shape, bounded, least, criteria))


def estimate(
    density: Density, estimator: str, value: float, error: float, evaluations: dict[str, int],
    findings: list[Finding], bounds: tuple[float, float] | None = None,
    degrees: float | None = None,
) -> LogZ:  # fmt: skip
    """The estimate, unreliable where a finding is an error; a value that is not finite is NaN."""
    unreliable = any(finding.severity == ERROR for finding in findings)
    lost = not math.isfinite(value)
    return LogZ(
        value=math.nan if lost else value,
        standard_error=math.nan if lost else error,
        evaluations=evaluations,
        verdict="unreliable" if unreliable or lost else "ok",
        measure=measures(density),
        estimator=estimator,
        findings=findings,
        degrees=degrees,
        bounds=None if lost else bounds,
    )


def _weight_findings(
    name: str,
    logs: np.ndarray,
    shape: float,
    bounded: bool,
    min_ess_fraction: float,
    criteria: WeightCriteria,
) -> Iterator[Finding]:
    if np.isnan(logs).any() or np.isposinf(logs).any():
        share = (~(logs < np.inf)).mean()
        what = f"the log-density of {name} was NaN or +infinity at {share:.1%} of the draws"
        advice = "correct the function where it overflows or leaves its domain"
        yield Finding(what, advice, code=FindingCode.NOT_FINITE)
        return
    if not (logs > criteria.log_zero).any():
        what = f"the log-density of {name} was minus infinity at every draw"
        advice = "declare the variables with the supports that the density has"
        yield Finding(what, advice, code=FindingCode.NOT_FINITE)
        return
    size, needed = ess(logs), max(criteria.min_ess, min_ess_fraction * len(logs))
    fault = None
    if too_heavy(shape, len(logs)):
        fault = f"the tail of the weights is too heavy for a mean: Pareto shape k̂ = {shape:.2f}"
    elif shape > criteria.finite_variance_shape and not bounded:
        fault = (
            f"the weights have no finite variance (Pareto shape k̂ = {shape:.2f}), so that no "
            "standard error holds"
        )
    elif size < needed:
        fault = f"ESS = {size:.1f} of {len(logs):,} independent weights, below {needed:,.0f}"
    if fault is not None:
        yield Finding(fault, ADVICE, code=FindingCode.UNRELIABLE_WEIGHTS)
        return
    tail = f", Pareto shape k̂ = {shape:.2f}" if math.isfinite(shape) else ""
    yield Finding(f"ESS = {size:,.0f} of {len(logs):,} independent weights{tail}", "", NOTE)


__all__ = [
    "ADVICE",
    "ess",
    "estimate",
    "estimate_from_weights",
    "lower_bound",
    "refuse_discrete", "weight_findings",
]  # fmt: skip
