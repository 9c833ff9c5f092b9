"""Why there is no finite estimate, in terms of the data: a constant item, an empty cell, covariates
that separate.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from unnorm.core.findings import ERROR, Finding, FindingCode, join_names
from unnorm.fitting.existence.recession_directions import Cone
from unnorm.fitting.row_normalizers import latent_variables
from unnorm.interactions.conditionals import coordinates_of

_ROWS = 64  # random events at which it is seen what a parameter's statistic depends on
_FALLING = "the loss falling ever on"
_GENERAL = (
    f"{_FALLING}, as where a pair is never observed together or an event always happens",
    "fix or penalise these parameters, leave them out, or pool the states that are never seen",
)


def identification_finding(problem, labels, coordinates: np.ndarray) -> Finding:
    """Parameters that the density and these data cannot tell apart, the coordinates that move
    together.
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
        else "leave one of them out"
        if len(names) > 1
        else "leave it out"
    )
    return Finding(what, f"{advice}, or fix or penalise it", code=FindingCode.NOT_IDENTIFIED)


def reasons(problem, findings: list[Finding], cone: Cone | None) -> tuple[str, str]:
    """Why the loss falls ever on, and what to do about it."""
    if any(
        told.code is FindingCode.OBJECTIVE_CONDITIONS and told.severity == ERROR
        for told in findings
    ):
        return "which may follow from the condition that does not hold", "correct that first"
    if problem is None or not _is_discrete(problem):
        return (
            _FALLING,
            "fix or penalise these parameters, or look whether the data can determine them",
        )
    if cone is None:
        return _GENERAL
    moving = np.flatnonzero((cone.signs != 0) | cone.undetermined)
    told, advice = (
        _constant(problem, moving),
        "drop what is constant, or fix or penalise its parameters",
    )
    if not told:
        told, advice = _empty_cells(problem, moving), _GENERAL[1]
    if not told:
        told, advice = (
            _separating(problem, moving),
            "penalise these parameters, or leave a covariate out",
        )
    return (f"because {join_names(told)}", advice) if told else _GENERAL


def _is_discrete(problem) -> bool:
    """Whether the data say what is constant and what is never seen: all variables are discrete and
    observed.
    """
    density = problem.density
    if not hasattr(density, "variables") or latent_variables(density, problem.events):
        return False
    return all(support.discrete for support in density.variables.values())


def _constant(problem, moving: np.ndarray) -> list[str]:
    """The entries that never change and on which the statistics of these parameters depend."""
    depends = _depends(problem.density, problem.events)[0]
    moving = moving[moving < depends.shape[1]]  # log Z stands behind the parameters
    names, values, _ = _entries(problem.p, problem.density, problem.events)
    still = np.all(values == values[0], axis=0)
    return [
        f"{names[k]} is always {values[0, k]:g}"
        for k in np.flatnonzero(still)
        if depends[k, moving].any()
    ]


def _separating(problem, moving: np.ndarray) -> list[str]:
    """The covariates on which the statistics of these parameters depend."""
    depends = _depends(problem.density, problem.events)[1]
    moved = {name: which[moving[moving < len(which)]].any() for name, which in depends.items()}
    names = [name for name in problem.density.covariates if moved[name]]
    if not names:
        return []
    how = f"{_and(names)} together separate" if len(names) > 1 else f"{names[0]} separates"
    return [f"{how} the values of {_and(list(problem.density.variables))}"]


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _depends(density, events: dict) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Which parameters' statistics change with each entry of the variables, and with each
    covariate.
    """
    random = np.random.default_rng(0)
    rows = random.integers(len(next(iter(events.values()))), size=_ROWS)
    sample = {name: jnp.asarray(value)[rows] for name, value in events.items()}
    dtype = next(iter(sample.values())).dtype
    drawn = [jnp.asarray(_random_states(density, random), dtype) for _ in range(2)]
    shuffled = {name: sample[name][random.permutation(_ROWS)] for name in density.covariates}
    return jax.tree.map(np.asarray, _changes(density, sample, *drawn, shuffled))


@jax.jit
def _changes(density, sample: dict, states: jax.Array, others: jax.Array, shuffled: dict) -> tuple:
    """Whether ∂ log p̃ / ∂θ changes anywhere when one entry takes another state, or one covariate
    another value.
    """
    vector, unravel = ravel_pytree(density.free())
    statistic = jax.grad(lambda v, event: density.at(unravel(v)).log_density(event))

    def at(event, flat):
        return statistic(vector, coordinates_of(density, event)[1](flat))

    here = jax.vmap(at)(sample, states)

    def changed(other):
        return jnp.any(jnp.abs(other - here) > 1e-9, axis=0)

    def of_entry(k):
        return changed(jax.vmap(at)(sample, states.at[:, k].set(others[:, k])))

    entries = jax.lax.map(of_entry, jnp.arange(states.shape[1]))
    return entries, {
        n: changed(jax.vmap(at)(sample | {n: value}, states)) for n, value in shuffled.items()
    }


def _random_states(density, random) -> np.ndarray:
    shapes, columns = density.shapes(), []
    for name, support in density.variables.items():
        size = int(np.prod(support.free_shape(shapes[name])))
        states = support.states or tuple(range(4))
        columns.append(random.choice(np.array(states, float), size=(_ROWS, size)))
    return np.concatenate(columns, 1)


def _entries(p, density, events: dict) -> tuple[list[str], np.ndarray, list]:
    """A name, the observed values, and the states (None: counts) of every entry of the
    variables.
    """
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


@jax.jit
def _flat(density, events: dict) -> jax.Array:
    return jax.vmap(lambda event: coordinates_of(density, event)[0])(events)


def _empty_cells(problem, moving: np.ndarray) -> list[str]:
    """The pairs of entries that the parameters depend on together, and the pairs of values never
    seen in them.
    """
    depends = _depends(problem.density, problem.events)[0]
    names, values, states = _entries(problem.p, problem.density, problem.events)
    sets = [np.flatnonzero(depends[:, j]) for j in moving if j < depends.shape[1]]
    pairs = {pair for entries in sets for pair in itertools.combinations(entries, 2)}
    told = []
    for one, other in sorted(pairs):
        if (
            states[one] is None
            or states[other] is None
            or any(np.ptp(values[:, k]) == 0 for k in (one, other))
        ):
            continue
        seen = {tuple(row) for row in values[:, [one, other]]}
        for a, b in itertools.product(states[one], states[other]):
            if (a, b) not in seen:
                both = f"{names[one]} and {names[other]} are never {a:g} together"
                apart = f"{names[one]} = {a:g} is never seen with {names[other]} = {b:g}"
                told.append(both if a == b else apart)
    return told
