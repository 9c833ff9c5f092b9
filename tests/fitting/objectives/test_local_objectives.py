"""Objectives without Z beyond exact score matching: conditionals of discrete data, slices, noise
and differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_within
from targets import ising

import unnorm as un
from unnorm.fitting.base import ObjectiveState
from unnorm.fitting.objectives.score_matching.denoising import Corruptions

EDGES = ["Econ,HusbEmp", "Econ,Child", "Econ,Asian", "Age,Child", "Educ,HusbEduc"]
EDGES = [f"coupling[{edge}]" for edge in EDGES]
gaussian = un.Density(
    lambda x, *, precision, field: -0.5 * x @ precision @ x + field @ x,
    {"x": un.Real["d"]},
    {"precision": un.PositiveDefinite["d"], "field": (un.Real["d"], 0.0)},
).bind(precision=np.eye(3))


@functools.cache
def fitted(name):
    return un.fit(ising, un.models.load("rochdale"), name, seed=0, progress=False)


@functools.cache
def normal_data():
    root = np.array([[1.0, 0.0, 0.0], [0.5, 0.8, 0.0], [-0.3, 0.4, 1.2]])
    return np.random.default_rng(0).normal(size=(1000, 3)) @ root.T + [1.0, -2.0, 0.5]


def same_as(one, other, error):
    """Estimates of one fit within 4 of these errors of another's."""
    assert_within(one.summary().estimate, other.summary().estimate, error)


# -- discrete: case A ------------------------------------------------------------------------------
def test_pseudo_likelihood_of_rochdale():
    fit = fitted("pseudo_likelihood")
    assert fit.passed and fit.history[-1] == pytest.approx(3.4996606, abs=1e-7)
    assert fit.summary().estimate[EDGES].to_numpy() == pytest.approx(
        [1.3266, -1.4894, -2.1820, -2.9752, 1.0333], abs=1e-4
    )


def test_ratio_matching_of_rochdale():
    fit = fitted("ratio_matching")
    assert fit.passed and fit.history[-1] == pytest.approx(1.1522907, abs=1e-7)


def test_cd_1_with_random_scan_gibbs_has_its_root_at_the_pseudo_likelihood(x64):
    """By the enumerated transition matrix: mean of T(x) − E[T(x') | x] over the data is 0 at the
    estimate to 1e-8."""
    p = fitted("pseudo_likelihood").density
    states = (np.arange(256)[:, None] >> np.arange(8)) & 1
    log_p = np.asarray(jax.vmap(lambda x: p.log_density({"x": x}))(jnp.asarray(states, float)))
    move = np.zeros((256, 256))
    for site in range(8):
        flipped = np.arange(256) ^ (1 << site)
        to_flipped = 1 / (1 + np.exp(log_p - log_p[flipped])) / 8
        move[np.arange(256), flipped] += to_flipped
        move[np.arange(256), np.arange(256)] += 1 / 8 - to_flipped
    upper = np.triu_indices(8)
    statistics = (states[:, :, None] * states[:, None, :])[:, *upper]
    data = np.asarray(un.models.load("rochdale"), int) @ (1 << np.arange(8))
    gradient = (statistics - move @ statistics)[data].mean(0)
    assert np.abs(gradient).max() < 1e-8


@pytest.mark.parametrize("support", [un.Binary, un.Spin])
def test_one_free_entry_is_the_likelihood(support):
    p = un.Density(lambda x, *, field: field * x, {"x": support}, {"field": (un.Real, 0.0)})
    data = np.array([support.states[i] for i in (0, 1, 1, 1, 0, 1)])
    exact, pseudo = (
        un.fit(p, data, name, progress=False)
        for name in ("maximum_likelihood", "pseudo_likelihood")
    )
    assert float(pseudo.density.parameters["field"]) == pytest.approx(
        float(exact.density.parameters["field"])
    )
    assert pseudo.covariance.to_numpy() == pytest.approx(exact.covariance.to_numpy())


# -- continuous: the Gaussian ----------------------------------------------------------------------
@pytest.mark.parametrize(
    "objective",
    [
        un.objectives.SlicedScoreMatching(),
        un.objectives.SlicedScoreMatching(variance_reduction=False),
        un.objectives.SlicedScoreMatching(directions="gaussian"),
    ],
    ids=["rademacher", "both-by-slices", "gaussian"],
)
@pytest.mark.slow
def test_slices_agree_with_exact_score_matching(objective):
    exact = un.fit(gaussian, normal_data(), "score_matching", progress=False)
    fit = un.fit(gaussian, normal_data(), objective, seed=1, progress=False)
    assert fit.passed
    same_as(fit, exact, fit.monte_carlo_error)
    assert np.all(fit.summary().standard_error.to_numpy() > fit.monte_carlo_error.to_numpy())


