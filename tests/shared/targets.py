"""Densities with exact moments, for tests of kernels."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pandas as pd

import unnorm as un


class Known(NamedTuple):
    """A density and the exact mean and variance of its variable."""

    density: un.Density
    mean: np.ndarray
    variance: np.ndarray


PRECISION = np.array([[1.5, 0.6, 0.0], [0.6, 1.0, 0.2], [0.0, 0.2, 0.5]])
CENTRE = np.array([1.0, -2.0, 0.5])


@un.density
def gaussian(
    x: un.Real["d"],
    *,
    centre: un.Real["d"] = CENTRE,
    precision: un.PositiveDefinite["d"] = PRECISION,
):
    return -0.5 * (x - centre) @ precision @ (x - centre)


@un.density
def banana(x: un.Real[2]):
    """x_0 ~ N(0, 1), x_1 | x_0 ~ N(x_0² / 2, 1): means 0 and 1/2, variances 1 and 3/2."""
    return -0.5 * x[0] ** 2 - 0.5 * (x[1] - 0.5 * x[0] ** 2) ** 2


@un.density
def beta(x: un.Interval(0, 1)):
    """Beta(2, 3), bounded on both sides: mean 2/5, variance 1/25."""
    return jnp.log(x) + 2 * jnp.log1p(-x)


CONTINUOUS = {
    "gaussian": Known(gaussian, CENTRE, np.diag(np.linalg.inv(PRECISION))),
    "banana": Known(banana, np.array([0.0, 0.5]), np.array([1.0, 1.5])),
    "bounded": Known(beta, np.array(0.4), np.array(0.04)),
}


@un.density
def ising(x: un.Binary["d"], *, coupling: un.Symmetric["d"] = 0.0, field: un.Real["d"] = 0.0):
    """Pairwise binary graphical model (Besag, 1974)."""
    return field @ x + 0.5 * x @ coupling @ x


@un.density
def spins(x: un.Spin["d"], *, coupling: un.Symmetric["d"] = 0.0, field: un.Real["d"] = 0.0):
    return field @ x + 0.5 * x @ coupling @ x


# Case B: how many of 915 doctoral students published how many articles (Long, 1990).
PUBLICATION_COUNTS = dict(
    zip(range(13), (275, 246, 178, 84, 67, 27, 17, 12, 1, 2, 1, 1, 2), strict=True)
) | {16: 1, 19: 1}
PUBLICATIONS = np.repeat(list(PUBLICATION_COUNTS), list(PUBLICATION_COUNTS.values()))

# Case C of the known answers: maximum likelihood of the Gaussian truncated to x >= 0, on Ozone and
# Wind.
CASE_C = pd.DataFrame(
    {
        "estimate": [3.2578, 5.4608, 0.8835, 0.9625, 1.5315],
        "standard_error": [0.7188, 0.7592, 0.2066, 0.1718, 0.2083],
    },
    index=pd.MultiIndex.from_tuples(
        [
            ("eta", "Ozone", ""),
            ("eta", "Wind", ""),
            ("precision", "Ozone", "Ozone"),
            ("precision", "Ozone", "Wind"),
            ("precision", "Wind", "Wind"),
        ],
        names=["parameter", "i", "j"],
    ),
)


def pair_features(states: np.ndarray) -> np.ndarray:
    """The statistics of `ising` in the order of `Fit.summary`: x_i x_j for i < j, then x."""
    rows, columns = np.triu_indices(states.shape[-1], 1)
    return np.concatenate([states[..., rows] * states[..., columns], states], -1)


def enumerated(p: un.Density) -> tuple[np.ndarray, np.ndarray]:
    """All states of one two-valued vector variable and their probabilities."""
    support, (size,) = p.variables["x"], p.shapes()["x"]
    states = np.stack(np.meshgrid(*[support.states] * size, indexing="ij"), -1).reshape(-1, size)
    log_density = np.asarray(p(states), float)
    weights = np.exp(log_density - log_density.max())
    return states, weights / weights.sum()


def error_of_mean(values: np.ndarray) -> np.ndarray:
    """The Monte Carlo standard error of the mean of (chain, draw, ...) values, by ArviZ."""
    import arviz_stats

    flat = values.reshape(values.shape[:2] + (-1,))
    errors = [
        float(arviz_stats.mcse(flat[..., i], method="mean", chain_axis=0, draw_axis=1))
        for i in range(flat.shape[-1])
    ]
    return np.array(errors).reshape(values.shape[2:])
