"""Several data sets, each with its own density, that share parameters: `un.fit([p, q], [X, Y],
objective)`.

Parameters of equal name are one parameter. The loss is the sum over all rows of all data sets,
divided by their number.
"""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial

from unnorm.core.compilation.policy import compiled
from unnorm.core.findings import Finding, FindingCode
from unnorm.core.method import registry_name
from unnorm.core.progress import bar
from unnorm.declaration.density import Density, cast
from unnorm.fitting.base import Stochastic
from unnorm.fitting.data.read import read_data
from unnorm.fitting.default_objective import chosen
from unnorm.fitting.inference.small_samples import parameters_beside_rows
from unnorm.fitting.joint.bootstrap import bootstrap
from unnorm.fitting.joint.joint_objective import Together
from unnorm.fitting.joint.shared_parameters import Densities, sharing
from unnorm.fitting.loss import Loss
from unnorm.fitting.probe import bind_start, check_options, probe
from unnorm.fitting.problem import Outcome, Problem
from unnorm.fitting.procedures.minimize import fit_by_minimization
from unnorm.fitting.results.assemble import (
    bind,
    log_z_and_location,
    no_log_z,
    table_of,
    without_sampling_error,
)
from unnorm.fitting.results.fit import Fit
from unnorm.integration.representative_rows import count_of
from unnorm.supports import PyTreeSupport


@dataclass
class Shared(Problem):
    """A problem of several data sets: `p` and `density` are `Densities`, `events` a dict by
    number.
    """

    @property
    def rows(self) -> int:
        return sum(map(count_of, self.events.values()))


def several(
    ps: list, data: Any, objective: Any, asked: dict, start, restarts, seed, progress, dtype
) -> Fit:
    """Fit several densities to several data sets; `asked` are the options that only one data set
    takes.
    """
    _refuse(ps, data, asked)
    for p in ps:
        check_options(
            p,
            steps=None,
            batch_size=None,
            seed=seed,
            restarts=restarts,
            dtype=dtype,
            optimizer=None,
            callback=None,
        )
    read = [read_data(p, one) for p, one in zip(ps, data, strict=True)]
    ps = _start(sharing([p for p, _ in read]), start)
    findings: list[Finding] = []
    objective = chosen(
        [(p, events) for p, (_, events) in zip(ps, read, strict=True)], objective, False, findings
    )
    _refuse_objective(ps, objective)
    entropy: Any = np.random.SeedSequence().entropy
    seed = int(entropy % 2**31) if seed is None else seed
    dtype = np.dtype(dtype or np.float64)
    with jax.enable_x64(dtype == np.float64), bar(type(objective).__name__, 1.0, progress) as shown:
        bare = Densities(tuple(p.for_jit() for p in ps))
        objective, density, events = cast(
            (objective, bare, {k: e for k, (_, e) in enumerate(read)}), dtype
        )
        for k, one in events.items():
            probe(density.parts[k], one)
        problem = Shared(
            Densities(tuple(ps)),
            Together(objective),
            density,
            events,
            seed,
            shown,
            restarts=restarts,
            findings=findings,
        )
        outcome = fit_by_minimization(problem)
        return _assemble(outcome._replace(refit=functools.partial(bootstrap, problem)))


def _start(ps: list[Density], start: Any) -> list[Density]:
    """The densities at the parameters that the user starts from."""
    if not isinstance(start, dict):
        return ps if start is None else [bind_start(p, start) for p in ps]
    known = {name for p in ps for name in p.supports}
    unknown = {name: value for name, value in start.items() if name not in known}
    own = [{name: value for name, value in start.items() if name in p.supports} for p in ps]
    return [
        bind_start(p, part | unknown) if part or unknown else p
        for p, part in zip(ps, own, strict=True)
    ]


