"""log Z against closed forms, known values and a second route; what has no Z is said, never
numbered."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import counting
from scipy import stats
from scipy.special import gammaln
from targets import PRECISION, gaussian, spins

import unnorm as un
from unnorm.core.findings import Unreliable
from unnorm.integration.nodes import log_integral
from unnorm.integration.plan import plan_for
from unnorm.partition.estimators.registry import SMC, Exact, ImportanceSampling, Quadrature

HALF_LOG_2_PI = 0.5 * math.log(2 * math.pi)


def dirichlet(*concentration):
    power = np.array(concentration) - 1.0
    return un.Density(lambda x: power @ jnp.log(x), {"x": un.Simplex[len(power)]})


def log_beta(*concentration):
    return float(sum(gammaln(concentration)) - gammaln(sum(concentration)))


def real(function, size=None):
    return un.Density(function, {"x": un.Real[size] if size else un.Real})


def positive(function):
    return un.Density(function, {"x": un.Positive})


def modes_of(x):
    """3 N(-8, 1) + 1 N(8, 1/4), unnormalized: two modes apart, of unequal weight and width."""
    return jnp.logaddexp(math.log(3) - 0.5 * (x + 8) ** 2, math.log(1) - 2 * (x - 8) ** 2)


@un.density
def torus(x: un.Spin[4, 4], *, coupling: un.Real = 0.0):
    """The Ising model on a 4 by 4 torus."""
    return coupling * jnp.sum(x * (jnp.roll(x, 1, 0) + jnp.roll(x, 1, 1)))


@un.density
def normal(x: un.Real["d"], *, precision: un.Positive["d"] = 1.0):
    return -0.5 * precision @ x**2


CLOSED = {
    "normal": (real(lambda x: -0.5 * x**2), HALF_LOG_2_PI),
    "gaussian in three dimensions": (
        gaussian,
        3 * HALF_LOG_2_PI - 0.5 * float(np.linalg.slogdet(PRECISION)[1]),
    ),
    "normal far from the origin": (real(lambda x: -0.5 * (x - 3000.0) ** 2), HALF_LOG_2_PI),
    "narrow normal": (
        real(lambda x: -0.5 * ((x - 2.0) / 1e-4) ** 2),
        HALF_LOG_2_PI + math.log(1e-4),
    ),
    "truncated normal": (
        positive(lambda x: -0.5 * (x + 1.0) ** 2),
        HALF_LOG_2_PI + float(stats.norm.logsf(1.0)),
    ),
    "Cauchy": (real(lambda x: -jnp.log1p(x**2)), math.log(math.pi)),
    "gamma with a pole": (positive(lambda x: -0.7 * jnp.log(x) - x), math.lgamma(0.3)),
    "beta": (
        un.Density(lambda x: jnp.log(x) + 2 * jnp.log1p(-x), {"x": un.Interval(0, 1)}),
        math.log(1 / 12),
    ),
    "flat Dirichlet": (dirichlet(1, 1, 1), -math.log(2)),
    "Dirichlet": (dirichlet(2, 3, 4), log_beta(2, 3, 4)),
    "Dirichlet on four": (dirichlet(1, 2, 0.5, 2), log_beta(1, 2, 0.5, 2)),
    "unequal modes": (real(modes_of), HALF_LOG_2_PI + math.log(3 + 0.5)),
    "a spike on a slab": (
        real(
            lambda x: jnp.logaddexp(
                -0.5 * (x / 20) ** 2, math.log(18000) - 0.5 * ((x - 1) / 0.01) ** 2
            )
        ),
        HALF_LOG_2_PI + math.log(20 + 180),
    ),
}

# In one dimension, and in the unconstrained coordinate: slopes bound what no node has seen.
ENDLESS = {
    "flat": real(lambda x: 0.0 * x),
    "1 / x at the bound": positive(lambda x: -jnp.log(x) - x),
    "1 / (1 + |x|)": real(lambda x: -jnp.log1p(jnp.abs(x))),
    "saddle": real(lambda x: -0.5 * x[0] ** 2 + 0.1 * x[1] ** 2, 2),
    "ridge": real(lambda x: -0.5 * (x[0] - x[1]) ** 2, 2),
    "Dirichlet of concentration 0": dirichlet(0, 1, 1),
    "rising exponential": positive(lambda x: x),
}


# -- quadrature ------------------------------------------------------------------------
@pytest.mark.parametrize("name", CLOSED)
def test_quadrature_reproduces_closed_forms(name):
    density, truth = CLOSED[name]
    z = un.log_z(density, Quadrature(), seed=0, progress=False)
    assert z.verdict == "ok" and z.passed, z
    assert z.standard_error < 1e-7
    assert z.value == pytest.approx(truth, abs=1e-7)


@pytest.mark.parametrize("name", ENDLESS)
def test_quadrature_says_where_there_is_no_log_z(name):
    z = un.log_z(ENDLESS[name], Quadrature(), seed=0, progress=False)
    assert z.value == math.inf and z.verdict == "unreliable"
    assert "cannot be normalized" in z.findings[0].what


def test_quadrature_sums_over_discrete_variables():
    mixture = un.Density(
        lambda x, k: -0.5 * (x - 4 * k) ** 2 + k * math.log(3), {"x": un.Real, "k": un.Binary}
    )
    z = un.log_z(mixture, seed=0, progress=False)
    assert z.estimator == "quadrature"
    assert z.value == pytest.approx(HALF_LOG_2_PI + math.log(4), abs=1e-8)


def test_gradient_of_the_integral_is_the_mean_of_the_gradient(x64):
    """d log Z / d precision_i = -E x_i² / 2 = -1 / (2 precision_i)."""
    p = normal.bind(precision=np.array([0.5, 2.0]))
    plan = plan_for(p.for_jit())
    slope = jax.grad(lambda a: log_integral(p.bind(precision=a).for_jit(), *plan))(
        jnp.array([0.5, 2.0])
    )
    np.testing.assert_allclose(slope, [-1.0, -0.25], rtol=1e-8)


# -- enumeration -----------------------------------------------------------------------
def test_enumeration_reproduces_the_torus_of_the_literature():
    """Kaufman's exact solution at the critical coupling, 4 by 4: 15.5219154588; and a transfer
    matrix."""
    k = 0.5 * math.log(1 + math.sqrt(2))
    z = un.log_z(torus.bind(coupling=k), seed=0, progress=False)
    assert (z.verdict, z.standard_error, z.evaluations["values"]) == ("exact", 0.0, 2**16)
    rows = np.array(np.meshgrid(*[[-1, 1]] * 4, indexing="ij")).reshape(4, -1).T
    within = np.sum(rows * np.roll(rows, 1, 1), 1)
    transfer = np.exp(k * (rows @ rows.T + within[:, None] / 2 + within / 2))
    assert z.value == pytest.approx(
        math.log(np.trace(np.linalg.matrix_power(transfer, 4))), abs=1e-10
    )
    assert z.value == pytest.approx(15.5219154588, abs=1e-9)


def test_rochdale_has_its_known_log_z(rochdale):
    assert un.log_z(rochdale.density, Exact(), progress=False).value == pytest.approx(
        5.474312, abs=1e-5
    )


def test_walls_and_dead_states_count_nothing():
    one_hot = un.Density(lambda x: jnp.where(x.sum() == 1, 0.0, -jnp.inf), {"x": un.Binary[5]})
    assert un.log_z(one_hot, seed=0, progress=False).value == pytest.approx(math.log(5), abs=1e-12)


# -- SMC -------------------------------------------------------------------------------
def wishart_like(x):
    return -0.5 * x @ (0.5 * jnp.eye(5) + 0.5) @ x


SEQUENTIAL = {
    "gaussian in five dimensions": (
        real(wishart_like, 5),
        5 * HALF_LOG_2_PI - 0.5 * float(np.linalg.slogdet(0.5 * np.eye(5) + 0.5)[1]),
    ),
    "truncated normal": CLOSED["truncated normal"],
    "unequal modes": CLOSED["unequal modes"],
    "Dirichlet": CLOSED["Dirichlet"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SEQUENTIAL)
def test_smc_reproduces_closed_forms(name):
    density, truth = SEQUENTIAL[name]
    z = un.log_z(density, SMC(), seed=1, progress=False)
    assert z.verdict == "ok", z
    assert 0 < z.standard_error < 0.1
    assert abs(z.value - truth) < 4 * z.standard_error


@pytest.mark.slow
def test_smc_on_spins_agrees_with_enumeration():
    rng = np.random.default_rng(3)
    coupling = np.triu(rng.normal(scale=0.3, size=(10, 10)), 1)
    p = spins.bind(coupling=coupling + coupling.T, field=rng.normal(scale=0.3, size=10))
    exact, z = un.log_z(p, Exact(), progress=False), un.log_z(p, SMC(), seed=2, progress=False)
    assert z.verdict == "ok", z
    assert abs(z.value - exact.value) < 4 * z.standard_error


@pytest.mark.slow
def test_smc_and_quadrature_agree_on_the_fit_of_ozone_and_wind(ozone):
    from unnorm.demo import truncated_gaussian

    fit = un.fit(truncated_gaussian, ozone, "maximum_likelihood", seed=0, progress=False)
    quadrature = un.log_z(fit.density, Quadrature(), progress=False)
    smc = un.log_z(fit.density, SMC(), seed=0, progress=False)
    assert quadrature.value == pytest.approx(11.05335, abs=1e-3)
    assert smc.verdict == "ok", smc
    assert abs(float(smc - quadrature)) < 4 * smc.standard_error


@pytest.mark.parametrize("name", ["saddle", "ridge"])
def test_smc_gives_no_number_where_the_pilot_runs_away(name):
    z = un.log_z(ENDLESS[name], SMC(particles=100, pilot=100), seed=0, progress=False)
    assert z.verdict == "unreliable" and z.value == math.inf, z


def test_smc_gives_no_number_where_the_density_rises_beyond_all_numbers():
    z = un.log_z(
        ENDLESS["rising exponential"], SMC(particles=100, pilot=100), seed=0, progress=False
    )
    assert z.verdict == "unreliable" and z.value == math.inf, z


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gaussian in five dimensions", "truncated normal"])
def test_intervals_of_smc_cover(name):
    """95% intervals of 60 seeds: at least 51 cover, which a true coverage of 95% misses once in
    3,000."""
    density, truth = SEQUENTIAL[name]
    runs = [
        un.log_z(density, SMC(particles=400, temperatures=30), seed=seed, progress=False)
        for seed in range(60)
    ]
    covered = sum(lower < truth < upper for lower, upper in (z.interval() for z in runs))
    assert covered >= 51
    scaled = [(z.value - truth) / z.standard_error for z in runs]
    assert abs(np.mean(scaled)) < 4 * np.std(scaled) / math.sqrt(60)


# -- the verb --------------------------------------------------------------------------
def test_one_seed_gives_one_answer():
    density = SEQUENTIAL["truncated normal"][0]
    small = ImportanceSampling(draws=500)
    one, same, other = (un.log_z(density, small, seed=s, progress=False) for s in (4, 4, 5))
    assert one.value == same.value != other.value
    assert un.log_z(density, small, seed=one.seed, progress=False).value == one.value


@pytest.mark.parametrize(
    "estimator",
    [
        Quadrature(),
        pytest.param(SMC(particles=50, temperatures=10, pilot=50), marks=pytest.mark.slow),
    ],
)
def test_new_values_compile_nothing(estimator):
    function = counting(lambda x, *, scale: -0.5 * (x / scale) ** 2)
    p = un.Density(function, {"x": un.Real}, {"scale": (un.Positive, 1.0)})
    un.log_z(p.bind(scale=2.0), estimator, seed=0, progress=False)
    before = function.traces
    un.log_z(p.bind(scale=3.0), estimator, seed=1, progress=False)
    assert function.traces == before


def test_the_default_is_exact_where_it_can_be_and_takes_two_routes_elsewhere(monkeypatch):
    told = []
    monkeypatch.setattr(
        "unnorm.partition.default_estimator.report",
        lambda amount, words="": told.append((amount, words)),
    )
    small = un.log_z(SEQUENTIAL["truncated normal"][0], progress=False, seed=0)
    large = un.log_z(SEQUENTIAL["gaussian in five dimensions"][0], progress=False, seed=0)
    assert (small.estimator, large.estimator) == ("quadrature", "auto")
    assert "too large for an exact Z" in large.findings[-1].what
    assert (
        large.verdict == "ok"
        and abs(large.value - SEQUENTIAL["gaussian in five dimensions"][1]) < 0.05
    )
    assert [f.what.split(":")[0] for f in large.findings[:2]] == ["importance_sampling", "bridge"]
    assert [words.partition(":")[0] for _, words in told[:3]] == [
        "searching for modes",
        "importance_sampling",
        "bridge",
    ]
    pilot = 3_000_000 * sum(amount for amount, _ in told)
    assert 0 < pilot < sum(large.evaluations.values())


def test_strict_raises_and_a_difference_keeps_the_worse_verdict():
    endless, proper = ENDLESS["flat"], CLOSED["normal"][0]
    with pytest.raises(Unreliable, match="cannot be normalized"):
        un.log_z(endless, strict=True, progress=False)
    difference = un.log_z(proper, progress=False) - un.log_z(endless, progress=False)
    assert difference.verdict == "unreliable"


def test_a_nan_is_said_with_its_place():
    broken = real(lambda x: jnp.where(x > 1.0, jnp.nan, -0.5 * x**2))
    z = un.log_z(broken, Quadrature(), progress=False)
    assert z.verdict == "unreliable" and math.isnan(z.value)
    assert "NaN at x =" in z.findings[0].what
    bits = un.Density(lambda x: jnp.where(x.sum() == 2, jnp.nan, 0.0), {"x": un.Binary[3]})
    z = un.log_z(bits, Exact(), progress=False)
    assert z.verdict == "unreliable" and "3 of 8 states" in z.findings[0].what


def test_starts_in_place_of_values_are_said():
    z = un.log_z(torus, progress=False)
    assert any("coupling stood at the declared starts" in finding.what for finding in z.findings)


@un.density
def row(y: un.Real, *, z: un.Covariate):
    return -0.5 * (y - z) ** 2


LARGE = un.Density(lambda x: 0.1 * jnp.sum(x[2:] * x[1:-1] * x[:-2]), {"x": un.Spin[40]})
REFUSED = {
    "a near miss": (lambda: un.log_z(CLOSED["normal"][0], "quadratur"), "did you mean.*quadrature"),
    "a covariate": (lambda: un.log_z(row), "covariate z"),
    "too many states": (lambda: un.log_z(LARGE, Exact()), "about 10\\^12 states"),
    "too many dimensions": (
        lambda: un.log_z(SEQUENTIAL["gaussian in five dimensions"][0], Quadrature()),
        "5",
    ),
    "nothing continuous": (lambda: un.log_z(torus, Quadrature()), "no continuous variable"),
    "too few particles": (
        lambda: un.log_z(torus, SMC(particles=1)),
        "particles is 1 in SMC; expected an integer",
    ),
    "no temperature": (
        lambda: un.log_z(torus, SMC(temperatures=0)),
        "temperatures is 0 in SMC; expected",
    ),
    "a target of nothing": (lambda: un.log_z(torus, target_error=0), "target_error is 0"),
    "no estimator": (lambda: un.log_z(torus, 3), "estimator"),
    "a level": (lambda: un.log_z(CLOSED["normal"][0], progress=False).interval(95), "level is 95"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_gets_one_sentence(name):
    call, words = REFUSED[name]
    with pytest.raises((ValueError, TypeError), match=words) as caught:
        call()
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
