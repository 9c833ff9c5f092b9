"""Predictions and residuals of heavy-tailed responses and of outliers, against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import unnorm as un

GIVEN = {"seed": 0, "progress": False}
Z = np.random.default_rng(3).normal(size=100)


def student(freedom):
    return un.Density(
        lambda y, *, z, a, b: -(freedom + 1) / 2 * jnp.log1p((y - a - b * z) ** 2 / freedom),
        {"y": un.Real},
        {"a": (un.Real, 0.0), "b": (un.Real, 0.0)},
        covariates={"z": un.Covariate},
    )


@pytest.mark.parametrize("freedom", [1.0, 1.5, 3.0])
def test_students_t(freedom):
    y = 1 + Z + np.random.default_rng(5).standard_t(freedom, size=100)
    fit = un.fit(student(freedom), {"y": y, "z": Z}, **GIVEN)
    a, b = fit.summary().estimate
    table, law = fit.predict({"z": [0.0, 5.0]}), stats.t(freedom)
    if freedom > 1:
        np.testing.assert_allclose(table["mean"], [a, a + 5 * b], atol=1e-6)
    else:  # Cauchy's density has no mean
        assert table[["mean", "standard_error"]].isna().all(axis=None)
    ends = table.loc[0, ["predictive_lower", "predictive_upper"]].to_numpy(float) - a
    np.testing.assert_allclose(ends, law.ppf([0.025, 0.975]), rtol=0.02)  # and the mean's error
    found = fit.residuals({"y": y, "z": Z})
    np.testing.assert_allclose(found, stats.norm.ppf(law.cdf(y - a - b * Z)), atol=1e-3)
    far = fit.residuals({"y": [1e6], "z": [0.0]})
    np.testing.assert_allclose(far, stats.norm.isf(law.sf(1e6 - a)), rtol=2e-3)


def test_outliers_of_a_normal_response():
    p = un.Density(
        lambda y, *, z, a, b, s: -0.5 * ((y - a - z * b) / s) ** 2,
        {"y": un.Real},
        {"a": (un.Real, 0.0), "b": (un.Real, 0.0), "s": (un.Positive, 1.0)},
        covariates={"z": un.Covariate},
    )
    y = 1 + Z + np.random.default_rng(4).normal(size=100)
    fit = un.fit(p, {"y": y, "z": Z}, **GIVEN)
    a, _, s = fit.summary().estimate
    values = np.array([0.0, 30.0, -30.0, 100.0])
    found = fit.residuals({"y": values, "z": np.zeros(4)})
    np.testing.assert_allclose(found, (values - a) / s, rtol=0.005)


def test_an_outlier_of_a_count():
    p = un.Density(
        lambda y, *, z, a, b: y * (a + z * b) - jax.scipy.special.gammaln(y + 1),
        {"y": un.Count},
        {"a": (un.Real, 0.0), "b": (un.Real, 0.0)},
        covariates={"z": un.Covariate},
    )
    y = np.random.default_rng(0).poisson(1.6, 100)
    fit = un.fit(p, {"y": y, "z": Z}, **GIVEN)
    rate = np.exp(fit.summary().estimate["a"])
    found = float(fit.residuals({"y": [120], "z": [0.0]}).iloc[0])
    law = stats.poisson(rate)
    low, high = stats.norm.isf([law.sf(119), law.sf(120)])
    assert low <= found <= high
