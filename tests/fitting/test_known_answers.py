"""Fits against known answers: case C (Ozone and Wind), A (Rochdale) and H (iris)."""

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_within
from targets import CASE_C, enumerated, error_of_mean, ising, pair_features

import unnorm as un
from unnorm.demo import objectives, truncated_gaussian

EDGES = ["Econ,HusbEmp", "Econ,Child", "Econ,Asian", "Age,Child", "Educ,HusbEduc"]
EDGES = [f"coupling[{edge}]" for edge in EDGES]


def fitted(p, data, objective):
    return un.fit(p, data, objective, seed=0, progress=False)


# -- case C ----------------------------------------------------------------------------------------
def test_maximum_likelihood_of_case_c(ozone):
    fit = fitted(truncated_gaussian, ozone, "maximum_likelihood")
    assert fit.passed
    assert list(fit.summary().index) == list(CASE_C.index)
    assert fit.summary().estimate.to_numpy() == pytest.approx(CASE_C.estimate.to_numpy(), abs=1e-4)
    model_based = np.sqrt(np.diagonal(fit.model_based_covariance))
    assert model_based == pytest.approx(CASE_C.standard_error.to_numpy(), abs=1e-3)
    assert fit.log_z.value == pytest.approx(11.05335, abs=1e-4)
    assert fit.log_z.monte_carlo_error == 0 and 1 < fit.log_z.sampling_error < 2
    assert not fit.monte_carlo_error.any()


@pytest.mark.slow
def test_generalized_score_matching_of_case_c(ozone):
    fit = fitted(truncated_gaussian, ozone, objectives()["score matching"])
    summary = fit.summary()
    assert summary.estimate.to_numpy() == pytest.approx(
        [3.2846, 5.5565, 0.8973, 0.9913, 1.5535], abs=1e-4
    )
    assert summary.standard_error.to_numpy() == pytest.approx(
        [0.6871, 0.8855, 0.1811, 0.1871, 0.2594], abs=1e-3
    )
    assert fit.passed and fit.model_based_covariance is None


@pytest.mark.slow
def test_nce_of_case_c(ozone):
    fit = fitted(truncated_gaussian, ozone, objectives()["NCE"])
    off = (fit.summary().estimate - CASE_C.estimate) / CASE_C.standard_error
    assert fit.passed and np.all(np.abs(off) < 0.25)
    assert abs(fit.log_z.value - 11.05335) < 0.3
    here = un.log_z(fit.density, un.estimators.Quadrature(), progress=False)
    assert here.passed and abs(fit.log_z.value - here.value) < 0.05
    assert 0 < fit.log_z.monte_carlo_error < 0.2 < 1 < fit.log_z.sampling_error < 2
    assert fit.log_z.standard_error == pytest.approx(np.hypot(*fit.log_z[1:]))


# -- case A ----------------------------------------------------------------------------------------
def test_rochdale_by_maximum_likelihood(rochdale, x64):
    data = un.models.load("rochdale")
    likelihood = rochdale.log_likelihood(data)
    assert rochdale.passed
    assert likelihood.value == pytest.approx(-2593.4945, abs=1e-4)
    assert likelihood.pointwise.sum() == pytest.approx(likelihood.value)
    assert rochdale.log_z.value == pytest.approx(5.474312, abs=1e-6)
    assert rochdale.summary().estimate[EDGES].to_numpy() == pytest.approx(
        [1.3341, -1.4887, -2.1744, -2.9745, 1.0298], abs=1e-4
    )
    model_based = np.sqrt(np.diagonal(rochdale.model_based_covariance.loc[EDGES, EDGES]))
    assert model_based == pytest.approx([0.2992, 0.2549, 0.4711, 0.3384, 0.1794], abs=1e-4)
    # The moments of maximum likelihood are the data's.
    states, weights = enumerated(rochdale.density)
    assert weights @ pair_features(states) == pytest.approx(
        pair_features(data.to_numpy(float)).mean(0), abs=1e-9
    )


def test_gibbs_reproduces_the_moments_of_the_enumerated_rochdale(rochdale):
    states, weights = enumerated(rochdale.density)
    draws = un.sample(rochdale.density, "gibbs", draws=5000, warmup=500, seed=1, progress=False)
    drawn = pair_features(draws.posterior["x"].values.astype(float))
    error = error_of_mean(drawn)
    assert np.all(error < 0.02)
    assert_within(drawn.mean((0, 1)), weights @ pair_features(states), error)


def exact_noise_fixed_point(data, ratio, at):
    """NCE's minimum with the noise's expectation summed over all states: (36 parameters, log Z), by
    Newton's method."""
    states, _ = enumerated(ising.with_dimensions(d=data.shape[1]))
    features = np.column_stack([pair_features(states), -np.ones(len(states))])
    margins = data.mean(0)
    noise = np.prod(np.where(states == 1, margins, 1 - margins), 1)
    share = (states[:, None] == data).all(-1).mean(1)
    for _ in range(20):
        h = 1 / (1 + np.exp(np.log(ratio * noise) - features @ at))
        slope = features.T @ (ratio * noise * h - share * (1 - h))
        curvature = (features.T * ((share + ratio * noise) * h * (1 - h))) @ features
        at = at - np.linalg.solve(curvature, slope)
    assert np.max(np.abs(slope)) < 1e-12
    return at


