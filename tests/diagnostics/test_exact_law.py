"""Draws of few joint states against their probabilities, whatever local moves show."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import unnorm as un
from unnorm.core.findings import FindingCode

SIZE = (4, 1000)
BITS = (np.arange(64)[:, None] >> np.arange(6)) & 1


def parity(x):
    return jnp.where(x.sum() % 2 == 0, 0.0, -jnp.inf) + x.sum()


def one_of_six(x):
    return jnp.where(x.sum() == 1, x @ jnp.arange(6.0), -jnp.inf)


def bonus(x):
    return jnp.where((x > 0).all(), 6.0, 0.0)


DENSITIES = {"parity": parity, "one of six": one_of_six, "bonus": bonus}


@pytest.mark.parametrize("name", DENSITIES)
def test_wrong_frequencies_are_an_error_and_right_ones_pass(name):
    p = un.Density(DENSITIES[name], {"x": un.Binary[6]})
    mass = np.exp(np.asarray(jax.vmap(DENSITIES[name])(jnp.asarray(BITS, float))))
    mass /= mass.sum()
    inside = np.flatnonzero(mass > 0)
    rng = np.random.default_rng(0)
    wrong = un.diagnose({"x": BITS[rng.choice(inside, SIZE)]}, p)
    assert not wrong.passed
    assert any(f.code == FindingCode.STEIN_MISMATCH for f in wrong.findings)
    right = un.diagnose({"x": BITS[rng.choice(64, SIZE, p=mass)]}, p)
    assert right.passed and not right.findings


def test_false_alarms_are_rare():
    """The level is .001 over all states and sites: of 40 data sets none, or seldom one."""
    coupling = np.triu(np.random.default_rng(1).normal(size=(6, 6)) * 0.3, 1)
    p = un.Density(lambda x: x @ jnp.asarray(coupling) @ x + 0.2 * x.sum(), {"x": un.Spin[6]})
    states = 2.0 * BITS - 1
    mass = np.exp(np.einsum("ni,ij,nj->n", states, coupling, states) + 0.2 * states.sum(1))
    mass /= mass.sum()
    diagnoses = [
        un.diagnose({"x": states[np.random.default_rng(k).choice(64, (4, 250), p=mass)]}, p)
        for k in range(40)
    ]
    assert sum("over all 64 states" in f.what for one in diagnoses for f in one.findings) <= 1


# -- one count -------------------------------------------------------------------------------------
@un.density
def two_modes(y: un.Count):
    """Poisson counts around 5, and one in ten around 500."""
    from jax.scipy.stats import poisson

    return jnp.logaddexp(
        jnp.log(0.9) + poisson.logpmf(y, 5.0), jnp.log(0.1) + poisson.logpmf(y, 500.0)
    )


def test_a_mode_of_counts_that_no_chain_visited_is_an_error():
    rng = np.random.default_rng(0)
    low = rng.poisson(5.0, SIZE)
    found = un.diagnose({"y": low}, two_modes).findings
    assert any(f.severity == "error" and "over all counts" in f.what for f in found)
    both = np.where(rng.random(SIZE) < 0.1, rng.poisson(500.0, SIZE), low)
    assert not any(
        "over all counts" in f.what for f in un.diagnose({"y": both}, two_modes).findings
    )


def test_false_alarms_of_counts_are_rare():
    p = un.Density(
        lambda y: jax.scipy.special.gammaln(y + 0.5) - jax.scipy.special.gammaln(y + 1) - 0.02 * y,
        {"y": un.Count},
    )  # a negative binomial of size 1/2, its mean 25
    rng = np.random.default_rng(2)
    diagnoses = [
        un.diagnose({"y": rng.negative_binomial(0.5, 1 - np.exp(-0.02), (4, 250))}, p)
        for _ in range(40)
    ]
    assert sum("over all counts" in f.what for one in diagnoses for f in one.findings) <= 1
