"""Several data sets, each with its own density, that share parameters: `un.fit([p, q], [X, Y], objective)`.

Parameters of equal name are one parameter. The loss is the sum over all rows of all data sets, divided by their number;
every data set is prepared by the objective for itself. The scores of the rows are centred within each data set, for the
numbers of rows are given.
"""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from unnorm.density import Density, cast
from unnorm.diagnostics.verdict import ERROR, WARNING, Finding
from unnorm.fitting.base import Extra, PerExample
from unnorm.fitting.bootstrap import refitted
from unnorm.fitting.choice import chosen
from unnorm.fitting.data import read_data
from unnorm.fitting.door import check_options, probe, started
from unnorm.fitting.finished import at_rest, log_z_and_place, no_log_z
from unnorm.fitting.inference import Covariance, entries, row_scores
from unnorm.fitting.minimised import minimised
from unnorm.fitting.objectives import MaximumLikelihood
from unnorm.fitting.optimise import parameters_of
from unnorm.fitting.problem import Problem
from unnorm.fitting.replicated import of_vectors
from unnorm.fitting.result import Fit
from unnorm.fitting.shared import Densities, sharing
from unnorm.methods import method, registry_name
from unnorm.partition.rows import count_of
from unnorm.progress import bar
from unnorm.supports import _PyTree


@method
class Together(PerExample):
    """One objective over several data sets: `events`, and every part of `extra`, are dicts by the set's number."""

    each: Any

    @property
    def rounding(self):
        return self.each.rounding

    @property
    def in_units_of_data(self):
        return self.each.in_units_of_data

    @property
    def target(self):
        return f"{self.each.target}, over all data sets together"

    def prepare(self, density, events, key):
        keys = jax.random.split(key, len(events))
        parts = [self.each.prepare(density.parts[k], events[k], keys[k]) for k in events]
        return Extra(*(dict(enumerate(part)) for part in list(zip(*parts, strict=True))[:3]))

    def of_set(self, extra: Extra, k: int) -> Extra:
        """What was prepared for one data set."""
        return Extra(extra.learned[k], extra.rows[k], extra.shared[k])

    def _sets(self, density, extra: Extra, events: dict):
        return ((density.parts[k], self.of_set(extra, k), events[k]) for k in events)

    def losses(self, density, extra, events):
        return jnp.concatenate([self.each.losses(*one) for one in self._sets(density, extra, events)])

    def refreshed(self, density, extra, events):
        new = [self.each.refreshed(*one) for one in self._sets(density, extra, events)]
        if all(one is None for one in new):
            return None
        new = [self.of_set(extra, k) if one is None else one for k, one in enumerate(new)]
        return extra._replace(rows={k: one.rows for k, one in enumerate(new)},
                              shared={k: one.shared for k, one in enumerate(new)})  # fmt: skip

    def findings(self, density, extra, events):
        return [told for one in self._sets(density, extra, events) for told in self.each.findings(*one)]

    # -- errors: those of each data set, in the vector of all that is estimated ----------------------------------------
    def _with_slopes(self, density, extra, events):
        """Each data set with the matrix that takes the vector of all that is estimated to its own."""
        return zip(self._sets(density, extra, events), _slopes(density, extra), strict=True)

    def row_scores(self, density, extra, events, vector):
        free, learned = parameters_of(density, extra)[1](vector)
        return jnp.concatenate(_scores(self, density.at(free), extra._replace(learned=learned), events))

    def score_correction(self, density, extra, events):
        """What each data set's objective adds, and the centre of its scores."""
        parts = []
        scores = _scores(self, density, extra, events)
        for (one, slope), psi in zip(self._with_slopes(density, extra, events), scores, strict=True):
            added = self.each.score_correction(*one)
            centre = psi.mean(0) if len(psi) > 1 else 0.0
            parts.append(jnp.zeros_like(psi) - centre if added is None else added @ slope - centre)
        return jnp.concatenate(parts)

    def noise_variance(self, density, extra, events):
        return self._summed("noise_variance", 1, density, extra, events)

    def shared_noise(self, density, extra, events):
        return self._summed("shared_noise", 2, density, extra, events)

    def _summed(self, what: str, power: int, density, extra, events):
        rows, found = sum(map(count_of, events.values())), None
        for one, slope in self._with_slopes(density, extra, events):
            part = getattr(self.each, what)(*one)
            if part is not None:
                share = (count_of(one[2]) / rows) ** power * slope.T @ part @ slope
                found = share if found is None else found + share
        return found


