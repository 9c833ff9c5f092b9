"""Parameters whose score is zero in every row, and parameters that rest on few of many rows."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm

import unnorm as un
from unnorm.core.findings import ERROR, WARNING, FindingCode

GIVEN = {"seed": 0, "progress": False}
LOG_ROOT = 0.5 * np.log(2 * np.pi)


def severities(fit, code):
    return [finding.severity for finding in fit.findings if finding.code == code]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_square_has_no_standard_error_at_zero(seed):
    p = un.Density(lambda x, *, a: -0.5 * (x - a**2) ** 2, {"x": un.Real}, {"a": (un.Real, 1.0)})
    data = np.random.default_rng(seed).normal(-0.1, 1, 200)  # the mean is below 0, so that a is 0
    fit = un.fit(p, data, **GIVEN)
    assert data.mean() < 0 and fit.summary().estimate["a"] == pytest.approx(0, abs=1e-6)
    assert np.isnan(fit.summary().standard_error["a"]) and not fit.passed
    assert severities(fit, FindingCode.NO_STANDARD_ERRORS) == [ERROR]


def test_a_random_intercept_without_variance_has_a_profile():
    """Of the closed form: y_i ~ N(mean, s² I + tau² 11'), whose maximum is tau = 0 here."""

    @un.density(log_z=0.0)
    def intercepts(
        y: un.Real[4], u: un.Real, *, mean: un.Real = 0.0, tau: un.Real = 1.0, s: un.Positive = 1.0
    ):
        return norm.logpdf(u) + norm.logpdf(y, mean + tau * u, s).sum()

    data = 1 + np.random.default_rng(1).normal(size=(200, 4))
    fit = un.fit(intercepts, {"y": data}, **GIVEN)
    assert "tau" in next(f.what for f in fit.findings if f.severity == ERROR)
    assert np.isnan(fit.summary().standard_error["tau"])


def test_the_weight_of_equal_components_is_not_identified():
    p = un.Density(
        lambda x, h, *, m, w: w * h - 0.5 * (x - jnp.where(h > 0.5, m[1], m[0])) ** 2,
        {"x": un.Real, "h": un.Binary},
        {"m": (un.Real[2], (-1.0, 1.0)), "w": (un.Real, 0.0)},
    )
    # rounding decides at which of several errors a fit stops
    for seed in (19, 28, 33, 11):
        assert not un.fit(p, {"x": np.random.default_rng(seed).normal(0, 1, 200)}, **GIVEN).passed


# -- few of many rows ------------------------------------------------------------------------------
LINE = un.Density(
    lambda y, *, z, a, b, s: -0.5 * ((y - a - z * b) / s) ** 2,
    {"y": un.Real},
    {"a": (un.Real, 0.0), "b": (un.Real, 0.0), "s": (un.Positive, 1.0)},
    covariates={"z": un.Covariate},
    log_z=lambda z, a, b, s: LOG_ROOT + jnp.log(s),
)


def rare_level(ones, rows=300):
    z = np.r_[np.ones(ones), np.zeros(rows - ones)]
    y = np.random.default_rng(0).normal(size=rows)
    return un.fit(LINE, {"y": y, "z": z}, **GIVEN), y


def test_a_level_of_one_row_is_an_error():
    fit, _ = rare_level(1)
    assert not fit.passed


@pytest.mark.parametrize(("ones", "severity"), [(2, ERROR), (5, WARNING)])
def test_a_level_of_few_rows_has_the_jackknifes_error(ones, severity):
    """HC3 of a difference of means: squares of residuals over (1 - 1/n)² in each group."""
    fit, y = rare_level(ones)
    assert severity in severities(fit, FindingCode.SMALL_SAMPLE)
    variance = sum(
        np.sum((part - part.mean()) ** 2) / (1 - 1 / len(part)) ** 2 / len(part) ** 2
        for part in (y[:ones], y[ones:])
    )
    assert fit.summary().standard_error["b"] == pytest.approx(np.sqrt(variance), rel=0.02)


def test_a_level_of_many_rows_has_the_sandwich():
    fit, y = rare_level(60)
    assert fit.passed and not severities(fit, FindingCode.SMALL_SAMPLE)
    variance = sum(np.var(part) / len(part) for part in (y[:60], y[60:]))
    assert fit.summary().standard_error["b"] == pytest.approx(np.sqrt(variance), rel=1e-6)


def test_one_cluster_that_outweighs_sixty():
    p = un.Density(
        lambda y, *, a, s: -0.5 * ((y - a) / s) ** 2,
        {"y": un.Real},
        {"a": (un.Real, 0.0), "s": (un.Positive, 1.0)},
        log_z=lambda a, s: LOG_ROOT + jnp.log(s),
    )
    rng = np.random.default_rng(0)
    clusters = np.r_[np.zeros(600, int), np.repeat(np.arange(1, 60), 5)]
    y = rng.normal(size=60)[clusters] + rng.normal(size=len(clusters))
    fit = un.fit(p, {"y": y}, "maximum_likelihood", cluster=clusters, **GIVEN)
    assert severities(fit, FindingCode.FEW_CLUSTERS) == [ERROR]
    even = np.repeat(np.arange(60), 15)
    y = rng.normal(size=60)[even] + rng.normal(size=900)
    fit = un.fit(p, {"y": y}, "maximum_likelihood", cluster=even, **GIVEN)
    assert fit.passed and not severities(fit, FindingCode.FEW_CLUSTERS)
