"""Maximum likelihood by Markov chains, and exactly for one count."""

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_within
from jax.scipy.special import gammaln
from targets import PUBLICATIONS, ising

import unnorm as un
from unnorm.core.findings import FindingCode
from unnorm.fitting.objectives.registry import MaximumLikelihood
from unnorm.statistics.mcmc import split_r_hat

TIES = """
    Acciaiuoli-Medici Albizzi-Ginori Albizzi-Guadagni Albizzi-Medici Barbadori-Castellani Barbadori-Medici
    Bischeri-Guadagni Bischeri-Peruzzi Bischeri-Strozzi Castellani-Peruzzi Castellani-Strozzi Guadagni-Lamberteschi
    Guadagni-Tornabuoni Medici-Ridolfi Medici-Salviati Medici-Tornabuoni Pazzi-Salviati Peruzzi-Strozzi Ridolfi-Strozzi
    Ridolfi-Tornabuoni
"""  # noqa: E501


def florentine():
    """Padgett's marriages, with the isolate Pucci."""
    pairs = [tie.split("-") for tie in TIES.split()]
    families = sorted({family for pair in pairs for family in pair} | {"Pucci"})
    graph = np.zeros((len(families),) * 2)
    for one, other in pairs:
        i, j = families.index(one), families.index(other)
        graph[i, j] = graph[j, i] = 1
    return graph


@un.density
def ergm(x: un.Graph[16], *, edges: un.Real = 0.0, triangles: un.Real = 0.0):
    return edges * x.sum() / 2 + triangles * jnp.sum((x @ x) * x) / 6


@un.density
def conway_maxwell_poisson(x: un.Count, *, log_rate: un.Real = 0.0, dispersion: un.Real = 1.0):
    return x * log_rate - dispersion * gammaln(x + 1)


def normal_with(objective, rows, seed=0):
    p = un.Density(
        lambda x, *, precision: -0.5 * precision * x**2,
        {"x": un.Real},
        {"precision": (un.Positive, 5.0)},
    )
    return un.fit(p, rows, objective, seed=seed, progress=False)


# -- Markov chains ---------------------------------------------------------------------------------
@un.density
def curie_weiss(x: un.Spin[12], *, f: un.Real = 0.0, J: un.Real = 0.0):
    return f * x.sum() + J * x.sum() ** 2 / 24


def curie_weiss_draws(f, J, rows, seed):
    """Exact draws, by the law of the sum."""
    total = np.arange(-12, 13, 2)
    up = (total + 12) // 2
    logs = gammaln(13.0) - gammaln(up + 1.0) - gammaln(13.0 - up) + f * total + J * total**2 / 24
    rng, weights = np.random.default_rng(seed), np.exp(logs - logs.max())
    x = -np.ones((rows, 12))
    for row, count in zip(x, rng.choice(up, rows, p=weights / weights.sum()), strict=True):
        row[rng.permutation(12)[:count]] = 1
    return x


@pytest.mark.parametrize(("coupling", "mixes"), [(2.5, False), (1.0, True)])
def test_chains_that_each_keep_to_a_mode_do_not_pass(coupling, mixes):
    """Both modes have the same energies, so that R-hat of the energies alone is 1."""
    x = curie_weiss_draws(0.03, coupling, 400, seed=0)
    by_chains = un.fit(curie_weiss, x, MaximumLikelihood(draws=4000), seed=0, progress=False)
    unmixed = any(found.code == FindingCode.NOT_MIXED for found in by_chains.findings)
    assert by_chains.passed == mixes and unmixed == (not mixes)
    if mixes:
        exact = un.fit(curie_weiss, x, progress=False)
        assert_within(by_chains.summary().estimate, exact.summary().estimate,
                      by_chains.monte_carlo_error)  # fmt: skip


@pytest.mark.slow
def test_a_normal_has_its_closed_form_and_the_draws_error():
    rows = 2 * np.random.default_rng(0).normal(size=300)
    fit, truth = normal_with(MaximumLikelihood(draws=20_000), rows), 1 / np.mean(rows**2)
    noise, error = fit.monte_carlo_error["precision"], fit.summary().standard_error["precision"]
    assert fit.passed and 0 < noise < 0.2 * error
    assert_within(fit.summary().estimate["precision"], truth, noise)
    # The sandwich of the closed form, and the draws' part, which would be sqrt(n / m) of it for
    # independent draws.
    sandwich = np.std(rows**2) * truth**2 / np.sqrt(len(rows))
    assert np.sqrt(error**2 - noise**2) == pytest.approx(sandwich, rel=0.05)
    independent = truth * np.sqrt(2 / 20_000)
    assert 0.3 * independent < noise < 4 * independent
    assert np.sqrt(fit.model_based_covariance.to_numpy()[0, 0]) == pytest.approx(
        truth * np.sqrt(2 / 300), rel=0.05
    )