@pytest.mark.slow
def test_projections_reproduce_their_error_over_seeds():
    """The reported Monte Carlo error against the spread of 30 seeds on the same data."""
    objective = un.objectives.SlicedScoreMatching(projections=2, variance_reduction=False)
    fits = [
        un.fit(gaussian, normal_data(), objective, seed=seed, progress=False) for seed in range(30)
    ]
    spread = np.std([fit.summary().estimate for fit in fits], 0, ddof=1)
    reported = np.sqrt(np.mean([fit.monte_carlo_error**2 for fit in fits], 0))
    assert np.all((spread / reported > 0.6) & (spread / reported < 1.5))


@pytest.mark.slow
def test_differences_agree_with_exact_score_matching_of_scaled_data():
    scaled = (normal_data() - normal_data().mean(0)) / normal_data().std(0)
    exact = un.fit(gaussian, scaled, "score_matching", progress=False)
    fit = un.fit(gaussian, scaled, "finite_difference_score_matching", seed=1, progress=False)
    assert fit.passed
    same_as(fit, exact, fit.monte_carlo_error)


@pytest.mark.slow
def test_denoising_finds_the_smoothed_covariance():
    fit = un.fit(
        gaussian,
        normal_data(),
        un.objectives.DenoisingScoreMatching(sigma=0.5),
        seed=0,
        progress=False,
    )
    smoothed = np.linalg.inv(np.cov(normal_data().T, ddof=0) + 0.25 * np.eye(3))
    rows, columns = np.triu_indices(3)
    names = [f"precision[{i},{j}]" for i, j in zip(rows, columns, strict=True)]
    assert set(names) <= set(fit.summary().index.flat)
    assert_within(
        fit.summary().estimate[names], smoothed[rows, columns], fit.monte_carlo_error[names]
    )
    assert "smoothed" in fit.target


def test_many_levels_are_the_mean_of_their_losses(x64):
    one, two, both = (un.objectives.DenoisingScoreMatching(sigma=s) for s in (0.5, 1.0, [0.5, 1.0]))
    p = gaussian.bind(field=np.ones(3)).for_jit()
    events = {"x": np.array([[0.3, -1.0, 2.0]])}
    noise = np.random.default_rng(0).normal(size=(1, 8, 3))
    sigma = np.repeat([[0.5, 1.0]], 4, axis=1)
    parts = (
        (one, Corruptions(sigma[:, :4], noise[:, :4])),
        (two, Corruptions(sigma[:, 4:], noise[:, 4:])),
        (both, Corruptions(sigma, noise)),
    )
    at = [
        float(jax.jit(objective.losses)(p, ObjectiveState(per_row=part), events)[0])
        for objective, part in parts
    ]
    assert at[2] == pytest.approx((at[0] + at[1]) / 2)


# -- bad input -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("objective", "words"),
    [
        (lambda: un.objectives.SlicedScoreMatching(projections=0), "projections is 0"),
        (lambda: un.objectives.SlicedScoreMatching(directions="rademaker"), "rademacher"),
        (lambda: un.objectives.SlicedScoreMatching(variance_reduction=1), "True or False"),
        (lambda: un.objectives.DenoisingScoreMatching(sigma=-1.0), "sigma is -1.0"),
        (lambda: un.objectives.DenoisingScoreMatching(sigma=[]), "sigma is"),
        (
            lambda: un.objectives.DenoisingScoreMatching(sigma=1.0, corruptions=1.5),
            "corruptions is 1.5",
        ),
        (lambda: un.objectives.FiniteDifferenceScoreMatching(step=0.0), "step is 0.0"),
        ("pseudo_likelihood", "finitely many states"),
        ("ratio_matching", "two states"),
    ],
)
def test_bad_options_and_supports_are_one_sentence(objective, words):
    with pytest.raises(ValueError, match=words):
        un.fit(
            gaussian,
            normal_data(),
            objective() if callable(objective) else objective,
            progress=False,
        )


@pytest.mark.parametrize(
    "objective",
    [
        "sliced_score_matching",
        "finite_difference_score_matching",
        un.objectives.DenoisingScoreMatching(sigma=0.1),
    ],
)
def test_bounds_are_refused_and_score_matching_is_named(objective):
    p = un.Density(lambda x, *, rate: -rate * x, {"x": un.Positive}, {"rate": (un.Positive, 1.0)})
    with pytest.raises(ValueError, match=r"un.objectives.ScoreMatching"):
        un.fit(p, [1.0, 2.0], objective, progress=False)


def test_a_column_without_spread_is_refused_by_differences():
    with pytest.raises(ValueError, match="never changes"):
        un.fit(
            gaussian, normal_data() * [1, 1, 0], "finite_difference_score_matching", progress=False
        )
