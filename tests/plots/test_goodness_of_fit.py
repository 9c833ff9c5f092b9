"""Observed graphs against graphs drawn from a fit."""

import networkx as nx
import numpy as np
import pytest

import unnorm as un
from unnorm.plots.goodness_of_fit import _findings, _joint_p_value, _table
from unnorm.statistics.graphs import degree_counts, distance_counts, shared_partner_counts


@pytest.mark.parametrize("directed", [False, True])
def test_distributions_are_those_of_networkx(directed):
    graph = nx.gnp_random_graph(9, 0.25, seed=3, directed=directed)
    y = nx.to_numpy_array(graph)
    degrees = [d for _, d in (graph.out_degree() if directed else graph.degree())]
    assert degree_counts(y).tolist() == np.bincount(degrees, minlength=9).tolist()
    shared = [len(set(graph[i]) & set(graph.reverse()[j] if directed else graph[j]))
              for i, j in graph.edges()]  # fmt: skip
    assert shared_partner_counts(y).tolist() == np.bincount(shared, minlength=8).tolist()
    lengths = dict(nx.all_pairs_shortest_path_length(graph))
    pairs = [(i, j) for i in range(9) for j in range(9) if (i != j if directed else i < j)]
    apart = [lengths[i].get(j, 9) for i, j in pairs]
    assert distance_counts(y).tolist() == np.bincount(apart, minlength=10)[1:].tolist()


def test_p_values_are_ranks():
    drawn = np.random.default_rng(0).normal(size=(200, 3))
    table = _table(["a", "b", "c"], np.concatenate([[[-9.0, 0.0, 9.0]], drawn]))
    assert table.p_value[["a", "c"]].tolist() == [0.0, 0.0] and table.p_value["b"] > 0.5
    shares = [_joint_p_value(np.random.default_rng(s).normal(size=(101, 4))) for s in range(400)]
    assert abs(np.mean(np.array(shares) <= 0.1) - 0.1) < 4 * np.sqrt(0.09 / 400)  # uniform
    assert _joint_p_value(np.ones((10, 2))) == 1.0
    assert [f.severity for f in _findings({"degree": 0.001, "distance": 0.5})] == ["warning"]


@pytest.fixture(scope="module")
def fitted():
    y = np.zeros((5, 5))
    for i, j in ((0, 1), (0, 2), (1, 2), (2, 3)):
        y[i, j] = y[j, i] = 1
    p = un.models.exponential_random_graph("edges")
    return un.fit(p, y[None], "maximum_likelihood", seed=0, progress=False)


def test_the_table_has_the_observed_graph(fitted):
    found = un.goodness_of_fit(fitted, replicates=60, seed=1, progress=False)
    table = found.summary()
    assert table.loc[("degree", "2"), "observed"] == 2
    assert table.loc[("distance", "none"), "observed"] == 4
    assert table.loc[("shared partners", "1"), "observed"] == 3
    assert table.loc[("model", "edges"), "observed"] == 4
    assert np.all(table.lower <= table["mean"] + 1e-9) and found.passed
    assert len(found.plot().axes) == 4 and "distance" in str(found)
    again = un.goodness_of_fit(fitted, replicates=60, seed=1, progress=False)
    assert again.summary().equals(table)


def test_what_is_no_graph_is_refused(fitted):
    p = un.Density(lambda x, *, f: f * x, {"x": un.Binary}, {"f": (un.Real, 0.0)})
    fit = un.fit(p, [0, 1, 1, 0], "maximum_likelihood", seed=0, progress=False)
    with pytest.raises(ValueError, match=r"has x: Binary.*un\.Graph"):
        un.goodness_of_fit(fit)
    with pytest.raises(ValueError, match="replicates is 5"):
        un.goodness_of_fit(fitted, replicates=5)
    with pytest.raises(ValueError, match="given Density"):
        un.goodness_of_fit(p)
