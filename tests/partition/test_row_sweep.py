"""`un.log_z(p, over={variable: rows})`: log p(x) of many rows, against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import unnorm as un
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.partition.annealing.rows import mixture_at_modes
from unnorm.partition.options import ROWS as ROW_OPTIONS

LOADINGS, NOISE = np.random.default_rng(0).normal(size=(4, 2)), 0.6
COVARIANCE = LOADINGS @ LOADINGS.T + NOISE**2 * np.eye(4)
ROWS = np.random.default_rng(1).multivariate_normal(np.zeros(4), COVARIANCE, 30)
EXACT = -0.5 * (
    np.einsum("ni,ij,nj->n", ROWS, np.linalg.inv(COVARIANCE), ROWS)
    + np.linalg.slogdet(2 * np.pi * COVARIANCE)[1]
)
CHEAP = un.estimators.AIS(chains=150, temperatures=10, pilot=30)


def log_density(x, z, loadings, noise):
    residual = (x - loadings @ z) / noise
    return -0.5 * (z @ z + residual @ residual) - 4 * jnp.log(noise) - 3 * jnp.log(2 * jnp.pi)


@un.density(log_z=0.0)
def components(x: un.Real[4], z: un.Real[2], *, loadings: un.Real[4, 2], noise: un.Positive):
    return log_density(x, z, loadings, noise)


P = components.bind(loadings=LOADINGS, noise=NOISE)


@pytest.fixture(scope="module")
def found():
    return un.log_z(P, CHEAP, over={"x": ROWS}, seed=0, progress=False)


@pytest.mark.slow
def test_log_likelihoods_are_those_of_the_closed_form(found):
    errors = found.standard_error.values
    assert found.attrs["verdict"] == "ok" and set(found.verdict.values) == {"ok"}
    assert np.all(np.abs(found.log_z.values - EXACT) < 4.5 * errors) and errors.max() < 0.06
    mean_error = np.sqrt(np.sum(errors**2)) / len(ROWS)
    assert abs(np.mean(found.log_z.values - EXACT)) < 4 * mean_error
    assert found.attrs["gradients"] > 0 and found.attrs["seed"] == 0


def test_a_covariates_rows_are_those_of_a_variable(found):
    """The same density with x as a covariate is normalized alike, to the same numbers."""

    @un.density
    def given(z: un.Real[2], *, x: un.Covariate[4], loadings: un.Real[4, 2], noise: un.Positive):
        return log_density(x, z, loadings, noise)

    p = given.bind(loadings=LOADINGS, noise=NOISE)
    other = un.log_z(p, CHEAP, over={"x": ROWS[:5]}, seed=0, progress=False)
    assert np.all(np.abs(other.log_z.values - EXACT[:5]) < 4.5 * other.standard_error.values)


@pytest.mark.slow
def test_errors_are_right_and_a_given_proposal_serves_all_rows():
    rows = np.random.default_rng(2).multivariate_normal(np.zeros(4), COVARIANCE, 400)
    exact = -0.5 * (
        np.einsum("ni,ij,nj->n", rows, np.linalg.inv(COVARIANCE), rows)
        + np.linalg.slogdet(2 * np.pi * COVARIANCE)[1]
    )
    base = {"z": dist.Normal(0, 1).expand([2]).to_event(1)}
    prior = un.estimators.AIS(chains=300, temperatures=60, pilot=100, base=base)
    for estimator, rows_here in ((None, rows), (prior, rows[:100])):
        z = un.log_z(P, estimator, over={"x": rows_here}, seed=0, progress=False)
        scaled = (z.log_z.values - exact[: len(rows_here)]) / z.standard_error.values
        covered = np.mean(np.abs(scaled) < 1.96)
        assert abs(covered - 0.95) < 4 * np.sqrt(0.95 * 0.05 / len(rows_here))


def both_signs(size):
    """z ~ N(0, 10² I) seen by |z|: 2^size modes, whose masses are equal far from zero."""

    def log_density(z, *, x):
        return -0.005 * (z @ z) - 2 * jnp.sum((x - jnp.abs(z)) ** 2)

    return un.Density(log_density, {"z": un.Real[size]}, covariates={"x": un.Covariate[size]})


def log_z_of_both_signs(x):
    z = np.linspace(-80, 80, 400_001)
    values = np.exp(-0.005 * z**2 - 2 * (x - np.abs(z)) ** 2)
    return np.log(np.trapezoid(values, z))


@pytest.mark.parametrize(("size", "alone"), [(1, False), (2, False), (5, True)])
def test_mass_at_modes_of_one_start_says_whether_others_may_be_missed(size, alone):
    here = Unconstrained(both_signs(size).for_jit()).at_row({"x": jnp.full(size, 5.0)})
    _, lone_mass = mixture_at_modes(here, jax.random.key(0), ROW_OPTIONS)
    assert bool(lone_mass > ROW_OPTIONS.max_lone_mass) == alone


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_rows_of_many_modes_are_right_or_not_ok(size):
    """Four starts near the origin had found some of the modes only, and called the rows ok."""
    x = np.array([1.0, 5.0, 20.0])
    exact = np.array([size * log_z_of_both_signs(one) for one in x])
    for seed in range(10):
        over = {"x": np.repeat(x[:, None], size, 1)}
        z = un.log_z(both_signs(size), over=over, seed=seed, progress=False)
        right = np.abs(z.log_z.values - exact) < 5 * z.standard_error.values
        assert np.all(right | (z.verdict.values != "ok"))
        assert size > 2 or np.mean(z.verdict.values == "ok") > 0.5


def test_an_unreliable_row_is_named():
    """One temperature from a proposal that is far from the posterior."""
    base = {"z": dist.Normal(20.0, 0.1).expand([2]).to_event(1)}
    estimator = un.estimators.AIS(chains=50, temperatures=1, pilot=10, base=base)
    z = un.log_z(P, estimator, over={"x": ROWS[:3]}, seed=0, progress=False)
    assert z.attrs["verdict"] == "unreliable" and "unreliable" in z.verdict.values
    assert "of 3 rows is unreliable (row 0" in " ".join(z.attrs["findings"])
    with pytest.raises(RuntimeError, match="unreliable"):
        un.log_z(P, estimator, over={"x": ROWS[:3]}, seed=0, progress=False, strict=True)


@pytest.mark.parametrize(
    ("over", "options", "word"),
    [
        ({"x": ROWS, "z": ROWS[:, :2]}, {}, "every variable"),
        ({"x": ROWS, "noise": [1.0]}, {}, "noise"),
        ({"x": ROWS[0]}, {}, "2 axes"),
        ({"x": ROWS[:, :3]}, {}, "4"),
        ({"x": np.full((2, 4), np.nan)}, {}, "finite"),
        ({"x": ROWS[:0]}, {}, "at least one"),
        ({"x": ROWS}, {"estimator": un.estimators.SMC()}, "AIS"),
        ({"x": ROWS}, {"estimator": un.estimators.AIS(base="flow")}, "base"),
        ({"x": ROWS}, {"draws": {"z": ROWS[:, :2]}}, "draws"),
    ],
)
def test_what_are_no_rows_is_refused_in_one_sentence(over, options, word):
    with pytest.raises(ValueError, match=word):
        un.log_z(P, over=over, progress=False, seed=0, **options)


def test_discrete_variables_are_refused():
    p = un.Density(lambda x, s: -((x - s) ** 2), {"x": un.Real, "s": un.Spin})
    with pytest.raises(ValueError, match="continuous"):
        un.log_z(p, over={"x": [0.0, 1.0]}, progress=False, seed=0)