def _refuse(ps: list, data: Any, asked: dict) -> None:
    if not ps or not isinstance(data, list | tuple) or len(data) != len(ps):
        found = (
            f"{len(data)} data sets"
            if isinstance(data, list | tuple)
            else f"a {type(data).__name__}"
        )
        raise ValueError(
            f"fit was given {len(ps)} densities and {found}; expected a list of equally many data "
            "sets, at least one; pass, for example, un.fit([p, q], [X, Y])."
        )
    for name, value in asked.items():
        if value is not None:
            raise ValueError(
                f"{name} was given to a fit of {len(ps)} data sets, which does not take {name}; "
                f"expected one data set; leave {name} out, or fit one data set."
            )


def _refuse_objective(ps: list[Density], objective: Any) -> None:
    name = type(objective).__name__
    traits = objective.traits
    if isinstance(objective, Stochastic) or traits.couples_rows or traits.is_game:
        raise ValueError(
            f"{name} has no loss of single rows; expected an objective with one, because several "
            "data sets are fitted by the sum of these losses; use "
            "un.objectives.MaximumLikelihood, PseudoLikelihood, ScoreMatching or NCE."
        )
    if getattr(objective, "draws", None) is not None:
        raise ValueError(
            f"{name} was given draws={objective.draws}, and several data sets have no common "
            "density to draw from; expected None; leave draws out, or use "
            "un.objectives.PseudoLikelihood, ScoreMatching or NCE."
        )
    for p in ps:
        for parameter, support in p.supports.items():
            if isinstance(support, PyTreeSupport):
                raise ValueError(
                    f"Parameter {parameter} is {support!r}, which is trained by steps; expected a "
                    "parameter of numbers where several data sets are fitted; fit one data set."
                )


def _assemble(outcome: Outcome) -> Fit:
    """Everything in the user's terms, and a fit of each data set inside, whose errors are those of
    all.
    """
    problem, loss, findings = outcome.problem, outcome.loss, outcome.problem.findings
    parts = [_part(outcome, k, p) for k, p in enumerate(problem.p.parts)]
    objective = problem.objective
    fitted: list[Any] = [part.density for part in parts]
    normalizable = all(f.code != FindingCode.NOT_NORMALIZABLE for f in findings)
    findings += parameters_beside_rows(problem.rows, len(loss.vector), False)
    table = table_of(outcome, fitted, None)
    log_z: list[Any] = [part.log_z for part in parts]
    return Fit(
        fitted,
        parts[0].objective,
        objective.target,
        outcome.converged and normalizable,
        log_z if table.has_estimate else [without_sampling_error(one) for one in log_z],
        outcome.history[~np.isnan(outcome.history)],
        problem.seed,
        problem.rows,
        table.findings,
        parts[0].likelihood,
        _estimates=table.estimates,
        _covariance=table.covariance,
        _degrees=outcome.degrees,
        _refit=outcome.refit,
        _parts=parts,
    )


def _part(outcome: Outcome, k: int, p: Density) -> Fit:
    """The fit of one data set."""
    problem, loss, covariance = outcome.problem, outcome.loss, outcome.covariance
    each, density, vector = problem.objective.each, loss.density.parts[k], loss.vector
    events, findings = problem.events[k], problem.findings
    names = tuple(density.supports)

    def own(vector):
        free, nuisance = loss.unravel(vector)
        return {name: free[name] for name in names}, nuisance[k]  # type: ignore[index]

    part = Loss(each, density, problem.objective.of_set(loss.state, k), events)
    log_z, where = log_z_and_location(part, vector, Partial(own), covariance, findings)
    if log_z is None:
        findings.append(no_log_z(density))
    free = None
    if covariance is not None:
        slope = np.asarray(compiled(jax.jacobian(lambda v: ravel_pytree(own(v)[0])[0]))(vector))
        free = slope @ covariance.total @ slope.T
    return Fit(
        bind(p, density),
        registry_name(type(each)),
        each.target,
        outcome.converged,
        log_z,
        outcome.history,
        problem.seed,
        count_of(events),
        likelihood=each.traits.is_likelihood,
        _free_covariance=free,
        _location=where,
    )


__all__ = ["several"]
