"""Objectives that draw at random, where their draws leave the data no say: 500 rows of a normal."""

import numpy as np
import pytest

import unnorm as un

DATA = np.random.default_rng(1).normal(2.0, 3.0, 500)
NORMAL = un.Density(
    lambda x, *, mean, sd: -0.5 * ((x - mean) / sd) ** 2,
    {"x": un.Real},
    {"mean": (un.Real, 0.0), "sd": (un.Positive, 1.0)},
)


def codes(objective):
    fit = un.fit(NORMAL, DATA, objective, seed=0, progress=False)
    found = {(f.code, f.severity) for f in fit.findings}
    return fit, {severity for code, severity in found if code == "unsuitable_noise"}


@pytest.mark.parametrize(
    "objective",
    [
        un.objectives.DenoisingScoreMatching(sigma=0.003),
        un.objectives.EnergyDiscrepancy(scale=0.001),
    ],
)
def test_noise_that_decides_on_the_curvature_is_an_error(objective):
    """Intervals of 95% covered the standard deviation in 4 and 2 of 8 data sets."""
    fit, severities = codes(objective)
    assert not fit.passed and "error" in severities


@pytest.mark.parametrize(
    ("sigma", "severities"), [(0.1, {"warning"}), (1.5, set())], ids=["noisy", "quiet"]
)
def test_noise_that_decides_on_the_variance_is_a_warning(sigma, severities):
    fit, found = codes(un.objectives.DenoisingScoreMatching(sigma=sigma))
    assert fit.passed and found == severities


def test_smoothing_that_hides_the_data_is_a_warning():
    fit, _ = codes(un.objectives.DenoisingScoreMatching(sigma=30.0))
    (found,) = [f for f in fit.findings if f.code == "biased_objective"]
    assert "sigma = 30 is 11 times" in found.what and found.severity == "warning"
