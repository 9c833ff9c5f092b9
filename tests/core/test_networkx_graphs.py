"""Networks of networkx as data."""

import numpy as np
import pytest

import unnorm as un
from unnorm.core.containers import to_numbers
from unnorm.fitting.data.read import read_data

networkx = pytest.importorskip("networkx")
ERGM = un.models.exponential_random_graph("edges")


def test_the_karate_club_is_the_data_set():
    club = networkx.create_empty_copy(networkx.karate_club_graph())
    club.add_edges_from(networkx.karate_club_graph().edges)
    data = un.models.load("karate").to_numpy(float)
    assert data.sum() == 2 * 78
    assert np.array_equal(to_numbers(club, "y"), data)
    p, events = read_data(ERGM, club)
    assert events["y"].shape == (1, 34, 34) and p.shapes()["y"] == (34, 34)
    assert float(ERGM.bind(edges=1.0)(club)) == 78


def test_several_networks_are_rows_with_their_nodes_in_one_order():
    one, other = networkx.Graph([("a", "b"), ("b", "c")]), networkx.Graph([("c", "a"), ("a", "b")])
    p, events = read_data(ERGM, {"y": [one, other]})
    assert p.labels["d"] == ("a", "b", "c")
    assert events["y"][1].tolist() == [[0, 1, 1], [1, 0, 0], [1, 0, 0]]


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (networkx.DiGraph([(0, 1)]), "symmetric"),
        (networkx.Graph([(0, 1), (1, 1)]), "zero diagonal"),
        (networkx.MultiGraph([(0, 1), (0, 1)]), "2 edges from 0 to 1"),
        (networkx.karate_club_graph(), "weight 4 on the edge from 0 to 1; must be .* weight=None"),
        (networkx.MultiGraph([(0, 1, {"weight": 2.5})]), "weight 2.5 on the edge"),
        ([networkx.path_graph(3), networkx.path_graph(4)], "different nodes"),
    ],
)
def test_networks_that_are_no_graph_are_refused(network, words):
    with pytest.raises(ValueError, match=words):
        read_data(ERGM, network)
