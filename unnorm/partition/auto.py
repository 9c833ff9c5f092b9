"""`estimator="auto"`: two independent routes to log Z that must agree, and more work only where it is needed."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np

from unnorm.density import Density
from unnorm.diagnostics.verdict import ERROR, NOTE, WARNING, Finding
from unnorm.diagnostics.weights import mean_of, pareto_smoothed
from unnorm.partition.annealing import annealed
from unnorm.partition.base import LogZ, measures
from unnorm.partition.bases import Base
from unnorm.partition.bridge import Bridge, bridged
from unnorm.partition.importance import weighed
from unnorm.partition.moves import cost_of
from unnorm.partition.nodes import free_size
from unnorm.partition.path import Path, added, path_findings, path_from
from unnorm.partition.pilot import base_for
from unnorm.partition.weighted import by_ancestor, infinite, judged

DRAWS = 20_000  # of importance sampling
LOCAL = Bridge(chains=8, draws=500)
PILOT = 300
SIZES = ((1000, 32), (1000, 128), (4000, 128), (8000, 256))  # walkers and temperatures, each tried if affordable
CLASH = 3.3  # standard errors of the difference of two routes, beyond which they disagree (1 in 1,000)
ROUNDING = 1e-3  # nats: a difference that is no disagreement, whatever the errors
WORST = 2.0  # target errors: a standard error above is not called ok
WIDER = 1.5  # the base of the second annealed route is so much wider


class Budget:
    """What is spent, and what may be."""

    def __init__(self, cost: dict[str, int], most: int):
        self.cost, self.most = cost, most

    def spend(self, cost: dict[str, int]) -> None:
        self.cost = added(self.cost, cost)

    def allows(self, cost: dict[str, int]) -> bool:
        return sum(self.cost.values()) + sum(cost.values()) <= self.most


class Annealed(NamedTuple):
    """An annealed route: its path, and the best answer so far."""

    path: Path
    answer: LogZ | None
    level: int


@dataclass(frozen=True)
class Auto:
    """`two_routes` as an estimator."""

    target_error: float
    max_evaluations: int

    def __call__(self, density: Density, key: jax.Array) -> LogZ:
        return two_routes(density, key, self.target_error, self.max_evaluations)


def two_routes(density: Density, key: jax.Array, target_error: float, max_evaluations: int) -> LogZ:
    """log Z from two routes: importance sampling or annealing from a base, and a bridge from chains or annealing again.

    Args:
        density: bare.
        key: of the noise.
        target_error: the standard error aimed at.
        max_evaluations: of log p̃ and its gradient, pilot and warm-up counted; a route that has begun is ended.
    """
    base_key, weigh_key, bridge_key, key = jax.random.split(key, 4)
    base, cost, endless = base_for(density, base_key)
    if endless:
        return infinite(density, "auto", cost, endless)
    budget, none = Budget(cost, max_evaluations), {"values": 0, "gradients": 0}
    routes = [weighed(density, base, weigh_key, DRAWS, none)]
    if free_size(density) and not any(support.discrete for support in density.variables.values()):
        routes.append(bridged(LOCAL, density, base, bridge_key, none))
    for route in routes:
        budget.spend(route.evaluations)
    paths: list[Annealed] = []
    while (done := _verdict(routes, target_error)) is None:
        grown = _grown(density, base, paths, jax.random.fold_in(key, 10 * len(paths)), budget, target_error)
        if grown is None:
            break
        paths = grown
        routes = [r for r in routes if r.estimator != "smc"] + [p.answer for p in paths if p.answer is not None]
    return _told(density, routes, done, budget, target_error)


# -- annealing, again and with more walkers ---------------------------------------------
def _grown(
    density: Density, base: Base, paths: list[Annealed], key: jax.Array, budget: Budget, target_error: float
) -> list[Annealed] | None:
    """The annealed routes with one more, or with the worse of them repeated at more expense; None: no money left."""
    if len(paths) < 2:
        start = base if not paths else _wider(base)
        one, two = jax.random.split(key)
        path = path_from(density, start, {"values": 0, "gradients": 0}, one, PILOT)
        budget.spend(path.cost)
        level = _first_level(path, target_error)
        affordable = [i for i in range(level + 1) if budget.allows(_cost(density, path, i))]
        if not affordable:
            return None
        return [*paths, _run(density, path, two, affordable[-1], budget)]
    order = np.argsort([p.level - (p.answer.standard_error > target_error or not p.answer.passed) for p in paths])
    for i in order:
        path = paths[i]
        level = path.level + 1
        if level < len(SIZES) and budget.allows(_cost(density, path.path, level)):
            own = jax.random.fold_in(jax.random.fold_in(key, i), level)  # no two runs share their noise
            again = _run(density, path.path, own, level, budget)
            return [*paths[:i], again, *paths[i + 1 :]]
    return None


def _first_level(path: Path, target_error: float) -> int:
    """The cheapest size whose error would be half of the target if walkers mixed at once.

    S stages that each leave half of the walkers' worth are S² log 2 / T of variance over T temperatures.
    """
    stages = len(path.stages)
    for level, (walkers, temperatures) in enumerate(SIZES):
        if temperatures >= 2 * stages and stages**2 * math.log(2) / (temperatures * walkers) <= target_error**2 / 4:
            return level
    return len(SIZES) - 1


def _cost(density: Density, path: Path, level: int) -> dict[str, int]:
    walkers, temperatures = SIZES[level]
    return cost_of(density, path.moves, walkers * (temperatures + 1))


def _run(density: Density, path: Path, key: jax.Array, level: int, budget: Budget) -> Annealed:
    walkers, temperatures = SIZES[level]
    run = annealed(density, path.base, path.schedule(temperatures), key, path.moves, walkers, resample=True)
    cost = _cost(density, path, level)
    budget.spend(cost)
    logs = by_ancestor(run)
    value, error = mean_of(logs)
    findings = tuple(path_findings(density, path, run))
    return Annealed(
        path, judged(density, "smc", value, error, cost, logs, pareto_smoothed(logs)[1], findings), level
    )  # fmt: skip


def _wider(base: Base) -> Base:
    return base._replace(
        factors=WIDER * base.factors,
        whiteners=base.whiteners / WIDER,
        log_dets=base.log_dets + base.centres.shape[1] * math.log(WIDER),
    )


# -- deciding --------------------------------------------------------------------------
def _healthy(routes: list[LogZ]) -> list[LogZ]:
    return [route for route in routes if route.verdict == "ok" and math.isfinite(route.standard_error)]


def _agree(one: LogZ, other: LogZ) -> bool:
    apart = abs(one.value - other.value)
    return apart <= CLASH * math.hypot(one.standard_error, other.standard_error) + ROUNDING


def _combined(routes: list[LogZ]) -> tuple[float, float]:
    """The mean weighted by the inverse variances."""
    precisions = np.array([max(route.standard_error, 1e-12) ** -2 for route in routes])
    value = float(precisions @ [route.value for route in routes] / precisions.sum())
    return value, float(precisions.sum() ** -0.5)


def _verdict(routes: list[LogZ], target_error: float) -> list[LogZ] | None:
    """The healthy routes if there are two or more that agree, all of them, within the target; None: go on."""
    good = _healthy(routes)
    outside = _outlier(good)
    if outside is not None and len(good) > 2:
        good = [route for route in good if route is not outside]
    if len(good) < 2 or _combined(good)[1] > target_error:
        return None
    return good if all(_agree(a, b) for a in good for b in good) else None


def _outlier(good: list[LogZ]) -> LogZ | None:
    """A bridge below all others, which agree: chains that miss a mode find just less mass; no other is left out."""
    local = next((route for route in good if route.estimator == "bridge"), None)
    others = [route for route in good if route is not local]
    if local is None or all(_agree(local, other) for other in others):
        return None
    return local if all(local.value < other.value for other in others) else None


def _told(density: Density, routes: list[LogZ], done: list[LogZ] | None, budget: Budget, target_error: float) -> LogZ:
    good = done or _healthy(routes)
    findings = [
        Finding(f"{r.estimator}: {r.value:.6g} ± {r.standard_error:.2g}, {r.verdict}", "nothing is to be done", NOTE)
        for r in routes
    ]
    verdict = "ok"
    value, error = _combined(good) if good else _best_of(routes)
    if done is None and len(good) >= 2 and all(_agree(a, b) for a in good for b in good):
        what = (
            f"the standard error is {error:.2g} after {sum(budget.cost.values()):,} evaluations, target {target_error}"
        )
        late = error > WORST * target_error
        findings.append(Finding(what, "raise max_evaluations", ERROR if late else WARNING))
        verdict = "unreliable" if late else "ok"
    elif done is None and len(good) >= 2:
        findings.append(Finding("healthy routes contradict each other", "raise max_evaluations, or reparametrize"))
        verdict = "disagree"
    elif done is None:
        healthy = good[0].estimator if good else "none"
        what = f"two healthy routes are needed, and there is {healthy}" + (" alone" if good else "")
        findings.append(Finding(what, "raise max_evaluations, or reparametrize"))
        findings += [f for r in routes if r not in good for f in r.findings if f.severity == ERROR]
        verdict = "unreliable"
    elif len(done) < len(_healthy(routes)):
        what = "the chains of the bridge missed a part of the mass that two other routes found"
        findings.append(Finding(what, "nothing is to be done", NOTE))
    return LogZ(value, error, budget.cost, verdict, measures(density), "auto", findings=findings)


def _best_of(routes: list[LogZ]) -> tuple[float, float]:
    """Where none is healthy: an annealed one before the others, for it is unbiased."""
    finite = [route for route in routes if math.isfinite(route.value) and math.isfinite(route.standard_error)]
    if not finite:
        return math.nan, math.nan
    best = max(finite, key=lambda route: (route.estimator == "smc", -route.standard_error))
    return best.value, best.standard_error


__all__ = ["Auto", "two_routes"]
