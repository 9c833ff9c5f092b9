"""log Z without chance: enumeration, elimination of sites, and closed forms that a density
declares."""

import math
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from targets import ising

import unnorm as un
from unnorm.integration.states import enumerate_states
from unnorm.integration.variable_elimination import has_elimination
from unnorm.partition.estimators.registry import Exact

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
    """2^21 states of a dense model whose Z factorizes: J = a·11' - a·I, log Z by the sum over the
    number of ones."""
    a, sites = 0.03, 21
    coupling = a * (np.ones((sites, sites)) - np.eye(sites))
    ones = np.arange(sites + 1)
    by_count = [math.log(math.comb(sites, k)) + 0.5 * a * k * (k - 1) - 0.4 * k for k in ones]
    z = un.log_z(
        ising.bind(coupling=coupling, field=np.full(sites, -0.4)),
        ENUMERATED,
        seed=0,
        progress=False,
    )
    assert (z.verdict, z.evaluations["values"]) == ("exact", 2**21)
    assert z.value == pytest.approx(np.logaddexp.reduce(by_count), abs=1e-9)


# -- elimination -----------------------------------------------------------------------
def random_pairs():
    rng = np.random.default_rng(0)
    coupling = np.triu(rng.normal(size=(9, 9)) * (rng.random((9, 9)) < 0.4), 1)
    return ising.bind(coupling=coupling + coupling.T, field=rng.normal(size=9))


def potts():
    """Three colours on a ring of six, with a constant that log Z must hold."""
    return un.Density(
        lambda x: 7.5 + 0.8 * jnp.sum(x * jnp.roll(x, 1, 0)), {"x": un.Categorical(3)[6]}
    )


def mixed():
    table = jnp.array([[0.3, -1.0, 0.2], [1.1, 0.4, -0.6]])

    def function(b, k, s):
        return (
            -2.0
            + sum(b[i] * table[i] @ k for i in range(2))
            + 0.7 * s[0] * (k[2] - k[0])
            - 0.6 * s[0] * s[1]
        )

    return un.Density(function, {"b": un.Binary[2], "k": un.Categorical(3), "s": un.Spin[2]})


def seen_by_no_derivative():
    return un.Density(lambda x: 0.9 * jnp.sum(x[1:] == x[:-1]) + 0.3 * x[0], {"x": un.Spin[8]})


def never_two_neighbours():
    return un.Density(
        lambda x: jnp.where(jnp.any(x[1:] * x[:-1] == 1), -jnp.inf, 0.3 * x.sum()),
        {"x": un.Binary[9]},
    )


def graph():
    """Ties with an attribute each, and a two-star of one node: pairs of ties interact there."""
    return un.Density(lambda g: -0.5 * g.sum() + 0.6 * g[0].sum() ** 2, {"g": un.Graph[4]})


SLOW = [pytest.param(make, marks=pytest.mark.slow) for make in (seen_by_no_derivative, graph)]
SMALL = [random_pairs, potts, mixed, never_two_neighbours, *SLOW]


@pytest.mark.parametrize("make", SMALL)
def test_elimination_is_the_sum_over_states(make):
    density = make()
    assert value_of(density) == pytest.approx(directly(density), abs=1e-10)


def test_a_long_chain_is_its_transfer_matrix():
    rng = np.random.default_rng(1)
    bonds, field = rng.normal(size=499), rng.normal(size=500)
    constants = {"bonds": bonds, "field": field}
    chain = un.Density(
        lambda x, *, bonds, field: (x[1:] * x[:-1]) @ bonds + field @ x,
        {"x": un.Spin[500]},
        constants=constants,
    )
    spins, log_sums = np.array([-1.0, 1.0]), field[0] * np.array([-1.0, 1.0])
    for bond, here in zip(bonds, field[1:], strict=True):
        log_sums = np.logaddexp.reduce(
            log_sums[:, None] + bond * np.outer(spins, spins) + here * spins, 0
        )
    assert value_of(chain, ENUMERATED) == pytest.approx(np.logaddexp.reduce(log_sums), abs=1e-9)


