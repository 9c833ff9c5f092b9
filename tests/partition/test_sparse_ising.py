"""The base that keeps most of a density's couplings: what it keeps, its constant and its draws."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from log_z_targets import TARGETS
from scipy import stats

import unnorm as un
from unnorm.declaration.density import cast
from unnorm.interactions.ising import couplings_of
from unnorm.partition.driver import default_evaluations
from unnorm.partition.proposals import sparse_ising as module
from unnorm.partition.proposals.automatic import make_proposal
from unnorm.partition.proposals.sparse_ising import (
    bonds_by_site,
    plan_elimination,
    sparse_tree,
)

SIZE = 9
PAIRS = np.triu(np.random.default_rng(0).normal(size=(SIZE, SIZE)), 1)  # of both signs
PAIRS[np.random.default_rng(1).random((SIZE, SIZE)) < 0.4] = 0.0
FIELD = np.random.default_rng(2).normal(size=SIZE)


def couplings(density):
    return couplings_of(cast(density.on_chart().for_jit(), np.float64))[0]


@pytest.fixture
def narrow(monkeypatch):
    monkeypatch.setattr(module.sparse_tree, "__defaults__", (0, 2, 20))


@pytest.mark.parametrize("support", [un.Binary[SIZE], un.Spin[SIZE]])
def test_normalized_and_drawn_as_it_says(support, narrow, x64):
    p = un.Density(lambda x: x @ PAIRS @ x + FIELD @ x, {"x": support}).for_jit()
    proposal, _ = make_proposal(p, jax.random.key(0))
    assert 0 < proposal.discrete.kept_bonds.sum() < np.count_nonzero(PAIRS)
    events = jnp.asarray(list(itertools.product(p.variables["x"].states, repeat=SIZE)), float)
    log_q = np.asarray(jax.vmap(lambda x: proposal.log_prob({"x": x}))(events))
    assert np.exp(log_q).sum() == pytest.approx(1, abs=1e-12)
    keys = jax.random.split(jax.random.key(1), 100_000)
    drawn = np.asarray(jax.jit(jax.vmap(lambda key: proposal.draw(key)["x"]))(keys))
    seen = np.bincount((drawn > 0) @ 2 ** np.arange(SIZE)[::-1], minlength=2**SIZE)
    expected = len(keys) * np.exp(log_q)
    often = expected > 5  # the rarer ones together
    counts = [np.append(one[often], one[~often].sum()) for one in (seen, expected)]
    assert often.sum() > 100 and stats.chisquare(*counts, sum_check=False).pvalue > 1e-3


def test_what_is_kept_is_the_densitys(narrow, x64):
    """log p̃ − log q depends on the bonds that are left out alone."""
    p = un.Density(lambda x: x @ PAIRS @ x + FIELD @ x, {"x": un.Spin[SIZE]}).for_jit()
    proposal, _ = make_proposal(p, jax.random.key(0))
    events = jnp.asarray(list(itertools.product((-1.0, 1.0), repeat=SIZE)))
    ratios = jax.vmap(lambda x: p.log_density({"x": x}) - proposal.log_prob({"x": x}))(events)
    left = np.zeros((SIZE, SIZE))
    for site, bonds in enumerate(bonds_by_site(proposal.couplings)):
        for other, bond in bonds.items():
            left[site, other] = (
                0.0
                if proposal.discrete.kept_bonds[bond]
                else PAIRS[min(site, other), max(site, other)] / 2
            )
    expected = np.einsum("ni,ij,nj->n", events, left, events)
    assert ratios - ratios[0] == pytest.approx(expected - expected[0], abs=1e-10)


def test_no_more_sites_are_open_than_may_be():
    side = 8
    found = couplings(TARGETS[f"ising {side}"]().density)
    beside = bonds_by_site(found)
    for width in (1, 3, 6):
        plan = plan_elimination(
            beside, np.abs(np.asarray(found.strengths)), width, np.random.default_rng(0)
        )
        entered, most = set(), 0
        for site, enters in plan.steps:
            if not enters:
                entered.remove(site)
                continue
            kept = {other for other, bond in beside[site].items() if plan.kept[bond]}
            before = {s for s, e in plan.steps[: plan.steps.index((site, True))] if e}
            assert (
                kept & before <= entered
            )  # a bond is kept only between sites that are open together
            entered.add(site)
            most = max(most, len(entered))
        assert not entered and most == width + 1
        if width == 1:
            assert plan.kept.sum() <= side**2 - 1  # a forest


def test_strong_bonds_are_kept():
    """A chain of strong bonds with weak ones across."""
    weak = 0.01 * np.triu(np.random.default_rng(0).random((12, 12)) < 0.3, 2)
    p = un.Density(lambda x: jnp.sum(x[1:] * x[:-1]) + x @ weak @ x, {"x": un.Spin[12]})
    found = couplings(p)
    kept = sparse_tree(found, width=1).kept
    strong = np.asarray(found.strengths) > 0.5
    assert (
        strong.sum() == 11
        and np.asarray(kept)[strong].all()
        and not np.asarray(kept)[~strong].any()
    )


def test_none_where_nothing_is_left_out():
    assert (
        sparse_tree(couplings(un.Density(lambda x: jnp.sum(x[1:] * x[:-1]), {"x": un.Spin[12]})))
        is None
    )


def test_another_seed_leaves_out_others():
    found = couplings(TARGETS["ising 8"]().density)
    one, other = sparse_tree(found, width=4), sparse_tree(found, seed=1, width=4)
    assert not np.array_equal(one.kept, other.kept)
    assert abs(int(one.kept.sum()) - int(other.kept.sum())) < 15


def test_the_bases_gradient_is_that_of_its_differences(narrow, x64):
    """log q is linear in each sign, so that its derivative is half of what a flip changes."""
    p = un.Density(lambda x: x @ PAIRS @ x + FIELD @ x, {"x": un.Spin[SIZE]}).for_jit()
    proposal, _ = make_proposal(p, jax.random.key(0))
    x = jnp.asarray(np.random.default_rng(3).choice([-1.0, 1.0], SIZE))
    log_q = jax.jit(lambda x: proposal.log_prob({"x": x}))
    flips = [(log_q(x.at[i].set(1.0)) - log_q(x.at[i].set(-1.0))) / 2 for i in range(SIZE)]
    assert jax.grad(log_q)(x) == pytest.approx(np.array(flips), abs=1e-12)


@pytest.mark.parametrize(
    ("size", "most"), [(2, 3_000_000), (200, 3_000_000), (1000, 600_000), (20_000, 500_000)]
)
def test_what_auto_may_spend_by_itself(size, most):
    assert default_evaluations(un.Density(lambda x: -x @ x, {"x": un.Real[size]}).for_jit()) == most


def test_importance_sampling_of_a_lattice():
    """2 of 72 bonds are left out: one batch of draws tells log Z to .01."""
    target = TARGETS["ising 6"]()
    z = un.log_z(target.density, un.estimators.ImportanceSampling(), seed=0, progress=False)
    assert z.verdict == "ok" and z.standard_error < 0.01
    assert abs(z.value - target.log_z) < 4 * z.standard_error
