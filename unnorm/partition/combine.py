"""Whether routes to log Z agree, and what they say together."""

import math

import numpy as np

from unnorm.partition.base import LogZ

CLASH = (
    3.3  # standard errors of the difference of two routes, beyond which they disagree (1 in 1,000)
)
ROUNDING = 1e-3  # nats: a difference that is no disagreement, whatever the errors
WEIGHED = (
    "importance_sampling",
    "smc",
)  # means of weights: unbiased for Z, so that few of them lie far above it


def healthy(routes: list[LogZ]) -> list[LogZ]:
    return [
        route for route in routes if route.verdict == "ok" and math.isfinite(route.standard_error)
    ]


def agree(one: LogZ, other: LogZ) -> bool:
    apart = abs(one.value - other.value)
    return apart <= CLASH * math.hypot(one.standard_error, other.standard_error) + ROUNDING


def combined(routes: list[LogZ]) -> tuple[float, float]:
    """The mean weighted by the inverse variances."""
    precisions = 1 / _variances(routes)
    value = float(precisions @ [route.value for route in routes] / precisions.sum())
    return value, float(precisions.sum() ** -0.5)


def _variances(routes: list[LogZ]) -> np.ndarray:
    """Of the routes; annealed ones share theirs by what they spent, for their own are noisy and go
    with values.
    """
    variances = np.array([max(route.standard_error, 1e-12) ** 2 for route in routes])
    annealed = [i for i, route in enumerate(routes) if route.estimator == "smc"]
    spent = np.array([max(sum(routes[i].evaluations.values()), 1) for i in annealed])
    if annealed:
        variances[annealed] = np.mean(variances[annealed] * spent) / spent
    return variances


def settled_by(routes: list[LogZ], target_error: float) -> list[LogZ] | None:
    """The healthy routes if there are two or more that agree, all of them, within the target; None:
    go on.
    """
    good = _without_low(healthy(routes))
    if len(good) < 2 or combined(good)[1] > target_error:
        return None
    return None if contradicting(good) else good


def contradicting(routes: list[LogZ]) -> bool:
    """Whether two healthy ones of these do not agree."""
    good = healthy(routes)
    return not all(agree(one, other) for one in good for other in good)


def _without_low(good: list[LogZ]) -> list[LogZ]:
    """Healthy routes without those that missed mass which two others found.

    A bridge below all others, which agree: chains that miss a mode find just less mass. Annealed
    routes below two others of which one is nested sampling: temperatures do not cross a transition
    of first order. No other is left out.
    """
    others = [route for route in good if route.estimator != "bridge"]
    if (
        len(others) > 1
        and len(others) < len(good)
        and all(_below(r, others) for r in good if r not in others)
    ):
        good = others
    others = [route for route in good if route.estimator != "smc"]
    low = [route for route in good if _below(route, others)]
    nested = any(route.estimator == "nested_sampling" for route in others)
    if (
        nested
        and len(others) > 1
        and not contradicting(others)
        and all(r.estimator == "smc" for r in low)
    ):
        return [route for route in good if route not in low]
    return good


def _below(route: LogZ, others: list[LogZ]) -> bool:
    """Whether a route lies below all others, and does not agree with one of them."""
    return all(route.value < other.value for other in others) and not all(
        agree(route, other) for other in others
    )


def above(routes: list[LogZ], good: list[LogZ]) -> LogZ | None:
    """The highest of the unreliable means of weights that lies well above what the healthy routes
    say; or None.

    By Markov's inequality such a mean exceeds a Z with probability Z / mean at most, and mostly
    with an error to match. Where it does so by many of its errors, the healthy routes may all have
    missed the same mass.
    """
    value, error = combined(good)
    seen = (
        r
        for r in routes
        if r.estimator in WEIGHED and r.verdict != "ok" and math.isfinite(r.standard_error)
    )
    over = [
        r for r in seen if r.value - value > CLASH * math.hypot(r.standard_error, error) + ROUNDING
    ]
    return max(over, key=lambda route: route.value, default=None)


def best_of(routes: list[LogZ]) -> tuple[float, float]:
    """Where none is healthy: an annealed one before the others, for it is unbiased."""
    finite = [
        route
        for route in routes
        if math.isfinite(route.value) and math.isfinite(route.standard_error)
    ]
    if not finite:
        return math.nan, math.nan
    best = max(finite, key=lambda route: (route.estimator == "smc", -route.standard_error))
    return best.value, best.standard_error


__all__ = ["above", "agree", "best_of", "combined", "contradicting", "healthy", "settled_by"]
