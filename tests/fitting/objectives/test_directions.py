"""Maximum likelihood on spheres, whose chart leaves a pole out: κ̂ solves A(κ) = mean of x along the
axis (Mardia and Jupp 2000, section 10.3)."""

import numpy as np
import pytest
from scipy import optimize, special

import unnorm as un


def mean_length(kappa, size):
    """A(κ) = I_(d/2)(κ) / I_(d/2 − 1)(κ)."""
    return special.ive(size / 2, kappa) / special.ive(size / 2 - 1, kappa)


def directions(size, kappa, axis, rows=2000):
    random = np.random.default_rng(0)
    if size == 2:
        angle = random.vonmises(0, kappa, rows)
        x = np.stack([np.cos(angle), np.sin(angle)], 1)
    else:
        u, angle = random.random(rows), random.uniform(0, 2 * np.pi, rows)
        along = 1 + np.log(u + (1 - u) * np.exp(-2 * kappa)) / kappa
        rest = np.sqrt(1 - along**2)
        x = np.stack([along, rest * np.cos(angle), rest * np.sin(angle)], 1)
    return np.roll(x, axis, 1)


CASES = [(2, 1.5, 0), (2, 1.5, -1), (2, 50.0, -1), (3, 1.5, 0), (3, 1.5, -1), (3, 5.0, -1)]


@pytest.mark.parametrize(
    ("size", "kappa", "axis"),
    [CASES[0], *(pytest.param(*case, marks=pytest.mark.slow) for case in CASES[1:])],
)
def test_the_concentration_is_that_of_the_mean_direction(size, kappa, axis):
    x = directions(size, kappa, axis)
    p = un.Density(lambda x, *, k: k * x[axis], {"x": un.Sphere[size]}, {"k": (un.Real, 0.5)})
    fit = un.fit(p, x, "maximum_likelihood", seed=0, progress=False)
    length = x[:, axis].mean()
    exact = optimize.brentq(lambda k: mean_length(k, size) - length, 1e-3, 500)
    assert fit.passed and fit.summary()["estimate"].iloc[0] == pytest.approx(exact, rel=1e-6)
