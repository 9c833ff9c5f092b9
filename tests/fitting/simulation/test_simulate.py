"""Data sets drawn from a fit: their law, their labels, ArviZ's checks on them, and chains that do
not mix."""

import equinox as eqx
import jax
import numpy as np
import pandas as pd
import pytest
from helpers import assert_within
from targets import enumerated, ising, pair_features

import unnorm as un
from unnorm.fitting.simulation.data_sets import data_sets
from unnorm.fitting.simulation.independent_chains import SimulationOptions

RNG = np.random.default_rng(11)
ITEMS = pd.DataFrame(
    RNG.random((60, 3)) < [0.3, 0.5, 0.7], columns=["tea", "milk", "sugar"]
).astype(int)


@un.density
def double_well(x: un.Real, *, depth: un.Positive = 30.0):
    """Two modes at ±1 with a wall of height `depth` between them."""
    return -depth * (x**2 - 1) ** 2


@pytest.fixture(scope="module")
def items():
    return un.fit(ising, ITEMS, "maximum_likelihood", seed=0, progress=False)


def test_data_sets_have_the_law_of_the_fit_and_its_labels(items):
    tree = un.simulate(items, rows=50, replicates=40, seed=1)
    drawn = tree["posterior_predictive"]["x"]
    assert drawn.dims == ("chain", "draw", "row", "d") and drawn.shape == (1, 40, 50, 3)
    assert list(drawn["d"].values) == list(ITEMS.columns) and drawn.dtype.kind == "i"
    observed = tree["observed_data"]["x"]
    assert observed.dims == ("row", "d") and np.array_equal(observed, ITEMS)
    states, weights = enumerated(items.density)
    found = pair_features(drawn.to_numpy().reshape(-1, 3))
    assert_within(
        found.mean(0), weights @ pair_features(states), found.std(0) / np.sqrt(len(found))
    )
    # Data sets are independent: the spread of their means is that of 50 independent rows.
    means = pair_features(drawn.to_numpy()[0]).mean(1)
    ratio = means.var(0, ddof=1) / (found.var(0) / 50)
    assert_within(ratio, 1.0, np.sqrt(2 / 39))
    assert tree.attrs["draws"].startswith("exact")


def test_as_many_rows_as_observed_and_the_same_seed_the_same_data_sets(items):
    one, same, other = (
        un.simulate(items, replicates=3, seed=seed)["posterior_predictive"]["x"]
        for seed in (1, 1, 2)
    )
    assert one.sizes["row"] == len(ITEMS) and one.equals(same) and not one.equals(other)


@pytest.mark.slow
def test_arviz_checks_take_the_tree(items):
    import arviz as az
    import arviz_plots as azp

    tree = un.simulate(items, replicates=20, seed=1)
    assert azp.plot_ppc_dist(tree, kind="ecdf", backend="none") is not None
    if hasattr(az.InferenceData, "from_datatree"):
        assert az.plot_ppc(az.InferenceData.from_datatree(tree), random_seed=0) is not None


@pytest.mark.slow
def test_continuous_data_sets_by_chains_have_the_law_of_the_fit():
    data = RNG.exponential(0.5, 50)
    p = un.Density(lambda x, *, rate: -rate * x, {"x": un.Positive}, {"rate": (un.Positive, 1.0)})
    fit = un.fit(p, data, "maximum_likelihood", seed=0, progress=False)
    tree = un.simulate(fit, replicates=80, seed=0, progress=False)
    drawn = tree["posterior_predictive"]["x"].to_numpy()[0]
    assert drawn.shape == (80, 50) and tree.attrs["draws"] == "by Markov chains"
    assert_within([drawn.mean(), (drawn**2).mean()],
                  [data.mean(), 2 * data.mean() ** 2],
                  [drawn.std() / np.sqrt(4000), (drawn**2).std() / np.sqrt(4000)])  # fmt: skip
    assert_within(drawn.mean(1).var(ddof=1) / (drawn.var() / 50), 1.0, np.sqrt(2 / 79))


