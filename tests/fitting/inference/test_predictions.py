"""Predictions, residuals and simulated rows of regressions: against statsmodels and scipy."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from jax.scipy.special import gammaln
from scipy import stats

import unnorm as un

RNG = np.random.default_rng(0)
N = 60
FRAME = pd.DataFrame(
    {
        "dose": RNG.normal(size=N),
        "sex": RNG.choice(["f", "m"], N),
        "log_time": np.log(RNG.uniform(0.5, 2, N)),
    },
    index=[f"r{i}" for i in range(N)],
)
RATE = np.exp(0.5 + 0.4 * FRAME.dose + 0.3 * (FRAME.sex == "m") + FRAME.log_time)
FRAME["y"] = RNG.poisson(RATE)
FRAME["w"] = 0.3 + 0.5 * FRAME.dose + RNG.normal(size=N)


@un.density
def poisson(y: un.Count, *, z: un.Covariate["term"], o: un.Covariate, b: un.Real["term"] = 0.0):
    return y * (z @ b + o) - gammaln(y + 1)


@un.density
def normal(w: un.Real, *, z: un.Covariate["k"], b: un.Real["k"] = 0.0, s: un.Positive = 1.0):
    return -0.5 * ((w - z @ b) / s) ** 2


def quantiles(share, mean, errors):
    """Of a Poisson whose log mean is normal: the mixture by 2,000 draws of the mean."""
    normal = stats.norm.ppf((np.arange(2000) + 0.5) / 2000)
    means = np.asarray(mean)[:, None] * np.exp((errors / np.asarray(mean))[:, None] * normal)
    counts = np.arange(int(means.max() + 10 * np.sqrt(means.max()) + 10))
    cdf = np.array([stats.poisson.cdf(counts[:, None], row).mean(1) for row in means])
    return np.array([counts[np.searchsorted(row, share)] for row in cdf])


def test_counts_with_an_offset_are_predicted_as_by_a_generalized_linear_model():
    d = un.design("y ~ dose + C(sex) + offset(log_time)", FRAME)
    data = {"y": d.response, "z": d.matrix, "o": d.offset}
    fit = un.fit(poisson, data, "maximum_likelihood", seed=0, progress=False)
    glm = sm.GLM(FRAME.y, d.matrix, family=sm.families.Poisson(), offset=FRAME.log_time).fit()
    np.testing.assert_allclose(fit.density.parameters["b"], glm.params, atol=1e-7)
    found, mean = fit.predict({"z": d.matrix, "o": d.offset}), glm.fittedvalues
    np.testing.assert_allclose(found["mean"], mean, rtol=1e-7)
    assert found.index.equals(FRAME.index)
    slopes = mean.to_numpy()[:, None] * d.matrix.to_numpy()
    errors = np.sqrt(np.einsum("ip,pq,iq->i", slopes, fit.covariance.to_numpy(), slopes))
    np.testing.assert_allclose(found["standard_error"], errors, rtol=1e-6)
    for share, column in ((0.025, "predictive_lower"), (0.975, "predictive_upper")):
        np.testing.assert_allclose(found[column], quantiles(share, mean, errors), atol=1)
    uniform = np.random.default_rng(3).random(N)
    u = stats.poisson.cdf(FRAME.y - 1, mean) + uniform * stats.poisson.pmf(FRAME.y, mean)
    np.testing.assert_allclose(fit.residuals(data, seed=3), stats.norm.ppf(u), atol=1e-6)
    drawn = un.simulate(fit, replicates=2000, seed=0)["posterior_predictive"]["y"].to_numpy()[0]
    errors = np.sqrt(mean / 2000)
    assert np.all(np.abs(drawn.mean(0) - mean) <= 4.5 * errors)


def test_a_continuous_response_has_the_residuals_of_least_squares():
    d = un.design("w ~ dose", FRAME)
    data = {"w": d.response, "z": d.matrix}
    fit = un.fit(normal, data, "maximum_likelihood", seed=0, progress=False)
    ols = sm.OLS(d.response, d.matrix).fit()
    spread = np.sqrt(ols.ssr / N)
    found = fit.predict(d.matrix)
    np.testing.assert_allclose(found["mean"], ols.fittedvalues, atol=1e-7)
    with pytest.raises(ValueError, match="labels dose, Intercept along 'k'; expected Intercept"):
        fit.predict(d.matrix[["dose", "Intercept"]])
    of_mean = found["upper"] - found["mean"]
    upper = ols.fittedvalues + np.hypot(stats.norm.ppf(0.975) * spread, of_mean)
    np.testing.assert_allclose(found["predictive_upper"], upper, atol=2e-4 * spread)
    far = fit.predict(pd.DataFrame({"Intercept": [1.0], "dose": [1e6]})).iloc[0]
    assert far["predictive_upper"] == pytest.approx(far["upper"], rel=1e-9)
    np.testing.assert_allclose(fit.residuals(data), ols.resid / spread, atol=1e-6)
    drawn = un.simulate(fit, replicates=2000, seed=0)["posterior_predictive"]["w"].to_numpy()[0]
    assert np.all(np.abs(drawn.mean(0) - ols.fittedvalues) <= 4.5 * spread / np.sqrt(2000))
    assert stats.kstest((drawn[:, 0] - ols.fittedvalues.iloc[0]) / spread, "norm").pvalue > 1e-3


def test_a_latent_variable_is_summed_out():
    @un.density
    def mixed(y: un.Binary, h: un.Binary, *, z: un.Covariate, a: un.Real = 0.0):
        return a * z * y + 0.7 * h - 1.2 * h * y

    z = np.array([-1.0, 0.5, 2.0] * 10)
    y = (np.arange(30) % 4 > 1).astype(float)
    fit = un.fit(mixed, {"y": y, "z": z}, "maximum_likelihood", seed=0, progress=False)
    odds = np.exp(float(fit.density.parameters["a"]) * z)
    one, zero = odds * (1 + np.exp(-0.5)), 1 + np.exp(0.7)
    np.testing.assert_allclose(fit.predict({"z": z})["mean"], one / (one + zero), atol=1e-9)
    assert list(un.simulate(fit, replicates=3, seed=0)["posterior_predictive"].data_vars) == ["y"]


def test_what_cannot_be_predicted_is_refused():
    p = un.Density(lambda x, *, a: a @ x, {"x": un.Binary[2]}, {"a": (un.Real[2], 0.0)})
    fit = un.fit(p, np.eye(2).repeat(3, 0), "maximum_likelihood", seed=0, progress=False)
    with pytest.raises(ValueError, match="no covariates"):
        fit.predict([[0, 1.0]])
    with pytest.raises(ValueError, match=r"x has the shape \(2,\)"):
        fit.residuals([[0, 1.0]])


def test_a_design_labels_the_parameters_and_drops_no_row():
    d = un.design("y ~ dose * C(sex)", FRAME)
    assert d.names == ["Intercept", "dose", "C(sex)[T.m]", "dose:C(sex)[T.m]"]
    assert d.offset is None and d.response.name == "y" and len(d.matrix) == N
    assert un.design("~ 0 + C(sex)", FRAME).names == ["C(sex)[f]", "C(sex)[m]"]
    wrong = [
        ("y ~ dose", FRAME.assign(dose=FRAME.dose.where(FRAME.dose < 1)), "Column 'dose' .* row"),
        ("y ~ dosee", FRAME, "`dosee` is not present"),
        ("y ~ dose +", FRAME, "cannot be read"),
        ("sex ~ dose", FRAME, "left-hand side .* has 2 columns"),
        ("y ~ offset(log(dose))", FRAME, "offset that is not the name"),
        ("y ~ offset(time)", FRAME, "formula has the column time"),
        ("y ~ dose", FRAME.dose, "frame is a Series"),
    ]
    for formula, frame, words in wrong:
        with pytest.raises(ValueError, match=words) as reason:
            un.design(formula, frame)
        assert "\n" not in str(reason.value)


def test_other_rows_have_the_columns_of_the_first_table():
    d = un.design("y ~ center(dose) * C(sex) + offset(log_time)", FRAME)
    rows = FRAME[FRAME.sex == "m"].drop(columns="y").head(3)
    other = d.transform(rows)
    pd.testing.assert_frame_equal(other.matrix, d.matrix.loc[rows.index])
    pd.testing.assert_series_equal(other.offset, d.offset.loc[rows.index])
    assert other.response is None and repr(d).startswith("Design of 60 rows: Intercept, center")
    wrong = [
        (rows.assign(sex="x"), "categories outside .* {'x'}"),
        (rows.drop(columns="dose"), "formula has the column dose, and frame has sex"),
        (rows.assign(dose=np.nan), "Column 'dose' has a missing value at row 0"),
    ]
    for frame, words in wrong:
        with pytest.raises(ValueError, match=words):
            d.transform(frame)
    with pytest.raises(ValueError, match="categories outside"):
        un.design("y ~ C(sex, levels=['f'])", FRAME)


def test_a_fit_that_is_no_density_predicts_nothing():
    @un.density
    def cubic(y: un.Real, *, z: un.Covariate, b: un.Real = -1.0):
        return b * y**3 + z * y

    data = {"y": [1.0, 2.0, 0.5, 1.4], "z": [0.0, 1.0, 0.3, 0.1]}
    fit = un.fit(cubic, data, "score_matching", seed=0, progress=False)
    with pytest.raises(ValueError, match=r"The fit cannot be normalized"):
        fit.predict({"z": [0.0]})
