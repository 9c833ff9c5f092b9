"""`un.log_z(p, over={variable: rows})`: log p(x) of many rows, against closed forms."""

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import unnorm as un

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