@pytest.mark.slow
def test_nce_reproduces_its_exact_noise_fixed_point_on_rochdale(rochdale):
    data = un.models.load("rochdale")
    start = np.append(rochdale.summary().estimate, rochdale.log_z.value)
    truth = exact_noise_fixed_point(data.to_numpy(float), 100, start)
    fit = fitted(ising, data, un.objectives.NCE(noise_ratio=100))
    summary = fit.summary()
    by_name = dict(zip(summary.index.flat, truth[:-1], strict=True))
    assert truth[-1] == pytest.approx(5.464677, abs=1e-6)
    assert [by_name[edge] for edge in EDGES] == pytest.approx(
        [1.3280, -1.4845, -2.1874, -3.0027, 1.0292], abs=1e-4
    )
    assert fit.passed
    error = np.append(fit.monte_carlo_error, fit.log_z.monte_carlo_error)
    estimate = np.append(summary.estimate, fit.log_z.value)
    assert_within(estimate, truth, error)
    # Nor is the error overstated: the 37 distances are about one of it.
    assert 0.5 < np.sqrt(np.mean(((estimate - truth) / error) ** 2)) < 1.7
    assert np.all(error[:-1] < 0.5 * summary.standard_error)


# -- others ----------------------------------------------------------------------------------------
@pytest.mark.slow
def test_score_matching_of_a_gaussian_is_maximum_likelihood():
    data = un.models.load("iris").iloc[:, :4].to_numpy(float)

    @un.density
    def normal(
        x: un.Real["d"], *, mean: un.Real["d"] = 0.0, precision: un.PositiveDefinite["d"] = 1.0
    ):
        return -0.5 * (x - mean) @ precision @ (x - mean) + 0.0 * jnp.sum(x)

    found = fitted(normal, data, un.objectives.ScoreMatching()).density.parameters
    assert np.max(np.abs(found["mean"] - data.mean(0))) < 1e-8
    assert np.max(np.abs(np.linalg.inv(found["precision"]) - np.cov(data.T, ddof=0))) < 1e-8


@pytest.mark.slow
def test_noise_that_leaves_the_support_is_no_harm():
    import numpyro.distributions as dist

    data = np.random.default_rng(0).exponential(size=500)
    p = un.Density(lambda x, *, rate: -rate * x, {"x": un.Positive}, {"rate": (un.Positive, 1.0)})
    fit = fitted(p, data, un.objectives.NCE(noise=dist.Normal(0.0, 2.0), noise_ratio=50))
    error = fit.monte_carlo_error["rate"]
    assert 0 < error < 0.3 * fit.summary().standard_error["rate"]
    assert_within(fit.summary().estimate["rate"], 1 / data.mean(), error)
    assert_within(fit.log_z.value, np.log(data.mean()), fit.log_z.monte_carlo_error)


# -- several optima --------------------------------------------------------------------------------
@un.density
def two_normals(x: un.Real, *, centres: un.Real[2] = (-0.1, 0.1)):
    return jnp.logaddexp(-0.5 * (x - centres[0]) ** 2, -0.5 * (x - centres[1]) ** 2)


def test_restarts_find_switched_labels_and_say_so():
    data = np.concatenate([np.random.default_rng(0).normal(c, 1.0, 200) for c in (-2.0, 2.0)])
    fit = un.fit(two_normals, data, "maximum_likelihood", restarts=6, seed=0, progress=False)
    assert np.allclose(np.sort(fit.summary()["estimate"]), [-2, 2], atol=0.3)
    assert any("labels that may be switched" in finding.what for finding in fit.findings)


@pytest.mark.slow
def test_restarts_leave_a_local_minimum():
    """x ~ N(sin 3t, 1/9) has many minima in t; from 6.0 Newton's method stays at one that is not
    the lowest."""

    @un.density
    def wave(x: un.Real, y: un.Real, *, t: un.Real = 6.0):
        return -4.5 * (x - jnp.sin(3 * t)) ** 2 - 0.05 * (y - t) ** 2

    rng = np.random.default_rng(0)
    data = {"x": np.sin(12.3) + rng.normal(0, 1 / 3, 100), "y": 4.1 + rng.normal(0, 10**0.5, 100)}
    one = un.fit(wave, data, "maximum_likelihood", seed=0, progress=False)
    more = un.fit(wave, data, "maximum_likelihood", restarts=10, seed=0, progress=False)
    assert more.log_likelihood(data).value > one.log_likelihood(data).value + 1
    assert any("several optima" in finding.what for finding in more.findings)
