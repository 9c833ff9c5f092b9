"""Moves of clusters: they leave a density as it is, and serve what they are for."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from log_z_targets import TARGETS
from scipy import stats

import unnorm as un
from unnorm.interactions.couplings import fields_of, position_of, signs_of
from unnorm.interactions.ising import couplings_of
from unnorm.partition.annealing.transitions.swendsen_wang import swendsen_wang_step

PAIRS = np.triu(np.random.default_rng(0).normal(size=(5, 5)), 1)  # of both signs
PAIRS[0, 3] = PAIRS[1, 4] = 0.0
FIELD = np.random.default_rng(1).normal(size=5) / 2


def quadratic(support):
    return un.Density(lambda x: x @ PAIRS @ x + FIELD @ x, {"x": support}).for_jit()


@pytest.mark.parametrize(("support", "states"), [(un.Binary[5], (0, 1)), (un.Spin[5], (-1, 1))])
def test_couplings_are_the_log_densitys(support, states, x64):
    couplings, cost = couplings_of(quadratic(support))
    assert cost["values"] > 0 and len(couplings.strengths) == 8
    events = np.array(list(itertools.product(states, repeat=5)), float)
    signs = np.array(list(itertools.product((-1, 1), repeat=5)), float)
    padded = np.concatenate([signs, np.zeros((32, 1))], 1)[
        :, couplings.neighbours
    ]  # every bond twice, from both ends
    pulls = np.append(couplings.strengths, 0.0)[couplings.bonds]
    ours = signs @ couplings.fields + 0.5 * (signs[:, :, None] * padded * pulls).sum((1, 2))
    theirs = np.einsum("ni,ij,nj->n", events, PAIRS, events) + events @ FIELD
    assert ours - ours[0] == pytest.approx(theirs - theirs[0], abs=1e-12)


@pytest.mark.parametrize("power", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("share_kept", [0.0, 0.5])
def test_clusters_leave_the_tempered_density_as_it_is(power, share_kept):
    """32 states, drawn with their probabilities and moved: chi-squared of where they are then."""
    couplings, _ = couplings_of(quadratic(un.Binary[5]))
    events = np.array(list(itertools.product((0, 1), repeat=5)), float)
    base = np.random.default_rng(2).normal(size=5) / 2
    kept = np.arange(len(couplings.strengths)) < share_kept * len(
        couplings.strengths
    )  # bonds of the base too
    signs = 2 * events - 1
    strengths = np.where(kept, 1.0, power) * np.asarray(couplings.strengths)
    pairs = np.append(strengths, 0.0)[couplings.bonds]
    beside = np.concatenate([signs, np.zeros((32, 1))], 1)[:, couplings.neighbours]
    heights = 0.5 * (signs[:, :, None] * pairs * beside).sum((1, 2))
    heights += signs @ (power * np.asarray(couplings.fields) + (1 - power) * base)
    mass = np.exp(heights) / np.exp(heights).sum()
    count = 40_000
    before = 2 * events[np.random.default_rng(3).choice(32, count, p=mass)] - 1
    move = jax.jit(
        jax.vmap(
            lambda signs, key: swendsen_wang_step(
                couplings, jnp.asarray(base), power, signs, key, jnp.asarray(kept)
            )
        )
    )
    after = np.asarray(move(jnp.asarray(before), jax.random.split(jax.random.key(0), count)))
    assert 0.2 < np.mean(after != before) < 0.6
    seen = np.bincount((after > 0) @ 2 ** np.arange(4, -1, -1), minlength=32)
    assert stats.chisquare(seen, count * mass).pvalue > 1e-3


def test_signs_and_positions_are_each_others_inverse():
    p = un.Density(
        lambda v, s: jnp.sum(v) * s[0], {"v": un.Binary[2, 2], "s": un.Spin[3]}
    ).for_jit()
    position = {"v": jnp.array([[0.0, 1.0], [1.0, 1.0]]), "s": jnp.array([-1.0, 1.0, -1.0])}
    signs = signs_of(p, position)
    assert signs.tolist() == [-1, 1, -1, -1, 1, 1, 1]  # s before v
    back = position_of(p, signs, position)
    assert all(np.array_equal(back[name], position[name]) for name in position)
    odds = {"v": jnp.log(jnp.full((2, 2, 2), 0.5)), "s": jnp.log(jnp.array([[0.2, 0.8]] * 3))}
    assert fields_of(odds) == pytest.approx(np.array([np.log(2)] * 3 + [0.0] * 4), abs=1e-6)


@pytest.mark.parametrize(
    "p",
    [
        un.Density(
            lambda x: jnp.sum(x) ** 2 / 20, {"x": un.Binary[12]}
        ),  # everything hangs together
        un.Density(lambda x: x[0] * x[1] * x[2], {"x": un.Spin[3]}),  # no sum over pairs
        un.Density(lambda x: jnp.sum(x), {"x": un.Binary[4]}),  # nothing hangs together
        un.Density(
            lambda x: jnp.where((x[0] > 0) & (x[1] > 0), -jnp.inf, 0.0), {"x": un.Binary[3]}
        ),  # forbidden
        un.Density(lambda x: jnp.sum(1.0 * (x[1:] == x[:-1])), {"x": un.Categorical(3)[4]}),
        un.Density(lambda x: -x @ x, {"x": un.Real[2]}),
    ],
)
def test_what_clusters_do_not_serve(p):
    assert couplings_of(p.for_jit())[0] is None


@pytest.mark.slow
def test_a_critical_lattice_out_of_exact_reach():
    """16 × 16 at its critical point, by Kaufman's formula; single sites left 80 of 100 runs
    unreliable."""
    target = TARGETS["ising 16"]()
    for seed in range(3):
        z = un.log_z(target.density, seed=seed, progress=False)
        assert z.verdict == "ok" and z.standard_error < 0.05
        assert abs(z.value - target.log_z) < 3.5 * z.standard_error
