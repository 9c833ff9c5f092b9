"""Fits of graphs by their statistics: against enumeration, and against what the statistics stand
for.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import unnorm as un
from unnorm.fitting.default_objective import chosen
from unnorm.fitting.loss import Loss, scores_and_curvature
from unnorm.fitting.objectives.likelihood import monte_carlo
from unnorm.fitting.objectives.likelihood.graph_draws import form_of
from unnorm.interactions.tie_statistics import (
    TieStatistics,
    has_tie_statistics,
    statistics_of,
    tie_design,
)
from unnorm.numerics.logistic_regression import logistic_regressions

TERMS = ("edges", "gwesp", "gwdegree")
# Five nodes, six ties, a triangle.
SMALL = np.zeros((5, 5))
for one, other in ((0, 1), (0, 2), (1, 2), (2, 3), (3, 4), (1, 4)):
    SMALL[one, other] = SMALL[other, one] = 1


def ergm(size, *terms, **values):
    p = un.models.exponential_random_graph(*(terms or TERMS)).with_dimensions(d=size)
    return jax.tree.map(jnp.asarray, p.bind(**values).for_jit())


def graphs(count, size, seed=0):
    free = np.random.default_rng(seed).integers(0, 2, (count, size * (size - 1) // 2))
    return {"y": jnp.asarray(un.Graph.constrain(jnp.asarray(free, float)))}


def test_statistics_stand_for_the_graphs(x64):
    p, events = ergm(6, edges=-1.0, gwesp=0.4, gwdegree=0.3), graphs(4, 6)
    rows = statistics_of(p, events)
    moved = {name: value + 0.3 for name, value in p.free().items()}
    form = TieStatistics(p.free())
    at_rows = jax.jit(lambda q, free, given: jax.vmap(q.at(free).log_density)(given))
    for free in (p.free(), moved):
        expected, found = at_rows(p.for_jit(), free, events), at_rows(form, free, rows)
        assert np.asarray(found) == pytest.approx(np.asarray(expected), abs=1e-10)
    fixed = ergm(6, edges=-1.0, gwesp=0.4, gwdegree=0.3).fix(edges=-1.0)
    assert statistics_of(fixed, events)["offset"] == pytest.approx(-rows["statistics"][:, 0])
    assert has_tie_statistics(fixed) and not has_tie_statistics(p * p)


def test_pseudo_likelihood_is_the_logistic_regression_of_the_ties(x64):
    p, events = ergm(4, "edges", "gwesp", edges=-0.5, gwesp=0.1), graphs(6, 4)
    objective, key = un.objectives.PseudoLikelihood(), jax.random.key(0)
    by_design = Loss(objective, p, objective.prepare(p, events, key), events)
    blocks = un.objectives.PseudoLikelihood(blocks=tuple((pair,) for pair in range(6)))
    by_conditionals = Loss(blocks, p, blocks.prepare(p, events, key), events)
    for one, other in zip(
        scores_and_curvature(by_design), scores_and_curvature(by_conditionals), strict=True
    ):
        assert np.asarray(one) == pytest.approx(np.asarray(other), abs=1e-9)
    found = objective.closed_form_minimum(*by_design[1:])
    rows = jax.jit(lambda loss, vector: loss.at(vector).rows(vector))
    assert np.abs(np.asarray(rows(by_conditionals, found.vector))).max() < 20
    gradient = scores_and_curvature(by_conditionals.at(found.vector))[0].mean(0)
    assert np.abs(np.asarray(gradient)).max() < 1e-7


def test_replicates_are_fitted_together(x64):
    p, drawn = ergm(6, "edges", "gwesp", edges=-0.5, gwesp=0.1), graphs(8, 6, seed=3)
    together = un.objectives.PseudoLikelihood().refit_together(
        p, {"y": drawn["y"].reshape(8, 1, 6, 6)}
    )
    for b, (vector, sure) in enumerate(zip(*together, strict=True)):
        events = {"y": drawn["y"][b : b + 1]}
        design = jax.tree.map(np.asarray, tie_design(p, events))
        alone = logistic_regressions(design.changes, design.offset, design.ties)
        assert alone.coefficients[0] == pytest.approx(vector, abs=1e-8) or not sure
    assert together[1].any()


def test_separated_ties_are_no_regular_regression():
    design, ties = np.ones((2, 6, 1)), np.array([[1.0] * 6, [1.0, 0, 0, 0, 0, 0]])
    fits = logistic_regressions(design, np.zeros((2, 6)), ties)
    assert fits.regular.tolist() == [False, True]
    assert fits.coefficients[1, 0] == pytest.approx(-np.log(5), abs=1e-9)


def test_what_is_not_linear_or_not_declared_keeps_its_graphs():
    own = un.Density(
        lambda y, *, edges: edges * y.sum() / 2, {"y": un.Graph[4]}, {"edges": (un.Real, 0.0)}
    )
    assert not has_tie_statistics(own)
    assert form_of(own)[0] is own


def test_one_graph_is_fitted_by_maximum_likelihood_unless_another_objective_is_named():
    findings = []
    of_all, by_chains = (
        chosen([(ergm(size), graphs(1, size))], None, False, findings) for size in (4, 12)
    )
    assert of_all == un.objectives.MaximumLikelihood() and by_chains.draws == 5_000
    assert isinstance(by_chains, un.objectives.MaximumLikelihood)
    assert "that by simulated graphs" in findings[-1].what


def test_draws_that_depend_on_each_other_are_thinned():
    held = {"kernel": None, "tuning": {}, "positions": {}, "start": {}, "near": jnp.array(True)}
    draws, options = monte_carlo.Draws(**held, r_hat=jnp.array(1.3)), monte_carlo.DrawOptions()
    assert draws.needs_thinning(options)
    assert not draws._replace(r_hat=jnp.array(1.05)).needs_thinning(options)
    assert not draws._replace(thinning=options.max_thinning).needs_thinning(options)
    rounds = np.arange(8.0)[:, None] + np.array([0.0, 100.0])  # of two chains
    kept = monte_carlo._by_chain(rounds[:4], rounds[4:], thinning=4)
    assert kept.tolist() == [3.0, 7.0, 103.0, 107.0]


def test_collinear_terms_of_one_graph_do_not_pass():
    p = un.models.exponential_random_graph("edges", "nodecov_one", attributes={"one": np.ones(5)})
    fit = un.fit(p, SMALL[None], "pseudo_likelihood", seed=0, progress=False)
    assert not fit.passed and "collinear" in str(fit)


# -- maximum likelihood ----------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("graph", [SMALL, np.pad(SMALL, (0, 1))], ids=["five", "six"])
def test_maximum_likelihood_by_chains_is_that_of_all_graphs(graph):
    p = un.models.exponential_random_graph("edges", "gwesp")
    exact = un.fit(p, graph[None], un.objectives.MaximumLikelihood(), seed=0, progress=False)
    fit = un.fit(
        p, graph[None], un.objectives.MaximumLikelihood(draws=4_000), seed=0, progress=False
    )
    assert exact.passed and fit.passed, fit.findings
    truth, found, noise = exact.summary(), fit.summary(), fit.monte_carlo_error
    assert np.all(np.abs(found.estimate - truth.estimate) < 4 * noise)
    assert np.all(noise < 0.1 * truth.standard_error)
    sampling = np.sqrt(found.standard_error**2 - noise**2)
    assert (sampling / truth.standard_error).to_numpy() == pytest.approx(np.ones(2), abs=0.1)


@pytest.mark.slow
def test_the_karate_club_has_its_own_statistics_as_means():
    """At the maximum of the likelihood the model's means are the data's, here those of Gibbs
    sampling, which the fit does not use.
    """
    y = un.models.load("karate").to_numpy()
    p = un.models.exponential_random_graph(*TERMS)
    fit = un.fit(p, y[None], un.objectives.MaximumLikelihood(draws=5_000), seed=0, progress=False)
    assert fit.passed and fit.converged, fit.findings
    found = fit.summary()
    assert np.all(fit.monte_carlo_error < 0.05 * found.standard_error)
    draws = un.sample(
        fit.density, un.kernels.Gibbs(), draws=100, warmup=100, chains=40, start={"y": y}, seed=1,
        progress=False,
    ).posterior["y"].to_numpy()  # fmt: skip
    at = jax.tree.map(jnp.asarray, fit.density.for_jit())
    drawn = statistics_of(at, {"y": jnp.asarray(draws.reshape(-1, 34, 34))})["statistics"]
    chains = np.asarray(drawn).reshape(40, 100, 3).mean(1)
    observed = np.asarray(statistics_of(at, {"y": jnp.asarray(y[None], float)})["statistics"])[0]
    # the error of the draws, and that of the estimate times the variance of the statistics
    error = chains.std(0, ddof=1) / np.sqrt(40)
    spread = np.cov(np.asarray(drawn).T) @ fit.monte_carlo_error.to_numpy()
    assert np.all(np.abs(chains.mean(0) - observed) < 4 * np.hypot(error, spread))


@pytest.mark.slow
def test_a_degenerate_model_is_never_called_converged():
    """Ties and triangles of a clustered network: graphs are either nearly empty or nearly full
    (Handcock, 2003).
    """
    y = un.models.load("karate").to_numpy()[None]
    p = un.models.exponential_random_graph("edges", "triangles")
    fit = un.fit(p, y, un.objectives.MaximumLikelihood(draws=2_000), seed=0, progress=False)
    assert not fit.passed and not fit.converged
