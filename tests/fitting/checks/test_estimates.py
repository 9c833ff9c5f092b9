"""What a fit says of its estimates: one row that outweighs the others, a bound that is near, a
density that grows without end, a prior without mass there, an offset that hides the maximum."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

import unnorm as un
from unnorm.core.findings import ERROR, WARNING, FindingCode

GIVEN = {"seed": 0, "progress": False}


def severities(fit, code):
    return [finding.severity for finding in fit.findings if finding.code == code]


# -- one row ---------------------------------------------------------------------------------------
LOGNORMAL = un.Density(
    lambda x, *, m, s: -jnp.log(x) - 0.5 * ((jnp.log(x) - m) / s) ** 2,
    {"x": un.Positive},
    {"m": (un.Real, 0.0), "s": (un.Positive, 1.0)},
)


@pytest.mark.parametrize("seed", range(4))
def test_score_matching_that_rests_on_one_row(seed):
    data = np.random.default_rng(seed).lognormal(0, 2.0, 2000)
    fit = un.fit(LOGNORMAL, data, "score_matching", **GIVEN)
    assert severities(fit, FindingCode.INFLUENTIAL_ROW) == [ERROR]
    likely = un.fit(LOGNORMAL, data, "maximum_likelihood", **GIVEN)
    assert likely.passed and not severities(likely, FindingCode.INFLUENTIAL_ROW)


# -- near a bound ----------------------------------------------------------------------------------
VON_MISES = un.Density(
    lambda y, *, m, k: k * jnp.cos(y - m),
    {"y": un.Circle},
    {"m": (un.Real, 0.0), "k": (un.Positive, 1.0)},
    log_z=lambda m, k: jnp.log(2 * jnp.pi) + jnp.log(jax.scipy.special.i0e(k)) + k,
)


@pytest.mark.parametrize(("kappa", "expected"), [(0.02, {WARNING, ERROR}), (2.0, set())])
def test_a_concentration_near_zero_is_said(kappa, expected):
    found = [
        severities(
            un.fit(
                VON_MISES, stats.vonmises.rvs(kappa, size=100, random_state=seed),
                "maximum_likelihood", **GIVEN,
            ),
            FindingCode.NEAR_BOUND,
        )
        for seed in range(4)
    ]  # fmt: skip
    assert all(bool(told) == bool(expected) and set(told) <= expected for told in found)


# -- growth ----------------------------------------------------------------------------------------
def test_counts_that_attract_each_other_have_no_constant():
    """Besag (1974): the auto-Poisson has a finite Z for couplings of at most 0."""
    p = un.Density(
        lambda x, *, f, J: f @ x + J * x[0] * x[1] - jax.scipy.special.gammaln(x + 1).sum(),
        {"x": un.Count[2]},
        {"f": (un.Real[2], 0.0), "J": (un.Real, 0.0)},
    )
    rng = np.random.default_rng(0)
    shared = rng.poisson(2, 300)
    apart = np.c_[rng.poisson(3, 300), rng.poisson(3, 300)]
    together = np.c_[shared + rng.poisson(1, 300), shared + rng.poisson(1, 300)]
    for data, code in ((together, [ERROR]), (apart, None)):
        fit = un.fit(p, data, "pseudo_likelihood", **GIVEN)
        coupling = float(fit.density.parameters["J"])
        wanted = [ERROR] if coupling > 0 else []
        assert severities(fit, FindingCode.NOT_NORMALIZABLE) == wanted
        assert code is None or wanted == code


def test_a_cubic_in_five_dimensions_has_no_constant():
    p = un.Density(
        lambda x, *, P, c: -0.5 * x @ P @ x + c * jnp.sum(x**3),
        {"x": un.Real["d"]},
        {"P": (un.Symmetric(diagonal=True)["d"], np.eye(5)), "c": (un.Real, 0.0)},
    )
    data = (np.random.default_rng(1).gamma(4, 1, (400, 5)) - 4) / 2
    fit = un.fit(p, data, "score_matching", **GIVEN)
    assert severities(fit, FindingCode.NOT_NORMALIZABLE) == [ERROR]
    fit = un.fit(p.fix(c=0.0), data, "score_matching", **GIVEN)
    assert not severities(fit, FindingCode.NOT_NORMALIZABLE)


# -- priors ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(("bound", "passes"), [(0.1, False), (1.0, True)])
def test_a_prior_without_mass_at_the_estimate_is_an_error(bound, passes):
    p = un.Density(
        lambda y, *, z, b: y * z * b - jax.scipy.special.gammaln(y + 1),
        {"y": un.Count},
        {"b": (un.Real, 0.0)},
        covariates={"z": un.Covariate},
    )
    rng = np.random.default_rng(0)
    z = rng.normal(size=60)
    y = rng.poisson(np.exp(0.4 * z))
    fit = un.fit(p, {"y": y, "z": z}, prior={"b": dist.Uniform(-bound, bound)}, **GIVEN)
    assert fit.passed == passes
    assert bool(severities(fit, FindingCode.NO_FINITE_ESTIMATE)) != passes


# -- offsets ---------------------------------------------------------------------------------------
def logit_by_newton(z, y):
    design, b = np.c_[np.ones(len(z)), z], np.zeros(2)
    for _ in range(50):
        mean = 1 / (1 + np.exp(-design @ b))
        b += np.linalg.solve(
            (design * (mean * (1 - mean))[:, None]).T @ design, design.T @ (y - mean)
        )
    return b


@pytest.mark.parametrize("offset", [1e5, 1e7, 1.7e9])
def test_a_covariate_with_an_offset_is_right_or_refused(offset):
    p = un.Density(
        lambda y, *, z, a, b: y * (a + z * b),
        {"y": un.Binary},
        {"a": (un.Real, 0.0), "b": (un.Real, 0.0)},
        covariates={"z": un.Covariate},
    )
    z = offset + np.random.default_rng(0).uniform(0, 10, 100)
    w = z - offset
    y = (np.random.default_rng(5).random(100) < 1 / (1 + np.exp(-(w - 5) / 3))).astype(float)
    fit = un.fit(p, {"y": y, "z": z}, **GIVEN)
    slope = fit.summary().estimate["b"]
    assert not fit.passed or slope == pytest.approx(logit_by_newton(w, y)[1], rel=1e-5)
    assert fit.passed or offset > 1e8


# -- circles ---------------------------------------------------------------------------------------
def test_a_slope_that_winds_around_the_circle_is_not_the_estimate():
    """60 rows: the optimum from the declared start is 47 nats below that of the truth."""
    z = np.random.default_rng(3).normal(size=60)
    y = stats.vonmises.rvs(3, loc=3 + 0.3 * z, random_state=1)
    p = un.Density(
        lambda y, *, z, m, k, b: k * jnp.cos(y - m - b * z),
        {"y": un.Circle},
        {"m": (un.Real, 0.0), "k": (un.Positive, 1.0), "b": (un.Real, 0.0)},
        covariates={"z": un.Covariate},
    )
    fit = un.fit(p, {"y": y, "z": z}, **GIVEN)
    assert (
        fit.log_likelihood({"y": y, "z": z}).value
        > stats.vonmises.logpdf(y, 3, loc=3 + 0.3 * z).sum()
    )
    assert fit.summary().estimate["b"] == pytest.approx(0.219, abs=0.001)
