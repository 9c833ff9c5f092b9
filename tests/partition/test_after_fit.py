"""What follows a fit: log Z, the log-likelihood of other data and its error, a normalized density,
Bayes factors."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from helpers import assert_within
from scipy import stats
from scipy.special import gammaln
from targets import error_of_mean

import unnorm as un
from unnorm.partition.estimators.registry import AIS, Exact

RNG = np.random.default_rng(7)
WAITS = RNG.exponential(0.5, 200)
LATER = RNG.exponential(0.9, 80)  # of another rate, so that the parameters' error counts


def exponential_log_z(rate):
    return -jnp.log(rate)


@un.density
def exponential(x: un.Positive, *, rate: un.Positive = 1.0):
    return -rate * x


@un.density(log_z=exponential_log_z)
def declared(x: un.Positive, *, rate: un.Positive = 1.0):
    return -rate * x


@un.density(
    log_z=lambda precision: (
        precision.shape[0] / 2 * math.log(2 * math.pi) - jnp.linalg.slogdet(precision)[1] / 2
    )
)
def gaussian(
    x: un.Real["d"], *, centre: un.Real["d"] = 0.0, precision: un.PositiveDefinite["d"] = 1.0
):
    return -0.5 * (x - centre) @ precision @ (x - centre)


@pytest.fixture(scope="module")
def waits():
    return un.fit(exponential, WAITS, "maximum_likelihood", seed=0, progress=False)


# -- the log-likelihood of other data --------------------------------------------------
def errors_by_hand():
    """In η = log rate: ∇ log p = 1 − rate·x, V = rate² var(x) / n at rate = 1 / mean: the
    variance's two parts."""
    rate, n, m = 1 / WAITS.mean(), len(WAITS), len(LATER)
    rows = m * rate**2 * LATER.var()
    d, variance = 1 - rate * LATER.mean(), rate**2 * WAITS.var() / n
    return rows, d, variance


def test_the_error_of_a_held_out_likelihood_counts_rows_and_parameters(waits):
    rows, d, variance = errors_by_hand()
    found = waits.log_likelihood(LATER)
    assert found.value == pytest.approx(
        stats.expon(scale=WAITS.mean()).logpdf(LATER).sum(), abs=1e-6
    )
    assert found.standard_error == pytest.approx(
        math.sqrt(rows + len(LATER) ** 2 * d**2 * variance), rel=1e-5
    )
    assert (found.monte_carlo_error, found.sampling_error) == (0, found.standard_error)


@pytest.mark.slow
def test_an_estimated_log_z_brings_its_own_error_and_a_mean_from_draws(waits):
    z = un.log_z(waits.density, seed=0, progress=False)
    found = waits.log_likelihood(LATER, dataclasses.replace(z, standard_error=0.01))
    assert found.value == pytest.approx(waits.log_likelihood(LATER).value, abs=1e-6)
    assert found.monte_carlo_error == pytest.approx(0.01 * len(LATER))
    assert found.standard_error == pytest.approx(
        math.hypot(found.monte_carlo_error, found.sampling_error)
    )
    rows, d, variance = errors_by_hand()
    seen = math.sqrt((found.sampling_error**2 - rows) / variance) / len(LATER)
    draws = un.sample(waits.density, seed=waits.seed, progress=False).posterior["x"].to_numpy()
    assert_within(seen, abs(d), error_of_mean(draws) / WAITS.mean())
    assert error_of_mean(draws) / WAITS.mean() < 0.2 * abs(d)