@pytest.mark.slow
def test_the_draws_error_is_the_spread_over_seeds():
    rows = 2 * np.random.default_rng(0).normal(size=300)
    fits = [normal_with(MaximumLikelihood(draws=2_000), rows, seed) for seed in range(60)]
    assert all(fit.passed for fit in fits)
    estimates = np.array([fit.summary().estimate["precision"] for fit in fits])
    noise = np.array([fit.monte_carlo_error["precision"] for fit in fits])
    spread = estimates.std(ddof=1) / np.sqrt(np.mean(noise**2))
    assert abs(spread - 1) < 4 / np.sqrt(
        2 * 59
    )  # four errors of a standard deviation from 60 values
    truth = 1 / np.mean(rows**2)
    assert abs(estimates.mean() - truth) < 4 * estimates.std(ddof=1) / np.sqrt(60)


@pytest.mark.slow
def test_rochdale_is_exact_maximum_likelihood(rochdale):
    fit = un.fit(
        ising, un.models.load("rochdale"), MaximumLikelihood(draws=400_000), seed=0, progress=False
    )
    truth = rochdale.summary()
    assert fit.passed and fit.converged, fit.findings
    off, noise = np.abs(fit.summary().estimate - truth.estimate), fit.monte_carlo_error
    assert np.all(noise < 0.06 * truth.standard_error), (noise / truth.standard_error).max()
    assert np.all(off <= np.maximum(0.25 * truth.standard_error, 4 * noise))
    # The error is neither overstated: the 36 distances are about one of it.
    assert 0.5 < np.sqrt(np.mean((off / noise) ** 2)) < 1.7
    # Without the draws' part, the covariances are the exact ones.
    sampling = np.sqrt(fit.summary().standard_error ** 2 - noise**2)
    assert (sampling / truth.standard_error).to_numpy() == pytest.approx(np.ones(36), abs=0.03)


@pytest.mark.slow
def test_one_graph_has_the_published_estimates():
    fit = un.fit(ergm, florentine()[None], MaximumLikelihood(draws=10_000), seed=0, progress=False)
    summary = fit.summary()
    assert fit.passed and fit.converged, fit.findings
    assert np.all(np.abs(summary.estimate - [-1.674, 0.156]) < [0.02, 0.03])
    assert np.all(np.abs(summary.standard_error - [0.351, 0.588]) < [0.02, 0.03])
    assert np.all(fit.monte_carlo_error < 0.06 * summary.standard_error)
    notes = [finding.what for finding in fit.findings if finding.severity == "note"]
    assert any("one row of data has no spread" in what for what in notes)
    assert fit.log_z is None and any("no log Z here" in what for what in notes)


@pytest.mark.slow
def test_a_graph_of_ties_alone_is_a_logit_whose_error_is_the_information():
    p = un.Density(
        lambda x, *, edges: edges * x.sum() / 2, {"x": un.Graph[16]}, {"edges": (un.Real, 0.0)}
    )
    fit = un.fit(p, florentine()[None], MaximumLikelihood(draws=5_000), seed=0, progress=False)
    assert fit.passed, fit.findings
    noise = fit.monte_carlo_error["edges"]
    assert_within(fit.summary().estimate["edges"], np.log(20 / 100), noise)
    truth = 1 / np.sqrt(120 * 20 / 120 * 100 / 120)
    assert np.sqrt(fit.summary().standard_error["edges"] ** 2 - noise**2) == pytest.approx(
        truth, rel=0.06
    )


@pytest.mark.slow
def test_a_likelihood_without_a_maximum_is_said():
    p = un.Density(
        lambda x, *, edges: edges * x.sum() / 2, {"x": un.Graph[5]}, {"edges": (un.Real, 0.0)}
    )
    fit = un.fit(p, np.zeros((1, 5, 5)), MaximumLikelihood(draws=1_000), seed=0, progress=False)
    assert any("edges diverges to -inf" in finding.what for finding in fit.findings)
    assert not fit.passed and fit.summary().estimate["edges"] == -np.inf


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        (lambda: MaximumLikelihood(draws=10), ["draws is 10", "at least 1000"]),
        (lambda: MaximumLikelihood(draws=2.5), ["draws is 2.5", "integer"]),
        (lambda: MaximumLikelihood(kernel="hmc"), ["has a kernel and no draws", "pass draws"]),
        (lambda: MaximumLikelihood(draws=1000, kernel="gibbs"), ["Gibbs cannot move x", "HMC"]),
        (lambda: MaximumLikelihood(draws=1000, kernel="ula"), ["kernel is ULA", "exact kernel"]),
    ],
)
def test_bad_options_are_one_sentence(objective, words):
    with pytest.raises(ValueError) as error:
        normal_with(objective(), np.ones(5))
    assert all(word in str(error.value) for word in words), error.value


