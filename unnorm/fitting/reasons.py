"""Why there is no finite estimate, in terms of the data: a constant item, an empty cell, covariates that separate."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from unnorm.diagnostics.verdict import Finding, FindingCode, listed
from unnorm.fitting.conditionals import coordinates_of
from unnorm.fitting.recession import Cone

_ROWS = 64  # random events at which it is seen what a parameter's statistic depends on
_GENERAL = (
    "the loss falling ever on, as where a pair is never observed together or an event always happens",
    "fix or penalise these parameters, leave them out, or pool the states that are never seen",
)


def unidentified(labels) -> Finding:
    """Parameters that the density and these data cannot tell apart."""
    names = list(labels)
    what = f"{_and(names)} are collinear: these data determine only certain combinations of them"
    if len(names) == 1:
        what = f"{names[0]} does not change the loss: these data do not determine it"
    return Finding(
        what,
        "leave one of them out, or fix or penalise it",
        code=FindingCode.NOT_IDENTIFIED,
    )


def reasons(fit, cone: Cone | None) -> tuple[str, str]:
    """Why the loss falls ever on, and what to do about it."""
    problem = None if fit._origin is None else fit._origin.problem
    if problem is None or cone is None:
        return _GENERAL
    moving = np.flatnonzero((cone.signs != 0) | cone.undetermined)
    density, events = problem.density, problem.events
    entries, covariates = _depends(density, events)
    moving = moving[moving < entries.shape[1]]  # log Z stands behind the parameters
    names, values, states = _entries(problem.p, density, events)
    constant = {k: values[0, k] for k in range(len(names)) if np.all(values[:, k] == values[0, k])}
    told = [
        f"{names[k]} is always {value:g}" for k, value in constant.items() if entries[k, moving].any()
    ]
    advice = "drop what is constant, or fix or penalise its parameters"
    if not told:
        told = _empty_cells(names, values, states, constant, [np.flatnonzero(entries[:, j]) for j in moving])
        advice = "fix or penalise these parameters, leave them out, or pool the states that are never seen"
    separating = [name for name, depends in covariates.items() if depends[moving].any()]
    if not told and separating:
        together = " together" if len(separating) > 1 else ""
        verb = "separate" if together else "separates"
        told = [f"{_and(separating)}{together} {verb} the values of {_and(list(density.variables))}"]
        advice = "penalise these parameters, or leave a covariate out"
    return (f"because {listed(told)}", advice) if told else _GENERAL


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


@jax.jit
def _statistics(density, events: dict) -> jax.Array:
    """∂ log p̃ / ∂θ of every row, (n, p)."""
    vector, unravel = ravel_pytree(density.free())
    return jax.vmap(jax.grad(lambda v, event: density.at(unravel(v)).log_density(event)), (None, 0))(vector, events)


def _depends(density, events: dict) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Which parameters' statistics change with each entry of the variables, and with each covariate."""
    random = np.random.default_rng(0)
    rows = random.integers(len(next(iter(events.values()))), size=_ROWS)
    sample = {name: jnp.asarray(value)[rows] for name, value in events.items()}
    flat = jax.vmap(lambda event: coordinates_of(density, event)[0])(sample)
    back = jax.vmap(lambda event, flat: coordinates_of(density, event)[1](flat))
    mixed = jnp.asarray(_random_states(density, np.asarray(flat), random), flat.dtype)
    here = _statistics(density, back(sample, mixed))
    other = jnp.asarray(_random_states(density, np.asarray(flat), random), flat.dtype)

    def changed(events) -> np.ndarray:
        return np.any(np.abs(np.asarray(_statistics(density, events) - here)) > 1e-9, axis=0)

    entries = [changed(back(sample, mixed.at[:, k].set(other[:, k]))) for k in range(flat.shape[1])]
    shuffled = {name: sample[name][random.permutation(_ROWS)] for name in density.covariates}
    placed = back(sample, mixed)
    return np.array(entries), {name: changed(placed | {name: value}) for name, value in shuffled.items()}


def _random_states(density, flat: np.ndarray, random) -> np.ndarray:
    shapes, columns = density.shapes(), []
    for name, support in density.variables.items():
        size = int(np.prod(support.free_shape(shapes[name])))
        states = support.states or tuple(range(4))
        columns.append(random.choice(np.array(states, float), size=(len(flat), size)))
    return np.concatenate(columns, 1)


def _entries(p, density, events: dict) -> tuple[list[str], np.ndarray, list]:
    """A name, the observed values, and the states (None: counts) of every entry of the variables."""
    names, states, shapes = [], [], density.shapes()
    for name, support in density.variables.items():
        axes = [p.labels.get(axis) for axis in support.axes] if support.axes else []
        for place in support.entries(shapes[name]):
            inside = [str(i) if labels is None else str(labels[i]) for i, labels in zip(place, axes, strict=False)]
            alone = len(density.variables) == 1 and any(labels is not None for labels in axes)
            names.append(",".join(inside) if alone else name + (f"[{','.join(inside)}]" if inside else ""))
            states.append(support.states)
    flat = jax.vmap(lambda event: coordinates_of(density, event)[0])({n: jnp.asarray(v) for n, v in events.items()})
    return names, np.asarray(flat), states


def _empty_cells(names, values, states, constant, sets) -> list[str]:
    """The pairs of entries that the parameters depend on together, and the pairs of values never seen in them."""
    pairs = {pair for entries in sets for pair in itertools.combinations(entries, 2)}
    told = []
    for one, other in sorted(pairs):
        if one in constant or other in constant or states[one] is None or states[other] is None:
            continue
        seen = {tuple(row) for row in values[:, [one, other]]}
        for a, b in itertools.product(states[one], states[other]):
            if (a, b) not in seen:
                both = f"{names[one]} and {names[other]} are never {a:g} together"
                apart = f"{names[one]} = {a:g} is never seen with {names[other]} = {b:g}"
                told.append(both if a == b else apart)
    return told