@pytest.mark.slow
def test_a_fit_without_an_exact_z_asks_log_z():
    """Score matching in four dimensions; the same density with its closed form is the yardstick."""
    rng = np.random.default_rng(3)
    rows, other = rng.normal(size=(400, 4)), 1.2 * rng.normal(size=(100, 4))
    support = {"x": un.Real[4]}
    scales = {"precision": (un.Positive[4], 1.0)}

    def function(x, *, precision):
        return -0.5 * precision @ x**2

    closed = un.Density(
        function,
        support,
        scales,
        log_z=lambda precision: 2 * math.log(2 * math.pi) - 0.5 * jnp.log(precision).sum(),
    )
    plain = un.Density(function, support, scales)
    fits = [un.fit(p, rows, "score_matching", seed=0, progress=False) for p in (plain, closed)]
    assert fits[0].log_z is None and fits[1].log_z.monte_carlo_error == 0
    found, exact = (fit.log_likelihood(other) for fit in fits)
    deviation = fits[1].density.parameters["precision"] ** -0.5
    assert exact.value == pytest.approx(stats.norm(scale=deviation).logpdf(other).sum(), abs=1e-6)
    assert 0 < found.monte_carlo_error < 0.2 * len(other)
    assert_within(found.value, exact.value, found.monte_carlo_error)
    assert found.sampling_error == pytest.approx(exact.sampling_error, rel=0.1)


@pytest.mark.slow
def test_bits_per_dimension_are_the_entropy_of_independent_bits():
    rng = np.random.default_rng(5)
    bits = (rng.random((300, 4)) < [0.1, 0.3, 0.5, 0.8]).astype(float)
    p = un.Density(
        lambda x, *, field: field @ x, {"x": un.Binary["d"]}, {"field": (un.Real["d"], 0.0)}
    )
    found = un.fit(p, bits, "maximum_likelihood", seed=0, progress=False).log_likelihood(bits)
    shares = bits.mean(0)
    entropy = -np.mean(shares * np.log2(shares) + (1 - shares) * np.log2(1 - shares))
    per_row = -found.pointwise / 4 / math.log(2)
    assert float(found.bits_per_dimension) == pytest.approx(entropy, abs=1e-6)
    # d = 0 on the data of the fit itself: only the rows' spread is left
    assert found.bits_per_dimension.standard_error == pytest.approx(
        per_row.std() / math.sqrt(300), rel=1e-4
    )


def test_a_log_z_that_is_not_to_be_believed_is_refused(waits, monkeypatch):
    flat = un.log_z(
        un.Density(lambda x: 0.0 * x, {"x": un.Positive}), Exact(), seed=0, progress=False
    )
    monkeypatch.setattr("unnorm.fitting.results.log_likelihood.estimated", lambda *_, **__: flat)
    elsewhere = dataclasses.replace(waits, _location=None)
    with pytest.raises(
        ValueError,
        match=r"log Z of exponential is unreliable by quadrature: .*cannot be normalized",
    ):
        elsewhere.log_likelihood(LATER)
    for wrong in ("zero", math.inf, flat):
        with pytest.raises(ValueError, match="expected a finite LogZ or number"):
            waits.log_likelihood(LATER, wrong)


# -- closed forms ----------------------------------------------------------------------
@pytest.mark.slow
def test_maximum_likelihood_by_a_closed_form_in_four_dimensions(tmp_path):
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(200, 4)) @ np.linalg.cholesky(np.eye(4) + 0.3).T - 2.0
    fit = un.fit(gaussian, rows, seed=0, progress=False)
    assert fit.objective == "maximum_likelihood" and fit.passed, fit
    covariance = np.cov(rows.T, ddof=0)
    np.testing.assert_allclose(fit.density.parameters["centre"], rows.mean(0), atol=1e-6)
    np.testing.assert_allclose(
        np.linalg.inv(fit.density.parameters["precision"]), covariance, atol=1e-5
    )
    law = stats.multivariate_normal(rows.mean(0), covariance)
    found = fit.log_likelihood(rows)
    assert found.value == pytest.approx(law.logpdf(rows).sum(), abs=1e-5) and np.isfinite(
        found.standard_error
    )
    assert fit.log_z.value == pytest.approx(
        2 * math.log(2 * math.pi) + np.linalg.slogdet(covariance)[1] / 2, abs=1e-5
    )
    assert fit.log_z.monte_carlo_error == 0 < fit.log_z.sampling_error
    fit.save(tmp_path / "fit.npz")
    assert un.load(tmp_path / "fit.npz", gaussian).log_likelihood(rows)[:2] == found[:2]