def test_r_hat_sees_chains_that_stand_apart():
    values = np.random.default_rng(0).normal(size=(50, 200))
    assert abs(split_r_hat(values) - 1) < 0.01
    assert split_r_hat(values + np.arange(50)[:, None]) > 5
    assert (
        split_r_hat(np.arange(4.0)[:, None] * np.ones(10)) == np.inf
        and split_r_hat(np.ones((4, 10))) == 1
    )


# -- one count -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("rate", "dispersion", "truth"), [(3.0, 0.5, 5.8470568196), (10.0, 2.0, 4.5050841181)]
)
def test_log_z_of_a_count_is_the_sum(rate, dispersion, truth):
    z = un.log_z(
        conway_maxwell_poisson.bind(log_rate=np.log(rate), dispersion=dispersion),
        seed=0,
        progress=False,
    )
    assert z.verdict == "exact" and z.standard_error == 0
    assert z.value == pytest.approx(truth, abs=1e-9)


def counted(function):
    return un.log_z(un.Density(function, {"x": un.Count}), "exact", seed=0, progress=False)


def test_a_sum_far_out_is_followed_and_one_that_does_not_end_is_said():
    poisson = counted(lambda x: x * jnp.log(5000.0) - gammaln(x + 1))
    assert poisson.passed and poisson.value == pytest.approx(5000, abs=1e-6)
    flat = counted(lambda x: 0.0 * x)
    assert (
        not flat.passed and flat.value == np.inf and "cannot be normalized" in flat.findings[0].what
    )
    # Σ (1 + x)^-2 = π² / 6: what lies beyond 2^20 states is told, and is the error.
    slow = counted(lambda x: -2 * jnp.log1p(x))
    assert not slow.passed and "has not converged" in slow.findings[0].what
    assert np.log(np.pi**2 / 6) - slow.value == pytest.approx(slow.standard_error, rel=0.01)
    assert "NaN" in counted(lambda x: jnp.where(x == 7, jnp.nan, -x)).findings[0].what


def test_doctoral_publications_have_their_maximum_likelihood():
    """Case B of the known answers."""
    data = PUBLICATIONS
    fit = un.fit(conway_maxwell_poisson, data, seed=0, progress=False)
    assert fit.objective == "maximum_likelihood" and fit.passed and len(data) == 915
    summary = fit.summary()
    assert summary.estimate.to_numpy() == pytest.approx([-0.24735, 0.18704], abs=1e-4)
    assert summary.standard_error.to_numpy() == pytest.approx([0.06131, 0.05844], abs=1e-4)
    model_based = np.sqrt(np.diagonal(fit.model_based_covariance))
    assert model_based == pytest.approx([0.04858, 0.04138], abs=1e-4)
    assert fit.log_likelihood(data).value == pytest.approx(-1613.4779, abs=1e-3)


def test_counts_far_from_the_start_are_within_the_nodes():
    p = un.Density(
        lambda x, *, log_rate: x * log_rate - gammaln(x + 1),
        {"x": un.Count},
        {"log_rate": (un.Real, 0.0)},
    )
    data = np.random.default_rng(0).poisson(3000, size=50)
    fit = un.fit(p, data, "maximum_likelihood", start={"log_rate": 7.0}, seed=0, progress=False)
    assert fit.passed and fit.summary().estimate["log_rate"] == pytest.approx(
        np.log(data.mean()), abs=1e-6
    )


@pytest.mark.slow
def test_counts_by_chains_are_the_exact_ones():
    data = PUBLICATIONS
    fit = un.fit(
        conway_maxwell_poisson, data, MaximumLikelihood(draws=50_000), seed=0, progress=False
    )
    assert fit.passed, fit.findings
    assert np.all(fit.monte_carlo_error < fit.summary().standard_error)
    assert_within(fit.summary().estimate, [-0.24735, 0.18704], fit.monte_carlo_error)
