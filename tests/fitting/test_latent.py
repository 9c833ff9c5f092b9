"""Variables that are declared and absent from the data: summed or integrated out, or sampled with
the data held."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from helpers import assert_within
from scipy import stats
from scipy.optimize import minimize

import unnorm as un
from unnorm.declaration.density import cast

o = un.objectives
RNG = np.random.default_rng(5)
ROWS = 300
HIGH = RNG.random(ROWS) < 0.35
VALUES = np.where(HIGH, 2.0 + 0.7 * RNG.normal(size=ROWS), -1.5 + RNG.normal(size=ROWS))


@un.density
def mixture(
    x: un.Real,
    h: un.Binary,
    *,
    logit: un.Real = 0.0,
    means: un.Real[2] = (-1.0, 1.0),
    spreads: un.Positive[2] = 1.0,
):
    """Two normals, the label h of a row unknown; as it stands log Z = log(1 + e^logit) + log
    √2π."""
    mean, spread = (
        jnp.where(h > 0.5, means[1], means[0]),
        jnp.where(h > 0.5, spreads[1], spreads[0]),
    )
    return logit * h - 0.5 * ((x - mean) / spread) ** 2 - jnp.log(spread)


@un.density(log_z=0.0)
def factor(
    x: un.Real["d"], f: un.Real, *, loading: un.Real["d"] = 0.5, noise: un.Positive["d"] = 1.0
):
    """One factor behind d columns."""
    rest = jnp.sum((x - loading * f) ** 2 / noise + jnp.log(2 * jnp.pi * noise))
    return -0.5 * (f**2 + jnp.log(2 * jnp.pi)) - 0.5 * rest


def fitted(p, data, objective=None, **options):
    return un.fit(p, data, objective, seed=0, progress=False, **options)


def by_em(x):
    """Expectation-maximisation of two normals, to the last digit."""
    share, means, spreads = 0.5, np.array([-1.0, 1.0]), np.ones(2)
    for _ in range(3000):
        parts = np.array([1 - share, share])[:, None] * stats.norm(
            means[:, None], spreads[:, None]
        ).pdf(x)
        weights = parts / parts.sum(0)
        share, totals = weights[1].mean(), weights.sum(1)
        means = weights @ x / totals
        spreads = np.sqrt((weights * (x - means[:, None]) ** 2).sum(1) / totals)
    return np.array([np.log(share / (1 - share)), *means, *spreads]), np.log(parts.sum(0))


# -- summed and integrated -------------------------------------------------------------------------
@pytest.mark.slow
def test_a_mixture_is_that_of_expectation_maximisation():
    fit = fitted(mixture, {"x": VALUES})
    known, pointwise = by_em(VALUES)
    assert fit.passed and fit.objective == "maximum_likelihood"
    np.testing.assert_allclose(fit.summary().estimate, known, atol=1e-6)
    np.testing.assert_allclose(
        fit.log_likelihood({"x": VALUES[:20]}).pointwise, pointwise[:20], atol=1e-8
    )
    told = [f.what for f in fit.findings if f.severity == "note"]
    assert any("variable h is absent from the data and is taken as latent" in what for what in told)
    errors = np.sqrt(np.diagonal(fit.model_based_covariance))
    assert (fit.summary().standard_error / errors).between(0.8, 1.25).all()  # the model is true


@pytest.mark.slow
def test_the_sandwich_of_a_mixture_is_the_spread_over_data_sets():
    """200 data sets drawn from the fit, fitted from there on."""
    rng, truth = np.random.default_rng(3), fitted(mixture, {"x": VALUES}).summary().estimate
    means, spreads = truth.iloc[1:3].to_numpy(), truth.iloc[3:].to_numpy()
    there, estimates, errors = (
        mixture.bind(logit=truth["logit"], means=means, spreads=spreads),
        [],
        [],
    )
    for _ in range(200):
        high = (rng.random(ROWS) < 1 / (1 + np.exp(-truth["logit"]))).astype(int)
        table = fitted(there, {"x": means[high] + spreads[high] * rng.normal(size=ROWS)}).summary()
        estimates.append(table.estimate)
        errors.append(table.standard_error)
    ratio = np.mean(errors, 0) / np.std(estimates, 0, ddof=1)
    assert np.all(np.abs(ratio - 1) < 4 / np.sqrt(2 * 199)), ratio


@pytest.mark.slow
def test_a_factor_is_integrated_out():
    loading, noise = np.array([1.0, 0.8, -0.5]), np.array([0.5, 0.3, 0.8])
    rng = np.random.default_rng(2)
    x = rng.normal(size=(400, 1)) * loading + np.sqrt(noise) * rng.normal(size=(400, 3))
    fit = fitted(
        factor, {"x": x}, o.MaximumLikelihood(), start={"loading": np.array([0.5, 0.5, -0.5])}
    )

    def loss(parameters):
        covariance = np.outer(parameters[:3], parameters[:3]) + np.diag(np.exp(parameters[3:]))
        return -stats.multivariate_normal(np.zeros(3), covariance).logpdf(x).sum()

    known = minimize(loss, np.r_[0.5, 0.5, -0.5, 0, 0, 0], tol=1e-10)
    np.testing.assert_allclose(
        fit.summary().estimate, np.r_[known.x[:3], np.exp(known.x[3:])], atol=1e-4
    )
    assert fit.log_likelihood({"x": x}).value == pytest.approx(-known.fun, abs=1e-6)
    assert fit.passed and fit.log_z.value == 0.0


@pytest.mark.slow
def test_latent_variables_and_covariates_together():
    """A switching regression: the line of a row depends on a label that is not seen."""
    rng = np.random.default_rng(9)
    z, label = rng.normal(size=400), rng.random(400) < 0.4
    y = np.where(label, 1.0 + z, -1.0 - z) + rng.normal(size=400)
    p = un.Density(
        lambda y, h, *, z, slope, shift, logit: (
            logit * h - 0.5 * (y - (2 * h - 1) * (shift + slope * z)) ** 2
        ),
        {"y": un.Real, "h": un.Binary},
        {"slope": (un.Real, 0.5), "shift": (un.Real, 1.0), "logit": (un.Real, 0.0)},
        covariates={"z": un.Covariate},
    )

    def loss(v):
        mean, share = v[1] + v[0] * z, 1 / (1 + np.exp(-v[2]))
        low, high = (stats.norm(sign * mean).pdf(y) for sign in (-1, 1))
        return -np.log((1 - share) * low + share * high).sum()

    known = minimize(loss, [0.5, 1.0, 0.0], tol=1e-10)
    exact = fitted(p, {"y": y, "z": z}, o.MaximumLikelihood())
    np.testing.assert_allclose(exact.summary().estimate, known.x, atol=1e-5)
    assert exact.log_likelihood({"y": y, "z": z}).value == pytest.approx(-known.fun, abs=1e-6)
    chains = fitted(p, {"y": y, "z": z}, o.ContrastiveDivergence(persistent=True))
    assert (
        np.abs(chains.summary().estimate - known.x) < 0.3 * exact.summary().standard_error
    ).all()


# -- a restricted Boltzmann machine ----------------------------------------------------------------
WEIGHTS = np.array([[2.0, 1.5, -2.0, -1.5, 1.0, 0.0]])
machine, marginal = (
    p.bind(weights=WEIGHTS, visible=np.zeros(6), hidden=np.zeros(1))
    for p in (
        un.models.restricted_boltzmann_machine,
        un.models.restricted_boltzmann_machine_marginal,
    )
)


@pytest.fixture(scope="module")
def patterns():
    """Exact draws of a machine of six visible units and one hidden unit."""
    states = np.array(np.meshgrid(*[[0, 1]] * 6)).reshape(6, -1).T
    log_density = states @ np.full(6, -0.2) + np.logaddexp(0, -0.5 + states @ WEIGHTS[0])
    rng = np.random.default_rng(1)
    return states[rng.choice(64, 1500, p=np.exp(log_density) / np.exp(log_density).sum())]


@pytest.mark.slow
def test_a_hidden_unit_that_is_summed_out_is_the_marginal_machine(patterns):
    """Also of held-out rows, with the errors."""
    objective = o.MaximumLikelihood()
    joint, alone = (fitted(p, {"v": patterns}, objective) for p in (machine, marginal))
    np.testing.assert_allclose(joint.summary(), alone.summary(), atol=1e-6)
    np.testing.assert_allclose(joint.log_z, alone.log_z, atol=1e-6)
    held_out = patterns[::10]
    for name in ("value", "standard_error"):
        values = (getattr(fit.log_likelihood({"v": held_out}), name) for fit in (joint, alone))
        assert np.subtract(*values) == pytest.approx(0.0, abs=1e-6)
    assert joint.passed and alone.passed


def test_the_latent_chains_are_those_of_their_rows(patterns, x64):
    """After one step of Gibbs the hidden unit is a draw given its row; the negatives start there
    and move on."""
    objective = o.ContrastiveDivergence()
    p, events = cast(
        (machine.bind(weights=WEIGHTS, hidden=[-0.5]).for_jit(), {"v": patterns}), jnp.float64
    )
    state = objective.prepare(p, events, jax.random.key(0))
    step = jax.jit(lambda key: objective.gradient(p, state, events, key))
    moved = [step(jax.random.key(i)) for i in range(20)]
    hidden = np.mean([one.state.shared.latent.positions["h"][:, 0] for one in moved], 0)
    chance = 1 / (1 + np.exp(0.5 - patterns @ WEIGHTS[0]))
    for low in np.arange(0, 1, 0.25):
        here = (chance >= low) & (chance < low + 0.25)
        error = np.sqrt(np.sum(chance[here] * (1 - chance[here])) / 20) / here.sum()
        assert abs(np.mean(hidden[here] - chance[here])) < 4 * error
    negatives = moved[0].negatives
    assert negatives["v"].shape == patterns.shape
    assert negatives["h"].shape == (len(patterns), 1)


@pytest.mark.slow
@pytest.mark.parametrize("persistent", [False, True])
def test_clamped_chains_reach_the_likelihood_of_the_marginal_machine(patterns, persistent):
    """Started at other weights. CD-5: the two have fixed points of their own, which lie near the
    maximum."""
    objective = o.ContrastiveDivergence(k=5, persistent=persistent)
    best = fitted(marginal, {"v": patterns}, o.MaximumLikelihood())
    joint, alone = (
        fitted(p.bind(weights=0.5 * WEIGHTS), {"v": patterns}, objective)
        for p in (machine, marginal)
    )
    values = [fit.log_likelihood({"v": patterns}).value for fit in (best, joint, alone)]
    # 13 parameters, each off by four Monte Carlo errors of .05 standard errors, cost 13 / 2 · .2² =
    # .26 at most
    assert (
        values[0] >= max(values[1:]) - 1e-6
        and values[0] - values[1] < 0.3
        and values[0] - values[2] < 0.3
    )
    assert joint.converged
    assert any("without latent variables" in finding.what for finding in joint.findings)
    assert np.isnan(joint.summary().standard_error).all()


@pytest.mark.slow
def test_clamped_chains_find_a_mean():
    """A normal behind a normal, h ~ N(m, 1) and x ~ N(h, 1): the estimate is the mean, with HMC for
    the latent part."""
    p = un.Density(
        lambda x, h, *, mean: -0.5 * (h - mean) ** 2 - 0.5 * (x - h) ** 2,
        {"x": un.Real, "h": un.Real},
        {"mean": (un.Real, 0.0)},
    )
    x = 1.0 + np.sqrt(2) * np.random.default_rng(4).normal(size=200)
    fit = fitted(p, {"x": x}, o.ContrastiveDivergence(persistent=True))
    assert fit.converged and abs(fit.summary().estimate["mean"] - x.mean()) < 4 * 0.05 * np.sqrt(
        2 / 200
    )
    exact = fitted(p, {"x": x}, o.MaximumLikelihood()).summary()
    assert_within(exact.estimate["mean"], x.mean(), 1e-8)
    assert exact.standard_error["mean"] == pytest.approx(x.std() / np.sqrt(200), rel=1e-6)


# -- what is refused -------------------------------------------------------------------------------
def test_every_other_objective_names_the_two_that_serve():
    """Few states of a label would be summed out, so that h is continuous, or has 2^18."""
    large = un.Density(
        lambda x, h, *, a: a * x * h.sum(),
        {"x": un.Binary, "h": un.Binary[18]},
        {"a": (un.Real, 0.0)},
    )
    joint = un.Density(
        lambda x, h, *, a: a * x * h - 0.5 * h**2 - 0.5 * x**2,
        {"x": un.Real, "h": un.Real},
        {"a": (un.Real, 0.1)},
    )
    for objective in (o.ScoreMatching(), o.NCE(), o.RankingNCE(), o.ConditionalNCE()):
        with pytest.raises(
            ValueError,
            match=r"no values for h; found .; .*MaximumLikelihood or ContrastiveDivergence[.]$",
        ):
            fitted(joint, {"x": VALUES}, objective)
    with pytest.raises(ValueError, match="PseudoLikelihood does not serve latent variables"):
        fitted(large, {"x": np.array([0, 1])}, o.PseudoLikelihood())
    with pytest.raises(ValueError, match="draws does not serve the latent variable h"):
        fitted(joint, {"x": VALUES}, o.MaximumLikelihood(draws=10_000))
    with pytest.raises(ValueError, match=r"sums over the latent h.*ContrastiveDivergence[.]$"):
        fitted(large, {"x": np.array([0, 1])}, o.MaximumLikelihood())


def test_batches_and_held_out_rows_must_fit_the_data():
    with pytest.raises(
        ValueError, match="keeps a chain for each row, because h is a covariate or latent"
    ):
        fitted(mixture, iter([{"x": VALUES}] * 2), o.ContrastiveDivergence())
    with pytest.raises(
        ValueError, match="held_out has values for x, h and data for x; expected the same"
    ):
        fitted(mixture, {"x": VALUES}, o.MaximumLikelihood(), held_out={"x": VALUES, "h": HIGH})


def test_names_that_the_density_does_not_know_are_no_latent_variables():
    with pytest.raises(ValueError, match="'y', which is no variable or covariate"):
        fitted(mixture, {"y": VALUES})
    with pytest.raises(
        ValueError, match="no values for h; found x, hh; expected x, h; rename the column"
    ):
        fitted(mixture, pd.DataFrame({"x": VALUES, "hh": HIGH}))
    with pytest.raises(
        ValueError, match="no values for x; found none; expected x, h; pass it by that name"
    ):
        fitted(mixture, {})
    frame = fitted(mixture, pd.DataFrame({"x": VALUES}), o.MaximumLikelihood())
    np.testing.assert_allclose(frame.summary().estimate, by_em(VALUES)[0], atol=1e-6)
    with pytest.raises(
        ValueError, match="no values for h, and posterior takes no latent variables"
    ):
        un.posterior(mixture, {"x": VALUES}, prior={})
