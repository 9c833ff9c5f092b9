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

from unnorm.core.findings import Finding, FindingCode
from unnorm.core.method import registry_name
from unnorm.core.progress import bar
from unnorm.declaration.density import Density, cast
from unnorm.fitting.base import Stochastic
from unnorm.fitting.data import read_data
from unnorm.fitting.default_objective import chosen
from unnorm.fitting.inference.bootstrap import of_vectors
from unnorm.fitting.inference.bootstrap_refits import refitted
from unnorm.fitting.inference.sandwich import Covariance, entries
from unnorm.fitting.inference.small_samples import parameters_beside_rows
from unnorm.fitting.joint.joint_objective import Together
from unnorm.fitting.joint.shared_parameters import Densities, sharing
from unnorm.fitting.probe import check_options, probe, started
from unnorm.fitting.problem import Problem
from unnorm.fitting.results.assemble import at_rest, log_z_and_place, no_log_z
from unnorm.fitting.results.fit import Fit
from unnorm.fitting.solvers.minimize import minimised
from unnorm.fitting.solvers.newton import parameters_of
from unnorm.integration.conditional import count_of
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
        check_options(p, steps=None, batch_size=None, seed=seed, restarts=restarts, dtype=dtype, optimizer=None,
                      callback=None)  # fmt: skip
    read = [read_data(p, one) for p, one in zip(ps, data, strict=True)]
    ps = _started(sharing([p for p, _ in read]), start)
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
        problem = Shared(Densities(tuple(ps)), Together(objective), density, events, seed, shown, restarts=restarts,
                         findings=findings)  # fmt: skip
        fit = minimised(problem, _finished)
        fit._again = functools.partial(_bootstrapped, problem, density)
        return fit


def _started(ps: list[Density], start: Any) -> list[Density]:
    """The densities at the parameters that the user starts from."""
    if not isinstance(start, dict):
        return ps if start is None else [started(p, start) for p in ps]
    known = {name for p in ps for name in p.supports}
    unknown = {name: value for name, value in start.items() if name not in known}
    own = [{name: value for name, value in start.items() if name in p.supports} for p in ps]
    return [
        started(p, part | unknown) if part or unknown else p
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
            f"fit was given {len(ps)} densities and {found}; expected a list of as many data "
            "sets, at least one; pass "
            "such as un.fit([p, q], [X, Y])."
        )
    for name, value in asked.items():
        if value is not None:
            raise ValueError(
                f"{name} was given to a fit of {len(ps)} data sets, which does not take it; "
                "expected none; leave it "
                "out, or fit one data set."
            )


def _refuse_objective(ps: list[Density], objective: Any) -> None:
    name = type(objective).__name__
    if isinstance(objective, Stochastic) or objective.traits.couples_rows:
        raise ValueError(
            f"{name} has no loss of single rows, and several data sets are fitted by the sum of "
            "those; expected such "
            "an objective; use un.objectives.MaximumLikelihood, PseudoLikelihood, ScoreMatching "
            "or NCE."
        )
    if getattr(objective, "draws", None) is not None:
        raise ValueError(
            f"{name} was given draws={objective.draws}, and several data sets have no draws of "
            "one density; expected "
            "None; leave draws out, or use un.objectives.PseudoLikelihood, ScoreMatching or NCE."
        )
    for p in ps:
        for parameter, support in p.supports.items():
            if isinstance(support, PyTreeSupport):
                raise ValueError(
                    f"Parameter {parameter} is {support!r}, which is trained by steps; expected "
                    "numbers where several "
                    "data sets are fitted; fit one data set."
                )


def _finished(problem: Shared, density, state, covariance, converged, history) -> Fit:
    """Everything in the user's terms, and a fit of each data set inside, whose errors are those of
    all.
    """
    objective, findings = problem.objective, problem.findings
    vector, unravel = parameters_of(density, state)
    estimates, jacobian = entries(density, lambda v: unravel(v)[0], vector)
    listed = None
    if covariance is not None:
        slope = jacobian()
        listed = Covariance(*(slope @ part @ slope.T for part in covariance))
    name, likelihood = (
        registry_name(type(objective.each)),
        objective.each.traits.is_likelihood,
    )
    parts = []
    for k, (p, one) in enumerate(zip(problem.p.parts, density.parts, strict=True)):

        def own(v, k=k, names=tuple(one.supports)):
            free, nuisance = unravel(v)
            return {name: free[name] for name in names}, nuisance[k]

        given = objective.of_set(state, k), problem.events[k], vector, own, covariance, findings
        log_z, where = log_z_and_place(objective.each, one, *given)
        if log_z is None:
            findings.append(no_log_z(one))
        fitted = p.bind(
            **{name: jax.tree.map(at_rest, value) for name, value in one.parameters.items()}
        )
        free = None
        if covariance is not None:
            slope = np.asarray(jax.jacobian(lambda v, own=own: ravel_pytree(own(v)[0])[0])(vector))
            free = slope @ covariance.total @ slope.T
        parts.append(
            Fit(fitted, name, objective.each.target, converged, log_z, history, problem.seed,
                count_of(problem.events[k]), likelihood=likelihood, _free_covariance=free, _location=where)
        )  # fmt: skip
    improper = any(told.code == FindingCode.NOT_NORMALIZABLE for told in findings)
    findings += parameters_beside_rows(problem.rows, len(vector), False)
    return Fit(
        [part.density for part in parts], name, objective.target, converged and not improper,
        [part.log_z for part in parts], history[~np.isnan(history)], problem.seed, problem.rows, findings, likelihood,
        _estimates=estimates, _covariance=listed, _parts=parts,
    )  # fmt: skip


def _bootstrapped(problem: Shared, start: Densities, fit: Fit, replicates: int, seed: int):
    """Redraw the rows of each data set with replacement, and refit."""
    random = np.random.default_rng(seed)

    def redrawn():
        chosen_rows = {
            k: random.integers(count_of(one), size=count_of(one))
            for k, one in problem.events.items()
        }
        return {
            k: jax.tree.map(lambda leaf, k=k: leaf[chosen_rows[k]], one)
            for k, one in problem.events.items()
        }

    with jax.enable_x64(next(iter(problem.events[0].values())).dtype == np.float64):
        own = [{n: part.parameters[n] for n in part.supports} for part in fit.density]
        parts = [p.bind(**values).for_jit() for p, values in zip(problem.p.parts, own, strict=True)]
        density = cast(Densities(tuple(parts)), next(iter(problem.events[0].values())).dtype)
        state = problem.objective.prepare(density, problem.events, jax.random.key(problem.seed))
        found = refitted(
            problem.objective,
            density,
            (redrawn() for _ in range(replicates)),
            jax.random.key(seed),
            None,
        )
        return of_vectors(fit, density, state, *found)


__all__ = ["several"]
