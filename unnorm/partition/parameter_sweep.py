"""log Z over values of one parameter: exactly, or by one annealed run that goes on from value to
value.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.findings import ERROR, Finding, FindingCode, Unreliable
from unnorm.core.random_keys import make_key, split_keys
from unnorm.declaration.density import Density
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.integration.nodes import log_integral
from unnorm.integration.plan import has_plan, plan_for
from unnorm.partition.annealing.parameter_path import (
    at,
    follow,
    lineage_weights,
    schedule_over,
    summarize,
)
from unnorm.partition.annealing.pilot_run import pilot_from, start_proposal
from unnorm.partition.annealing.transitions.base import Transitions, evaluations_of
from unnorm.partition.annealing.transitions.selection import colouring_of, compose
from unnorm.partition.base import (
    VERDICTS,
    LogZ,
    NotNormalizableError,
    measures,
    total_evaluations,
)
from unnorm.partition.estimators.exact import Exact, has_exact
from unnorm.partition.estimators.sequential_monte_carlo import SMC
from unnorm.partition.options import PILOT, WEIGHTS
from unnorm.partition.weight_checks import estimate_from_weights

PASSING = ("exact", "ok")


@dataclass(frozen=True)
class SweepOptions:
    """When a sweep and a run of its own at the last value disagree.

    Attributes:
        gap: nats that they may differ.
        errors: of their joint standard errors besides.
    """

    gap: float = 0.1
    errors: float = 5.0


SWEEP = SweepOptions()


class Sweep(NamedTuple):
    """log Z over values of a parameter: arrays by name, and the common verdict and findings."""

    arrays: dict[str, np.ndarray]
    verdict: str
    findings: list[Finding]
    evaluations: dict[str, int]
    estimator: str

    def to_dataset(
        self,
        density: Density,
        name: str,
        values: np.ndarray,
        findings: list[Finding],
        seed: int,
        strict: bool,
    ) -> Any:
        """An `xarray.Dataset` over the parameter, with the verdict and findings as attributes."""
        import xarray

        findings = [*self.findings, *findings]
        if strict and self.verdict not in PASSING:
            raise Unreliable(" ".join(str(f) for f in findings if f.severity == ERROR))
        other = f"{name}_2"
        errors = np.sqrt(np.diagonal(self.arrays["covariance"]))
        data = {
            label: ((name, other) if label == "covariance" else name, array)
            for label, array in (self.arrays | {"standard_error": errors}).items()
        }
        attributes = {
            "verdict": self.verdict,
            "findings": [str(finding) for finding in findings],
            "estimator": self.estimator,
            "measure": measures(density),
            "seed": seed,
            **self.evaluations,
        }
        return xarray.Dataset(data, {name: values, other: values}, attributes)


def read_over(p: Density, over: Any) -> tuple[Density, str, np.ndarray]:
    """The density at the first of the values, the parameter's name, and the values; or a
    sentence.
    """
    if not isinstance(over, Mapping) or len(over) != 1:
        raise ValueError(
            f"over is {over!r}; expected one parameter and its values; pass, for example, "
            "over={'beta': betas}."
        )
    (name, values), known = next(iter(over.items())), p.supports | {k: None for k in p.constants}
    if name not in known:
        raise ValueError(
            f"over names {name!r}, which {p.name} does not have as a parameter or constant; "
            f"expected one of {', '.join(known) or 'none'}; name one of these."
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
) -> Sweep:
    """log Z at every value, exactly or by `SMC`."""
    if estimator is None:
        estimator = Exact() if all(map(has_exact, _probe(density, name, values))) else SMC()
    if isinstance(estimator, Exact):
        return _exactly(density, name, values)
    if not isinstance(estimator, SMC) or estimator.variant != "standard":
        raise ValueError(
            f"over was given with {estimator!r}; expected SMC in its standard variant, of which "
            "one run passes through all values, or Exact; leave the estimator out, or call log_z "
            "at each value."
        )
    estimator.check(density)
    run_key, end_key = split_keys(key)
    sweep = _anneal_over(density, name, values, estimator, run_key)
    return _compare_end(sweep, density, name, values[-1], estimator, end_key)


def _compare_end(
    sweep: Sweep, density: Density, name: str, value: float, estimator: SMC, key: jax.Array
) -> Sweep:
    """The sweep, unreliable where a run of its own at the last value finds another log Z there: the
    particles of the first value may lie in modes that hold no mass at the last.
    """
    own = estimator(at(density, name, jnp.asarray(value, jnp.result_type(float))), key)
    evaluations = total_evaluations(sweep.evaluations, own.evaluations)
    sweep = sweep._replace(evaluations=evaluations)
    here = float(sweep.arrays["log_z"][-1])
    spread = math.hypot(own.standard_error, math.sqrt(sweep.arrays["covariance"][-1, -1]))
    if not own.passed or abs(own.value - here) < SWEEP.gap + SWEEP.errors * spread:
        return sweep
    finding = Finding(
        f"the run along {name} has log Z = {here:.6g} at {name} = {value:.6g}, and a run of its "
        f"own there {own.value:.6g} ± {own.standard_error:.2g}: modes of one value are missed at "
        "another",
        "call log_z at each value, or let the values begin where all modes have mass",
        code=FindingCode.ESTIMATES_DISAGREE,
    )
    return sweep._replace(verdict="unreliable", findings=[*sweep.findings, finding])


def _probe(density: Density, name: str, values: np.ndarray, probes: int = 5) -> list[Density]:
    """The density at a few of the values: at 0, say, no sites may interact."""
    places = np.unique(np.linspace(0, len(values) - 1, probes).round().astype(int))
    return [at(density, name, jnp.asarray(values[i], jnp.result_type(float))) for i in places]


# -- exactly ---------------------------------------------------------------------------
def _exactly(density: Density, name: str, values: np.ndarray) -> Sweep:
    found, slopes = [], []
    for value in values:
        here = at(density, name, jnp.asarray(value, jnp.result_type(float)))
        found.append(Exact()(here, make_key(0)))
        slopes.append(
            _slope(here, name, value, found[-1].value) if found[-1].verdict in PASSING else math.nan
        )
    arrays = {
        "log_z": np.array([z.value for z in found]),
        "covariance": np.diag([z.standard_error**2 for z in found]),
        "derivative": np.array(slopes),
        "derivative_standard_error": np.where(np.isfinite(slopes), 0.0, np.nan),
    }
    return _sweep(arrays, found, "exact")


def _slope(
    density: Density,
    name: str,
    value: float,
    log_z: float,
    tolerance: float = 1e-6,
    relative_step: float = 1e-4,
) -> float:
    """d log Z by the declared closed form, or on a plan of nodes; by differences where no plan
    gives log Z.

    Args:
        density: at the value.
        name: of the parameter.
        value: of the parameter.
        log_z: of the density.
        tolerance: nats: a plan that differs by more from log Z has missed a part of the mass.
        relative_step: of a difference, whose own error is about its square.
    """
    start = jnp.asarray(value, jnp.result_type(float))
    if density._log_z() is not None:
        return float(jax.grad(lambda moving: at(density, name, moving)._log_z())(start))
    if has_plan(density):
        nodes = plan_for(density)
    if has_plan(density) and abs(float(log_integral(density, *nodes)) - log_z) < tolerance:
        return float(
            jax.grad(lambda moving: log_integral(at(density, name, moving), *nodes))(start)
        )
    step = relative_step * max(1.0, abs(value))
    below, above = (Exact()(at(density, name, start + s), make_key(0)).value for s in (-step, step))
    return (above - below) / (2 * step)


# -- by one run ------------------------------------------------------------------------
def _anneal_over(
    density: Density, name: str, values: np.ndarray, options: SMC, key: jax.Array
) -> Sweep:
    """From the proposal to the end of the values nearest to 0, and on to the others in order."""
    order = np.argsort(values)
    if abs(values[order[-1]]) < abs(values[order[0]]):
        order = order[::-1]
    ordered = values[order]
    proposal_key, pilot_key, way_key, run_key, follow_key = split_keys(key, 5)
    first = at(density, name, jnp.asarray(ordered[0], jnp.result_type(float)))
    transitions = _common_transitions(_probe(density, name, ordered))
    try:
        proposal, spent = start_proposal(first, proposal_key, options.base)
    except NotNormalizableError as error:
        return _not_normalizable(len(values), error)
    pilot = pilot_from(proposal, pilot_key, options.pilot, spent, transitions)
    schedule, stages = schedule_over(pilot, name, ordered, way_key)
    run = pilot.anneal(run_key, options.particles, options.temperatures, resampled=True)
    recorded = [lineage_weights(density, name, jnp.asarray(ordered[0], proposal.dtype), run)]
    findings = pilot.findings(run)
    if len(ordered) > 1:
        along = follow(pilot.path, name, pilot.transitions, schedule, run, follow_key)
        kept = np.flatnonzero(schedule.recorded)
        recorded += [(along.weights[k], along.slopes[k]) for k in kept]
        last = Unconstrained(at(density, name, jnp.asarray(ordered[-1], proposal.dtype)))
        at_end = pilot._replace(path=pilot.path.with_target(last))
        findings = findings + at_end.findings(along.last)
    weights, slopes = (np.stack([np.asarray(pair[k], float) for pair in recorded]) for k in (0, 1))
    steps = options.pilot * PILOT.repeats * stages
    steps += options.particles * (options.temperatures + 1 + len(schedule.values))
    moves = evaluations_of(pilot.transitions, pilot.path, steps)
    spent = total_evaluations(
        pilot.spent, moves, {"values": options.pilot * stages, "gradients": 0}
    )
    none = {"values": 0, "gradients": 0}
    # after a long way the ESS of the lineages falls below 1/e, however reliable they are
    found = [
        estimate_from_weights(
            density, "smc", none, logs, findings, min_ess_fraction=WEIGHTS.min_ess_fraction
        )
        for logs in weights
    ]
    back = np.argsort(order)
    arrays = {label: array[back] for label, array in summarize(weights, slopes).items()}
    arrays["covariance"] = arrays["covariance"][:, back]
    return _sweep(arrays, [found[i] for i in back], "smc")._replace(evaluations=spent)


def _not_normalizable(count: int, error: NotNormalizableError) -> Sweep:
    lost = np.full(count, np.nan)
    arrays = {
        "log_z": lost,
        "covariance": np.diag(lost),
        "derivative": lost,
        "derivative_standard_error": lost,
    }
    return Sweep(arrays, "unreliable", [error.finding], error.evaluations, "smc")


def _common_transitions(densities: list[Density]) -> Transitions:
    """Transitions that serve every value: a colouring found at 0 would update all sites at once."""
    views = [Unconstrained(density) for density in densities]
    found = [colouring_of(view) for view in views]
    most = max(found, key=lambda one: math.inf if one is None else one.count)
    if most is not None and not all(one is not None and one.linear for one in found):
        most = None
    return compose(views[0], most)


def _sweep(arrays: dict[str, np.ndarray], found: list[LogZ], estimator: str) -> Sweep:
    findings: dict[str, Finding] = {}
    for z in found:
        for finding in z.findings:
            if finding.severity == ERROR:
                findings.setdefault(finding.what, finding)
    spent = total_evaluations(*(z.evaluations for z in found))
    verdict = max((z.verdict for z in found), key=VERDICTS.index)
    return Sweep(arrays, verdict, list(findings.values()), spent, estimator)


__all__ = ["Sweep", "log_z_over", "read_over"]
