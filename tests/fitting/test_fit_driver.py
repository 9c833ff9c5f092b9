"""What every fit keeps, whatever its objective: one compilation, the same bits by one seed, honest
standard errors."""

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from flowjax.bijections import Affine
from helpers import counting
from targets import enumerated, ising, pair_features

import unnorm as un
from unnorm.fitting.objectives.registry import (
    NCE,
    OBJECTIVES,
    ContrastiveDivergence,
    MaximumLikelihood,
    ScoreMatching,
)

RUNS = {
    "maximum_likelihood": (MaximumLikelihood(), {}),
    "score_matching": (ScoreMatching(), {}),
    "nce": (NCE(noise_ratio=5), {}),
    "ranking_nce": (un.objectives.RankingNCE(noise_ratio=5), {}),
    "conditional_nce": (un.objectives.ConditionalNCE(noise_ratio=5), {}),
    "energy_discrepancy": (un.objectives.EnergyDiscrepancy(noise_ratio=5), {}),
    "self_normalized": (un.objectives.SelfNormalized(noise_ratio=20), {}),
    "flow_contrastive": (un.objectives.FlowContrastive(Affine(jnp.zeros(1))), {}),
    "adversarial": (un.objectives.Adversarial(Affine(jnp.zeros(1))), {"steps": 2000}),
    "contrastive_divergence": (ContrastiveDivergence(), {"steps": 400}),
    "persistent": (ContrastiveDivergence(persistent=True, chains=100), {"steps": 400}),
    "pseudo_likelihood": (un.objectives.PseudoLikelihood(), {}),
    "ratio_matching": (un.objectives.RatioMatching(), {}),
    "sliced_score_matching": (un.objectives.SlicedScoreMatching(), {}),
    "denoising_score_matching": (un.objectives.DenoisingScoreMatching(sigma=0.1), {}),
    "probability_flow": (un.objectives.ProbabilityFlow(), {}),
    "stein_discrepancy": (un.objectives.SteinDiscrepancy(), {}),
    "finite_difference_score_matching": (un.objectives.FiniteDifferenceScoreMatching(), {}),
}
DISCRETE = {"pseudo_likelihood", "ratio_matching", "probability_flow"}
# In one dimension a projection is ±1, whatever the seed.
DETERMINISTIC = {
    "maximum_likelihood",
    "score_matching",
    "sliced_score_matching",
    "stein_discrepancy",
    *DISCRETE,
}


def bits(fit):
    parts = [fit.summary().to_numpy(), fit.monte_carlo_error.to_numpy(), fit.log_z, fit.history]
    return [np.asarray(part).tobytes() for part in parts] + [fit.findings]


def test_every_objective_is_here():
    needs_latent_variables = {"evidence_lower_bound"}  # tests/fitting/objectives
    assert set(OBJECTIVES) - needs_latent_variables <= set(RUNS)


@pytest.mark.parametrize(
    "name", [*RUNS][:3] + [pytest.param(name, marks=pytest.mark.slow) for name in [*RUNS][3:]]
)
def test_other_data_compile_nothing_and_the_same_seed_gives_the_same_bits(name):
    @counting
    def function(x, *, rate):
        return -rate * x**2 if real else -rate * x

    objective, options = RUNS[name]
    real = "_score_matching" in name or name == "stein_discrepancy"
    rng = np.random.default_rng(0)
    data = rng.normal(size=(2, 60)) if real else rng.exponential(size=(2, 60))
    support = un.Real if real else un.Positive
    if (
        name in DISCRETE
    ):  # shares of ones that a rate of 1.4, and three times them one of .4, would give
        support, data = un.Binary, (np.arange(120).reshape(2, 60) % 5 == 0) / [[1], [1.5]]
        data[1] = np.arange(60) % 5 < 2
        data[1] /= 3
    p = un.Density(function, {"x": support}, {"rate": (un.Positive, 1.0)})

    def fit(rows, seed):
        return un.fit(p, rows, objective, seed=seed, progress=False, **options)

    first, before = fit(data[0], 0), function.traces
    second = fit(3 * data[1], 1)
    assert before > 0 and function.traces == before
    assert second.summary().estimate["rate"] < 0.6 * first.summary().estimate["rate"]
    assert bits(fit(data[0], 0)) == bits(first) and function.traces == before
    other = fit(data[0], 2)
    assert (bits(other) == bits(first)) == (name in DETERMINISTIC)


# -- standard errors where the model is true -------------------------------------------------------
P = ising.bind(coupling=[[0, 1.5, -1.0], [1.5, 0, 0.8], [-1.0, 0.8, 0]], field=[-0.4, 0.3, 0.2])


