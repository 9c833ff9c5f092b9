"""Fits against known answers: case C (Ozone and Wind), A (Rochdale) and H (iris)."""

import jax.numpy as jnp
import numpy as np
import pytest
from targets import ising

import unnorm as un
from unnorm.demo import truncated_gaussian

ORDER = ["eta[Ozone]", "eta[Wind]", "precision[Ozone,Ozone]", "precision[Wind,Wind]", "precision[Ozone,Wind]"]
LIKELIHOOD = np.array([3.2578, 5.4608, 0.8835, 1.5315, 0.9625])
ERRORS = np.array([0.7188, 0.7592, 0.2066, 0.2083, 0.1718])


@pytest.fixture(scope="module")
def ozone():
    raw = un.models.load("ozone_wind")
    return raw / raw.std(ddof=0)


def test_maximum_likelihood_of_case_c(ozone):
    fit = un.fit(truncated_gaussian, ozone, "maximum_likelihood", seed=0, progress=False)
    assert fit.converged
    assert fit.summary().estimate[ORDER].to_numpy() == pytest.approx(LIKELIHOOD, abs=1e-4)
    model_based = np.sqrt(np.diagonal(fit.model_based_covariance.loc[ORDER, ORDER]))
    assert model_based == pytest.approx(ERRORS, abs=1e-3)
    assert fit.log_z.value == pytest.approx(11.05335, abs=1e-4)


def test_generalized_score_matching_of_case_c(ozone):
    summary = un.fit(truncated_gaussian, ozone, "score_matching", seed=0, progress=False).summary().loc[ORDER]
    assert summary.estimate.to_numpy() == pytest.approx([3.2846, 5.5565, 0.8973, 1.5535, 0.9913], abs=1e-4)
    assert summary.standard_error.to_numpy() == pytest.approx([0.6871, 0.8855, 0.1811, 0.2594, 0.1871], abs=1e-3)


def test_nce_of_case_c(ozone):
    fit = un.fit(truncated_gaussian, ozone, un.objectives.NCE(noise_ratio=500), seed=0, progress=False)
    assert np.all(np.abs(fit.summary().estimate[ORDER].to_numpy() - LIKELIHOOD) < 0.25 * ERRORS)
    assert abs(fit.log_z.value - 11.05335) < 0.3


def test_rochdale_by_maximum_likelihood():
    data = un.models.load("rochdale")
    fit = un.fit(ising, data, un.objectives.MaximumLikelihood(), seed=0, progress=False)
    assert fit.log_likelihood(data).value == pytest.approx(-2593.4945, abs=1e-3)
    assert fit.log_z.value == pytest.approx(5.474312, abs=1e-5)


def test_score_matching_of_a_gaussian_is_maximum_likelihood():
    data = un.models.load("iris").iloc[:, :4].to_numpy(float)

    @un.density
    def normal(x: un.Real["d"], *, mean: un.Real["d"] = 0.0, precision: un.PositiveDefinite["d"] = 1.0):
        return -0.5 * (x - mean) @ precision @ (x - mean) + 0.0 * jnp.sum(x)

    found = un.fit(normal, data, un.objectives.ScoreMatching(), seed=0, progress=False).density.parameters
    assert np.max(np.abs(found["mean"] - data.mean(0))) < 1e-8
    assert np.max(np.abs(np.linalg.inv(found["precision"]) - np.cov(data.T, ddof=0))) < 1e-8
