"""log Z without chance: enumeration, elimination of sites, and closed forms that a density declares."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from targets import ising

import unnorm as un
from unnorm.partition.elimination import has_elimination
from unnorm.partition.estimators import Exact
from unnorm.partition.nodes import enumerate_states

ENUMERATED, ELIMINATED = Exact(), Exact(max_states=1)
CRITICAL = 0.5 * math.log(1 + math.sqrt(2))


def value_of(density, estimator=ELIMINATED):
    z = un.log_z(density, estimator, seed=0, progress=False)
    assert (z.verdict, z.standard_error, z.passed) == ("exact", 0.0, True), z
    return z.value


def directly(density):
    """log Σ p̃ over all states, by NumPy's sum."""
    with jax.enable_x64(True):
        return float(np.logaddexp.reduce(np.asarray(density(enumerate_states(density)))))


# -- enumeration -----------------------------------------------------------------------
def test_enumeration_goes_beyond_the_states_of_a_plan():
    """2^21 states of a dense model whose Z factorizes: J = a·11' - a·I, log Z by the sum over the number of ones."""
    a, sites = 0.03, 21
    coupling = a * (np.ones((sites, sites)) - np.eye(sites))
    ones = np.arange(sites + 1)
    by_count = [math.log(math.comb(sites, k)) + 0.5 * a * k * (k - 1) - 0.4 * k for k in ones]
    z = un.log_z(ising.bind(coupling=coupling, field=np.full(sites, -0.4)), ENUMERATED, seed=0, progress=False)
    assert (z.verdict, z.evaluations["values"]) == ("exact", 2**21)
    assert z.value == pytest.approx(np.logaddexp.reduce(by_count), abs=1e-9)


# -- elimination -----------------------------------------------------------------------
def random_pairs():
    rng = np.random.default_rng(0)
    coupling = np.triu(rng.normal(size=(9, 9)) * (rng.random((9, 9)) < 0.4), 1)
    return ising.bind(coupling=coupling + coupling.T, field=rng.normal(size=9))


def potts():
    """Three colours on a ring of six, with a constant that log Z must hold."""
    return un.Density(lambda x: 7.5 + 0.8 * jnp.sum(x * jnp.roll(x, 1, 0)), {"x": un.Categorical(3)[6]})


def mixed():
    table = jnp.array([[0.3, -1.0, 0.2], [1.1, 0.4, -0.6]])

    def function(b, k, s):
        return -2.0 + sum(b[i] * table[i] @ k for i in range(2)) + 0.7 * s[0] * (k[2] - k[0]) - 0.6 * s[0] * s[1]

    return un.Density(function, {"b": un.Binary[2], "k": un.Categorical(3), "s": un.Spin[2]})


def seen_by_no_derivative():
    return un.Density(lambda x: 0.9 * jnp.sum(x[1:] == x[:-1]) + 0.3 * x[0], {"x": un.Spin[8]})


def never_two_neighbours():
    return un.Density(lambda x: jnp.where(jnp.any(x[1:] * x[:-1] == 1), -jnp.inf, 0.3 * x.sum()), {"x": un.Binary[9]})


def graph():
    """Ties with an attribute each, and a two-star of one node: pairs of ties interact there."""
    return un.Density(lambda g: -0.5 * g.sum() + 0.6 * g[0].sum() ** 2, {"g": un.Graph[4]})


SMALL = [random_pairs, potts, mixed, seen_by_no_derivative, never_two_neighbours, graph]


@pytest.mark.parametrize("make", SMALL)
def test_elimination_is_the_sum_over_states(make):
    density = make()
    assert value_of(density) == pytest.approx(directly(density), abs=1e-10)


def test_a_long_chain_is_its_transfer_matrix():
    rng = np.random.default_rng(1)
    bonds, field = rng.normal(size=499), rng.normal(size=500)
    constants = {"bonds": bonds, "field": field}
    chain = un.Density(
        lambda x, *, bonds, field: (x[1:] * x[:-1]) @ bonds + field @ x, {"x": un.Spin[500]}, constants=constants
    )
    spins, log_sums = np.array([-1.0, 1.0]), field[0] * np.array([-1.0, 1.0])
    for bond, here in zip(bonds, field[1:], strict=True):
        log_sums = np.logaddexp.reduce(log_sums[:, None] + bond * np.outer(spins, spins) + here * spins, 0)
    assert value_of(chain, ENUMERATED) == pytest.approx(np.logaddexp.reduce(log_sums), abs=1e-9)


@pytest.mark.parametrize("size, truth", [(6, 34.1115410550), (8, 60.1417807891)])
def test_elimination_reproduces_kaufmans_tori(size, truth):
    def function(x):
        return CRITICAL * jnp.sum(x * (jnp.roll(x, 1, 0) + jnp.roll(x, 1, 1)))

    assert value_of(un.Density(function, {"x": un.Spin[size, size]}), ENUMERATED) == pytest.approx(truth, abs=1e-9)


def test_what_elimination_does_not_serve_is_said():
    triple = un.Density(lambda x: 0.5 * jnp.sum(x[2:] * x[1:-1] * x[:-2]), {"x": un.Spin[30]})
    dense = un.Density(lambda x: 0.01 * x.sum() ** 2, {"x": un.Spin[40]})
    for density, words in ((triple, "no sum over single sites and pairs"), (dense, "tables of more than 4,194,304")):
        assert not has_elimination(density)
        with pytest.raises(ValueError, match=f"states .*elimination does not serve it: .*{words}.*; use un") as caught:
            un.log_z(density, Exact(), progress=False)
        assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
    assert not has_elimination(un.Density(lambda x: -(x**2), {"x": un.Real}))
    assert not has_elimination(un.Density(lambda x: 0.0 * x.sum(), {"x": un.Spin[1025]}))


def test_a_forbidden_space_gives_no_number():
    nothing = un.Density(lambda x: jnp.where(x.sum() > -1, -jnp.inf, 0.0), {"x": un.Binary[4]})
    with pytest.raises(ValueError, match="-inf where every site is in its first state"):
        un.log_z(nothing, ELIMINATED, progress=False)
