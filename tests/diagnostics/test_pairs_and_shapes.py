"""Draws that are right in each coordinate's mean and variance, and wrong together or in shape."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import unnorm as un

RANDOM = np.random.default_rng(0)
SHAPE = (4, 500)
NORMAL = un.Density(lambda x: -0.5 * jnp.sum(x**2), {"x": un.Real[2]})
BITS = un.Density(lambda x: 0.3 * x.sum(), {"x": un.Binary[3]})
COUNTS = un.Density(
    lambda x: jnp.sum(x * jnp.log(3.0) - jax.scipy.special.gammaln(x + 1)), {"x": un.Count[2]}
)
CHANCE = 1 / (1 + np.exp(-0.3))


def correlated(rho):
    x, y = RANDOM.normal(size=(2, *SHAPE))
    return np.stack([x, rho * x + np.sqrt(1 - rho**2) * y], -1)


def skewed():
    """Mean 0 and variance 1."""
    return RANDOM.gamma(4.0, size=(*SHAPE, 2)) / 2 - 2


def shared_counts():
    """Poisson of mean 3 each, with a part in common."""
    own, common = RANDOM.poisson(2.0, (*SHAPE, 2)), RANDOM.poisson(1.0, (*SHAPE, 1))
    return (own + common).astype(float)


WRONG = [
    (
        NORMAL,
        correlated(0.2),
        r"x\[\d\] with x\[\d\] \(as Gaussians with a correlation \+0\.\d+ off",
    ),
    (NORMAL, RANDOM.standard_t(5, (*SHAPE, 2)) / np.sqrt(5 / 3), r"x\[\d\] \(its tails"),
    (NORMAL, skewed(), r"x\[\d\] \(its skewness"),
    (BITS, np.repeat((RANDOM.random((*SHAPE, 1)) < CHANCE) * 1.0, 3, -1), r"x\[0\] with x\[1\]"),
    (COUNTS, shared_counts(), r"x\[\d\] with x\[\d\]"),
]


@pytest.mark.parametrize(
    ("p", "x", "words"), WRONG, ids=["correlated", "tails", "skewed", "bits", "counts"]
)
def test_draws_that_had_passed_are_an_error(p, x, words):
    found = un.diagnose({"x": x}, p)
    (mismatch,) = [f for f in found.findings if f.code == "stein_mismatch"]
    assert mismatch.severity == "error" and not found.passed
    assert re.search(words, mismatch.what)


RIGHT = [
    (NORMAL, RANDOM.normal(size=(*SHAPE, 2))),
    (BITS, (RANDOM.random((*SHAPE, 3)) < CHANCE) * 1.0),
    (COUNTS, RANDOM.poisson(3.0, (*SHAPE, 2)) * 1.0),
]


@pytest.mark.parametrize(("p", "x"), RIGHT, ids=["normal", "bits", "counts"])
def test_right_draws_pass(p, x):
    assert un.diagnose({"x": x}, p).passed


def test_1024_chains_are_checked_by_groups():
    x = RANDOM.normal(size=(1024, 20, 2))
    x[..., 1] = 0.2 * x[..., 0] + np.sqrt(0.96) * x[..., 1]
    findings = un.diagnose({"x": x}, NORMAL).findings
    assert any("correlation +0.2" in f.what for f in findings)
