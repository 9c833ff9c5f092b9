"""log Z of many rows: the values of covariates, or of variables that are observed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from unnorm.core.containers import to_numbers
from unnorm.core.findings import ERROR, NOTE, Finding, FindingCode, Unreliable
from unnorm.core.messages import join_names, pluralize, shown
from unnorm.core.random_keys import make_key
from unnorm.declaration.density import Density, cast
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.declaration.values import refuse_other_labels
from unnorm.partition.annealing.rows import TRANSITIONS, RowRuns, anneal_rows
from unnorm.partition.annealing.stein_checks import stein_level_of_points
from unnorm.partition.base import VERDICTS, LogZ, measures
from unnorm.partition.estimators.annealed_importance_sampling import AIS
from unnorm.partition.options import PILOT, ROWS, RUN, RowOptions, RunCriteria
from unnorm.partition.proposals.user_given import (
    check_proposal,
    distributions_in,
    user_distributions,
)
from unnorm.partition.weight_checks import estimate_from_weights, lower_bound
from unnorm.statistics.importance_weights import mean_of

ONE_ESTIMATE = Finding(
    "each row has one estimate, and modes that its search does not reach are not seen",
    "compare it with a run from a wide base=",
    NOTE,
)


@dataclass(frozen=True)
class Rows:
    """Rows of covariates and of variables that are observed; each has its own log Z.

    Attributes:
        values: the rows by name, (m, ...).
        observed: the names of variables among them.
    """

    values: dict[str, np.ndarray]
    observed: tuple[str, ...]

    def latent_part(self, p: Density) -> Density:
        """The density of the other variables, these being covariates; or a sentence."""
        p = p.resolved({name: value.shape[1:] for name, value in self.values.items()})
        p.shapes()
        for name in self.observed:
            p.variables[name].check(self.values[name], f"over of {name}")
        latent = p._observing(self.observed) if self.observed else p
        discrete = [name for name, support in latent.variables.items() if support.discrete]
        if discrete:
            raise ValueError(
                f"over leaves {discrete[0]}, {latent.variables[discrete[0]]!r}; rows are annealed "
                "over continuous variables only; sum it out in the function."
            )
        return latent

    def log_z(
        self, density: Density, estimator: Any, seed: int, dtype: Any, findings: list[Finding],
        strict: bool, options: RowOptions = ROWS,
    ) -> Any:  # fmt: skip
        """An `xarray.Dataset` over the rows: log Z, its standard error and its verdict."""
        if estimator is None:
            estimator = AIS(options.chains, options.temperatures, options.pilot)
            what = f"AIS was chosen, with {estimator.chains} trajectories for each row"
            findings.append(Finding(what, "name an estimator to change it", NOTE))
        findings.append(ONE_ESTIMATE)
        given = _given_factor(density, estimator)
        view = Unconstrained(cast(density.on_chart().for_jit(), dtype))
        runs = anneal_rows(
            view, cast(self.values, dtype), given, make_key(seed), estimator.chains,
            estimator.temperatures, estimator.pilot,
        )  # fmt: skip
        runs, count = jax.tree.map(lambda leaf: np.asarray(leaf, float), runs), len(runs.reached)
        found = [_estimate(density, RowRuns(*one), count) for one in zip(*runs, strict=True)]
        findings = _common_findings(found, options) + findings
        verdict = max((z.verdict for z in found), key=VERDICTS.index)
        if strict and verdict != "ok":
            raise Unreliable(" ".join(str(f) for f in findings if f.severity == ERROR))
        facts = {"verdict": verdict, "measure": measures(density), "seed": seed}
        spent = _evaluations(view, estimator, count, options)
        return _dataset(found, facts | spent, findings)


def read_rows(
    over: Any,
    variables: Mapping[str, Any],
    covariates: Mapping[str, Any],
    labels: Mapping[str, tuple],
) -> Any:
    """The rows that `over` brings, or a sentence; None where it names no variable or covariate."""
    known = {**variables, **covariates}
    if not isinstance(over, Mapping) or not over or not all(name in known for name in over):
        return None
    missing = [name for name in covariates if name not in over]
    if missing:
        raise ValueError(
            f"over has no values for the covariate {missing[0]}; must bring every covariate; pass "
            f"over={{{missing[0]!r}: ...}} too, or p.given({missing[0]}=...)."
        )
    if set(over) >= set(variables):
        raise ValueError(
            f"over names every variable ({join_names(list(variables))}); must leave at least one "
            "to integrate over; leave the latent ones out."
        )
    for name, value in over.items():
        refuse_other_labels(f"over: {name}", known[name].shape_axes, value, labels)
    values = {name: _column(name, known[name], value) for name, value in over.items()}
    sizes = {name: len(value) for name, value in values.items()}
    if len(set(sizes.values())) > 1 or not min(sizes.values()):
        raise ValueError(f"over has {sizes} rows; must be equally many of each, at least one.")
    return Rows(values, tuple(name for name in values if name in variables))


def _column(name: str, support: Any, value: Any) -> np.ndarray:
    numbers = to_numbers(np.asarray(value), name, getattr(support, "categories", None))
    numbers = numbers.astype(float)
    if numbers.ndim != len(support.shape_axes) + 1:
        raise ValueError(
            f"over has {name} of shape {numbers.shape}; must have "
            f"{pluralize(len(support.shape_axes) + 1, 'axis')}, rows first; reshape it."
        )
    if not np.isfinite(numbers).all():
        raise ValueError(f"over has {name} with a value that is not finite; must be finite.")
    return numbers


def _dataset(found: list[LogZ], facts: dict[str, Any], findings: list[Finding]) -> Any:
    import xarray

    columns = {"log_z": "value", "standard_error": "standard_error", "verdict": "verdict"}
    data = {name: ("row", [getattr(z, of) for z in found]) for name, of in columns.items()}
    texts = {"findings": [str(finding) for finding in findings], "estimator": "ais"}
    return xarray.Dataset(data, {"row": np.arange(len(found))}, facts | texts)


def _given_factor(density: Density, estimator: Any) -> Any:
    """The proposal that the user gives for all rows, or None; a sentence where it serves none."""
    if not isinstance(estimator, AIS) or estimator.reverse is not None:
        raise ValueError(
            f"over was given rows with {type(estimator).__name__}; must be AIS without reverse= "
            "there; leave the estimator out, or normalize row by row with p.given(...)."
        )
    if estimator.base is None:
        return None
    distributions = distributions_in(estimator.base)
    if distributions is None:
        raise ValueError(
            f"AIS was given base={shown(estimator.base)} for rows; must be None or NumPyro "
            "distributions by variable, the same for all rows."
        )
    check_proposal("AIS", density, estimator.base)
    return user_distributions(distributions)


def _estimate(
    density: Density, run: RowRuns, rows: int, criteria: RunCriteria = RUN,
    options: RowOptions = ROWS,
) -> LogZ:  # fmt: skip
    """log Z of one row, with what speaks against its run."""
    findings = []
    if not run.reached >= 1:
        what = f"the pilot stopped at λ = {float(run.reached):.3g} of 1"
        findings.append(Finding(what, "give a base nearer to it", code=FindingCode.NOT_CONVERGED))
    if not run.lone_mass <= options.max_lone_mass:
        what = (
            f"{float(run.lone_mass):.0%} of the mass is at modes that one start of "
            f"{options.starts} reached, so that others may have been missed"
        )
        advice = "give AIS a base= that covers the modes"
        findings.append(Finding(what, advice, code=FindingCode.MASS_NOT_SEEN))
    if not run.acceptance >= criteria.min_acceptance:
        what = f"the acceptance rate was as low as {float(run.acceptance):.1%}"
        advice = "rescale or smooth the density"
        findings.append(Finding(what, advice, code=FindingCode.LOW_ACCEPTANCE))
    logs, points, gradients = (
        np.asarray(part) for part in (run.log_weights, run.points, run.gradients)
    )
    if run.nonfinite > criteria.max_nonfinite_fraction * len(logs):
        what = f"the log-density of {density.name} was NaN or +infinity {int(run.nonfinite)} times"
        findings.append(Finding(what, "correct it there", code=FindingCode.NOT_FINITE))
    level = stein_level_of_points(points, gradients, np.exp(logs - logs.max()))
    if not level >= criteria.stein_level / rows:
        what = f"Stein's identities are rejected at the last temperature (p = {level:.1e})"
        findings.append(Finding(what, "raise temperatures", code=FindingCode.STEIN_MISMATCH))
    none = {"values": 0, "gradients": 0}
    bounds = lower_bound(mean_of(logs)[0])
    return estimate_from_weights(density, "ais", none, logs, findings, bounds)


def _common_findings(found: list[LogZ], options: RowOptions) -> list[Finding]:
    """How many rows are unreliable, and why the first of them are."""
    lost = [i for i, z in enumerate(found) if z.verdict != "ok"]
    if not lost:
        return []
    reasons = [f"row {i}: {found[i].findings[0].what}" for i in lost[: options.named]]
    what = f"log Z of {len(lost)} of {len(found)} rows is unreliable ({'; '.join(reasons)})"
    advice = "raise temperatures or chains of AIS, or give it a base= that covers the modes"
    return [Finding(what, advice, code=FindingCode.UNRELIABLE_WEIGHTS)]


def _evaluations(
    view: Unconstrained, estimator: AIS, rows: int, options: RowOptions
) -> dict[str, int]:
    """Of all rows; a Hessian counts as many gradients as it has columns."""
    steps = estimator.chains * (estimator.temperatures + 1)
    steps += estimator.pilot * options.stages * PILOT.repeats
    gradients = steps * sum(one.evaluations(view)["gradients"] for one in TRANSITIONS)
    if estimator.base is None:
        gradients += options.starts * options.newton_steps * (view.dimension + 1)
    return {"values": 0, "gradients": rows * gradients}


__all__ = ["Rows", "read_rows"]
