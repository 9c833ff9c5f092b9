"""Densities with covariates: each row has a Z of its own, and regressions written so have the
answers of textbooks."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from helpers import assert_within
from scipy import optimize, stats
from scipy.special import expit

import unnorm as un
from unnorm.declaration.density import cast
from unnorm.fitting.inference.bootstrap.of_fit import refit_simulations
from unnorm.integration.conditional import log_z_of_rows, plan_for_rows
from unnorm.integration.plan import plan_for
from unnorm.integration.representative_rows import spread_rows

o = un.objectives
NAME = lambda objective: type(objective).__name__  # noqa: E731
RNG = np.random.default_rng(7)
ROWS = 250
X = np.column_stack([np.ones(ROWS), RNG.normal(size=ROWS), RNG.integers(0, 2, ROWS)])
BETA = np.array([-0.5, 1.0, 0.7])
Z = X[:, 1]
LINE = {"y": 1.0 + 1.5 * Z + 0.7 * RNG.normal(size=ROWS), "z": Z}
BITS = {"y": (RNG.random(ROWS) < expit(X @ BETA)).astype(int), "x": X}
COUNTS = {"y": RNG.poisson(np.exp(X @ BETA)), "x": X}


@un.density
def line(
    y: un.Real,
    *,
    z: un.Covariate,
    a: un.Real = 0.0,
    slope: un.Real = 0.0,
    precision: un.Positive = 1.0,
):
    return -0.5 * precision * (y - a - slope * z) ** 2


@un.density
def logistic(y: un.Binary, *, x: un.Covariate["k"], beta: un.Real["k"] = 0.0):
    return y * (x @ beta)


@un.density
def poisson(y: un.Count, *, x: un.Covariate["k"], beta: un.Real["k"] = 0.0):
    return y * (x @ beta) - jax.scipy.special.gammaln(y + 1)


@un.density
def items(
    x: un.Binary[3], *, c: un.Covariate, field: un.Real[3] = 0.0, coupling: un.Symmetric[3] = 0.0
):
    return field @ x + 0.5 * c * x @ coupling @ x


def fitted(p, data, objective=None, **options):
    return un.fit(p, data, objective, seed=0, progress=False, **options)


def irls(x, y, mean, variance):
    """Iteratively reweighted least squares of a canonical family: estimates, model-based and
    sandwich errors."""
    beta = np.zeros(x.shape[1])
    for _ in range(100):
        mu = mean(x @ beta)
        beta = beta + np.linalg.solve(x.T @ (variance(mu)[:, None] * x), x.T @ (y - mu))
    mu = mean(x @ beta)
    bread = np.linalg.inv(x.T @ (variance(mu)[:, None] * x))
    scores = x * (y - mu)[:, None]
    return beta, bread, bread @ scores.T @ scores @ bread


FAMILIES = {
    "logistic": (
        logistic,
        BITS,
        expit,
        lambda mu: mu * (1 - mu),
        lambda y, mu: stats.bernoulli(mu).logpmf(y),
    ),
    "Poisson": (poisson, COUNTS, np.exp, lambda mu: mu, lambda y, mu: stats.poisson(mu).logpmf(y)),
}


# -- maximum likelihood ----------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["logistic", pytest.param("Poisson", marks=pytest.mark.slow)])
def test_a_generalized_linear_model_has_its_textbook_answer(name):
    p, data, mean, variance, log_density = FAMILIES[name]
    fit = fitted(p, data, o.MaximumLikelihood())
    beta, model, sandwich = irls(X, data["y"], mean, variance)
    assert fit.passed and fit.log_z is None
    np.testing.assert_allclose(fit.summary().estimate, beta, atol=1e-6)
    np.testing.assert_allclose(fit.model_based_covariance, model, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(fit.covariance, sandwich, rtol=1e-6, atol=1e-12)
    held_out = {key: value[:40] for key, value in data.items()}
    found = fit.log_likelihood(held_out)
    np.testing.assert_allclose(
        found.pointwise, log_density(held_out["y"], mean(X[:40] @ beta)), atol=1e-8
    )
    assert 0 < found.standard_error < 40
    if name == "Poisson":
        conditional = fitted(
            p, data, o.PseudoLikelihood()
        )  # of one entry the conditional is all there is
        np.testing.assert_allclose(conditional.summary(), fit.summary(), rtol=1e-6)


def least_squares():
    x = X[:, :2]
    beta = np.linalg.lstsq(x, LINE["y"], rcond=None)[0]
    rest = LINE["y"] - x @ beta
    return x, beta, rest, 1 / np.mean(rest**2)


def test_a_gaussian_regression_is_least_squares():
    x, beta, rest, precision = least_squares()
    fit = fitted(line, LINE, o.MaximumLikelihood())
    np.testing.assert_allclose(fit.summary().estimate, [*beta, precision], atol=1e-6)
    bread = np.linalg.inv(x.T @ x)
    meat = x.T @ (rest[:, None] ** 2 * x)
    np.testing.assert_allclose(fit.covariance.iloc[:2, :2], bread @ meat @ bread, rtol=1e-6)
    np.testing.assert_allclose(
        fit.model_based_covariance.iloc[:2, :2], bread / precision, rtol=1e-6
    )
    assert any("fit.density.given(z=...)" in finding.advice for finding in fit.findings)


def test_residuals_far_narrower_than_the_data_are_least_squares():
    """The first nodes do not resolve them: their loss falls without end."""
    rows = 40
    noise = np.random.default_rng(0).normal(size=rows)
    data = {"y": 1.0 + 2.0 * Z[:rows] + 0.02 * noise, "z": Z[:rows]}
    design = np.column_stack([np.ones(rows), data["z"]])
    beta, squares, *_ = np.linalg.lstsq(design, data["y"])
    fit = un.fit(line, data, o.MaximumLikelihood(), progress=False)
    assert fit.converged
    np.testing.assert_allclose(fit.summary().estimate, [*beta, rows / squares[0]], rtol=1e-5)


@pytest.mark.slow
def test_score_matching_of_a_gaussian_regression_is_least_squares():
    """From a DataFrame; and what the finding advises for log Z."""
    _, beta, _, precision = least_squares()
    fit = fitted(line, pd.DataFrame(LINE), o.ScoreMatching())
    np.testing.assert_allclose(fit.summary().estimate, [*beta, precision], atol=1e-8)
    known = un.log_z(fit.density.given(z=0.3), seed=0, progress=False)
    assert known.value == pytest.approx(0.5 * np.log(2 * np.pi / precision), abs=1e-6)


@pytest.mark.slow
def test_a_closed_form_may_depend_on_covariates():
    """log Z(z) of an unequal spread, which the fit then need not integrate."""
    function = lambda y, *, z, a, log_spread: -0.5 * (y - a) ** 2 * jnp.exp(-2 * log_spread * z)  # noqa: E731
    parts = (
        {"y": un.Real},
        {"a": (un.Real, 0.0), "log_spread": (un.Real, 0.0)},
        None,
        {"z": un.Covariate},
    )
    closed = un.Density(
        function, *parts, log_z=lambda log_spread, z: 0.5 * jnp.log(2 * jnp.pi) + log_spread * z
    )
    plain = un.Density(function, *parts)
    data = {"y": 0.4 + np.exp(0.5 * Z) * np.random.default_rng(1).normal(size=ROWS), "z": Z}
    by_form, by_nodes = (fitted(p, data, o.MaximumLikelihood()) for p in (closed, plain))
    np.testing.assert_allclose(by_form.summary(), by_nodes.summary(), rtol=1e-6)
    assert float(closed.given(z=2.0)(0.0, a=0.0, log_spread=0.5)) == 0.0
    assert un.log_z(
        closed.given(z=2.0).bind(a=0.0, log_spread=0.5), progress=False
    ).value == pytest.approx(0.5 * np.log(2 * np.pi) + 1, abs=1e-6)
    wrong = un.Density(function, *parts, log_z=lambda log_spread, z: log_spread * z)
    told = fitted(wrong, data, o.MaximumLikelihood())
    assert not told.passed and any("declares is" in finding.what for finding in told.findings)


def test_equal_rows_share_their_log_z():
    """Two values of the covariate: Z twice, and the same answers as row by row."""
    grouped = {"y": COUNTS["y"], "x": X[:, [0, 2]]}
    objective = o.MaximumLikelihood()
    fit = fitted(poisson, grouped, objective)
    means = [np.log(COUNTS["y"][X[:, 2] == group].mean()) for group in (0, 1)]
    np.testing.assert_allclose(fit.summary().estimate, [means[0], means[1] - means[0]], atol=1e-8)
    with jax.enable_x64(True):
        density, events = cast((fit.density.for_jit(), grouped), jnp.float64)
        state = objective.prepare(density, events, jax.random.key(0))
        assert len(state.shared.distinct["x"]) == 2
        alone = objective.losses(density, state._replace(per_row=()), events)
        np.testing.assert_allclose(objective.losses(density, state, events), alone, rtol=1e-12)


def test_one_plan_serves_rows_that_are_narrow_beside_the_data(x64):
    """Rows' densities of a hundredth of the data's spread: more nodes, until log Z of every row
    stands still."""
    p = cast(line.bind(a=0.0, slope=1.0, precision=1e4).for_jit(), jnp.float64)
    rows = {"z": jnp.linspace(-3.0, 3.0, 50)}
    plan = plan_for_rows(p, rows, {"y": jnp.zeros(())}, {"y": jnp.asarray(1.7)})
    np.testing.assert_allclose(
        log_z_of_rows(p, plan, rows), 0.5 * np.log(2 * np.pi / 1e4), atol=1e-9
    )
    found = plan_for_rows(p, rows)  # and where nobody says where they are
    np.testing.assert_allclose(
        log_z_of_rows(p, found, rows), 0.5 * np.log(2 * np.pi / 1e4), atol=1e-9
    )
    one = p.given(z=0.5)
    assert float(log_z_of_rows(p, plan_for(one), {"z": jnp.asarray([0.5])})[0]) == pytest.approx(
        0.5 * np.log(2 * np.pi / 1e4)
    )
    assert {0, 49} <= set(spread_rows(rows)) and len(spread_rows(rows)) <= 8


# -- other objectives ------------------------------------------------------------------------------
@pytest.mark.slow
def test_conditional_pseudo_likelihood_is_that_of_scipy():
    rng = np.random.default_rng(2)
    c = rng.uniform(0.5, 1.5, 400)
    x = rng.integers(0, 2, (400, 3)).astype(float)

    def loss(parameters):
        coupling = np.zeros((3, 3))
        coupling[np.triu_indices(3, 1)] = parameters[3:]
        eta = parameters[:3] + c[:, None] * (x @ (coupling + coupling.T))
        return np.mean(np.sum(np.logaddexp(0, eta) - x * eta, 1))

    known = optimize.minimize(loss, np.zeros(6), tol=1e-12)
    fit = fitted(items, {"x": x, "c": c}, o.PseudoLikelihood())
    np.testing.assert_allclose(fit.summary().estimate, known.x, atol=1e-5)
    assert loss(fit.summary().estimate.to_numpy()) <= known.fun + 1e-12


@pytest.mark.slow
@pytest.mark.parametrize(
    "objective",
    [o.RankingNCE(noise_ratio=300), o.ConditionalNCE(), o.ProbabilityFlow()],
    ids=NAME,
)
def test_contrasts_of_a_logistic_regression(objective):
    """Ranking comes near maximum likelihood; of one bit, moving it tells all that there is."""
    beta, *_ = irls(X, BITS["y"], expit, lambda mu: mu * (1 - mu))
    fit = fitted(logistic, BITS, objective)
    errors = fit.summary().standard_error
    if isinstance(objective, o.RankingNCE):
        bound = np.maximum(0.25 * errors, 4 * fit.monte_carlo_error)
        assert (np.abs(fit.summary().estimate - beta) < bound).all() and (
            fit.monte_carlo_error < 0.06 * errors
        ).all()
    elif isinstance(objective, o.ConditionalNCE):
        np.testing.assert_allclose(fit.summary().estimate, beta, atol=1e-8)
    else:
        assert (np.abs(fit.summary().estimate - beta) < 0.5 * errors).all()
    assert fit.converged and fit.log_z is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "objective",
    [
        o.SlicedScoreMatching(),
        o.FiniteDifferenceScoreMatching(),
        o.DenoisingScoreMatching(sigma=0.1),
    ],
    ids=str,
)
def test_score_matching_of_a_regression_in_other_ways(objective):
    fit = fitted(line, LINE, objective)
    _, beta, _, precision = least_squares()
    assert_within(fit.summary().estimate, [*beta, precision], fit.summary().standard_error, k=3)
    if isinstance(objective, o.SlicedScoreMatching):  # one dimension: a direction is all there is
        np.testing.assert_allclose(fit.summary().estimate, [*beta, precision], atol=1e-8)


# -- chains ----------------------------------------------------------------------------------------
def test_chains_of_rows_find_the_maximum_likelihood():
    beta, model, sandwich = irls(X, BITS["y"], expit, lambda mu: mu * (1 - mu))  # noqa: RUF059
    fit = fitted(logistic, BITS, o.ContrastiveDivergence(persistent=True))
    errors = fit.summary().standard_error
    assert fit.passed and (fit.monte_carlo_error < 0.06 * errors).all()
    assert_within(fit.summary().estimate, beta, fit.monte_carlo_error)
    np.testing.assert_allclose(errors, np.sqrt(np.diagonal(sandwich)), rtol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "objective",
    [o.ContrastiveDivergence(k=5), o.ContrastiveDivergence(persistent=True)],
    ids=["CD-5", "persistent"],
)
def test_contrastive_divergence_of_regressions(objective):
    """One Gibbs step of one bit is a draw; HMC comes near; the errors are those of maximum
    likelihood."""
    for p, data in ((line, LINE), (logistic, BITS)):
        best, fit = fitted(p, data, o.MaximumLikelihood()), fitted(p, data, objective)
        errors = fit.summary().standard_error
        bound = np.maximum(0.25 * errors, 4 * fit.monte_carlo_error)
        assert (
            fit.passed and (np.abs(fit.summary().estimate - best.summary().estimate) < bound).all()
        )
        np.testing.assert_allclose(errors, best.summary().standard_error, rtol=0.15)


@pytest.mark.slow
def test_chains_on_batches_keep_their_rows():
    fit = fitted(logistic, BITS, o.ContrastiveDivergence(persistent=True), batch_size=50)
    beta, *_ = irls(X, BITS["y"], expit, lambda mu: mu * (1 - mu))
    assert (
        np.abs(fit.summary().estimate - beta) < np.maximum(0.3 * fit.summary().standard_error, 1e-3)
    ).all()


# -- errors ----------------------------------------------------------------------------------------
@pytest.mark.slow
def test_intervals_of_a_regression_cover():
    """500 data sets at the same covariates."""
    rng, truth, covered = np.random.default_rng(11), np.array([0.5, -1.0]), []
    z = rng.normal(size=120)
    p = un.Density(
        lambda y, *, z, a, slope, precision: -0.5 * precision * (y - a - slope * z) ** 2,
        {"y": un.Real},
        {"a": (un.Real, 0.0), "slope": (un.Real, 0.0), "precision": (un.Positive, 1.0)},
        None,
        {"z": un.Covariate},
    )
    for _ in range(500):
        y = truth[0] + truth[1] * z + rng.normal(size=120)
        table = fitted(p, {"y": y, "z": z}, o.MaximumLikelihood()).summary().loc[["a", "slope"]]
        covered.append(((table.lower < truth) & (truth < table.upper)).to_numpy())
    assert np.all((np.mean(covered, 0) > 0.92) & (np.mean(covered, 0) < 0.975)), np.mean(covered, 0)


def test_replicates_are_drawn_from_each_rows_own_density(x64):
    p, events = cast((logistic.resolved({"x": (3,)}).bind(beta=BETA).for_jit(), BITS), jnp.float64)
    estimates, kept = refit_simulations(o.MaximumLikelihood(), p, events, jax.random.key(0), 40)
    spread = estimates[kept].std(0, ddof=1)
    variance = X.T @ ((expit(X @ BETA) * (1 - expit(X @ BETA)))[:, None] * X)
    known = np.sqrt(np.diagonal(np.linalg.inv(variance)))
    assert kept.all() and np.all(np.abs(spread / known - 1) < 4 / np.sqrt(2 * 39))
    assert_within(estimates.mean(0), BETA, spread / np.sqrt(40), k=5)


# -- what is refused, and what is chosen -----------------------------------------------------------
REFUSED = {
    "NCE": (o.NCE(), "RankingNCE, ConditionalNCE, MaximumLikelihood"),
    "self-normalised": (o.SelfNormalized(), "RankingNCE"),
    "Stein": (o.SteinDiscrepancy(), "ScoreMatching, MaximumLikelihood or RankingNCE"),
    "draws": (o.MaximumLikelihood(draws=10_000), "MaximumLikelihood.. without draws"),
    "chains": (o.ContrastiveDivergence(persistent=True, chains=50), "leave chains out"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_serve_covariates_names_what_does(name):
    objective, named = REFUSED[name]
    with pytest.raises(ValueError, match=f"covariate z.*{named}[^.]*[.]$"):
        fitted(line, LINE, objective)


def test_the_choice_of_an_objective_respects_covariates():
    assert any(
        "MaximumLikelihood was chosen" in finding.what for finding in fitted(line, LINE).findings
    )
    many = un.Density(
        lambda x, *, c, field: field * c * x.sum(),
        {"x": un.Binary[18]},
        {"field": (un.Real, 0.0)},
        covariates={"c": un.Covariate},
    )
    data = {"x": RNG.integers(0, 2, (600, 18)), "c": RNG.normal(size=600)}
    fit = fitted(many, data)  # 600 sums of 2^18 terms at every step would take minutes
    assert fit.objective == "pseudo_likelihood" and fit.passed


def test_data_with_covariates_are_read_by_name():
    with pytest.raises(
        ValueError, match="data has no values for z; found y; expected y, z; pass it by that name"
    ):
        fitted(line, {"y": LINE["y"]})
    with pytest.raises(ValueError, match="Covariate z is "):
        fitted(line, LINE | {"z": np.where(Z > 0, Z, np.nan)})
    with pytest.raises(ValueError, match=r"x with the shape .250,. is one event of x"):
        fitted(logistic, BITS | {"x": Z})


def test_a_covariate_is_given_a_value():
    p = line.given(z=2)
    assert not p.covariates and p.constants["z"] == 2.0
    assert float(p(1.0, slope=0.5, a=0.0, precision=1.0)) == 0.0
    normal = un.Density(lambda y: -0.5 * y**2, {"y": un.Real})
    product = (line * normal).given(z=1.0)
    assert not product.covariates and float(product(1.0, slope=1.0)) == -0.5
    with pytest.raises(ValueError, match="given was given 'w', which is no variable or covariate"):
        line.given(w=1.0)
    with pytest.raises(ValueError, match=r"z was given .*; expected finite numbers"):
        line.given(z=np.nan)
    for refused in (un.log_z, un.sample):
        with pytest.raises(ValueError, match=r"covariate z.*p[.]given.z=[.]{3}."):
            refused(line)


@pytest.mark.slow
def test_a_divergent_row_is_named():
    """A spread that grows without bound at some covariates: no log Z there."""
    p = un.Density(
        lambda y, *, z, tail: -0.5 * tail * z * y**2,
        {"y": un.Real},
        {"tail": (un.Positive, 1.0)},
        covariates={"z": un.Covariate},
    )
    fit = fitted(p, {"y": LINE["y"], "z": np.where(Z > -1, 1.0, -1.0)}, o.ScoreMatching())
    assert not fit.passed and any(
        "cannot be normalized" in finding.what for finding in fit.findings
    )


@pytest.mark.slow
def test_products_have_covariates_too():
    prior = un.Density(
        lambda y, *, centre: -0.5 * (y - centre) ** 2, {"y": un.Real}, {"centre": (un.Real, 0.0)}
    )
    tilted = un.Density(
        lambda y, *, z, slope: slope * z * y,
        {"y": un.Real},
        {"slope": (un.Real, 0.0)},
        covariates={"z": un.Covariate},
    )
    fit = fitted(prior * tilted, LINE, o.MaximumLikelihood())
    beta = np.linalg.lstsq(X[:, :2], LINE["y"], rcond=None)[0]
    np.testing.assert_allclose(fit.summary().estimate, beta, atol=1e-6)
    assert dataclasses.asdict(fit.findings[0])["severity"] == "note"
