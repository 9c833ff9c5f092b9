"""Terms of random graphs against sums over pairs, and their changes against differences."""

import itertools

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import unnorm as un
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.fitting.data.read import read_data
from unnorm.interactions.tie_statistics import statistics_of
from unnorm.interactions.ties import tie_changes
from unnorm.sampling.short_runs import run_chains

DECAY = 0.4
OF_ATTRIBUTES = ("nodecov_age", "nodefactor_club", "nodematch_club", "edgecov_w")
UNDIRECTED = ("edges", *OF_ATTRIBUTES, "gwesp")
DIRECTED = ("edges", "mutual", "gwidegree", "gwodegree", *OF_ATTRIBUTES)


def graph(size, directed, share=0.3, seed=0):
    y = np.random.default_rng(seed).random((size, size)) < share
    return (y & ~np.eye(size, dtype=bool) if directed else np.triu(y, 1) | np.triu(y, 1).T) * 1.0


def attributes(size, directed=False):
    rng = np.random.default_rng(4)
    w = rng.normal(size=(size, size))
    clubs = rng.choice(["north", "south", "west"], size)
    return {"age": rng.normal(size=size), "club": list(clubs), "w": w if directed else w + w.T}


def ergm(terms, size, directed):
    return un.models.exponential_random_graph(
        *terms, decay=DECAY, directed=directed, attributes=attributes(size, directed)
    ).with_dimensions(d=size)


def by_pairs(name, y, held, directed):
    """The statistic as its definition has it, one tie after another."""
    ties = [(i, j) for i, j in zip(*np.nonzero(y), strict=True) if directed or i < j]
    kind, _, attribute = name.partition("_")
    x = held.get(attribute)
    if kind in ("gwidegree", "gwodegree"):
        degrees = y.sum(0 if kind == "gwidegree" else 1)
        return np.sum(np.exp(DECAY) * (1 - (1 - np.exp(-DECAY)) ** degrees))
    if kind == "gwesp":
        shared = [np.sum(y[i] * y[j]) for i, j in ties]
        return np.sum(np.exp(DECAY) * (1 - (1 - np.exp(-DECAY)) ** np.array(shared)))
    if kind == "nodefactor":
        return [sum((x[i] == v) + (x[j] == v) for i, j in ties) for v in sorted(set(x))[1:]]
    return {
        "edges": lambda: len(ties),
        "mutual": lambda: sum(y[j, i] for i, j in ties) / 2,
        "nodecov": lambda: sum(x[i] + x[j] for i, j in ties),
        "nodematch": lambda: sum(x[i] == x[j] for i, j in ties),
        "edgecov": lambda: sum(x[i, j] for i, j in ties),
    }[kind]()


@pytest.mark.parametrize(("terms", "directed"), [(UNDIRECTED, False), (DIRECTED, True)])
def test_statistics_and_their_changes(x64, terms, directed):
    size, held = 35, attributes(35, directed)  # two words of bits
    y = graph(size, directed)
    p = jax.tree.map(jnp.asarray, ergm(terms, size, directed).for_jit())
    expected = {name: np.ravel(by_pairs(name, y, held, directed)) for name in sorted(terms)}
    found = statistics_of(p, {"y": jnp.asarray(y[None])})["statistics"]  # sorted by name
    assert np.asarray(found)[0] == pytest.approx(np.concatenate(list(expected.values())))
    rng = np.random.default_rng(1)
    bound = p.at({name: jnp.asarray(rng.normal(size=np.shape(v))) for name, v in p.free().items()})
    changes = tie_changes(bound)
    rows, columns = changes.pairs()
    chosen = rng.permutation(len(rows))[:30]
    both = np.repeat(y[None, None], 2, 0).repeat(30, 1)
    for k, pair in enumerate(chosen):
        for state in (0, 1):
            both[state, k, rows[pair], columns[pair]] = state
            if not directed:
                both[state, k, columns[pair], rows[pair]] = state
    values = np.asarray(jax.jit(jax.vmap(bound.log_density))({"y": jnp.asarray(
        both.reshape(60, size, size))})).reshape(2, 30)  # fmt: skip
    gains = np.asarray(jax.jit(changes.gains)(jnp.asarray(y)))[chosen]
    assert gains == pytest.approx(values[1] - values[0], abs=1e-9)


