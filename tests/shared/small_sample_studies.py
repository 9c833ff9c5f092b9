"""Coverage of 95% intervals from few rows or few clusters, over all fits and over those without a
warning.

`python tests/shared/small_sample_studies.py NAME [SETS]` in `tests` prints one row of the table in
docs/appendix/coverage.md.
"""

import functools
import sys
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

import unnorm as un
from unnorm.core.findings import ERROR, WARNING

o = un.objectives


@un.density
def line(y: un.Real, *, z: un.Covariate, a: un.Real = 0.0, b: un.Real = 0.0):
    """Least squares: unit variance is assumed, and the errors do not depend on it."""
    return -0.5 * (y - a - b * z) ** 2


@un.density
def gamma(x: un.Positive, *, shape: un.Positive = 3.0, rate: un.Positive = 2.0):
    return (shape - 1) * jnp.log(x) - rate * x


def clustered(random, count=12, size=10):
    """A covariate and a random intercept of the cluster's."""
    z, label = np.repeat(random.normal(size=count), size), np.repeat(np.arange(count), size)
    y = (
        1
        + 0.5 * z
        + np.repeat(random.normal(0, 0.7, count), size)
        + random.normal(size=count * size)
    )
    return {"y": y, "z": z}, label


@functools.cache
def _quartic_cells() -> tuple[np.ndarray, np.ndarray]:
    x = np.linspace(-6, 6, 20_001)
    cumulated = np.cumsum(np.exp(0.5 * x + x**2 - 0.25 * x**4))
    return cumulated / cumulated[-1], x


def quartic_data(random, rows):
    return np.interp(random.uniform(size=rows), *_quartic_cells())


class Study(NamedTuple):
    """A fit of the data that a random generator makes, and the true values of its listed
    parameters."""

    fit: Callable
    truth: list[float]


def _gamma_fit(random, seed):
    return un.fit(
        gamma, random.gamma(3.0, 0.5, 30), o.MaximumLikelihood(), seed=seed, progress=False
    )


def _clustered_fit(objective, random, seed):
    data, label = clustered(random)
    return un.fit(line, data, objective, cluster=label, seed=seed, progress=False)


def _stein_fit(rows, random, seed):
    data = quartic_data(random, rows)
    return un.fit(un.models.quartic, data, o.SteinDiscrepancy(), seed=seed, progress=False)


STUDIES = {
    "gamma": Study(_gamma_fit, [3.0, 2.0]),
    "clusters": Study(functools.partial(_clustered_fit, o.ScoreMatching()), [1.0, 0.5]),
    **{
        f"stein {rows}": Study(functools.partial(_stein_fit, rows), [0.5, 1.0, 0.0, 0.25])
        for rows in (80, 160, 320, 640, 1280, 2560, 5000)
    },
}


class Found(NamedTuple):
    """Shares of intervals that cover, by parameter: of all fits, of those that passed, of those
    without a warning."""

    sets: int
    covered: np.ndarray
    passed: int
    covered_of_passed: np.ndarray
    silent: int
    covered_of_silent: np.ndarray


def coverage(name: str, sets: int) -> Found:
    study, hits, passed, silent = STUDIES[name], [], [], []
    for seed in range(sets):
        fit = study.fit(np.random.default_rng(seed), seed)
        table = fit.summary()
        hits.append(
            (table.lower <= study.truth) & (table.upper >= study.truth)
        )  # no interval covers nothing
        passed.append(fit.passed)
        silent.append(
            fit.passed and not any(told.severity in (ERROR, WARNING) for told in fit.findings)
        )
    hits, passed, silent = np.array(hits), np.array(passed), np.array(silent)
    shares = [hits[chosen].mean(0) if chosen.any() else None for chosen in (passed, silent)]
    return Found(sets, hits.mean(0), int(passed.sum()), shares[0], int(silent.sum()), shares[1])


def main() -> None:
    name, sets = sys.argv[1], int((sys.argv + ["500"])[2])
    print(name, coverage(name, sets))


if __name__ == "__main__":
    main()
