"""Energy discrepancy: its minimum is the truth for any number of noise points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_within

import unnorm as un
from unnorm.core.findings import FindingCode

ED = un.objectives.EnergyDiscrepancy
QUIET = {"seed": 0, "progress": False}
X = np.random.default_rng(0).normal(1.0, 1.5, 2000)


@un.density
def normal(x: un.Real, *, centre: un.Real = 0.0, precision: un.Positive = 1.0):
    return -0.5 * precision * (x - centre) ** 2


@pytest.mark.parametrize("noise_ratio", [pytest.param(1, marks=pytest.mark.slow), 16])
def test_a_normal_is_found_with_one_noise_point_as_with_many(noise_ratio):
    fit = un.fit(normal, X, ED(noise_ratio=noise_ratio), **QUIET)
    found = fit.summary()
    assert fit.converged and fit.passed
    assert_within(
        found.estimate.to_numpy(), np.array([1.0, 1 / 1.5**2]), found.standard_error.to_numpy()
    )
    least = np.array([1.5 / np.sqrt(2000), np.sqrt(2 / 2000) / 1.5**2])
    ratio = found.standard_error.to_numpy() / least
    assert np.all((ratio > 0.95) & (ratio < (1.5 if noise_ratio == 16 else 3.0)))
    assert np.all(fit.monte_carlo_error < found.standard_error)


def test_the_loss_is_the_papers():
    """log(w/M + mean_j exp(E(x) − E(x_j))) + log M with w = 1, by NumPy on the same noise."""
    objective, p = ED(noise_ratio=3, scale=0.5), normal.for_jit()
    events = {"x": jnp.asarray(X[:50])}
    state = objective.prepare(p, events, jax.random.key(1))
    moved = X[:50, None] + 0.5 * X[:50].std() * np.asarray(state.per_row)[..., 0]
    energies = 0.5 * X[:50] ** 2, 0.5 * moved**2
    odds = np.exp(energies[0][:, None] - energies[1])
    paper = np.log(1 / 3 + odds.mean(1)) + np.log(3)
    assert np.asarray(jax.jit(objective.losses)(p, state, events)) == pytest.approx(paper, rel=1e-4)


def test_noise_points_outside_the_support_have_no_mass():
    p = un.Density(lambda x, *, rate: -rate * x, {"x": un.Positive}, {"rate": (un.Positive, 1.0)})
    x = np.random.default_rng(1).exponential(0.5, 2000)
    found = un.fit(p, x, ED(), **QUIET).summary().loc["rate"]
    assert abs(found.estimate - 2) < 4 * found.standard_error < 0.4


@pytest.mark.parametrize(("scale", "words"), [(1e-4, "indistinguishable"), (1e4, "separable")])
def test_a_bad_scale_is_a_finding(scale, words):
    fit = un.fit(normal.fix(precision=0.44), X[:200], ED(scale=scale), **QUIET)
    found = [f for f in fit.findings if f.code == FindingCode.UNSUITABLE_NOISE]
    assert len(found) == 1 and words in found[0].what


def test_what_it_does_not_serve_is_refused():
    bits = un.Density(lambda x, *, a: a * x, {"x": un.Binary}, {"a": (un.Real, 0.0)})
    with pytest.raises(ValueError, match=r"use un\.objectives\.PseudoLikelihood"):
        un.fit(bits, [0, 1, 1], ED(), **QUIET)
    with pytest.raises(ValueError, match="never changes"):
        un.fit(normal, np.ones(20), ED(), **QUIET)