@pytest.mark.parametrize(
    "size, truth", [(6, 34.1115410550), pytest.param(8, 60.1417807891, marks=pytest.mark.slow)]
)
def test_elimination_reproduces_kaufmans_tori(size, truth):
    def function(x):
        return CRITICAL * jnp.sum(x * (jnp.roll(x, 1, 0) + jnp.roll(x, 1, 1)))

    assert value_of(un.Density(function, {"x": un.Spin[size, size]}), ENUMERATED) == pytest.approx(
        truth, abs=1e-9
    )


def test_what_elimination_does_not_serve_is_said():
    triple = un.Density(lambda x: 0.5 * jnp.sum(x[2:] * x[1:-1] * x[:-2]), {"x": un.Spin[30]})
    dense = un.Density(lambda x: 0.01 * x.sum() ** 2, {"x": un.Spin[40]})
    for density, words in (
        (triple, "not a sum over single sites and pairs"),
        (dense, "tables of more than 4,194,304"),
    ):
        assert not has_elimination(density)
        with pytest.raises(
            ValueError, match=f"states .*elimination does not serve it: .*{words}.*; use un"
        ) as caught:
            un.log_z(density, Exact(), progress=False)
        assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
    assert not has_elimination(un.Density(lambda x: -(x**2), {"x": un.Real}))
    assert not has_elimination(un.Density(lambda x: 0.0 * x.sum(), {"x": un.Spin[1025]}))


def test_a_forbidden_space_gives_no_number():
    nothing = un.Density(lambda x: jnp.where(x.sum() > -1, -jnp.inf, 0.0), {"x": un.Binary[4]})
    with pytest.raises(ValueError, match="-inf where every site is in its first state"):
        un.log_z(nothing, ELIMINATED, progress=False)


# -- closed forms ----------------------------------------------------------------------
def gaussian_log_z(precision):
    return 0.5 * precision.shape[0] * jnp.log(2 * jnp.pi) - 0.5 * jnp.linalg.slogdet(precision)[1]


@un.density(log_z=gaussian_log_z)
def declared_gaussian(
    x: un.Real["d"], *, centre: un.Real["d"] = 0.0, precision: un.PositiveDefinite["d"] = 1.0
):
    """A normal density that knows its constant."""
    return -0.5 * (x - centre) @ precision @ (x - centre)


PRECISION = np.array([[2.0, 0.5], [0.5, 1.0]])
LOG_Z = math.log(2 * math.pi) - 0.5 * math.log(1.75)


def known():
    return declared_gaussian.bind(precision=PRECISION, centre=np.array([0.3, -0.2]))


def test_a_closed_form_goes_first_and_is_held_against_quadrature():
    z = un.log_z(declared_gaussian.bind(precision=[[4.0]]), seed=0, progress=False)
    assert (z.verdict, z.estimator, z.standard_error) == ("exact", "exact", 0.0)
    assert z.value == pytest.approx(0.5 * math.log(math.pi / 2), abs=1e-12)
    assert any("declared closed form; quadrature agrees" in finding.what for finding in z.findings)
    many = declared_gaussian.bind(precision=np.eye(50))
    z = un.log_z(many, Exact(), seed=0, progress=False)
    assert (
        z.value == pytest.approx(25 * math.log(2 * math.pi), abs=1e-10)
        and z.evaluations["values"] == 0
    )
    assert any("it was not checked" in finding.what for finding in z.findings)