@pytest.mark.parametrize("kernel", [un.kernels.Gibbs(), un.kernels.TieNoTie()])
def test_kernels_leave_the_directed_graphs_of_three_nodes_invariant(kernel):
    p = un.models.exponential_random_graph("edges", "mutual", "gwidegree", directed=True)
    p = p.with_dimensions(d=3).bind(edges=-0.8, mutual=0.7, gwidegree=0.4)
    free = np.array(list(itertools.product((0.0, 1.0), repeat=6)))
    support = p.variables["y"]
    assert np.array_equal(support.unconstrain(support.constrain(free)), free)
    logs, chains = np.asarray(p(np.asarray(support.constrain(free)))), 4000
    chances = np.exp(logs - logs.max()) / np.exp(logs - logs.max()).sum()
    starts = np.random.default_rng(0).choice(64, chains, p=chances)
    target = Unconstrained(p.for_jit())
    moved = jax.jit(run_chains, static_argnames="steps")(
        kernel.prepare(target), target, {"y": jnp.asarray(free[starts], jnp.float32)},
        jax.random.key(0), steps=3, tuning={},
    ).positions["y"]  # fmt: skip
    shares = np.bincount(np.asarray(moved, int) @ 2 ** np.arange(5, -1, -1), minlength=64) / chains
    error = np.sqrt(chances * (1 - chances) / chains)
    assert np.all(np.abs(shares - chances) < 4.5 * error)


def test_a_directed_network_is_data():
    p = un.models.exponential_random_graph(directed=True)
    network = nx.DiGraph([("a", "b"), ("b", "a"), ("b", "c")])
    read, events = read_data(p, network)
    assert events["y"][0].tolist() == [[0, 1, 0], [1, 0, 1], [0, 0, 0]]
    assert float(p.bind(edges=1.0, mutual=10.0)(network)) == 13.0
    assert read.labels["d"] == ("a", "b", "c")
    with pytest.raises(ValueError, match="zero diagonal"):
        read_data(p, np.eye(3)[None])


def test_attributes_of_a_network_follow_its_nodes():
    club = nx.karate_club_graph()
    plain = nx.create_empty_copy(club)
    plain.add_edges_from(club.edges)
    p = un.models.exponential_random_graph("edges", "nodematch_club", attributes=club)
    factor = un.models.exponential_random_graph("edges", "nodefactor_club", attributes=club)
    same = sum(club.nodes[i]["club"] == club.nodes[j]["club"] for i, j in club.edges)
    assert float(p.bind(nodematch_club=1.0)(plain)) == same
    assert factor.labels["nodefactor_club_level"] == ("Officer",)
    people = nx.Graph([("ann", "bob"), ("bob", "cid")])
    nx.set_node_attributes(people, {"ann": 1, "bob": 2, "cid": 3}, "age")
    q = un.models.exponential_random_graph("edges", "nodecov_age", attributes=people)
    read, events = read_data(q, nx.Graph([("bob", "ann"), ("bob", "cid")]))  # another order
    assert read.labels["d"] == ("ann", "bob", "cid")
    assert events["y"][0].tolist() == [[0, 1, 0], [1, 0, 1], [0, 1, 0]]
    del people.nodes["bob"]["age"]
    with pytest.raises(ValueError, match="node 'bob' has none"):
        un.models.exponential_random_graph("edges", "nodecov_age", attributes=people)


GRAPH = nx.gnp_random_graph(6, 0.5, seed=2)
REVERSED = nx.Graph()  # the same graph, its integer nodes in another order
REVERSED.add_nodes_from(reversed(range(6)))
REVERSED.add_edges_from(GRAPH.edges)
nx.set_node_attributes(REVERSED, {i: float(i) for i in range(6)}, "x")
FRAMES = [nx.to_pandas_adjacency(graph) for graph in (GRAPH, REVERSED)]
BY_NODE = pd.Series({i: float(i) for i in range(6)})
SUMS = pd.DataFrame(np.add.outer(range(6), range(6)), range(6), range(6))