def test_a_closed_form_gives_the_fit_that_quadrature_gives(waits):
    fit = un.fit(declared, WAITS, "maximum_likelihood", seed=0, progress=False)
    np.testing.assert_allclose(fit.summary().to_numpy(), waits.summary().to_numpy(), rtol=1e-5)
    np.testing.assert_allclose(fit.log_z, waits.log_z, rtol=1e-5, atol=1e-9)


def test_a_wrong_closed_form_is_found_by_the_fit():
    wrong = un.Density(
        exponential.function,
        {"x": un.Positive},
        {"rate": (un.Positive, 1.0)},
        log_z=lambda rate: rate,
    )
    fit = un.fit(wrong, WAITS, "maximum_likelihood", seed=0, progress=False)
    assert not fit.passed and fit.log_z is None
    assert any(
        "declares is" in finding.what and "quadrature gives" in finding.what
        for finding in fit.findings
    )


def test_a_conditional_density_that_is_normalized_is_fitted_with_its_covariate():
    z = RNG.normal(size=100)
    y = 1.5 * z + RNG.normal(size=100)

    @un.density(log_z=0.5 * math.log(2 * math.pi))
    def line(y: un.Real, *, slope: un.Real = 0.0, z: un.Covariate):
        return -0.5 * (y - slope * z) ** 2

    fit = un.fit(line, {"y": y, "z": z}, "maximum_likelihood", seed=0, progress=False)
    slope = y @ z / (z @ z)
    assert fit.density.parameters["slope"] == pytest.approx(slope, abs=1e-8)
    held_out = fit.log_likelihood({"y": y[:5], "z": z[:5]})
    assert held_out.value == pytest.approx(stats.norm(slope * z[:5]).logpdf(y[:5]).sum(), abs=1e-8)


# -- normalized ------------------------------------------------------------------------
@pytest.mark.slow
def test_a_normalized_density_integrates_to_one():
    mixture = un.Density(
        lambda x, k, *, shift: -0.5 * (x - k @ shift) ** 2,
        {"x": un.Real, "k": un.Categorical(3)},
        {"shift": (un.Real[3], np.array([0.0, 1.0, 2.0]))},
    )
    p = mixture.normalized()
    assert float(p(0.7, 1)) == pytest.approx(stats.norm(1).logpdf(0.7) - math.log(3), abs=1e-5)
    assert not p.supports and list(p.variables) == ["x", "k"]
    z = un.log_z(p, seed=0, progress=False)
    assert (z.value, z.verdict) == (0.0, "exact") and any(
        "quadrature agrees" in f.what for f in z.findings
    )
    tempered = un.log_z(
        (p**2.0).normalized(un.log_z(p**2.0, seed=0, progress=False)), seed=0, progress=False
    )
    assert tempered.passed and tempered.value == 0  # a product, held against quadrature too


def test_normalized_takes_a_number_and_a_closed_form():
    many = gaussian.bind(precision=2 * np.eye(30))
    truth = 30 * stats.norm(scale=math.sqrt(0.5)).logpdf(0.0)
    assert float(many.normalized()(np.zeros(30))) == pytest.approx(truth, rel=1e-5)
    assert float(many.normalized(-truth)(np.zeros(30))) == pytest.approx(truth, rel=1e-5)
    labelled = many.with_dimensions(d=[f"item {i}" for i in range(30)]).normalized(0.0)
    assert labelled.labels["d"][3] == "item 3"


def _row(y: un.Real, *, z: un.Covariate):
    return -0.5 * (y - z) ** 2