def test_it_survives_what_leaves_the_variables_alone():
    p = known()
    kept = {
        "fix": p.fix(precision=PRECISION),
        "rename": p.rename(precision="K", x="y", centre="precision"),
        "dimensions": declared_gaussian.with_dimensions(d=2).bind(precision=PRECISION),
        "labels": p.with_dimensions(d=["a", "b"]),
        "pickle": pickle.loads(pickle.dumps(p)),
        "pytree": jax.tree.map(lambda leaf: leaf, p),
        "bare": p.on_chart().for_jit(),
        "free": p.at(p.free()),
    }
    for how, density in kept.items():
        assert float(density._log_z()) == pytest.approx(LOG_Z, abs=1e-5), how
    moved = jax.jit(lambda density: density._log_z())(p.bind(precision=2 * PRECISION))
    assert float(moved) == pytest.approx(LOG_Z - math.log(2), abs=1e-5)
    assert un.Density(lambda x: -x, {"x": un.Positive}, log_z=0)._log_z() == 0


def test_it_is_dropped_where_the_density_becomes_another():
    p = known()
    pair = un.Density(
        lambda x, y: -0.5 * (x**2 + y**2), {"x": un.Real, "y": un.Real}, log_z=math.log(2 * math.pi)
    )
    others = {
        "product": p * p,
        "power": p**2.0,
        "truncation": un.truncate(p, x=un.Positive),
        "given": pair.given(y=1.0),
    }
    for how, density in others.items():
        assert density._log_z() is None, how
    z = un.log_z(pair.given(y=1.0), seed=0, progress=False)
    assert z.value == pytest.approx(0.5 * math.log(2 * math.pi) - 0.5, abs=1e-8)


WRONG = {
    "an integral": (
        un.Density(lambda x: -x, {"x": un.Positive}, log_z=0.1),
        "quadrature gives",
        0.0,
    ),
    "an improper one": (
        un.Density(lambda x: 0.0 * x, {"x": un.Positive}, log_z=0.0),
        "quadrature gives inf",
        math.inf,
    ),
    "a sum": (
        un.Density(lambda x: 0.0 * x.sum(), {"x": un.Spin[3]}, log_z=0.0),
        "exact gives",
        3 * math.log(2),
    ),
    "counts": (
        un.Density(lambda x: -x, {"x": un.Count}, log_z=0.0),
        "exact gives",
        -math.log1p(-math.exp(-1)),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_closed_form_that_is_contradicted_is_not_believed(name):
    density, words, truth = WRONG[name]
    z = un.log_z(density, Exact(), seed=0, progress=False)
    assert z.verdict == "disagree" and not z.passed
    assert "declares is 0" in z.findings[0].what and words in z.findings[0].what
    assert z.value == pytest.approx(truth, abs=1e-7)


REFUSED = {
    "another name": (
        lambda: un.Density(lambda x: -x, {"x": un.Positive}, log_z=lambda rate: rate),
        "takes 'rate'",
    ),
    "a variable": (
        lambda: un.density(log_z=lambda x: 0.0)(_exponential),
        r"takes 'x'; expected .*\(rate\)",
    ),
    "all there is": (
        lambda: un.density(log_z=lambda **values: 0.0)(_exponential),
        "'\\*\\*values'",
    ),
    "a text": (lambda: un.density(log_z="zero")(_exponential), "log_z of _exponential is 'zero'"),
    "infinity": (lambda: un.density(log_z=math.inf)(_exponential), "expected a finite number"),
    "a vector": (
        lambda: un.density(log_z=lambda rate: jnp.stack([rate, rate]))(_exponential)._log_z(),
        r"shape \(2,\)",
    ),
    "a lambda to pickle": (
        lambda: pickle.dumps(un.density(log_z=lambda rate: rate)(_exponential)),
        "log_z is a lambda",
    ),
}


def _exponential(x: un.Positive, *, rate: un.Positive = 1.0):
    return -rate * x


@pytest.mark.parametrize("name", REFUSED)
def test_a_closed_form_that_does_not_fit_gets_one_sentence(name):
    call, words = REFUSED[name]
    with pytest.raises((ValueError, TypeError), match=words) as caught:
        call()
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
