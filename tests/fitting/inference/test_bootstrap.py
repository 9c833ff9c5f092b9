"""The bootstrap: data drawn from the fit, and redrawn rows; the errors of one observed graph or
lattice."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from coverage_studies import study
from helpers import assert_within
from targets import enumerated, ising, pair_features

import unnorm as un
from unnorm.declaration.density import cast
from unnorm.fitting.data.read import read_data
from unnorm.fitting.inference.bootstrap.of_fit import refit_simulations
from unnorm.fitting.inference.bootstrap.refits import refit_resamples
from unnorm.fitting.objectives.registry import MaximumLikelihood, PseudoLikelihood
from unnorm.fitting.simulation import data_sets as replicates
from unnorm.fitting.simulation.independent_chains import SimulationOptions

pytestmark = pytest.mark.slow  # each refits many data sets

ISING = ising.bind(coupling=[[0, 1.0, -0.7], [1.0, 0, 0.5], [-0.7, 0.5, 0]], field=[-0.3, 0.2, 0.1])


@un.density
def ergm(y: un.Graph["family"], *, edges: un.Real = 0.0, triangles: un.Real = 0.0):
    """An exponential random graph (Frank and Strauss, 1986)."""
    return edges * y.sum() / 2 + triangles * jnp.trace(y @ y @ y) / 6


@un.density
def torus(x: un.Spin["row", "column"], *, coupling: un.Real = 0.0):
    return coupling * jnp.sum(x * (jnp.roll(x, 1, 0) + jnp.roll(x, 1, 1)))


@functools.cache
def ising_data():
    states, weights = enumerated(ISING)
    return states[np.random.default_rng(0).choice(len(states), 400, p=weights)]


def at_the_door(fit, data):
    """The fitted density and the data as the driver has them."""
    p, events = read_data(fit.density, data)
    return cast(p.for_jit(), jnp.float64), cast(events, jnp.float64)


def spread(estimates, kept):
    assert kept.all()
    return estimates.std(0, ddof=1)


def about(found, expected, replicates):
    """Standard deviations by so many replicates within four of their own errors, and 5% for n."""
    assert np.all(np.abs(found / expected - 1) < 4 / np.sqrt(2 * replicates) + 0.05)


# -- many rows: the bootstrap and the sandwich agree -----------------------------------------------
def test_both_bootstraps_reproduce_the_sandwich(x64):
    fit = un.fit(ISING, ising_data(), PseudoLikelihood(), seed=0, progress=False)
    density, events = at_the_door(fit, ising_data())
    errors, key = fit.summary().standard_error.to_numpy(), jax.random.key(0)
    # The model is true, so that data drawn from the fit vary as redrawn rows do.
    about(
        spread(*refit_simulations(PseudoLikelihood(), density, events, key)),
        errors,
        200,
    )
    about(
        spread(*refit_resamples(PseudoLikelihood(), density, events, key)),
        errors,
        200,
    )


def test_clusters_are_redrawn_whole(x64):
    """Every row four times over is a quarter of the information: errors of 100 rows, and half of
    that row by row."""
    rows = np.repeat(ising_data()[:100], 4, 0)
    fit = un.fit(ISING, ising_data()[:100], PseudoLikelihood(), seed=0, progress=False)
    density, events = at_the_door(fit, rows)
    errors, key = fit.summary().standard_error.to_numpy(), jax.random.key(0)
    clusters = np.repeat(np.arange(100), 4)
    whole = refit_resamples(PseudoLikelihood(), density, events, key, 100, cluster=clusters)
    about(spread(*whole), errors, 60)
    about(
        2 * spread(*refit_resamples(PseudoLikelihood(), density, events, key, 100)),
        errors,
        60,
    )


def test_the_same_key_gives_the_same_replicates(x64):
    density, events = at_the_door(
        un.fit(ISING, ising_data(), PseudoLikelihood(), seed=0, progress=False), ising_data()
    )
    for draw in (refit_simulations, refit_resamples):
        one, other, third = (
            draw(PseudoLikelihood(), density, events, jax.random.key(k), 3)[0] for k in (0, 0, 1)
        )
        assert np.array_equal(one, other) and not np.array_equal(one, third)


def test_replicates_without_an_estimate_are_counted_apart(x64):
    """20 rows in which a pair is seen together once: about a third of the redrawn data sets have it
    not."""
    data = np.array([[1, 0]] * 7 + [[0, 1]] * 7 + [[0, 0]] * 5 + [[1, 1]])
    for objective in (PseudoLikelihood(), MaximumLikelihood()):
        density, events = at_the_door(un.fit(ising, data, objective, seed=0, progress=False), data)
        estimates, kept = refit_resamples(objective, density, events, jax.random.key(0), 100)
        assert estimates.shape == (100, 3) and kept.shape == (100,)
        assert_within(1 - kept.mean(), 0.95**20, np.sqrt(0.36 * 0.64 / 100))
        assert np.isnan(estimates[~kept]).all() and np.abs(estimates[kept]).max() < 8


def test_percentile_intervals_cover():
    """500 data sets of 300 angles, each refitted 200 times: the shares of 95% intervals that hold
    the truth."""
    density, rows, draw, _ = study("mises")
    truth, hits = density.parameters["direction"], []
    for seed in range(500):
        data = draw(np.random.default_rng(seed), rows)
        fit = un.fit(density, data, "score_matching", seed=0, progress=False)
        found = fit.bootstrap(200, seed=seed)
        table = found.summary()
        assert found.passed and not found.infinite
        hits.append(table["lower"].le(truth) & table["upper"].ge(truth))
    covered = np.mean(hits, 0)
    print("coverage", covered)
    assert np.all((covered >= 0.92) & (covered <= 0.975))


# -- what is drawn ---------------------------------------------------------------------------------
@pytest.mark.parametrize("by_chains", [False, True])
def test_data_sets_are_drawn_from_the_density(x64, by_chains):
    """States drawn from their list, and by Gibbs chains, have the exact moments."""
    options = SimulationOptions(max_listed_states=0 if by_chains else 2**14)
    density, events = at_the_door(
        un.fit(ISING, ising_data(), PseudoLikelihood(), seed=0, progress=False), ising_data()
    )
    drawn = replicates.data_sets(density, events, jax.random.key(0), 10, options=options)
    drawn = np.asarray(drawn["x"])
    assert drawn.shape == (10, 400, 3)
    states, weights = enumerated(density)
    features = pair_features(drawn.reshape(-1, 3))
    error = features.std(0) / np.sqrt(len(features)) * (1.2 if by_chains else 1.0)
    assert_within(features.mean(0), weights @ pair_features(states), error)


def test_chains_that_do_not_forget_their_starts_are_refused(x64):
    """A cold lattice stays where it began; its errors are not made up."""
    magnet = un.Density(
        lambda x, *, field, coupling: torus.function(x, coupling=coupling) + field * x.sum(),
        torus.variables,
        {"field": (un.Real, 0.0), "coupling": (un.Real, 1.5)},
    )
    magnet, events = read_data(magnet, np.ones((1, 8, 8)))
    with pytest.raises(ValueError, match="have not forgotten their starts after 100 sweeps"):
        replicates.data_sets(
            cast(magnet.for_jit(), jnp.float64), cast(events, jnp.float64), jax.random.key(0), 100,
            options=SimulationOptions(doublings=1),
        )  # fmt: skip


# -- one observed graph: case E --------------------------------------------------------------------
FLORENTINE = un.models.load("florentine").to_numpy()[None]


def test_florentine_marriages_by_pseudo_likelihood():
    fit = un.fit(ergm, FLORENTINE, PseudoLikelihood(), seed=0, progress=False)
    assert fit.passed
    assert fit.summary().estimate.to_numpy() == pytest.approx([-1.70094, 0.22085], abs=1e-5)
    naive = np.sqrt(np.diagonal(fit._covariance.inverse_curvature))
    assert naive == pytest.approx([0.308, 0.428], abs=1e-3)
    assert np.all(fit.summary().standard_error > 1.1 * naive)
    (told,) = [finding.what for finding in fit.findings if "drawn from the fit" in finding.what]
    assert "one row" in told and "of 200 data sets" in told and "no finite estimate" in told
    assert not any("no more rows" in finding.what for finding in fit.findings)


def test_florentine_edges_alone_are_a_binomial():
    p = ergm.fix(triangles=0.0)
    fit = un.fit(p, FLORENTINE, PseudoLikelihood(), seed=0, progress=False)
    assert fit.summary().estimate["edges"] == pytest.approx(np.log(20 / 100), abs=1e-8)  # −1.6094
    exact = 1 / np.sqrt(120 * (1 / 6) * (5 / 6))  # .2449
    assert np.sqrt(fit._covariance.inverse_curvature[0, 0]) == pytest.approx(exact, abs=1e-8)
    about(fit.summary().standard_error["edges"], exact, 200)


def test_a_graph_without_ties_has_no_estimate():
    fit = un.fit(
        ergm.fix(triangles=0.0), np.zeros((1, 6, 6)), PseudoLikelihood(), seed=0, progress=False
    )
    assert not fit.passed and fit.summary().estimate["edges"] == -np.inf
    assert any("edges diverges to -inf" in finding.what for finding in fit.findings)


# -- one observed lattice --------------------------------------------------------------------------
def lattices(count):
    """Ising tori of 16 × 16 spins at K = .3, each the end of a chain of its own."""
    with jax.enable_x64(True):
        p, events = read_data(torus.bind(coupling=0.3), np.ones((1, 16, 16)))
        drawn = replicates.data_sets(
            cast(p.for_jit(), jnp.float64), cast(events, jnp.float64), jax.random.key(7), 200
        )
    return np.asarray(drawn["x"])[:count]


@pytest.mark.slow
def test_intervals_of_one_lattice_cover_its_coupling():
    """100 lattices: the share of 95% intervals that hold K = .3."""
    fits = [
        un.fit(torus, lattice, PseudoLikelihood(), seed=0, progress=False)
        for lattice in lattices(100)
    ]
    assert all(fit.passed for fit in fits)
    table = np.array([fit.summary().loc["coupling"] for fit in fits])
    covered = np.mean((table[:, 2] <= 0.3) & (table[:, 3] >= 0.3))
    print(
        f"coverage {covered:.2f}, errors {table[:, 1].mean():.4f}, spread "
        f"{table[:, 0].std(ddof=1):.4f}"
    )
    assert 0.88 <= covered <= 0.99
    about(table[:, 1].mean(), table[:, 0].std(ddof=1), 100)
