"""Where a training stands, on disk: the stores of sampling, with a fit's own description."""

import contextlib
import hashlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from unnorm.fitting.problem import Problem
from unnorm.methods import registry_name
from unnorm.sampling.described import describe, fingerprint_of
from unnorm.sampling.storage import provenance
from unnorm.sampling.store import FORMAT, Behind, Store


class NoStore:
    """Nothing is kept."""

    def has(self, part: int) -> bool:
        return False

    def save(self, part: int, carry: Any, out: Any) -> None:
        return None


class Saved:
    """Parts in a store, written while the next one is trained."""

    def __init__(self, store: Store, behind: Behind):
        self.store, self.behind = store, behind
        self.has, self.carry, self.save = store.has, store.carry, behind.save


@contextlib.contextmanager
def checkpoints(problem: Problem, steps: int):
    """The parts of a training that the user's store holds already, and where new ones go."""
    if problem.store is None:
        yield NoStore()
        return
    store = Store(Path(problem.store), fit_meta(problem, steps))
    with Behind(store) as behind:
        yield Saved(store, behind)


def fit_meta(problem: Problem, steps: int) -> dict[str, Any]:
    """All that a training depends on, by name."""
    density, event = problem.density, {name: value[0] for name, value in problem.events.items()}
    lowered = jax.jit(lambda p, at: p.log_density(at)).lower(density, event).as_text()
    data = fingerprint_of(jax.tree.map(np.asarray, problem.events))
    return {
        "format": FORMAT,
        "density": density.name,
        "program": hashlib.sha256(lowered.encode()).hexdigest()[:16],
        "parameter or constant": fingerprint_of((density.free(), density.constants)),
        "data": "batches of the user's" if problem.batches is not None else data,
        "objective": describe(problem.objective) | {"objective": registry_name(type(problem.objective))},
        "options": {
            "steps": steps,
            "batch_size": problem.batch_size,
            "seed": problem.seed,
            "optimizer": "default" if problem.optimizer is None else "given",
            **({} if problem.penalty is None else {"penalty or prior": fingerprint_of(problem.penalty)}),
        },
        "version of": provenance(),
        "rebuild": None,
    }
