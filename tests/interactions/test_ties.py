"""What single ties change: declared changes against differences of the whole log-density."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import unnorm as un
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.fitting.loss import Loss
from unnorm.fitting.solvers.minimize import minimize
from unnorm.interactions.ties import pack, tie_changes, tie_changes_of_target, toggled, unpack
from unnorm.sampling.short_runs import run_chains

ALL = ("edges", "triangles", "two_stars", "gwdegree", "gwesp")


def graph(size, share=0.4, seed=0):
    upper = np.triu(np.random.default_rng(seed).random((size, size)) < share, 1)
    return (upper + upper.T).astype(float)


def ergm(*terms, size, decay=0.4, seed=1):
    rng = np.random.default_rng(seed)
    p = un.models.exponential_random_graph(*terms, decay=decay).with_dimensions(d=size)
    shapes = {name: np.shape(p.parameters[name]) for name in terms}
    return p.bind(**{name: 0.5 * rng.normal(size=shape) for name, shape in shapes.items()})


@pytest.mark.parametrize("terms", [ALL, ("degree", "gwesp")])
@pytest.mark.parametrize("size", [5, 33])  # within one word, and across two
def test_declared_changes_are_differences_of_the_log_density(x64, terms, size):
    p, y = ergm(*terms, size=size), graph(size)
    changes = tie_changes(p)
    rows, columns = changes.pairs()
    chosen = np.random.default_rng(2).permutation(len(rows))[:40]
    with_tie, without = y[None].repeat(len(chosen), 0), y[None].repeat(len(chosen), 0)
    for k, pair in enumerate(chosen):
        i, j = rows[pair], columns[pair]
        with_tie[k, i, j] = with_tie[k, j, i] = 1
        without[k, i, j] = without[k, j, i] = 0
    expected = np.asarray(p(with_tie)) - np.asarray(p(without))
    assert np.asarray(changes.gains(jnp.asarray(y)))[chosen] == pytest.approx(expected, abs=1e-9)


def test_bits_follow_the_ties():
    y, rows = graph(35), pack(jnp.asarray(graph(35)))
    for i, j, flip in ((0, 1, True), (33, 34, True), (2, 34, False), (0, 1, True), (31, 32, True)):
        rows = toggled(rows, i, j, flip)
        y[i, j] = y[j, i] = 1 - y[i, j] if flip else y[i, j]
    assert np.array_equal(unpack(rows), y)


def test_who_declares_changes():
    p = ergm("edges", "triangles", size=4)
    assert tie_changes(p.fix(edges=1.0).rename(y="net")).name == "net"
    assert tie_changes(p * p) is None and tie_changes(un.models.ising) is None
    assert not tie_changes(ergm("degree", size=4)).ties_interact
    target = Unconstrained(p)
    y = jnp.asarray(graph(4))
    half = tie_changes_of_target(target.temper(0.5))
    assert np.allclose(half.gains(y), 0.5 * tie_changes(p).gains(y))
    assert tie_changes_of_target(target.temper(0.5, p)) is None


def states_and_chances(p, size):
    """All graphs as vectors of their pairs, and their probabilities."""
    free = np.array(list(itertools.product((0.0, 1.0), repeat=size * (size - 1) // 2)))
    logs = np.asarray(p(un.Graph.constrain(free)))
    chances = np.exp(logs - logs.max())
    return free, chances / chances.sum()


@pytest.mark.parametrize("kernel", [un.kernels.Gibbs(), un.kernels.TieNoTie()])
def test_kernels_leave_the_graphs_of_four_nodes_invariant(kernel):
    """Chains that start at exact draws stay at them; each state's share within four errors."""
    p, chains = ergm("edges", "gwesp", "gwdegree", size=4), 4000
    free, chances = states_and_chances(p, 4)
    starts = np.random.default_rng(0).choice(len(free), chains, p=chances)
    target = Unconstrained(p.for_jit())
    prepared = kernel.prepare(target)
    run = jax.jit(run_chains, static_argnames="steps")
    moved = run(
        prepared, target, {"y": jnp.asarray(free[starts], jnp.float32)}, jax.random.key(0),
        steps=2, tuning={},
    ).positions["y"]  # fmt: skip
    found = np.asarray(moved, int) @ (2 ** np.arange(5, -1, -1))
    shares = np.bincount(found, minlength=len(free)) / chains
    error = np.sqrt(chances * (1 - chances) / chains)
    assert (found != starts).mean() > 0.5
    assert np.all(np.abs(shares - chances) < 4.5 * error)


def test_florentine_marriages_by_the_family(x64):
    """Acceptance case E, from the declared changes."""
    y = un.models.load("florentine").to_numpy(float)
    p = un.models.exponential_random_graph("edges", "triangles").with_dimensions(d=16).for_jit()
    objective, events = un.objectives.PseudoLikelihood(), {"y": jnp.asarray(y[None])}
    state = objective.prepare(p, events, jax.random.key(0))
    found = minimize(Loss(objective, jax.tree.map(jnp.asarray, p), state, events))
    assert found.converged
    assert np.asarray(found.vector) == pytest.approx([-1.70094, 0.22085], abs=1e-5)