@pytest.fixture(scope="module")
def ideal():
    """Every state as often as the model has it: no sampling error blurs the comparison."""
    states, weights = enumerated(P)
    return np.repeat(states, np.round(2000 * weights).astype(int), 0)


@pytest.fixture(scope="module")
def likelihood(ideal):
    return un.fit(P, ideal, MaximumLikelihood(), seed=0, progress=False)


def errors_of(covariance):
    return np.sqrt(np.diagonal(covariance))


def test_robust_and_model_based_errors_of_maximum_likelihood_agree(ideal, likelihood):
    states, weights = enumerated(P)
    features = pair_features(states)
    centred = features - weights @ features
    fisher = np.linalg.inv((centred.T * weights) @ centred) / len(ideal)
    assert errors_of(likelihood.model_based_covariance) == pytest.approx(
        errors_of(fisher), rel=0.01
    )
    assert errors_of(likelihood.covariance) == pytest.approx(errors_of(fisher), rel=0.01)


def test_robust_errors_differ_where_the_model_is_wrong():
    """A normal of variance 1 on data of standard deviation 3: the mean's error is three times the
    model's."""
    p = un.Density(
        lambda x, *, mean: -0.5 * (x - mean) ** 2, {"x": un.Real}, {"mean": (un.Real, 0.0)}
    )
    data = 3 * np.random.default_rng(0).normal(size=500)
    fit = un.fit(p, data, MaximumLikelihood(), seed=0, progress=False)
    assert errors_of(fit.covariance) == pytest.approx(data.std() / np.sqrt(500), rel=1e-6)
    assert errors_of(fit.model_based_covariance) == pytest.approx(1 / np.sqrt(500), rel=1e-6)


def exact_nce_errors(p, rows, ratio):
    """The errors of (parameters, log Z) with fair coins as noise, and the part of the noise: sums
    over all states."""
    states, weights = enumerated(p)
    features = np.column_stack([pair_features(states), -np.ones(len(states))])
    noise = np.full(len(states), 1 / len(states))
    h = weights / (weights + ratio * noise)
    curvature = (features.T * ((weights + ratio * noise) * h * (1 - h))) @ features

    def spread(mass, values):
        centred = values - mass @ values
        return (centred.T * mass) @ centred

    def errors(meat):
        return np.sqrt(
            np.diagonal(np.linalg.solve(curvature, np.linalg.solve(curvature, meat).T)) / rows
        )

    of_data, of_noise = (
        spread(weights, (1 - h)[:, None] * features),
        ratio * spread(noise, h[:, None] * features),
    )
    return errors(of_data + of_noise), errors(of_noise)


@pytest.mark.slow
def test_nce_has_its_own_standard_errors(ideal, likelihood):
    data = np.repeat(ideal, 10, 0)
    fit = un.fit(
        P, data, NCE(noise=dist.Bernoulli(0.5 * jnp.ones(3)), noise_ratio=3), seed=0, progress=False
    )
    total, of_noise = exact_nce_errors(P, len(data), 3)
    assert errors_of(fit.covariance) == pytest.approx(total[:-1], rel=0.02)
    assert fit.log_z.standard_error == pytest.approx(total[-1], rel=0.02)
    assert fit.monte_carlo_error.to_numpy() == pytest.approx(of_noise[:-1], rel=0.04)
    assert fit.log_z.monte_carlo_error == pytest.approx(of_noise[-1], rel=0.04)
    # It costs something to draw noise, and maximum likelihood's errors are not in their place.
    assert np.all(
        errors_of(fit.covariance)
        > 1.05 * errors_of(likelihood.model_based_covariance) / np.sqrt(10)
    )
    assert fit.model_based_covariance is None


@pytest.mark.slow
def test_more_noise_comes_near_to_maximum_likelihood(ideal, likelihood):
    fit = un.fit(P, ideal, NCE(noise_ratio=100), seed=0, progress=False)
    ratio = errors_of(fit.covariance) / errors_of(likelihood.model_based_covariance)
    assert np.all(ratio > 0.99) and np.all(ratio < 1.03)
    assert np.all(fit.monte_carlo_error < 0.3 * fit.summary().standard_error)


# -- what is chosen --------------------------------------------------------------------------------
def test_the_objective_that_is_chosen_is_said(ideal):
    fit = un.fit(P, ideal, seed=0, progress=False)
    assert fit.objective == "maximum_likelihood"
    assert any(
        f.severity == "note" and "MaximumLikelihood was chosen" in f.what for f in fit.findings
    )
    four = un.Density(
        lambda x, *, mean: -0.5 * jnp.sum((x - mean) ** 2),
        {"x": un.Real[4]},
        {"mean": (un.Real, 0.0)},
    )
    assert un.fit(four, np.eye(4), seed=0, progress=False).objective == "score_matching"
