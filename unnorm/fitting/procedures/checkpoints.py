"""Where a training stands, on disk: the stores of sampling, with a fit's own description."""

import contextlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.method import registry_name
from unnorm.fitting.problem import Problem
from unnorm.sampling.engine.part_writers import Behind
from unnorm.sampling.output.checkpoint import Store
from unnorm.sampling.output.datatree import provenance
from unnorm.sampling.output.fingerprints import describe_value, program_of
from unnorm.sampling.output.run_identity import FORMAT
from unnorm.sampling.output.run_spec import (
    describe,
    describe_density,
    fingerprint_of,
    functions_of,
    settings,
)


class NoStore:
    """Nothing is kept."""

    def has(self, part: int) -> bool:
        return False

    def save(self, part: int, carry: Any, out: Any) -> None:
        return None


class Saved:
    """Parts in a store, written while the next one is trained."""

    def __init__(self, store: Store, behind: Behind) -> None:
        self.store, self.behind = store, behind
        self.has, self.carry, self.save = store.has, store.carry, behind.save


@contextlib.contextmanager
def checkpoints(problem: Problem, steps: int) -> Any:
    """The parts of a training that the user's store holds already, and where new ones go."""
    if problem.store is None:
        yield NoStore()
        return
    with Store(Path(problem.store), fit_meta(problem, steps)) as store, Behind(store) as behind:
        yield Saved(store, behind)


def fit_meta(problem: Problem, steps: int) -> dict[str, Any]:
    """All that a training depends on, by name."""
    density, event = problem.density, {name: value[0] for name, value in problem.events.items()}
    complete = set(density.variables) <= set(
        event
    )  # else some are latent, and the objective alone sees the density
    return {
        "format": FORMAT.version,
        **describe_density(density),
        "program": _program(density, event) if complete else describe_value(functions_of(density)),
        "start": fingerprint_of(density.free()),
        "data": ("" if problem.batches is None else "batches of the user's, the first ")
        + _named(problem.events),
        "weights": fingerprint_of(problem.weights),
        "held_out": _named(problem.held_out or {}),
        "objective": describe(problem.objective)
        | {"objective": registry_name(type(problem.objective))},
        "optimizer": _optimizer(problem),
        "penalty or prior": _penalty(problem),
        "options": {
            "steps": steps,
            "batch_size": problem.batch_size,
            "average": problem.average,
            "seed": problem.seed,
        },
        "version of": provenance(),
        "setting": settings(),
        "rebuild": None,
    }


def _program(density: Any, event: dict[str, Any]) -> str:
    return program_of(lambda p, at: p.log_density(at), density, event, source=functions_of(density))


def _named(arrays: dict[str, Any]) -> str:
    return (
        ", ".join(f"{name}: {fingerprint_of(np.asarray(value))}" for name, value in arrays.items())
        or "none"
    )


def _optimizer(problem: Problem) -> str:
    """What its update compiles to, and the numbers that it starts from: closures and schedules
    leave nothing out.
    """
    if problem.optimizer is None:
        return "default"
    vector = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(problem.density.free())])
    state = problem.optimizer.init(vector)
    try:
        program = program_of(problem.optimizer.update, vector, state, vector)
    except (
        Exception
    ):  # an update that asks for more than gradients: by its code and what that closes over
        program = describe_value(problem.optimizer)
    return f"{program} {describe_value(fingerprint_of(state))}"


def _penalty(problem: Problem) -> str:
    """What the penalty compiles to, and its numbers."""
    if problem.penalty is None:
        return "none"
    free, penalty = problem.density.free(), problem.penalty
    program = program_of(lambda one, p, at: one.of_free(p, at), penalty, problem.density, free)
    return f"{program} {describe_value(fingerprint_of(penalty))}"
