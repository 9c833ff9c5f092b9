"""The reason in the data why there is no finite estimate: a constant entry, an empty cell, or
separation by covariates.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from unnorm.core.compilation.policy import compiled
from unnorm.core.findings import ERROR, Finding, FindingCode, join_names
from unnorm.fitting.data.latent_variables import latent_variables
from unnorm.fitting.existence.recession_directions import Cone
from unnorm.interactions.conditionals import coordinates_of

_DECREASING = "because the loss decreases without end"
_GENERAL = (
    f"{_DECREASING}, as where a pair is never observed together or an event always happens",
    "fix or penalise these parameters, leave them out, or pool the states that are never seen",
)


def identification_finding(problem, labels, coordinates: np.ndarray) -> Finding:
    """Return the finding for collinear parameters.

    Args:
        problem: the `Problem`, or None.
        labels: of the parameters.
        coordinates: theirs among all that is estimated.
    """
    names = list(labels)
    what = f"{_and(names)} are collinear: these data determine only certain combinations of them"
    if len(names) == 1:
        what = f"{names[0]} does not change the loss: these data do not determine it"
    constant = (
        [] if problem is None or not _is_discrete(problem) else _constant(problem, coordinates)
    )
    what += f", because {join_names(constant)}" if constant else ""
    advice = (
        "drop what is constant"
        if constant
        else "centre covariates with a large offset, leave one of them out"
        if len(names) > 1
        else "leave it out"
    )
    return Finding(what, f"{advice}, or fix or penalise it", code=FindingCode.NOT_IDENTIFIED)


def reasons(problem, findings: list[Finding], cone: Cone | None) -> tuple[str, str]:
    """Return why the loss decreases without end, and the advice."""
    if any(
        finding.code is FindingCode.OBJECTIVE_CONDITIONS and finding.severity == ERROR
        for finding in findings
    ):
        return "which may follow from the condition that does not hold", "correct that first"
    if problem is None or not _is_discrete(problem):
        return (
            _DECREASING,
            "fix or penalise these parameters, or check that the data can determine them",
        )
    if cone is None:
        return _GENERAL
    divergent = np.flatnonzero((cone.signs != 0) | cone.undetermined)
    causes = (
        (_constant, "drop what is constant, or fix or penalise its parameters"),
        (_empty_cells, _GENERAL[1]),
        (_separating, "penalise these parameters, or leave a covariate out"),
    )
    for cause, advice in causes:
        found = cause(problem, divergent)
        if found:
            return f"because {join_names(found)}", advice
    return _GENERAL


def _is_discrete(problem) -> bool:
    """Return whether all variables are discrete and observed, so that a cause can be found."""
    density = problem.density
    if not hasattr(density, "variables") or latent_variables(density.variables, problem.events):
        return False
    return all(support.discrete for support in density.variables.values())


def _constant(problem, coordinates: np.ndarray) -> list[str]:
    """Return the constant entries on which the statistics of these parameters depend."""
    depends = _depends(problem.density, problem.events)[0]
    coordinates = coordinates[coordinates < depends.shape[1]]  # log Z is the last coordinate
    names, values, _ = _entries(problem.p, problem.density, problem.events)
    constant = np.all(values == values[0], axis=0)
    return [
        f"{names[k]} is always {values[0, k]:g}"
        for k in np.flatnonzero(constant)
        if depends[k, coordinates].any()
    ]


def _separating(problem, coordinates: np.ndarray) -> list[str]:
    """Return the covariates on which the statistics of these parameters depend."""
    depends = _depends(problem.density, problem.events)[1]
    matters = {
        name: which[coordinates[coordinates < len(which)]].any() for name, which in depends.items()
    }
    names = [name for name in problem.density.covariates if matters[name]]
    if not names:
        return []
    how = f"{_and(names)} together separate" if len(names) > 1 else f"{names[0]} separates"
    return [f"{how} the values of {_and(list(problem.density.variables))}"]


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _depends(density, events: dict, count: int = 64) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return which parameters' statistics depend on each entry, and on each covariate.

    The statistics are compared at `count` random events.
    """
    random = np.random.default_rng(0)
    rows = random.integers(len(next(iter(events.values()))), size=count)
    sample = {name: jnp.asarray(value)[rows] for name, value in events.items()}
    dtype = next(iter(sample.values())).dtype
    states = [jnp.asarray(_random_states(density, random, count), dtype) for _ in range(2)]
    shuffled = {name: sample[name][random.permutation(count)] for name in density.covariates}
    return jax.tree.map(np.asarray, _changes(density, sample, *states, shuffled))


