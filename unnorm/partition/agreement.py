"""Whether routes to log Z agree, and what they say together."""

import math

import numpy as np

from unnorm.partition.base import LogZ

CLASH = 3.3  # standard errors of the difference of two routes, beyond which they disagree (1 in 1,000)
ROUNDING = 1e-3  # nats: a difference that is no disagreement, whatever the errors


def healthy(routes: list[LogZ]) -> list[LogZ]:
    return [route for route in routes if route.verdict == "ok" and math.isfinite(route.standard_error)]


def agree(one: LogZ, other: LogZ) -> bool:
    apart = abs(one.value - other.value)
    return apart <= CLASH * math.hypot(one.standard_error, other.standard_error) + ROUNDING


def combined(routes: list[LogZ]) -> tuple[float, float]:
    """The mean weighted by the inverse variances."""
    precisions = 1 / _variances(routes)
    value = float(precisions @ [route.value for route in routes] / precisions.sum())
    return value, float(precisions.sum() ** -0.5)


def _variances(routes: list[LogZ]) -> np.ndarray:
    """Of the routes; annealed ones share theirs by what they spent, for their own are noisy and go with values."""
    variances = np.array([max(route.standard_error, 1e-12) ** 2 for route in routes])
    annealed = [i for i, route in enumerate(routes) if route.estimator == "smc"]
    spent = np.array([max(sum(routes[i].evaluations.values()), 1) for i in annealed])
    if annealed:
        variances[annealed] = np.mean(variances[annealed] * spent) / spent
    return variances


def settled_by(routes: list[LogZ], target_error: float) -> list[LogZ] | None:
    """The healthy routes if there are two or more that agree, all of them, within the target; None: go on."""
    good = healthy(routes)
    outside = _outlier(good)
    if outside is not None and len(good) > 2:
        good = [route for route in good if route is not outside]
    if len(good) < 2 or combined(good)[1] > target_error:
        return None
    return good if all(agree(a, b) for a in good for b in good) else None


def _outlier(good: list[LogZ]) -> LogZ | None:
    """A bridge below all others, which agree: chains that miss a mode find just less mass; no other is left out."""
    local = next((route for route in good if route.estimator == "bridge"), None)
    others = [route for route in good if route is not local]
    if local is None or all(agree(local, other) for other in others):
        return None
    return local if all(local.value < other.value for other in others) else None


def best_of(routes: list[LogZ]) -> tuple[float, float]:
    """Where none is healthy: an annealed one before the others, for it is unbiased."""
    finite = [route for route in routes if math.isfinite(route.value) and math.isfinite(route.standard_error)]
    if not finite:
        return math.nan, math.nan
    best = max(finite, key=lambda route: (route.estimator == "smc", -route.standard_error))
    return best.value, best.standard_error


__all__ = ["agree", "best_of", "combined", "healthy", "settled_by"]