@pytest.mark.slow
def test_chains_that_stay_in_their_modes_are_refused(x64):
    """Draws agree from one to the next, and the score does not see the sign: the chains' memory
    does."""
    data = np.concatenate([1 + 0.1 * RNG.normal(size=30), -1 + 0.1 * RNG.normal(size=10)])
    fit = un.fit(double_well, data, "maximum_likelihood", seed=0, progress=False)
    with pytest.raises(
        ValueError, match="have not forgotten their starts after 500 steps, so that data sets"
    ):
        density, events = fit._origin.loss.density, fit._origin.problem.events
        data_sets(density, events, jax.random.key(0), 10, options=SimulationOptions(trials=1))


@pytest.mark.slow
def test_one_graph_is_simulated_by_chains_of_their_own():
    graph = un.models.load("florentine")
    p = un.models.exponential_random_graph("edges")
    fit = un.fit(p, graph.to_numpy()[None], "pseudo_likelihood", seed=0, progress=False)
    drawn = un.simulate(fit, replicates=200, seed=0, progress=False)["posterior_predictive"][
        "y"
    ].to_numpy()[0, :, 0]
    ties = drawn.sum((1, 2)) / 2
    assert_within(ties.mean(), 20, np.sqrt(120 / 6 * 5 / 6 / 200))
    assert np.array_equal(drawn, drawn.swapaxes(1, 2))


@pytest.mark.slow
def test_a_dimension_named_row_keeps_its_name():
    p = un.Density(
        lambda x, *, k: k * x[0, 0] * x[0, 1],
        {"x": un.Spin["row", "column"]},
        {"k": (un.Real, 0.0)},
    )
    spins = RNG.choice([-1, 1], (20, 1, 2))
    tree = un.simulate(
        un.fit(p, spins, "maximum_likelihood", seed=0, progress=False), replicates=2, seed=0
    )
    assert tree["posterior_predictive"]["x"].dims == ("chain", "draw", "data_row", "row", "column")


def refused(fit, tmp_path):
    fit.save(tmp_path / "fit.npz")
    yield lambda: un.simulate(un.load(tmp_path / "fit.npz", ising)), "loaded or trained on batches"
    yield lambda: un.simulate(ising), "expected a fit"
    yield lambda: un.simulate(fit, rows=0), "rows is 0; expected an integer of at least 1"
    yield lambda: un.simulate(fit, replicates=2.5), "replicates is 2.5"
    yield lambda: un.simulate(fit, seed=-1), "seed is -1"
    cubic = un.Density(lambda x, *, b: b * x**3, {"x": un.Real}, {"b": (un.Real, -1.0)})
    broken = un.fit(cubic, [1.0, 2.0, 0.5], "score_matching", seed=0, progress=False)
    yield lambda: un.simulate(broken), "cannot be normalized .*normalized"

    @un.density
    def line(y: un.Real[2], *, slope: un.Real = 0.0, z: un.Covariate):
        return -0.5 * ((y - slope * z) ** 2).sum()

    y = {"y": RNG.normal(size=(5, 2)), "z": np.arange(5.0)}
    conditional = un.fit(line, y, "score_matching", seed=0, progress=False)
    yield lambda: un.simulate(conditional), "has the covariate z.*y has the shape"


def test_what_cannot_be_simulated_is_refused_in_a_sentence(items, tmp_path):
    for call, words in refused(items, tmp_path):
        with pytest.raises(ValueError, match=words) as caught:
            call()
        assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_network_in_single_precision_is_simulated():
    """Its many parameters are left out of what the chains are judged by."""
    network = eqx.nn.MLP(2, "scalar", 16, 2, key=jax.random.key(0))

    @un.density
    def energy(x: un.Real[2], *, network: un.PyTree = network):
        return network(x) - 0.25 * x @ x

    fit = un.fit(
        energy, RNG.normal(size=(200, 2)), "score_matching", steps=100, seed=0, progress=False
    )
    drawn = un.simulate(fit, rows=20, replicates=30, seed=0, progress=False)[
        "posterior_predictive"
    ]["x"]
    assert drawn.shape == (1, 30, 20, 2) and drawn.dtype == np.float32
    grid = np.stack(np.meshgrid(*[np.linspace(-8, 8, 321)] * 2, indexing="ij"), -1).reshape(-1, 2)
    weights = np.exp(np.asarray(fit.density(grid), float) - float(fit.log_z))
    flat = drawn.to_numpy().reshape(-1, 2)
    assert_within(flat.mean(0), weights @ grid / weights.sum(), flat.std(0) / np.sqrt(len(flat)))
