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
    told = [
        un.diagnose({"x": states[np.random.default_rng(k).choice(64, (4, 250), p=mass)]}, p)
        for k in range(40)
    ]
    assert sum("over all 64 states" in f.what for one in told for f in one.findings) <= 1
