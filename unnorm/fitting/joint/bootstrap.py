"""The bootstrap of a joint fit: the rows of each data set resampled with replacement."""

import jax
import numpy as np

from unnorm.core.random_keys import make_key
from unnorm.declaration.density import cast
from unnorm.fitting.inference.bootstrap.refits import refit_all
from unnorm.fitting.inference.bootstrap.result import Bootstrap, of_vectors
from unnorm.fitting.joint.shared_parameters import Densities
from unnorm.fitting.problem import Problem
from unnorm.fitting.results.fit import Fit
from unnorm.integration.representative_rows import count_of


def bootstrap(problem: Problem, fit: Fit, replicates: int, seed: int) -> Bootstrap:
    """Resample the rows of each data set with replacement, and refit."""
    random, data = np.random.default_rng(seed), problem.events

    def resample():
        rows = {k: random.integers(count_of(one), size=count_of(one)) for k, one in data.items()}
        return {k: jax.tree.map(lambda leaf, k=k: leaf[rows[k]], one) for k, one in data.items()}

    assert isinstance(fit.density, list)
    with jax.enable_x64(next(iter(problem.events[0].values())).dtype == np.float64):
        own = [{n: part.parameters[n] for n in part.supports} for part in fit.density]
        parts = [p.bind(**values).for_jit() for p, values in zip(problem.p.parts, own, strict=True)]
        density = cast(Densities(tuple(parts)), next(iter(problem.events[0].values())).dtype)
        loss = problem.loss(make_key(problem.seed), density)
        samples = (resample() for _ in range(replicates))
        found = refit_all(problem.objective, density, samples, make_key(seed), None)
        return of_vectors(fit, loss, *found)