@compiled
def _changes(density, sample: dict, states: jax.Array, others: jax.Array, shuffled: dict) -> tuple:
    """Return whether ∂ log p̃ / ∂θ changes with one entry's state, or with one covariate."""
    vector, unravel = ravel_pytree(density.free())
    statistic = jax.grad(lambda v, event: density.at(unravel(v)).log_density(event))

    def at(event, flat):
        return statistic(vector, coordinates_of(density, event)[1](flat))

    here = jax.vmap(at)(sample, states)

    def changes(other):
        return jnp.any(jnp.abs(other - here) > 1e-9, axis=0)

    def of_entry(k):
        return changes(jax.vmap(at)(sample, states.at[:, k].set(others[:, k])))

    entries = jax.lax.map(of_entry, jnp.arange(states.shape[1]))
    return entries, {
        n: changes(jax.vmap(at)(sample | {n: value}, states)) for n, value in shuffled.items()
    }


def _random_states(density, random, count: int) -> np.ndarray:
    shapes, columns = density.shapes(), []
    for name, support in density.variables.items():
        size = int(np.prod(support.free_shape(shapes[name])))
        states = support.states or tuple(range(4))
        columns.append(random.choice(np.array(states, float), size=(count, size)))
    return np.concatenate(columns, 1)


def _entries(p, density, events: dict) -> tuple[list[str], np.ndarray, list]:
    """Return the name, the observed values, and the states (None: counts) of every entry."""
    names, states, shapes = [], [], density.shapes()
    for name, support in density.variables.items():
        axes = [p.labels.get(axis) for axis in support.axes] if support.axes else []
        for place in support.entries(shapes[name]):
            inside = [
                str(i) if labels is None else str(labels[i])
                for i, labels in zip(place, axes, strict=False)
            ]
            alone = len(density.variables) == 1 and any(labels is not None for labels in axes)
            names.append(
                ",".join(inside) if alone else name + (f"[{','.join(inside)}]" if inside else "")
            )
            states.append(support.states)
    return names, np.asarray(_flat(density, events)), states


@compiled
def _flat(density, events: dict) -> jax.Array:
    return jax.vmap(lambda event: coordinates_of(density, event)[0])(events)


def _empty_cells(problem, coordinates: np.ndarray) -> list[str]:
    """Return the unobserved pairs of values, of entries on which one parameter depends."""
    depends = _depends(problem.density, problem.events)[0]
    names, values, states = _entries(problem.p, problem.density, problem.events)
    sets = [np.flatnonzero(depends[:, j]) for j in coordinates if j < depends.shape[1]]
    pairs = {pair for entries in sets for pair in itertools.combinations(entries, 2)}
    cells = []
    for one, other in sorted(pairs):
        if (
            states[one] is None
            or states[other] is None
            or any(np.ptp(values[:, k]) == 0 for k in (one, other))
        ):
            continue
        observed = {tuple(row) for row in values[:, [one, other]]}
        for a, b in itertools.product(states[one], states[other]):
            if (a, b) not in observed:
                both = f"{names[one]} and {names[other]} are never {a:g} together"
                apart = f"{names[one]} = {a:g} is never seen with {names[other]} = {b:g}"
                cells.append(both if a == b else apart)
    return cells