@jax.jit
def _slopes(density: Densities, extra: Extra) -> list[jax.Array]:
    """∂ (all that is estimated from one data set) / ∂ (all that is estimated), for each data set."""
    vector, unravel = parameters_of(density, extra)

    def own(v, k):
        free, learned = unravel(v)
        return ravel_pytree(({name: free[name] for name in density.parts[k].supports}, learned[k]))[0]

    return [jax.jacobian(functools.partial(own, k=k))(vector) for k in range(len(density.parts))]


@jax.jit
def _scores(objective: Together, density: Densities, extra: Extra, events: dict) -> list[jax.Array]:
    """The rows' scores in all that is estimated, by data set."""
    return [
        row_scores(objective.each, *one, parameters_of(*one[:2])[0]) @ slope
        for one, slope in objective._with_slopes(density, extra, events)
    ]


@dataclass
class Shared(Problem):
    """A problem of several data sets: `p` and `density` are `Densities`, `events` a dict by number."""

    @property
    def rows(self) -> int:
        return sum(map(count_of, self.events.values()))


def together(ps: list, data: Any, objective: Any, asked: dict, start, restarts, seed, progress, dtype) -> Fit:
    """Fit several densities to several data sets; `asked` are the options that only one data set takes."""
    _refuse(ps, data, asked)
    for p in ps:
        check_options(p, steps=None, batch_size=None, seed=seed, restarts=restarts, dtype=dtype, optimizer=None,
                      callback=None)  # fmt: skip
    read = [read_data(p, one) for p, one in zip(ps, data, strict=True)]
    ps = _started(sharing([p for p, _ in read]), start)
    findings: list[Finding] = []
    objective = chosen([(p, events) for p, (_, events) in zip(ps, read, strict=True)], objective, False, findings)
    _refuse_objective(ps, objective)
    seed = int(np.random.SeedSequence().entropy % 2**31) if seed is None else seed
    dtype = np.dtype(dtype or np.float64)
    with jax.enable_x64(dtype == np.float64), bar(type(objective).__name__, 1.0, progress) as shown:
        bare = Densities(tuple(p.bare() for p in ps))
        objective, density, events = cast((objective, bare, {k: e for k, (_, e) in enumerate(read)}), dtype)
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
    return [started(p, part | unknown) if part or unknown else p for p, part in zip(ps, own, strict=True)]


def _refuse(ps: list, data: Any, asked: dict) -> None:
    if not ps or not isinstance(data, list | tuple) or len(data) != len(ps):
        found = f"{len(data)} data sets" if isinstance(data, list | tuple) else f"a {type(data).__name__}"
        raise ValueError(
            f"fit was given {len(ps)} densities and {found}; expected a list of as many data sets, at least one; pass "
            "such as un.fit([p, q], [X, Y])."
        )
    for name, value in asked.items():
        if value is not None:
            raise ValueError(
                f"{name} was given to a fit of {len(ps)} data sets, which does not take it; expected none; leave it "
                "out, or fit one data set."
            )