@pytest.mark.parametrize(
    ("term", "attributes"),
    [
        ("nodecov_x", REVERSED),
        ("nodecov_x", {"x": BY_NODE[::-1]}),
        ("nodecov_x", {"x": dict(BY_NODE[::-1])}),
        ("edgecov_x", {"x": SUMS.iloc[::-1]}),
    ],
)
def test_nodes_are_matched_by_label_in_every_container(term, attributes):
    p = un.models.exponential_random_graph("edges", term, attributes=attributes).bind(**{term: 1.0})
    expected = sum(i + j for i, j in GRAPH.edges)
    array = xr.DataArray(FRAMES[0].to_numpy(), {"d": range(6), "d_2": range(6)}, ("d", "d_2"))
    for data in (GRAPH, REVERSED, *FRAMES, FRAMES[0].iloc[::-1], array[::-1]):
        assert float(p(data)) == expected
        for rows in (data, [data], [data, REVERSED], [FRAMES[0], data]):
            read, events = read_data(p, rows)
            assert np.all(read(y=events["y"]) == expected)


def test_the_nodes_of_a_fit_keep_their_labels():
    """A fit on nodes 0, 1, ... is given the same nodes in another order."""
    p = un.models.exponential_random_graph("degree")
    read = read_data(p, GRAPH)[0].bind(degree=np.arange(6.0))
    assert float(read(REVERSED)) == sum(i + j for i, j in GRAPH.edges)
    assert np.array_equal(read_data(read, REVERSED)[1]["y"], read_data(read, GRAPH)[1]["y"])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (nx.relabel_nodes(GRAPH, {0: "z"}), "not expect z and lacks 0"),
        ([FRAMES[0].rename({0: "z"}, axis=1)], "y has different nodes.*not expect z and lacks 0"),
        ([GRAPH, nx.path_graph(5)], "it lacks 5"),
        ([FRAMES[0].rename({0: "1"}, axis=0)], "the label '1' twice"),
    ],
)
def test_other_nodes_are_refused(data, words):
    p = un.models.exponential_random_graph("edges", "nodecov_x", attributes=REVERSED)
    with pytest.raises(ValueError, match=words):
        read_data(p, data)


def test_labels_of_a_list_of_series_are_compared():
    p = un.Density(lambda x: -0.5 * x @ x, {"x": un.Real["d"]})
    rows = [pd.Series([1.0, 2.0], ["a", "b"]), pd.Series([2.0, 1.0], ["b", "a"])]
    with pytest.raises(ValueError, match="labels b, a along 'd'"):
        read_data(p, rows)
    assert read_data(p, rows[:1])[0].labels["d"] == ("a", "b")


@pytest.mark.parametrize(
    ("terms", "options", "words"),
    [
        (["mutual"], {}, "not defined for undirected graphs.*pass directed=True"),
        (["gwesp"], {"directed": True}, "not defined for directed graphs"),
        (["nodecov"], {}, "without an attribute.*nodecov_age"),
        (["nodecov_age"], {}, "attributes is None.*pass attributes"),
        (["nodecov_ag"], {}, "did you mean 'age'"),
        (["nodecov_club"], {}, "must be finite numbers"),
        (["edgecov_age"], {}, r"has the shape \(4,\); must be a matrix"),
        (["nodecov_w"], {}, r"has the shape \(4, 4\); must be one value"),
        (["edgecov_skew"], {}, "is not symmetric"),
        (["nodematch_gap"], {}, "missing at node 1"),
        (["nodefactor_one"], {}, "at least two"),
        (["nodecov_age", "nodecov_by"], {}, "labels of nodes for 'by' and none for 'age'"),
        (["nodecov_age", "nodematch_short"], {}, "4 values for nodecov_age and 3 for"),
    ],
)
def test_wrong_terms_are_one_sentence(terms, options, words):
    held = {
        "age": [1.0, 2, 3, 4], "club": list("abab"), "w": np.ones((4, 4)), "short": list("abc"),
        "skew": np.triu(np.ones((4, 4))), "gap": ["a", float("nan"), "b", "b"], "one": list("aaaa"),
        "by": {0: 1.0},
    }  # fmt: skip
    if words.endswith("attributes"):
        held = None
    with pytest.raises(ValueError, match=words):
        un.models.exponential_random_graph(*terms, attributes=held, **options)