NOT_NORMALIZED = {
    "flat": (
        lambda: un.Density(lambda x: 0.0 * x, {"x": un.Real}).normalized(),
        "log Z of .* is unreliable",
    ),
    "no number": (
        lambda: exponential.normalized("one"),
        "z is 'one'; expected a finite LogZ or number",
    ),
    "infinity": (lambda: exponential.normalized(math.inf), "z is inf"),
    "a covariate": (lambda: un.density(_row).normalized(0.0), "covariate z"),
}


@pytest.mark.parametrize("name", NOT_NORMALIZED)
def test_what_has_no_log_z_is_not_normalized(name):
    call, words = NOT_NORMALIZED[name]
    with pytest.raises(ValueError, match=words) as caught:
        call()
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


# -- marginal likelihoods of NumPyro models --------------------------------------------
Y = np.array([0.3, 1.2, -0.4, 2.0, 0.9])


def mean_model(y, scale):
    mu = numpyro.sample("mu", dist.Normal(0.0, scale))
    numpyro.sample("y", dist.Normal(mu, 1.0).expand(y.shape).to_event(1), obs=y)


def marginal(scale):
    return stats.multivariate_normal(np.zeros(5), np.eye(5) + scale**2).logpdf(Y)


def test_a_bayes_factor_is_a_difference_of_two_log_z():
    narrow, wide = (
        un.log_z(un.from_numpyro(mean_model, Y, s), seed=0, progress=False) for s in (0.5, 20.0)
    )
    factor = narrow - wide
    assert factor.verdict == "ok" and factor.passed
    assert factor.value == pytest.approx(marginal(0.5) - marginal(20.0), abs=1e-7)
    assert factor.standard_error == pytest.approx(
        math.hypot(narrow.standard_error, wide.standard_error)
    )


@pytest.mark.slow
def test_log_z_of_a_conjugate_model_is_its_log_marginal_likelihood():
    """Normal data, normal-inverse-gamma prior: log p(y) in closed form."""
    k, a, b, n = 0.5, 3.0, 2.0, len(Y)

    def model(y):
        variance = numpyro.sample("variance", dist.InverseGamma(a, b))
        mu = numpyro.sample("mu", dist.Normal(0.0, jnp.sqrt(variance / k)))
        numpyro.sample("y", dist.Normal(mu, jnp.sqrt(variance)).expand(y.shape).to_event(1), obs=y)

    after = b + 0.5 * (Y @ Y - (n * Y.mean()) ** 2 / (k + n))
    truth = (
        gammaln(a + n / 2) - gammaln(a) + a * math.log(b) - (a + n / 2) * math.log(after)
        + 0.5 * math.log(k / (k + n)) - n / 2 * math.log(2 * math.pi)
    )  # fmt: skip
    z = un.log_z(un.from_numpyro(model, Y), seed=0, progress=False)
    assert z.verdict == "ok" and z.value == pytest.approx(truth, abs=1e-6)


@pytest.mark.slow
def test_annealing_gives_the_evidence_of_a_linear_regression():
    rng = np.random.default_rng(2)
    design = rng.normal(size=(40, 5))
    y = design @ np.array([1.0, -0.5, 0.0, 2.0, 0.3]) + 0.7 * rng.normal(size=40)

    def regression(design, y):
        slopes = numpyro.sample("slopes", dist.Normal(0.0, 2.0).expand([5]).to_event(1))
        numpyro.sample("y", dist.Normal(design @ slopes, 0.7).to_event(1), obs=y)

    truth = stats.multivariate_normal(
        np.zeros(40), 0.49 * np.eye(40) + 4 * design @ design.T
    ).logpdf(y)
    z = un.log_z(un.from_numpyro(regression, design, y), AIS(), seed=0, progress=False)
    assert z.passed and 0 < z.standard_error < 0.1, z
    assert_within(z.value, truth, z.standard_error)