def _refuse_objective(ps: list[Density], objective: Any) -> None:
    name = type(objective).__name__
    if objective.stochastic or getattr(objective, "in_pairs", False):
        raise ValueError(
            f"{name} has no loss of single rows, and several data sets are fitted by the sum of those; expected such "
            "an objective; use un.objectives.MaximumLikelihood, PseudoLikelihood, ScoreMatching or NCE."
        )
    if getattr(objective, "draws", None) is not None:
        raise ValueError(
            f"{name} was given draws={objective.draws}, and several data sets have no draws of one density; expected "
            "None; leave draws out, or use un.objectives.PseudoLikelihood, ScoreMatching or NCE."
        )
    for p in ps:
        for parameter, support in p.supports.items():
            if isinstance(support, _PyTree):
                raise ValueError(
                    f"Parameter {parameter} is {support!r}, which is trained by steps; expected numbers where several "
                    "data sets are fitted; fit one data set."
                )


def _finished(problem: Shared, density, extra, covariance, converged, history) -> Fit:
    """Everything in the user's terms, and a fit of each data set inside, whose errors are those of all."""
    objective, findings = problem.objective, problem.findings
    vector, unravel = parameters_of(density, extra)
    estimates, jacobian = entries(density, lambda v: unravel(v)[0], vector)
    listed = None
    if covariance is not None:
        slope = jacobian()
        listed = Covariance(*(slope @ part @ slope.T for part in covariance))
    name, likelihood = registry_name(type(objective.each)), isinstance(objective.each, MaximumLikelihood)
    parts = []
    for k, (p, one) in enumerate(zip(problem.p.parts, density.parts, strict=True)):

        def own(v, k=k, names=tuple(one.supports)):
            free, learned = unravel(v)
            return {name: free[name] for name in names}, learned[k]

        given = objective.of_set(extra, k), problem.events[k], vector, own, covariance, findings
        log_z, where = log_z_and_place(objective.each, one, *given)
        if log_z is None:
            findings.append(no_log_z(one))
        fitted = p.bind(**{name: jax.tree.map(at_rest, value) for name, value in one.parameters.items()})
        free = None
        if covariance is not None:
            slope = np.asarray(jax.jacobian(lambda v, own=own: ravel_pytree(own(v)[0])[0])(vector))
            free = slope @ covariance.total @ slope.T
        parts.append(
            Fit(fitted, name, objective.each.target, converged, log_z, history, problem.seed,
                count_of(problem.events[k]), likelihood=likelihood, _free_covariance=free, _location=where)
        )  # fmt: skip
    improper = any(told.severity == ERROR and "normalized" in told.what for told in findings)
    if covariance is not None and problem.rows <= len(vector):
        told = Finding("there are no more rows than parameters", "read the standard errors with care", WARNING)
        findings.append(told)
    return Fit(
        [part.density for part in parts], name, objective.target, converged and not improper,
        [part.log_z for part in parts], history[~np.isnan(history)], problem.seed, problem.rows, findings, likelihood,
        _estimates=estimates, _covariance=listed, _parts=parts,
    )  # fmt: skip


def _bootstrapped(problem: Shared, start: Densities, fit: Fit, replicates: int, seed: int):
    """Redraw the rows of each data set with replacement, and refit."""
    random = np.random.default_rng(seed)

    def redrawn():
        chosen_rows = {k: random.integers(count_of(one), size=count_of(one)) for k, one in problem.events.items()}
        return {k: jax.tree.map(lambda leaf, k=k: leaf[chosen_rows[k]], one) for k, one in problem.events.items()}

    with jax.enable_x64(next(iter(problem.events[0].values())).dtype == np.float64):
        own = [{n: part.parameters[n] for n in part.supports} for part in fit.density]
        parts = [p.bind(**values).bare() for p, values in zip(problem.p.parts, own, strict=True)]
        density = cast(Densities(tuple(parts)), next(iter(problem.events[0].values())).dtype)
        extra = problem.objective.prepare(density, problem.events, jax.random.key(problem.seed))
        found = refitted(problem.objective, density, (redrawn() for _ in range(replicates)), jax.random.key(seed), None)
        return of_vectors(fit, density, extra, *found)


__all__ = ["Densities", "Together", "together"]
