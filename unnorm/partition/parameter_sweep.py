"""log Z over values of one parameter: exactly, or by one annealed run that goes on from value to
value.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.findings import ERROR, Finding, Unreliable
from unnorm.declaration.density import Density
from unnorm.integration.nodes import log_integral
from unnorm.integration.plan import has_plan, plan_for
from unnorm.partition.annealing.parameter_path import at, followed, summary, told_here, way_along
from unnorm.partition.annealing.particles import annealed
from unnorm.partition.annealing.pilot_run import REPEATS, begun, path_findings, path_from
from unnorm.partition.annealing.transitions import Moves, cost_of, moves_for
from unnorm.partition.base import VERDICTS, LogZ, added, measures
from unnorm.partition.estimators.exact import Exact, has_exact
from unnorm.partition.estimators.sequential_monte_carlo import SMC
from unnorm.partition.weight_checks import LEAST_SHARE, judged
from unnorm.statistics.importance_weights import mean_of, pareto_smoothed

PASSING = ("exact", "ok")
# values of the parameter at which it is found out which sites interact, and whether Z is exact
PROBES = 5
CLOSE = 1e-6  # nats: a plan that differs by more from log Z has missed a part of the mass
APART = 1e-4  # of the values of a difference: its own error is about the square of it


def read_over(p: Density, over: Any) -> tuple[Density, str, np.ndarray]:
    """The density at the first of the values, the parameter's name, and the values; or a
    sentence.
    """
    if not isinstance(over, Mapping) or len(over) != 1:
        raise ValueError(
            f"over is {over!r}; expected one parameter and its values; pass "
            f"over={{'beta': betas}} or so."
        )
    (name, values), known = next(iter(over.items())), p.supports | {k: None for k in p.constants}
    if name not in known:
        raise ValueError(
            f"over names {name!r}, which {p.name} does not have as a parameter or constant; "
            "expected one of "
            f"{', '.join(known) or 'none'}; name one of these."
        )
    values = np.asarray(values) if np.ndim(values) == 1 else np.zeros(0)
    values = values.astype(float) if values.dtype.kind in "fiu" else np.zeros(0)
    if not len(values) or not np.isfinite(values).all() or len(set(values)) < len(values):
        raise ValueError(
            f"over has {over[name]!r} for {name}; expected different finite numbers; pass a list "
            "of them."
        )
    if (name in p.supports and p.supports[name].shape_axes) or np.ndim(p.constants.get(name, 0.0)):
        raise ValueError(
            f"over names {name}, which is an array; expected a scalar; declare a scalar factor "
            "of it."
        )
    if name in p.supports:
        for value in values:
            p.supports[name].check(np.asarray(value), f"over of {name}")
        return p.bind(**{name: float(values[0])}), name, values
    return at(p, name, np.asarray(float(values[0]))), name, values


def log_z_over(
    density: Density, name: str, values: np.ndarray, estimator: Any, key: jax.Array
) -> tuple[dict, dict]:
    """Arrays by name, and what is told of them: the verdict, the findings, the evaluations, the
    estimator.
    """
    if estimator is None:
        estimator = Exact() if all(map(has_exact, _probed(density, name, values))) else SMC()
    if isinstance(estimator, Exact):
        return _exactly(density, name, values)
    if not isinstance(estimator, SMC) or estimator.variant != "standard":
        raise ValueError(
            f"over was given with {estimator!r}; expected SMC in its standard variant, whose one "
            "run goes on from "
            "value to value, or Exact; leave the estimator out, or normalize at each value by "
            "itself."
        )
    estimator.check(density)
    return _annealed(density, name, values, estimator, key)


def _probed(density: Density, name: str, values: np.ndarray) -> list[Density]:
    """The density at a few of the values: at 0, say, no sites may interact."""
    places = np.unique(np.linspace(0, len(values) - 1, PROBES).round().astype(int))
    return [at(density, name, jnp.asarray(values[i], jnp.result_type(float))) for i in places]


# -- exactly ---------------------------------------------------------------------------
def _exactly(density: Density, name: str, values: np.ndarray) -> tuple[dict, dict]:
    found, slopes = [], []
    for value in values:
        here = at(density, name, jnp.asarray(value, jnp.result_type(float)))
        found.append(Exact()(here, jax.random.key(0)))
        slopes.append(
            _slope(here, name, value, found[-1].value) if found[-1].verdict in PASSING else math.nan
        )
    arrays = {
        "log_z": np.array([z.value for z in found]),
        "covariance": np.diag([z.standard_error**2 for z in found]),
        "derivative": np.array(slopes),
        "derivative_standard_error": np.where(np.isfinite(slopes), 0.0, np.nan),
    }
    return arrays, _told(density, found, "exact")


def _slope(density: Density, name: str, value: float, log_z: float) -> float:
    """d log Z by the declared closed form, or on a plan of nodes; by differences where no plan
    gives log Z.
    """
    start = jnp.asarray(value, jnp.result_type(float))
    if density._log_z() is not None:
        return float(jax.grad(lambda moving: at(density, name, moving)._log_z())(start))
    if has_plan(density):
        nodes = plan_for(density)
    if has_plan(density) and abs(float(log_integral(density, *nodes)) - log_z) < CLOSE:
        return float(
            jax.grad(lambda moving: log_integral(at(density, name, moving), *nodes))(start)
        )
    step = APART * max(1.0, abs(value))
    below, above = (
        Exact()(at(density, name, start + s), jax.random.key(0)).value for s in (-step, step)
    )
    return (above - below) / (2 * step)


# -- by one run ------------------------------------------------------------------------
def _annealed(
    density: Density, name: str, values: np.ndarray, options: SMC, key: jax.Array
) -> tuple[dict, dict]:
    """From the base to the value nearest to 0 of the two ends, and on to the others in order."""
    order = np.argsort(values)
    if abs(values[order[-1]]) < abs(values[order[0]]):
        order = order[::-1]
    ordered = values[order]
    base_key, pilot_key, way_key, run_key, follow_key = jax.random.split(key, 5)
    first = at(density, name, jnp.asarray(ordered[0], jnp.result_type(float)))
    moves = _moves_over(density, name, ordered)
    base, cost, endless = begun(first, base_key, options.base)
    if endless:
        lost = np.full(len(values), np.nan)
        arrays = {
            "log_z": lost,
            "covariance": np.diag(lost),
            "derivative": lost,
            "derivative_standard_error": lost,
        }
        return arrays, {
            "verdict": "unreliable",
            "findings": [endless],
            "evaluations": cost,
            "estimator": "smc",
        }
    path = path_from(first, base, cost, pilot_key, options.pilot, moves)
    moves = path.moves
    way, stages = way_along(density, name, base, moves, path.cloud, ordered, way_key, REPEATS)
    run = annealed(
        first,
        base,
        path.schedule(options.temperatures),
        run_key,
        moves,
        options.particles,
        resample=True,
    )
    start = told_here(density, name, jnp.asarray(ordered[0], base.dtype), run)
    along = followed(density, name, base, moves, way, run, follow_key) if len(ordered) > 1 else None
    kept = [] if along is None else np.flatnonzero(way.told)
    weights, slopes = (
        np.stack([np.asarray(one, float), *(np.asarray(rest[k], float) for k in kept)])
        for one, rest in zip(start, along[:2] if along else start, strict=True)
    )
    moved = cost_of(density, moves, options.pilot * REPEATS * stages)
    walked = cost_of(
        density, moves, options.particles * (options.temperatures + 1 + len(way.values))
    )
    cost = added(path.cost, moved, walked, {"values": options.pilot * stages, "gradients": 0})
    last = at(density, name, jnp.asarray(ordered[-1], base.dtype))
    against = path_findings(first, path, run) + (
        path_findings(last, path, along.last) if along else []
    )
    found = [_judged_at(density, logs, against) for logs in weights]
    back = np.argsort(order)
    arrays = {label: array[back] for label, array in summary(weights, slopes).items()}
    arrays["covariance"] = arrays["covariance"][:, back]
    return arrays, _told(density, [found[i] for i in back], "smc") | {"evaluations": cost}


def _judged_at(density: Density, logs: np.ndarray, against: list[Finding]) -> LogZ:
    """The answer at one value: after a long way the families are worth less than 1/e, however
    healthy they are.
    """
    none, shape = {"values": 0, "gradients": 0}, pareto_smoothed(logs)[1]
    return judged(
        density, "smc", *mean_of(logs), none, logs, shape, against, least_share=LEAST_SHARE
    )


def _moves_over(density: Density, name: str, values: np.ndarray) -> Moves:
    """Moves that serve every value: a colouring that was found at 0 would redraw all sites
    together.
    """
    found = [moves_for(one) for one in _probed(density, name, values)]
    most = max(
        found, key=lambda moves: math.inf if moves.colouring is None else moves.colouring.count
    )
    if most.colouring is None or all(moves.colouring.linear for moves in found):
        return most
    return most._replace(colouring=None)


def _told(density: Density, found: list[LogZ], estimator: str) -> dict:
    findings: dict[str, Finding] = {}
    for z in found:
        for finding in z.findings:
            findings.setdefault(finding.what, finding) if finding.severity == ERROR else None
    spent = added(*(z.evaluations for z in found))
    verdict = max((z.verdict for z in found), key=VERDICTS.index)
    return {
        "verdict": verdict,
        "findings": list(findings.values()),
        "evaluations": spent,
        "estimator": estimator,
    }


def as_dataset(
    density: Density,
    name: str,
    values: np.ndarray,
    arrays: dict,
    told: dict,
    seed: int,
    strict: bool,
) -> Any:
    """The arrays over the parameter as an `xarray.Dataset`, what is told of them as its
    attributes.
    """
    import xarray

    if strict and told["verdict"] not in PASSING:
        raise Unreliable(
            " ".join(str(finding) for finding in told["findings"] if finding.severity == ERROR)
        )
    other = f"{name}_2"
    arrays = arrays | {"standard_error": np.sqrt(np.diagonal(arrays["covariance"]))}
    data = {
        label: ((name, other) if label == "covariance" else name, array)
        for label, array in arrays.items()
    }
    attributes = {
        "verdict": told["verdict"],
        "findings": [str(finding) for finding in told["findings"]],
        "estimator": told["estimator"],
        "measure": measures(density),
        "seed": seed,
        **told["evaluations"],
    }
    return xarray.Dataset(data, {name: values, other: values}, attributes)


__all__ = ["as_dataset", "log_z_over", "read_over"]
